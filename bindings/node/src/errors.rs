//! The crate's one error in JSON, of which `lib/error.ts` makes an `EvertokenError`.

use std::error::Error as _;

use evertoken::{Error, ErrorKind};
use evertoken_bindings::Language;
use serde_json::json;

fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::CredentialsRejected => "ERR_EVERTOKEN_CREDENTIALS_REJECTED",
        ErrorKind::CredentialsUnavailable => "ERR_EVERTOKEN_CREDENTIALS_UNAVAILABLE",
        ErrorKind::AuthServerUnavailable => "ERR_EVERTOKEN_AUTH_SERVER_UNAVAILABLE",
        ErrorKind::Throttled => "ERR_EVERTOKEN_THROTTLED",
        ErrorKind::RequestRefused => "ERR_EVERTOKEN_REQUEST_REFUSED",
        ErrorKind::InvalidResponse => "ERR_EVERTOKEN_INVALID_RESPONSE",
        ErrorKind::Timeout => "ERR_EVERTOKEN_TIMEOUT",
        ErrorKind::UntrustedOrigin => "ERR_EVERTOKEN_UNTRUSTED_ORIGIN",
        ErrorKind::Closed => "ERR_EVERTOKEN_CLOSED",
        _ => "ERR_EVERTOKEN_CONFIGURATION",
    }
}

pub fn told(error: &Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        causes.push(Language::Node.spell(&deeper.to_string()).into_owned());
        cause = deeper.source();
    }
    json!({
        "code": code(error.kind()),
        "message": Language::Node.message(error),
        "oauthError": error.oauth_error(),
        "description": error.description(),
        "retryAfterMs": error.retry_after().map(|after| after.as_secs_f64() * 1e3),
        "server": error.server(),
        "status": error.status(),
        "retryable": error.is_retryable(),
        "cause": (!causes.is_empty()).then(|| causes.join(": ")),
    })
    .to_string()
}

/// To be thrown.
pub fn thrown(error: &Error) -> napi::Error {
    napi::Error::from_reason(told(error))
}
