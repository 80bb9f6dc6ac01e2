use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The public half of a P-256 key (RFC 7518 6.2.1).
pub(super) fn of_p256(pair: &EcdsaKeyPair) -> Option<Value> {
    // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1 2.3.3).
    let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
    let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
    Some(json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y }))
}

/// The public half of an Ed25519 key (RFC 8037 2).
pub(super) fn of_ed25519(pair: &Ed25519KeyPair) -> Value {
    json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(pair.public_key()) })
}

/// The thumbprint of a key (RFC 7638 3), the same for its private and public half: what `cnf.jkt` has (RFC 9449 6).
/// `None` for what is no asymmetric key of a known kind.
#[cfg(any(test, feature = "server", feature = "testing"))]
pub(super) fn thumbprint(jwk: &Value) -> Option<String> {
    // In the order that the digest wants, whatever order serde_json keeps in this build.
    let members: &[&str] = match jwk.get("kty")?.as_str()? {
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        "RSA" => &["e", "kty", "n"],
        _ => return None,
    };
    let member = |name: &&str| Some(((*name).to_owned(), Value::from(jwk.get(name)?.as_str()?)));
    let canonical: serde_json::Map<String, Value> = members.iter().map(member).collect::<Option<_>>()?;
    Some(hash(Value::from(canonical).to_string().as_bytes()))
}

/// SHA-256 in base64url: thumbprints, and `ath` of an access token (RFC 9449 4.2).
pub(crate) fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfcs_thumbprints() {
        for (jwk, right) in [
            // RFC 7638 3.1.
            (
                json!({
                    "kty": "RSA",
                    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR\
                          XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8\
                          KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBn\
                          iIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
                    "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
                }),
                "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
            ),
            // RFC 8037 A.3.
            (
                json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
                "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            ),
            // RFC 9449 6.1.
            (
                json!({
                    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
                    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "kty": "EC", "crv": "P-256",
                }),
                "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
            ),
        ] {
            assert_eq!(thumbprint(&jwk).unwrap(), right);
        }
        for none in [json!({ "kty": "oct", "k": "AA" }), json!({ "kty": "EC", "crv": "P-256" }), json!([])] {
            assert_eq!(thumbprint(&none), None);
        }
    }

    /// RFC 9449 7.1.
    #[test]
    fn the_rfcs_token_hash() {
        let token = b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
        assert_eq!(hash(token), "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    }
}
