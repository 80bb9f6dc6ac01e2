mod algorithm;
mod builder;
mod cache;
mod held;
mod introspector;
mod issue_time;
mod jwks;
mod jws;
mod key_set;
mod lookups;
mod presented;
mod profile;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use url::Url;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::grant::proof::{self, Seen, Unproven};
use crate::padding::trimmed_token;
use crate::renewal::AccessToken;
use crate::server::caller::{Caller, How, Identity};
use crate::server::peer::Sender;
use crate::server::refusal::{Refusal, RefusalKind};
use cache::Verified;
use introspector::Introspector;
use issue_time::Revoked;
use jwks::Jwks;
use jws::Jws;
use key_set::KeyId;
use profile::Expected;

pub use algorithm::TokenAlgorithm;
pub use builder::{Introspection, VerifierBuilder};
pub use presented::ClientCertificate;
pub(crate) use presented::{TokenScheme, authorization, token};
pub use profile::Profile;

/// The longest token that is looked at, in bytes: most servers take no longer header.
const LONGEST_TOKEN: usize = 16 << 10;

/// Verifies access tokens for an API: JWTs by the issuer's published keys (RFC 9068), opaque ones by asking the issuer
/// (RFC 7662), and those that are bound to a key or a certificate together with what proves it (RFC 9449, RFC 8705).
///
/// Keys are read with the first token, renewed in the background ahead of their age of ten minutes, and kept for up to a
/// day while the issuer cannot be read. A token that names a key which is not among them has them read again, once for all
/// who wait. After such a reading in vain the next one for the same sender comes 10 s later at the earliest, and for all
/// senders together one in 5 s, with a burst of five; a token that comes earlier is put off
/// ([`Unavailable`](RefusalKind::Unavailable), with a time to try again), since its key may have been made just now. A token
/// whose key is held never waits.
///
/// What was verified is remembered under a keyed hash of the token until its `exp`, so that the next request with it costs
/// a third of a microsecond. If the issuer withdraws a signing key, what that key signed is forgotten as soon as the keys
/// have been read again.
///
/// Clones share all of it. It runs in tokio: the one task that renews keys lives on the runtime of the first request, ends
/// with the last clone, and is started again by a later request where its runtime has ended.
///
/// ```no_run
/// use evertoken::server::Verifier;
///
/// # async fn run(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let verifier = Verifier::builder("https://acme.eu.auth0.com/").audience("https://api.acme.com").build()?;
/// let caller = verifier.verify(token).await?;
/// println!("{} may {:?}", caller.app_id(), caller.scopes().collect::<Vec<_>>());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    issuer: String,
    audiences: Vec<String>,
    profile: Profile,
    leeway: Duration,
    public_url: Option<Url>,
    clock: Clock,
    verified: Arc<Verified>,
    jwks: Arc<Jwks>,
    allowed: Vec<TokenAlgorithm>,
    introspector: Option<Introspector>,
    proofs: Seen,
    revoked: Option<Revoked>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jwks.stop();
    }
}

/// How a [`Verifier`] is doing; [`Verifier::condition`] gives it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifierCondition {
    /// How many of the issuer's keys are held.
    pub keys: usize,
    /// How long ago they were read; `None` before the first reading.
    pub keys_age: Option<Duration>,
    /// Why they could not be read last, until they are.
    pub last_error: Option<Error>,
    /// How many verified tokens are remembered.
    pub tokens: usize,
}

impl Verifier {
    /// A verifier of tokens of this issuer: its `iss`, to the letter. Where its keys lie is found by discovery (RFC 8414).
    pub fn builder(issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder::new(issuer.into())
    }

    /// Verifies a token that came as a plain bearer token. White space and line ends around it are ignored.
    ///
    /// # Errors
    /// A [`Refusal`]: [`InvalidToken`](RefusalKind::InvalidToken) where the token is no good here, which takes in one that
    /// is bound to a key or a certificate; [`Unavailable`](RefusalKind::Unavailable) where that cannot be told now.
    pub async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let identity = self.identity(trimmed_token(token), || Sender::Unknown).await?;
        self.look_for_revocation(&identity)?;
        if identity.binding.is_none() {
            return Ok(Caller::new(identity, How::Bearer));
        }
        Err(shown_bare())
    }

    /// The caller to whom the issuer has given this token for its app id and secret, and who holds it to its end: an opaque
    /// one serves on while nobody can be asked about it.
    pub(crate) async fn vouch(&self, token: &AccessToken, how: How) -> Result<Caller, Refusal> {
        let identity = self.identity_of_held(token).await?;
        if let Some(revoked) = &self.0.revoked {
            revoked.check_asked(&identity, token.term().asked())?;
        }
        Ok(Caller::new(identity, how))
    }

    /// Verifies the token of a request, be it `Bearer` or `DPoP`, with all that it may be bound to: the proof in the `DPoP`
    /// header, the [`ClientCertificate`] in the extensions. A token in the query is not looked at.
    ///
    /// # Errors
    /// A [`Refusal`]: [`NoCredentials`](RefusalKind::NoCredentials) or [`InvalidRequest`](RefusalKind::InvalidRequest) where
    /// there is not exactly one token; [`InvalidProof`](RefusalKind::InvalidProof); and those of [`verify`](Self::verify).
    pub async fn verify_request(&self, parts: &Parts) -> Result<Caller, Refusal> {
        let shown = match authorization(&parts.headers)? {
            Some((scheme, rest)) => token(scheme, rest)?,
            None => None,
        };
        let (scheme, token) =
            shown.ok_or_else(|| Refusal::new(RefusalKind::NoCredentials, "there is no access token"))?;
        self.verify_shown(scheme, token, parts).await
    }

    pub(crate) async fn verify_shown(
        &self,
        scheme: TokenScheme,
        token: &str,
        parts: &Parts,
    ) -> Result<Caller, Refusal> {
        let identity = self.identity(token, || Sender::of(parts)).await?;
        self.look_for_revocation(&identity)?;
        let binding = &identity.binding;
        let mut how = How::Bearer;
        if let Some(x5t) = &binding.x5t {
            let shown = parts.extensions.get::<ClientCertificate>();
            if shown.is_none_or(|certificate| certificate.thumbprint() != *x5t) {
                return Err(Refusal::token(
                    "it is bound to another certificate than the connection has shown",
                ));
            }
            how = How::Certificate;
        }
        match (scheme, &binding.jkt) {
            (TokenScheme::Bearer, None) => {}
            (TokenScheme::Bearer, Some(_)) => return Err(shown_bare()),
            (TokenScheme::Dpop, None) => {
                return Err(Refusal::token("it is not bound to a key: send it as Bearer"));
            }
            (TokenScheme::Dpop, Some(jkt)) => {
                self.prove(token, jkt, parts)?;
                how = How::Dpop;
            }
        }
        Ok(Caller::new(identity, how))
    }

    /// The checks of RFC 9449 4.3, and that of 7.1: the token is bound to the proof's key.
    fn prove(&self, token: &str, jkt: &str, parts: &Parts) -> Result<(), Refusal> {
        let Some(public_url) = &self.0.public_url else {
            tracing::warn!(target: "evertoken", "a DPoP token came, and the verifier has no `public_url` to check its proof against");
            return Err(Refusal::token("tokens that are bound to a key are not taken here"));
        };
        let mut url = public_url.clone();
        let path = presented::original(parts).path();
        url.set_path(&format!("{}{path}", public_url.path().trim_end_matches('/')));
        let now = self.0.clock.now();
        let expected = proof::Expected {
            method: &parts.method,
            url: url.as_str(),
            now: now.wall,
            nonce: None,
            token: Some(token),
        };
        let invalid = |reason| Refusal::new(RefusalKind::InvalidProof, reason);
        let proven = proof::verify(&parts.headers, &expected).and_then(|proof| {
            if proof.jkt != jkt {
                return Err(Unproven::Invalid("it is by another key than the token is bound to"));
            }
            self.0.proofs.remember(&proof, now.monotonic)
        });
        proven.map_err(|why| match why {
            Unproven::Missing => invalid("there is none"),
            Unproven::Invalid(why) => invalid(why),
            Unproven::Nonce => invalid("its nonce is another"),
            Unproven::NoRoom => {
                tracing::warn!(target: "evertoken", "more DPoP proofs come than are remembered: raise `proofs_remembered`");
                Refusal::unavailable(Some(Duration::from_secs(10)))
            }
        })
    }

    /// Forgets what was verified of this app's tokens. A JWT that is still valid is then verified anew; an opaque token is
    /// asked about again.
    pub fn purge(&self, app_id: &str) {
        self.0.verified.purge(app_id);
    }

    /// Forgets all verified tokens, and has the issuer's keys read again in the background: for the minute in which a
    /// signing key is known to be in wrong hands. Until that reading ends the keys at hand verify; what a withdrawn key
    /// signed is then forgotten once more. Opaque tokens are asked about again.
    pub fn purge_all(&self) {
        self.0.jwks.refresh();
        self.0.verified.purge_all();
        if let Some(introspector) = &self.0.introspector {
            introspector.purge();
        }
    }

    /// Reads the issuer's keys, where that was not done yet, so that the first request does not wait for them.
    ///
    /// # Errors
    /// Where they could not be read, with what the issuer said.
    pub async fn prefetch(&self) -> Result<()> {
        self.0.jwks.prefetch().await
    }

    /// How it is doing, for a health page.
    pub fn condition(&self) -> VerifierCondition {
        let (keys, keys_age, last_error) = self.0.jwks.condition();
        VerifierCondition { keys, keys_age, last_error, tokens: self.0.verified.len() }
    }

    /// The first audience: what challenges name as the realm.
    pub(crate) fn realm(&self) -> &str {
        self.0.audiences.first().map_or("", String::as_str)
    }

    pub(crate) fn takes_proofs(&self) -> bool {
        self.0.public_url.is_some()
    }

    fn look_for_revocation(&self, identity: &Identity) -> Result<(), Refusal> {
        match &self.0.revoked {
            Some(revoked) => revoked.check(identity, || self.0.clock.coarse().0),
            None => Ok(()),
        }
    }

    async fn identity(&self, token: &str, sender: impl FnOnce() -> Sender) -> Result<Arc<Identity>, Refusal> {
        if token.len() > LONGEST_TOKEN {
            return Err(Refusal::token("it is too long"));
        }
        let inner = &*self.0;
        let place = inner.verified.place(token)?;
        if let Some(identity) = inner.verified.get(place) {
            return Ok(identity);
        }
        // Boxed, so that what is at hand does not carry the long way's state about.
        Box::pin(self.fresh(token, place, sender())).await
    }

    async fn fresh(
        &self,
        token: &str,
        place: cache::Place,
        sender: Sender,
    ) -> Result<Arc<Identity>, Refusal> {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::token("it has characters that none may have (RFC 6749 A.12)"));
        }
        let inner = &*self.0;
        let expected = Expected {
            profile: inner.profile,
            issuer: &inner.issuer,
            audiences: &inner.audiences,
            now: inner.clock.now(),
            leeway: inner.leeway,
            revoked: inner.revoked.as_ref(),
        };
        match &inner.introspector {
            Some(introspector) if !jws::is_one(token) => {
                introspector.judge(token, place, &expected, &inner.verified).await
            }
            _ => {
                let (identity, signer) = inner.judged(token, &expected, sender).await?;
                expected.check_life(&identity)?;
                let until = identity.expires.unwrap_or_default();
                Ok(inner.verified.put(place, identity, until, Some(signer)))
            }
        }
    }
}

fn shown_bare() -> Refusal {
    Refusal::token("it is bound to a key or a certificate, and came without the proof of it")
}

impl Inner {
    /// A JWT's checks: those that cost nothing first, so that what is not for us has no keys read.
    async fn judged(
        &self,
        token: &str,
        expected: &Expected<'_>,
        sender: Sender,
    ) -> Result<(Identity, KeyId), Refusal> {
        let Jws { header, claims, message, signature } =
            Jws::parse(token).ok_or_else(|| Refusal::token("it is no signed JWT"))?;
        let algorithm = TokenAlgorithm::from_name(&header.alg).filter(|it| self.allowed.contains(it));
        let algorithm = algorithm.ok_or_else(|| Refusal::token("its algorithm is not allowed"))?;
        if header.crit.is_some() {
            return Err(Refusal::token("its header has an extension that is not known here"));
        }
        if !self.profile.takes_type(header.typ.as_deref()) {
            return Err(Refusal::token("its type is not that of an access token"));
        }
        let judged = profile::identity(claims, expected).map_err(Refusal::token)?;
        let kid = header.kid.as_deref();
        let signed_by = |keys: &jwks::Keys| keys.verifies(kid, algorithm, message.as_bytes(), &signature);
        let keys = self.jwks.keys(kid, sender).await?;
        let signer = match signed_by(&keys) {
            Some(signer) => Some(signer),
            None => self.jwks.keys_anew(kid, sender, &keys).await?.as_ref().and_then(signed_by),
        };
        signer.map(|signer| (judged, signer)).ok_or_else(|| Refusal::token("its signature is wrong"))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { issuer, audiences, profile, leeway, public_url, verified, jwks, introspector, .. } =
            &*self.0;
        f.debug_struct("Verifier")
            .field("issuer", issuer)
            .field("audiences", audiences)
            .field("profile", profile)
            .field("leeway", leeway)
            .field("public_url", &public_url.as_ref().map(Url::as_str))
            .field("verified", verified)
            .field("jwks", jwks)
            .field("introspector", introspector)
            .finish_non_exhaustive()
    }
}
