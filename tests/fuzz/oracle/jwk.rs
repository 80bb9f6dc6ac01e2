//! Private keys: JWK (RFC 7517), PEM and DER.

use evertoken::{Signer, SigningAlgorithm, SigningKey};
use serde_json::Value;

use super::answer::block_on;
use super::said;

pub fn check(data: &[u8]) {
    for read in [SigningKey::from_pem(data), SigningKey::from_der(data)] {
        look(read, &String::from_utf8_lossy(data));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let read = SigningKey::from_jwk(text);
    if let Ok(key) = &read {
        let jwk: Value = serde_json::from_str(text).unwrap();
        assert_eq!(key.key_id(), jwk["kid"].as_str());
        let algorithm = key.algorithm();
        assert!(match jwk["kty"].as_str().unwrap() {
            "RSA" => matches!(algorithm, SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256),
            "EC" => algorithm == SigningAlgorithm::Es256 && jwk["crv"] == "P-256",
            _ => algorithm == SigningAlgorithm::EdDsa && jwk["crv"] == "Ed25519",
        });
        if let Some(name) = jwk["alg"].as_str().filter(|name| *name != "Ed25519") {
            assert_eq!(algorithm.to_string(), name);
        }
        for private in ["d", "p", "q"].iter().filter_map(|name| jwk[name].as_str()) {
            said::no_secret(&format!("{key:?}"), &[private]);
        }
        // Whoever takes a key by its members takes it with the members in another order, too.
        assert!(SigningKey::from_jwk(jwk.to_string()).is_ok());
    }
    look(read, text);
}

/// A key signs; an error says nothing of what was read.
fn look(read: evertoken::Result<SigningKey>, text: &str) {
    match read {
        Ok(key) => {
            let signature = block_on(key.sign(b"message")).expect("a key that was taken signs");
            match key.algorithm() {
                SigningAlgorithm::Es256 | SigningAlgorithm::EdDsa => assert_eq!(signature.len(), 64),
                _ => assert!(signature.len() >= 256),
            }
        }
        Err(error) => said::check(&error, &said::long_words(text)),
    }
}
