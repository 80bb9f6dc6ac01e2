//! A key set (RFC 7517 5), beside a token that one of its keys may have signed.

use serde_json::Value;

use super::access_token::{GOOD, PUBLIC_KEY, verifier};
use super::answer::{Scripted, block_on, parse};
use super::said;

pub fn check(data: &[u8]) {
    let answer = parse(data);
    let status = answer.status();
    let document = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
    let published = document["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let server = Scripted::new(move |_: &_| answer.clone());
    let verifier = verifier(server.clone());
    let read = block_on(verifier.prefetch());
    let held = verifier.condition().keys;
    match &read {
        Ok(()) => assert!(status.is_success() && held >= 1 && held <= published.len() && held <= 100),
        Err(error) => {
            assert_eq!(held, 0);
            said::check(error, &[]);
        }
    }
    if block_on(verifier.verify(GOOD)).is_ok() {
        assert!(published.iter().any(is_good));
    }
    // Of the one key as it should be, nothing may be wrong.
    if status == 200 && published.len() == 1 && is_good(&published[0]) && published[0]["kid"].is_null() {
        assert!(read.is_ok());
    }
    assert!(server.seen.lock().unwrap().len() <= 2);
    said::no_secret(&format!("{verifier:?}"), &[GOOD.rsplit('.').next().unwrap()]);
}

/// It may be what has signed the token, and says nothing that forbids it.
fn is_good(key: &Value) -> bool {
    let absent_or =
        |name: &str, allowed: &[&str]| key[name].as_str().is_none_or(|value| allowed.contains(&value));
    let verifies = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
    key["kty"] == "OKP"
        && key["crv"] == "Ed25519"
        && key["x"] == PUBLIC_KEY
        && absent_or("use", &["sig"])
        && absent_or("alg", &["EdDSA", "Ed25519"])
        && key["key_ops"].as_array().is_none_or(verifies)
}
