//! Any answer of the token endpoint: status, headers and body (RFC 6749 5.2).

use http::StatusCode;
use serde_json::Value;

use super::answer::{SECRETS, answered, parse};
use super::said;

pub fn check(data: &[u8]) {
    let answer = parse(data);
    let document = serde_json::from_slice::<Value>(answer.body()).ok();
    let text = |name: &str| document.as_ref()?.get(name)?.as_str();
    let outcome = answered(answer.clone());
    said::no_secret(&outcome.shown, &SECRETS);
    if let Some(token) = text("access_token").filter(|token| token.len() >= 20 && token.contains("c4nary")) {
        said::no_secret(&outcome.shown, &[token]);
    }
    let status = answer.status();
    let Err(error) = outcome.token else {
        assert!(status.is_success(), "{status}");
        return;
    };
    said::check(&error, &SECRETS);
    assert_eq!(error.status(), Some(status.as_u16()));
    assert!(outcome.status.expires_in.is_none());
    let next = outcome.status.next_attempt.expect("it is always tried again");
    assert!(next <= said::LONGEST_WAIT * 2, "{next:?}");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        assert!(error.is_retryable(), "{error}");
    }
    if status == StatusCode::BAD_REQUEST && text("error") == Some("invalid_client") {
        assert_eq!(error.kind(), evertoken::ErrorKind::CredentialsRejected);
    }
}
