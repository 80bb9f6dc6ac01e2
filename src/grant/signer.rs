use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// How a client assertion is signed (RFC 7518 3.1, RFC 8037 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSA, PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA, PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl SigningAlgorithm {
    /// The name in the header of a JWS.
    pub(super) fn name(self) -> &'static str {
        match self {
            SigningAlgorithm::Rs256 => "RS256",
            SigningAlgorithm::Ps256 => "PS256",
            SigningAlgorithm::Es256 => "ES256",
            SigningAlgorithm::EdDsa => "EdDSA",
        }
    }

    /// The length of a signature in bytes, where it is always the same.
    pub(super) fn signature_length(self) -> Option<usize> {
        match self {
            SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 => None,
            SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa => Some(64),
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a [`Signer`] gives: the signature, or why there is none.
pub type Signed<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>>;

/// Signs client assertions with a key that the program does not hold itself, in a KMS or an HSM.
///
/// It is asked once for every token request, within the time of that attempt. Where it fails or panics, the attempt
/// fails as [`CredentialsUnavailable`](crate::ErrorKind::CredentialsUnavailable) and is repeated with backoff; a held
/// token serves on. The text of its error is shown in errors and logs, so it must hold no secret.
///
/// ```
/// use evertoken::{ClientAuth, PrivateKeyJwt, Signed, Signer, SigningAlgorithm};
///
/// struct Kms;
///
/// impl Signer for Kms {
///     fn algorithm(&self) -> SigningAlgorithm {
///         SigningAlgorithm::Es256
///     }
///
///     fn key_id(&self) -> Option<&str> {
///         Some("key-2025")
///     }
///
///     fn sign<'a>(&'a self, message: &'a [u8]) -> Signed<'a> {
///         Box::pin(async move { Err(format!("ask the KMS to sign {} bytes here", message.len()).into()) })
///     }
/// }
///
/// let auth = ClientAuth::from(PrivateKeyJwt::with_signer(Kms));
/// ```
pub trait Signer: Send + Sync + 'static {
    /// The algorithm of its signatures.
    fn algorithm(&self) -> SigningAlgorithm;

    /// The key's name at the authorization server, which goes into the header as `kid` (RFC 7515 4.1.4); by default
    /// none.
    fn key_id(&self) -> Option<&str> {
        None
    }

    /// Signs `message` itself, not a digest of it. An ES256 signature is `r || s` of 32 bytes each (RFC 7518 3.4), not
    /// the DER that most KMS give.
    ///
    /// # Errors
    /// Whatever keeps it from signing; a text without secrets.
    fn sign<'a>(&'a self, message: &'a [u8]) -> Signed<'a>;
}
