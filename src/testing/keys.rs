use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};

use super::state::lock;
use super::token::merge;

/// How the [`AuthServer`](super::AuthServer) signs its access tokens (RFC 7518 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Signing {
    /// RSA with SHA-256, 2048 bits: the default. The first key is made once per process, since that takes a while.
    #[default]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// RSA keys are slow to make, and a test suite starts many servers.
static FIRST_RSA: LazyLock<io::Result<Arc<RsaKeyPair>>> = LazyLock::new(generate_rsa);

fn generate_rsa() -> io::Result<Arc<RsaKeyPair>> {
    RsaKeyPair::generate(KeySize::Rsa2048).map(Arc::new).map_err(io::Error::other)
}

enum Private {
    Rsa(Arc<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

struct Key {
    kid: String,
    private: Private,
    jwk: Value,
    public: DecodingKey,
}

/// The server's keys, the newest last. The older ones stay published, so that their tokens live on.
pub(super) struct KeyRing {
    signing: Signing,
    keys: Mutex<Vec<Arc<Key>>>,
    made: AtomicUsize,
}

impl KeyRing {
    pub(super) fn new(signing: Signing) -> io::Result<Self> {
        let private = match signing {
            Signing::Rs256 => match &*FIRST_RSA {
                Ok(key) => Private::Rsa(key.clone()),
                Err(error) => return Err(io::Error::other(error.to_string())),
            },
            Signing::Es256 => generate_ec()?,
        };
        let first = Key::new("key-1".to_owned(), private)?;
        Ok(Self { signing, keys: Mutex::new(vec![Arc::new(first)]), made: AtomicUsize::new(1) })
    }

    pub(super) fn rotate(&self) -> io::Result<()> {
        let private = match self.signing {
            Signing::Rs256 => Private::Rsa(generate_rsa()?),
            Signing::Es256 => generate_ec()?,
        };
        let mut keys = lock(&self.keys);
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        let kid = format!("key-{number}");
        keys.push(Arc::new(Key::new(kid, private)?));
        Ok(())
    }

    /// Publishes the newest key alone from now on.
    pub(super) fn drop_old(&self) {
        let mut keys = lock(&self.keys);
        let last = keys.len().saturating_sub(1);
        keys.drain(..last);
    }

    /// The public keys (RFC 7517 5).
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": lock(&self.keys).iter().map(|key| key.jwk.clone()).collect::<Vec<_>>() })
    }

    /// Signs with the newest key, as an access token (RFC 9068 2.1).
    pub(super) fn sign(&self, claims: &Value) -> io::Result<String> {
        self.sign_as(&json!({}), claims)
    }

    /// The same with the header's members changed: those of an object are put in, those that are `null` taken out.
    pub(super) fn sign_as(&self, changes: &Value, claims: &Value) -> io::Result<String> {
        let key = lock(&self.keys).last().cloned().ok_or_else(|| io::Error::other("no key"))?;
        let mut header = json!({ "typ": "at+jwt", "alg": key.private.name(), "kid": key.kid });
        merge(&mut header, Some(changes));
        let mut token = format!("{}.{}", part(&header), part(claims));
        let signature = key.private.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that one of our keys signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header = parse(header)?;
        let kid = header["kid"].as_str()?;
        let key = lock(&self.keys).iter().find(|key| key.kid == kid).cloned()?;
        if header["alg"] != key.private.name() || header["typ"] != "at+jwt" {
            return None;
        }
        // By the provider's own factory: the process default panics where a build enables two providers.
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&key.private.algorithm(), &key.public).ok()?;
        verifier.verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        parse(claims)
    }
}

impl Key {
    fn new(kid: String, private: Private) -> io::Result<Self> {
        let mut jwk = private.public_parameters()?;
        jwk["use"] = "sig".into();
        jwk["alg"] = private.name().into();
        jwk["kid"] = kid.as_str().into();
        let parsed: Jwk = serde_json::from_value(jwk.clone())?;
        let public = DecodingKey::from_jwk(&parsed).map_err(io::Error::other)?;
        Ok(Self { kid, private, jwk, public })
    }
}

impl Private {
    fn algorithm(&self) -> Algorithm {
        match self {
            Private::Rsa(_) => Algorithm::RS256,
            Private::Ec(_) => Algorithm::ES256,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Private::Rsa(_) => "RS256",
            Private::Ec(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(io::Error::other)?;
                Ok(signature)
            }
            Private::Ec(key) => Ok(key.sign(&random, message).map_err(io::Error::other)?.as_ref().to_vec()),
        }
    }

    /// The key's own members of its JWK (RFC 7518 6.2 and 6.3).
    fn public_parameters(&self) -> io::Result<Value> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Private::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                Ok(json!({ "kty": "RSA", "n": encode(&public.n), "e": encode(&public.e) }))
            }
            Private::Ec(key) => {
                // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1 2.3.3).
                let Some((x, y)) =
                    key.public_key().as_ref().strip_prefix(&[4]).and_then(|xy| xy.split_at_checked(32))
                else {
                    return Err(io::Error::other("not an uncompressed point"));
                };
                Ok(json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }))
            }
        }
    }
}

fn generate_ec() -> io::Result<Private> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Private::Ec).map_err(io::Error::other)
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn parse(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        for signing in [Signing::Rs256, Signing::Es256] {
            let ring = KeyRing::new(signing).unwrap();
            let token = ring.sign(&json!({ "sub": "app" })).unwrap();
            assert_eq!(ring.verify(&token).unwrap()["sub"], "app");

            let forged = format!(
                "{}.{}.{}",
                token.split('.').next().unwrap(),
                part(&json!({ "sub": "root" })),
                token.rsplit('.').next().unwrap()
            );
            assert!(ring.verify(&forged).is_none(), "{signing:?}");
            for bad in ["", "a", "a.b", "a.b.c", &format!("{token}.x")] {
                assert!(ring.verify(bad).is_none(), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_rotated_key_still_verifies_and_both_are_published() {
        let ring = KeyRing::new(Signing::Es256).unwrap();
        let old = ring.sign(&json!({})).unwrap();
        ring.rotate().unwrap();
        let new = ring.sign(&json!({})).unwrap();
        assert_ne!(old.split('.').next(), new.split('.').next());
        assert!(ring.verify(&old).is_some() && ring.verify(&new).is_some());
        assert_eq!(ring.jwks()["keys"].as_array().unwrap().len(), 2);
    }
}
