//! The settings of a verifier, and the checks of `build`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cache::Verified;
use super::introspector::Introspector;
use super::issue_time::Revoked;
use super::jwks::{Jwks, Origin};
use super::key_set::KeyId;
use super::{Inner, Profile, TokenAlgorithm, Verifier};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::grant::proof::Seen;
use crate::grant::{ClientAuth, Discovery, GrantRequest, HttpTransport, Server, TokenEndpoint, Transport};
use crate::network::Network;
use crate::origin::parse_secure;
use crate::padding::trimmed_url;
use crate::secret::SecretString;
use crate::server::keys::Revocations;

/// Sets up a [`Verifier`]: an audience is needed, all else has a default. Mistakes are told by
/// [`build`](Self::build), without a word to any server.
pub struct VerifierBuilder {
    issuer: String,
    audiences: Vec<String>,
    profile: Profile,
    algorithms: Vec<TokenAlgorithm>,
    leeway: Duration,
    jwks_url: Option<String>,
    introspection: Option<Introspection>,
    public_url: Option<String>,
    capacity: usize,
    proofs: usize,
    revocations: Option<Revocations>,
    allow_insecure_http: bool,
    network: Network,
    mistake: Option<Error>,
    clock: Clock,
    transport: Option<Arc<dyn Transport>>,
}

/// How the API asks about opaque tokens (RFC 7662): as which client, and where.
pub struct Introspection {
    credentials: Credentials,
    url: Option<String>,
    auth: Option<ClientAuth>,
    max_age: Duration,
    audience_optional: bool,
}

impl Introspection {
    /// As this client of the authorization server, which may introspect tokens there.
    pub fn new(app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> Self {
        let credentials = Credentials { app_id: app_id.into(), app_secret: app_secret.into(), generation: 0 };
        Self {
            credentials,
            url: None,
            auth: None,
            max_age: Duration::from_secs(30),
            audience_optional: false,
        }
    }

    /// The introspection endpoint, where the issuer's metadata do not name it.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// How the API authenticates there: by default as the issuer's metadata say of the token endpoint, HTTP Basic first.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// How long an answer serves at most, and so how long a revoked token may still be taken: 30 s by default. It never
    /// serves past the token's `exp`.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Takes tokens of which the server names no audience. Only for a server that answers for tokens of the asking API
    /// alone: with any other one, tokens that were issued for another API are taken here.
    pub fn audience_optional(mut self) -> Self {
        self.audience_optional = true;
        self
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credentials, url, auth, max_age, audience_optional } = self;
        f.debug_struct("Introspection")
            .field("credentials", credentials)
            .field("url", url)
            .field("auth", auth)
            .field("max_age", max_age)
            .field("audience_optional", audience_optional)
            .finish()
    }
}

impl VerifierBuilder {
    pub(super) fn new(issuer: String) -> Self {
        let issuer = trimmed_url(&issuer).to_owned();
        Self {
            issuer,
            audiences: Vec::new(),
            profile: Profile::default(),
            algorithms: TokenAlgorithm::DEFAULT.to_vec(),
            leeway: Duration::from_secs(30),
            jwks_url: None,
            introspection: None,
            public_url: None,
            capacity: 10_000,
            proofs: 1_000_000,
            revocations: None,
            allow_insecure_http: false,
            network: Network::default(),
            mistake: None,
            clock: Clock::System,
            transport: None,
        }
    }

    /// Who the API is: a token must have it among its `aud` (RFC 7519 4.1.3). Given again, either will do.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// By which rules a JWT is read: [`Profile::Rfc9068`] by default.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The algorithms that tokens may be signed with: RS256, PS256, ES256 and EdDSA by default. A key is used with those
    /// that fit it, and with its own `alg` alone where it has one.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = TokenAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// By how much the issuer's clock and ours may differ: 30 s by default, at most 5 min. So long past its `exp` a token
    /// is still taken; it is not remembered for that time.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Where the issuer's keys lie, where its metadata do not say.
    pub fn jwks_url(mut self, url: impl Into<String>) -> Self {
        self.jwks_url = Some(url.into());
        self
    }

    /// Has tokens that are no JWTs introspected; without it they are refused.
    pub fn introspection(mut self, introspection: Introspection) -> Self {
        self.introspection = Some(introspection);
        self
    }

    /// The address by which clients reach this API, such as `https://api.acme.com`: what DPoP proofs are made for
    /// (RFC 9449 4.3). A request's path is appended. Without it, tokens that are bound to a key are refused; it is not
    /// taken from the `Host` header, which is the sender's to choose.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// How many verified tokens are remembered: 10,000 by default, at some 2 KiB each. A token beyond them is verified
    /// anew, which costs some 25 to 60 µs.
    pub fn remembered(mut self, tokens: usize) -> Self {
        self.capacity = tokens;
        self
    }

    /// How many DPoP proofs are remembered for the two minutes in which they could be used again: 1,000,000 by default, at
    /// some 30 bytes each when they come. Those beyond are refused (503).
    pub fn proofs_remembered(mut self, proofs: usize) -> Self {
        self.proofs = proofs;
        self
    }

    /// Trusts one more certificate authority, or several, beside those of the system, for what is asked of the issuer: PEM.
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        if let Err(error) = self.network.add_roots(pem.as_ref()) {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// The HTTP proxy by which the issuer is reached; by default the environment says, as for
    /// [`Builder::proxy`](crate::Builder::proxy).
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        if let Err(error) = self.network.set_proxy(url.as_ref()) {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// Allows plain `http://` for the issuer beyond loopback: for a test environment. Whoever is on the way can then put
    /// keys of their own in.
    pub fn allow_insecure_http(mut self) -> Self {
        self.allow_insecure_http = true;
        self
    }

    /// Refuses tokens that are still valid but were issued before their app was revoked, and those that live longer than the
    /// lifetime given to [`Revocations::new`], which would outlive their revocation.
    pub fn revocations(mut self, revocations: &Revocations) -> Self {
        self.revocations = Some(revocations.clone());
        self
    }

    /// Takes the time from elsewhere, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(mut self, clock: Arc<dyn crate::clock::TimeSource>) -> Self {
        self.clock = Clock::Injected(clock);
        self
    }

    /// Reaches the issuer by other means, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Checks what was set. Nothing is asked of a server before the first token.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration): no audience, an unusable URL, no algorithm, a leeway of more
    /// than 5 min.
    pub fn build(self) -> Result<Verifier> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let insecure = self.allow_insecure_http;
        let server = Server::issuer(&self.issuer, insecure)?;
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(Error::configuration("the verifier has no audience, or an empty one").advice(
                "set `audience` to what the API is called at the authorization server: without it, a token for any other \
                 API would do",
            ));
        }
        if self.algorithms.is_empty() {
            return Err(Error::configuration("the verifier has no algorithm that tokens may be signed with"));
        }
        if self.leeway > Duration::from_secs(300) {
            return Err(
                Error::configuration("the leeway is longer than 5 min").advice("set the clocks instead")
            );
        }
        let url = |what: &str, text: Option<&String>| {
            text.map(|text| parse_secure(what, text, insecure)).transpose()
        };
        let jwks_url = url("`jwks_url`", self.jwks_url.as_ref())?;
        // Clients come from outside: whether that is by https is theirs and the operator's to say.
        let public_url =
            self.public_url.as_ref().map(|text| parse_secure("`public_url`", text, true)).transpose()?;
        let transport = match self.transport {
            Some(transport) => transport,
            None if self.network.is_default() => HttpTransport::shared()?,
            None => Arc::new(HttpTransport::new(&self.network)?),
        };
        let discovery = Arc::<Discovery>::default();
        let introspector = self.introspection.map(|introspection| {
            let Introspection { credentials, url: at, auth, max_age, audience_optional } = introspection;
            let request = GrantRequest::default();
            let endpoint =
                TokenEndpoint::new(server, request, auth, insecure, transport.clone(), discovery.clone());
            let mut introspector = Introspector::new(endpoint, credentials, self.clock.clone());
            introspector.url = url("`introspection_url`", at.as_ref())?;
            (introspector.max_age, introspector.audience_optional) = (max_age, audience_optional);
            Ok::<_, Error>(introspector)
        });
        let origin = Origin {
            issuer: self.issuer.clone(),
            jwks_url,
            allow_insecure: insecure,
            transport,
            discovery,
            allowed: self.algorithms.clone(),
        };
        let verified = Arc::new(Verified::new(self.capacity, self.clock.clone())?);
        let signed = verified.clone();
        let withdrawn = Box::new(move |keys: &[KeyId]| signed.purge_signed_by(keys));
        Ok(Verifier(Arc::new(Inner {
            issuer: self.issuer,
            audiences: self.audiences,
            profile: self.profile,
            leeway: self.leeway,
            public_url,
            verified,
            jwks: Jwks::new(origin, self.clock.clone(), withdrawn),
            allowed: self.algorithms,
            introspector: introspector.transpose()?,
            proofs: Seen::with_room(self.proofs),
            revoked: self.revocations.map(|revocations| Revoked::new(revocations, self.leeway)),
            clock: self.clock,
        })))
    }
}

impl fmt::Debug for VerifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifierBuilder")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .field("profile", &self.profile)
            .field("introspection", &self.introspection)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}
