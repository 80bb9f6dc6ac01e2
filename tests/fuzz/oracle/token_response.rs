//! The body of a 200 of the token endpoint (RFC 6749 5.1).

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::answer::{NOW, SECRETS, answered};
use super::said;

const YEAR: u64 = 365 * 86_400;

pub fn check(data: &[u8]) {
    let outcome = answered(Response::new(Bytes::copy_from_slice(data)));
    let document = serde_json::from_slice::<Value>(data).ok().filter(Value::is_object);
    let text = |name: &str| document.as_ref()?.get(name)?.as_str();
    said::no_secret(&outcome.shown, &SECRETS);
    let given = text("access_token").unwrap_or_default();
    // A short one may well stand in a sentence.
    if given.len() >= 20 && given.contains("c4nary") {
        said::no_secret(&outcome.shown, &[given]);
    }
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    match &outcome.token {
        Ok(token) => {
            assert_eq!(token.authorization(), format!("Bearer {}", token.as_str()).as_str());
            assert!(token.authorization().is_sensitive());
            assert!(token.expires_at() > now && token.expires_at() <= now + Duration::from_secs(YEAR));
            let lifetime = outcome.lifetime.unwrap();
            assert!(outcome.status.expires_in.is_some_and(|left| left <= lifetime), "{:?}", outcome.status);
            // A byte order mark is more than the model knows of.
            if document.is_some() {
                assert_eq!((token.as_str(), token.scope()), (given, text("scope").or(Some("read write"))));
            }
        }
        Err(error) => {
            said::check(error, &SECRETS);
            assert!(outcome.status.expires_in.is_none() && outcome.status.consecutive_failures == 1);
        }
    }
    // What is good by the book is taken as the book has it.
    let Some(document) = &document else { return };
    let plain =
        !given.is_empty() && given.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    let bearer = text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if let Some(seconds @ 60..) = document["expires_in"].as_u64()
        && plain
        && bearer
        && document.get("error").is_none()
    {
        let token = outcome.token.unwrap();
        assert_eq!(token.expires_at(), now + Duration::from_secs(seconds.min(YEAR)));
    }
}
