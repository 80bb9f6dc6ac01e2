//! A published key set, parsed: which of its keys may verify a token. When it is read, and by whom, is in `jwks`.

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::{KeyKind, TokenAlgorithm};
use crate::server::digest::Digest;

/// The most keys that a server may publish; real ones have two to ten.
pub(super) const MOST_KEYS: usize = 100;

/// The most keys that are tried on one token, where names do not decide.
const MOST_TRIED: usize = 4;

/// The shortest RSA modulus, in bytes (RFC 7518 3.3).
const SHORTEST_RSA: usize = 256;

/// A server's public keys (RFC 7517 5), parsed once.
pub(super) struct KeySet(Vec<Key>);

struct Key {
    kid: Option<String>,
    /// One for each algorithm that the key may be used with.
    verifiers: Vec<KeyVerifier>,
}

/// A public key together with one algorithm that it may be used with.
struct KeyVerifier {
    algorithm: TokenAlgorithm,
    key: ParsedPublicKey,
    id: KeyId,
}

/// Identifies a public key and an algorithm by a hash of both, regardless of the key's name: an issuer may publish
/// another key under the same `kid`.
pub(super) type KeyId = Digest;

fn key_id(algorithm: TokenAlgorithm, encoded: &[u8]) -> KeyId {
    let hash = digest::digest(&digest::SHA256, &[algorithm.name().as_bytes(), &[0], encoded].concat());
    let mut halves =
        hash.as_ref().chunks_exact(8).filter_map(|half| half.try_into().ok().map(u64::from_be_bytes));
    Digest([halves.next().unwrap_or_default(), halves.next().unwrap_or_default()])
}

impl KeySet {
    /// The keys among these that can sign tokens by one of `allowed`; what cannot is passed over, as encryption keys and
    /// shared secrets are.
    pub(super) fn parse(document: &[u8], allowed: &[TokenAlgorithm]) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(document).map_err(|_| "the key set is not JSON".to_owned())?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or("the key set has no `keys`")?;
        if keys.len() > MOST_KEYS {
            return Err(format!("the key set has {} keys, and {MOST_KEYS} are the most", keys.len()));
        }
        let keys: Vec<Key> = keys.iter().filter_map(|jwk| Key::parse(jwk, allowed)).collect();
        if keys.is_empty() {
            return Err("the key set has no key for the algorithms that are allowed".to_owned());
        }
        Ok(Self(keys))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the keys of this set that `newer` no longer has.
    pub(super) fn withdrawn_in(&self, newer: &Self) -> Vec<KeyId> {
        self.ids().filter(|id| newer.ids().all(|other| other != *id)).collect()
    }

    /// Returns the names of its keys.
    pub(super) fn names_of_keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|key| key.kid.as_deref())
    }

    fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().flat_map(|key| &key.verifiers).map(|verifier| verifier.id)
    }

    /// Whether a token with this `kid` can be judged by what is held.
    pub(super) fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none() || self.0.iter().any(|key| key.kid.as_deref() == kid || key.kid.is_none())
    }

    /// Whether names say which key a token with this `kid` means: it has one, and so has the key.
    pub(super) fn names(&self, kid: Option<&str>) -> bool {
        kid.is_some() && (self.has(kid) || self.0.iter().all(|key| key.kid.is_some()))
    }

    fn has(&self, kid: Option<&str>) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == kid)
    }

    /// Returns the key that has signed a token, among those it may mean: those of its name; without such, and without a
    /// name in the token, a few that fit its algorithm.
    pub(super) fn verifies(
        &self,
        kid: Option<&str>,
        algorithm: TokenAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<KeyId> {
        let named = kid.is_some() && self.has(kid);
        let meant = |key: &&Key| match (kid, &key.kid) {
            (Some(_), Some(_)) => kid == key.kid.as_deref(),
            (Some(_), None) => !named,
            (None, _) => true,
        };
        self.0
            .iter()
            .filter(meant)
            .filter_map(|key| key.verifiers.iter().find(|verifier| verifier.algorithm == algorithm))
            .take(MOST_TRIED)
            .find(|verifier| verifier.key.verify_sig(message, signature).is_ok())
            .map(|verifier| verifier.id)
    }
}

impl Key {
    fn parse(jwk: &Value, allowed: &[TokenAlgorithm]) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let only = match text("alg") {
            Some(name) => Some(TokenAlgorithm::from_name(name)?),
            None => None,
        };
        let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let (kind, encoded) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let unpadded = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect();
                let (n, e): (Vec<u8>, Vec<u8>) = (unpadded(bytes("n")?), unpadded(bytes("e")?));
                if n.len() < SHORTEST_RSA {
                    return None;
                }
                let der: PublicKeyX509Der<'_> = RsaPublicKeyComponents { n, e }.as_der().ok()?;
                (KeyKind::Rsa, der.as_ref().to_vec())
            }
            ("EC", Some(curve)) => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                let kind = allowed.iter().map(|algorithm| algorithm.key_kind()).find(
                    |kind| matches!(kind, KeyKind::Ec(name, size) if *name == curve && x.len() == *size && y.len() == *size),
                )?;
                // An uncompressed point (SEC 1 2.3.3).
                (kind, [&[4], x.as_slice(), y.as_slice()].concat())
            }
            ("OKP", Some("Ed25519")) => (KeyKind::Ed25519, bytes("x")?),
            _ => return None,
        };
        let fits = |of: &TokenAlgorithm| of.key_kind() == kind && only.is_none_or(|only| only == *of);
        let parsed = |algorithm: TokenAlgorithm| {
            let key = ParsedPublicKey::new(algorithm.verification(), &encoded).ok()?;
            Some(KeyVerifier { algorithm, key, id: key_id(algorithm, &encoded) })
        };
        let verifiers: Vec<_> = allowed.iter().copied().filter(fits).filter_map(parsed).collect();
        if verifiers.is_empty() {
            None
        } else {
            Some(Self { kid: text("kid").map(str::to_owned), verifiers })
        }
    }
}
