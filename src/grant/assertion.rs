use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::discovery::Metadata;
use super::jws::{encoded, signed, unique};
use super::quote::{LONGEST_TEXT, Quoter};
use super::signer::{Signer, SigningAlgorithm};
use super::signing_key::SigningKey;
use crate::caught::caught;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::ExposeSecret;

/// How long an assertion lives. Servers commonly allow 5 minutes at most.
const LIFE: Duration = Duration::from_secs(60);

/// How long before it is made an assertion says that it was issued. Some servers take none from their future, and clocks that
/// are set by NTP may still differ by some seconds.
const ISSUED_BEFORE: Duration = Duration::from_secs(10);

/// Whom a client assertion names as its audience (`aud`, RFC 7523 3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AssertionAudience {
    /// The issuer identifier, which no other server can take for itself; where only `token_url` is set, that. The
    /// default.
    #[default]
    Issuer,
    /// The URL of the token endpoint, which older servers insist on.
    TokenEndpoint,
    /// This very string.
    Named(String),
}

/// The MACs of `client_secret_jwt` (RFC 7518 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// HMAC with SHA-256. RFC 7518 wants an app secret of at least 32 bytes.
    Hs256,
    /// HMAC with SHA-384; at least 48 bytes.
    Hs384,
    /// HMAC with SHA-512; at least 64 bytes.
    Hs512,
}

impl HmacAlgorithm {
    fn parts(self) -> (&'static str, hmac::Algorithm) {
        match self {
            HmacAlgorithm::Hs256 => ("HS256", hmac::HMAC_SHA256),
            HmacAlgorithm::Hs384 => ("HS384", hmac::HMAC_SHA384),
            HmacAlgorithm::Hs512 => ("HS512", hmac::HMAC_SHA512),
        }
    }
}

/// Where an assertion goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipient<'a> {
    /// Where there is discovery.
    pub(super) metadata: Option<&'a Metadata>,
    pub(super) token_endpoint: &'a Url,
}

impl<'a> Recipient<'a> {
    fn audience(&self, wanted: &'a AssertionAudience) -> &'a str {
        match (wanted, self.metadata) {
            (AssertionAudience::Named(name), _) => name,
            (AssertionAudience::Issuer, Some(metadata)) => &metadata.issuer,
            _ => self.token_endpoint.as_str(),
        }
    }

    fn algorithms(&self) -> &'a [String] {
        self.metadata.map_or(&[], |metadata| &metadata.auth_algorithms)
    }
}

/// Settings of [`ClientSecretJwt`](crate::ClientAuth::ClientSecretJwt): a JWT that lives for 60 s, is made anew for
/// every request, and has a MAC by the app secret.
#[derive(Debug, Clone, Default)]
pub struct SecretJwt {
    algorithm: Option<HmacAlgorithm>,
    audience: AssertionAudience,
}

impl SecretJwt {
    /// With the issuer as audience; HS256, or what discovery announces in its place.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fixes the algorithm.
    pub fn algorithm(mut self, algorithm: HmacAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Another audience than the issuer.
    pub fn audience(mut self, audience: AssertionAudience) -> Self {
        self.audience = audience;
        self
    }

    pub(super) fn assertion(
        &self,
        to: Recipient<'_>,
        credentials: &Credentials,
        time: Duration,
    ) -> Result<Zeroizing<String>> {
        let announced =
            |algorithm: &HmacAlgorithm| to.algorithms().iter().any(|name| name == algorithm.parts().0);
        let all = [HmacAlgorithm::Hs256, HmacAlgorithm::Hs384, HmacAlgorithm::Hs512];
        let algorithm = self.algorithm.or_else(|| all.into_iter().find(announced));
        let (name, algorithm) = algorithm.unwrap_or(HmacAlgorithm::Hs256).parts();
        let input = signing_input(name, None, to.audience(&self.audience), credentials, time)?;
        let key = hmac::Key::new(algorithm, credentials.app_secret.expose_secret().as_bytes());
        Ok(signed(&input, hmac::sign(&key, input.as_bytes()).as_ref()))
    }
}

/// Settings of [`PrivateKeyJwt`](crate::ClientAuth::PrivateKeyJwt): a JWT that lives for 60 s, is made anew for every
/// request, and is signed with a private key.
///
/// ```no_run
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use evertoken::{Client, PrivateKeyJwt, SigningKey};
///
/// let key = SigningKey::from_pem(std::fs::read("key.pem")?)?.with_key_id("key-2025");
/// let api = Client::builder("my-app", "")
///     .issuer("https://as.example")
///     .client_auth(PrivateKeyJwt::new(key))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PrivateKeyJwt {
    signer: Held,
    audience: AssertionAudience,
}

#[derive(Clone)]
enum Held {
    Key(SigningKey),
    Signer(Arc<dyn Signer>),
}

impl PrivateKeyJwt {
    /// With the issuer as audience.
    pub fn new(key: SigningKey) -> Self {
        Self { signer: Held::Key(key), audience: AssertionAudience::default() }
    }

    /// The same with a key that something else holds.
    pub fn with_signer(signer: impl Signer) -> Self {
        Self { signer: Held::Signer(Arc::new(signer)), audience: AssertionAudience::default() }
    }

    /// Another audience than the issuer.
    pub fn audience(mut self, audience: AssertionAudience) -> Self {
        self.audience = audience;
        self
    }

    pub(super) async fn assertion(
        &self,
        to: Recipient<'_>,
        credentials: &Credentials,
        time: Duration,
    ) -> Result<Zeroizing<String>> {
        let audience = to.audience(&self.audience);
        let chosen;
        let signer: &dyn Signer = match &self.signer {
            Held::Key(key) => {
                chosen = key.for_server(to.algorithms());
                &chosen
            }
            Held::Signer(signer) => &**signer,
        };
        match caught(sign(signer, audience, credentials, time)).await {
            Some(outcome) => outcome,
            None => Err(unavailable("the signer of the client assertion panicked".to_owned())),
        }
    }
}

async fn sign(
    signer: &dyn Signer,
    audience: &str,
    credentials: &Credentials,
    time: Duration,
) -> Result<Zeroizing<String>> {
    let (algorithm, key_id) = (signer.algorithm(), signer.key_id());
    let input = signing_input(algorithm.name(), key_id, audience, credentials, time)?;
    let signature = signer.sign(input.as_bytes()).await.map_err(|error| {
        let quoter = Quoter { credentials, token: None, assertion: Some(&input), proof: None };
        let said = quoter.text(&error.to_string(), LONGEST_TEXT);
        let named = key_id.map(|key_id| format!(" for the key {key_id:?}")).unwrap_or_default();
        unavailable(format!("the signer of the client assertion failed{named}: {said}"))
    })?;
    check_length(algorithm, signature.len())?;
    Ok(signed(&input, &signature))
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::CredentialsUnavailable, message)
}

/// Most KMS give ECDSA signatures in DER, which servers answer with no more than `invalid_client`.
fn check_length(algorithm: SigningAlgorithm, length: usize) -> Result<()> {
    let fits = algorithm.signature_length().map_or(length >= 256, |right| right == length);
    if fits {
        return Ok(());
    }
    Err(Error::configuration(format!("the signer gave {length} bytes, which is no {algorithm} signature"))
        .advice("an ES256 signature is r and s of 32 bytes each, not DER; RSA keys have at least 2048 bits"))
}

/// Header and claims (RFC 7523 3, RFC 7515 5.1). `time` is the server's, since the Unix epoch.
fn signing_input(
    algorithm: &str,
    key_id: Option<&str>,
    audience: &str,
    credentials: &Credentials,
    time: Duration,
) -> Result<Zeroizing<String>> {
    let mut header = json!({ "typ": "JWT", "alg": algorithm });
    if let Some(key_id) = key_id {
        header["kid"] = key_id.into();
    }
    let issued = time.saturating_sub(ISSUED_BEFORE);
    let claims = json!({
        "iss": credentials.app_id,
        "sub": credentials.app_id,
        "aud": audience,
        "jti": unique()?,
        "iat": issued.as_secs(),
        "nbf": issued.as_secs(),
        "exp": issued.saturating_add(LIFE).as_secs(),
    });
    Ok(Zeroizing::new(format!("{}.{}", encoded(&header), encoded(&claims))))
}

/// A signer of one's own shows nothing: its `Debug` may hold more than it should.
impl fmt::Debug for PrivateKeyJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PrivateKeyJwt");
        if let Held::Key(key) = &self.signer {
            out.field("key", key);
        }
        out.field("audience", &self.audience).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
