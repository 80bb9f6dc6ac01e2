use std::fmt;
use std::sync::Arc;

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use serde_json::Value;

use super::key_format::{self, Form};
use super::signer::{Signed, Signer, SigningAlgorithm};
use super::{jwk, public_jwk};
use crate::error::{Error, Result};

/// A private key that signs client assertions and DPoP proofs: RSA of 2048 bits or more, EC on P-256, or Ed25519.
///
/// It is read and checked when it is made. What this crate copies of its text is wiped; the text that you hand in is
/// yours to wipe. `Debug` shows its kind and name only.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    algorithm: Option<SigningAlgorithm>,
    key_id: Option<String>,
}

/// The crypto library wipes these itself.
pub(super) enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A new key for ES256, which no one else has: for [`Dpop::with_key`](crate::Dpop::with_key) where several clients are to
    /// share it.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where the system has no random numbers.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| Error::configuration("no key could be made"))?;
        Ok(Self { pair: Arc::new(Pair::Ec(pair)), algorithm: None, key_id: None })
    }

    /// Reads the first private key of a PEM text: PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`) or SEC 1 (`EC
    /// PRIVATE KEY`), RFC 7468.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where there is none, or where it is encrypted, public, too
    /// small or of another kind.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self> {
        let (form, der) = key_format::decode_pem(pem.as_ref())?;
        Self::parse(form, &der)
    }

    /// Reads a private key in DER: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017 A.1.2) or SEC 1 (RFC 5915).
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(der: impl AsRef<[u8]>) -> Result<Self> {
        let der = der.as_ref();
        Self::parse(key_format::recognize(der)?, der)
    }

    /// Reads a private key as a JSON Web Key (RFC 7517); its `kid` and `alg` are taken over.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem), and where `alg` does not fit the key.
    pub fn from_jwk(jwk: impl AsRef<str>) -> Result<Self> {
        let jwk::Parsed { pair, algorithm, key_id } = jwk::parse(jwk.as_ref())?;
        let this = Self { pair: Arc::new(pair), algorithm: None, key_id };
        match algorithm {
            Some(name) => this.with_named_algorithm(&name),
            None => Ok(this),
        }
    }

    /// The key's name at the authorization server, which goes into the header as `kid` (RFC 7515 4.1.4); by default
    /// that of the JWK, else none.
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Fixes the algorithm. By default it is the key's; for RSA it is RS256, or PS256 where discovery announces that
    /// and not RS256 (`token_endpoint_auth_signing_alg_values_supported`, RFC 8414 2).
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where it does not fit the key.
    pub fn with_algorithm(mut self, algorithm: SigningAlgorithm) -> Result<Self> {
        if !self.pair.algorithms().contains(&algorithm) {
            let kind = self.pair.kind();
            return Err(Error::configuration(format!("a key for {kind} cannot sign by {algorithm}")));
        }
        self.algorithm = Some(algorithm);
        Ok(self)
    }

    fn with_named_algorithm(self, name: &str) -> Result<Self> {
        // RFC 9864 2.2 calls EdDSA on this curve `Ed25519`.
        let known = self.pair.algorithms().iter().find(|known| known.name() == name);
        match known.or_else(|| self.pair.algorithms().iter().find(|_| name == "Ed25519" && self.is_ed25519()))
        {
            Some(known) => self.with_algorithm(*known),
            None => Err(Error::configuration(format!("the JWK for {} has another `alg`", self.pair.kind()))
                .advice("RS256 or PS256 for RSA, ES256 for P-256, EdDSA for Ed25519")),
        }
    }

    fn is_ed25519(&self) -> bool {
        matches!(*self.pair, Pair::Ed25519(_))
    }

    /// The public half, for the algorithms whose signatures are small enough to be sent with every request.
    pub(super) fn public_jwk(&self) -> Option<Value> {
        match &*self.pair {
            Pair::Rsa(_) => None,
            Pair::Ec(pair) => public_jwk::of_p256(pair),
            Pair::Ed25519(pair) => Some(public_jwk::of_ed25519(pair)),
        }
    }

    pub(super) fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        self.pair.sign(self.algorithm(), message)
    }

    /// The same with the algorithm that a server announces, where the key and its owner leave a choice.
    pub(super) fn for_server(&self, announced: &[String]) -> Self {
        let offers = |algorithm: &SigningAlgorithm| announced.iter().any(|name| name == algorithm.name());
        let choice = self.algorithm.or_else(|| self.pair.algorithms().iter().copied().find(offers));
        Self { algorithm: choice, ..self.clone() }
    }

    fn parse(form: Form, der: &[u8]) -> Result<Self> {
        let pair = match form {
            Form::Rsa => RsaKeyPair::from_der(der).map(Pair::Rsa),
            Form::RsaPkcs8 => RsaKeyPair::from_pkcs8(der).map(Pair::Rsa),
            Form::Ec => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::Ec)
            }
            Form::EcPkcs8 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map(Pair::Ec),
            Form::Ed25519Pkcs8 => Ed25519KeyPair::from_pkcs8(der).map(Pair::Ed25519),
        };
        let pair = pair.map_err(|rejected| form.rejected(rejected))?;
        Ok(Self { pair: Arc::new(pair), algorithm: None, key_id: None })
    }
}

impl Form {
    fn rejected(self, rejected: KeyRejected) -> Error {
        if rejected.to_string() == "TooSmall" {
            return key_format::too_small();
        }
        let kind = match self {
            Form::Rsa | Form::RsaPkcs8 => "RSA",
            Form::Ec | Form::EcPkcs8 => "EC (P-256)",
            Form::Ed25519Pkcs8 => "Ed25519",
        };
        Error::configuration(format!("the private key is no usable {kind} key: {rejected}"))
    }
}

impl Pair {
    fn algorithms(&self) -> &'static [SigningAlgorithm] {
        match self {
            Pair::Rsa(_) => &[SigningAlgorithm::Rs256, SigningAlgorithm::Ps256],
            Pair::Ec(_) => &[SigningAlgorithm::Es256],
            Pair::Ed25519(_) => &[SigningAlgorithm::EdDsa],
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Pair::Rsa(_) => "RSA",
            Pair::Ec(_) => "EC P-256",
            Pair::Ed25519(_) => "Ed25519",
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let padding = match algorithm {
                    SigningAlgorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                key.sign(padding, &random, message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ec(key) => Ok(key.sign(&random, message)?.as_ref().to_vec()),
            Pair::Ed25519(key) => Ok(key.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

impl Signer for SigningKey {
    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm.unwrap_or_else(|| match *self.pair {
            Pair::Rsa(_) => SigningAlgorithm::Rs256,
            Pair::Ec(_) => SigningAlgorithm::Es256,
            Pair::Ed25519(_) => SigningAlgorithm::EdDsa,
        })
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signed<'a> {
        Box::pin(std::future::ready(self.sign_now(message).map_err(Into::into)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
