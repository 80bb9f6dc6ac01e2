//! Errors of calls to the API: what failed, and whether the call may be sent again. Errors of the authorization server are
//! made in `grant`.

use std::error::Error as StdError;
use std::fmt::Write;
use std::io;

use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use serde_json::error::Category;

use crate::cause::Cause;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::grant::said_retry_after;
use crate::origin::shown;

const MAY_BE_DONE: &str = "the API may have carried it out, so check before you send it again";

/// Whether a second sending of a call has the effect of one (RFC 9110 9.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The method is idempotent.
    Once,
    /// Another method, or an unknown one.
    PerSending,
}

impl Effect {
    pub(crate) fn of(method: &Method) -> Self {
        if method.is_idempotent() { Self::Once } else { Self::PerSending }
    }
}

/// Returns the error of a call that was not sent, or whose answer could not be read. The URL loses its query, which may hold
/// secrets.
pub(crate) fn call_failed(error: reqwest::Error, effect: Effect) -> Error {
    let server = error.url().map(shown);
    let status = error.status();
    let may_repeat = effect == Effect::Once || was_not_sent(&error);
    let this = if let Some(status) = status {
        answered(status, &HeaderMap::new(), effect)
    } else if let Some(json) = find::<serde_json::Error>(&error) {
        Error::new(ErrorKind::Api, wrong_json(json))
    } else if error.is_builder() || error.is_redirect() {
        Error::new(ErrorKind::Api, message(&error))
    } else {
        undone(Error::new(ErrorKind::Api, message(&error)), may_repeat)
    };
    let cause = if error.is_connect() { Cause::of(&error) } else { Cause::of_alert(&error) };
    let this = match cause {
        Some(cause) => cause.explain(this),
        None => this,
    };
    let this = match server {
        Some(server) => this.with_server(server),
        None => this,
    };
    // An error of JSON may quote the answer.
    if find::<serde_json::Error>(&error).is_some() { this } else { this.with_source(error.without_url()) }
}

/// Returns the error for an answer of this status.
pub(crate) fn refused(url: &Url, status: StatusCode, headers: &HeaderMap, effect: Effect) -> Error {
    answered(status, headers, effect).with_server(shown(url))
}

/// Returns the error for a body that is not the JSON that was expected. An answer of 4xx or 5xx is mostly no JSON: then the
/// status is what matters.
pub(crate) fn not_json(
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    effect: Effect,
    json: &serde_json::Error,
) -> Error {
    if status.is_client_error() || status.is_server_error() {
        return refused(url, status, headers, effect);
    }
    Error::new(ErrorKind::Api, wrong_json(json)).with_server(shown(url)).with_status(status.as_u16())
}

/// Whether the connection ended before an answer began: often a kept-alive one that the server closed at the same moment.
pub(crate) fn was_interrupted(error: &reqwest::Error) -> bool {
    if !error.is_request() || error.is_connect() || error.is_timeout() {
        return false;
    }
    let hyper = find::<hyper::Error>(error);
    hyper.is_some_and(|hyper| hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed())
        || find::<io::Error>(error).is_some_and(|io| {
            use io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
            };
            matches!(
                io.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
            )
        })
}

/// Whether it is certain that the API has not seen the call.
fn was_not_sent(error: &reqwest::Error) -> bool {
    error.is_connect() || find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled)
}

fn message(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "the API call failed: could not connect"
    } else if error.is_timeout() {
        "the API call took too long"
    } else if was_interrupted(error) {
        "the API call failed: the connection was closed before the answer came"
    } else if error.is_body() || error.is_decode() {
        "the API's answer broke off"
    } else if error.is_redirect() {
        "the API call failed: a redirect was not followed"
    } else {
        "the API call failed"
    }
}

fn answered(status: StatusCode, headers: &HeaderMap, effect: Effect) -> Error {
    let mut message = format!("the API answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        let _ = write!(message, " {reason}");
    }
    let error = Error::new(ErrorKind::Api, message).with_status(status.as_u16());
    let after = said_retry_after(status, headers, Clock::System.now().wall);
    match status {
        // The API says that it has not acted on the call (RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4).
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            error.retryable(true).with_retry_after(after)
        }
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => error,
        StatusCode::SERVICE_UNAVAILABLE if after.is_some() => error.retryable(true).with_retry_after(after),
        _ if status.is_server_error() => undone(error, effect == Effect::Once).with_retry_after(after),
        _ => error.with_retry_after(after),
    }
}

fn undone(error: Error, may_repeat: bool) -> Error {
    if may_repeat { error.retryable(true) } else { error.advice(MAY_BE_DONE) }
}

/// Says where the JSON is wrong, without a word of it.
fn wrong_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let problem = match error.classify() {
        Category::Syntax => format!("no JSON: {reason}"),
        Category::Eof => "JSON that ends too early".to_owned(),
        Category::Data | Category::Io => match expected(reason) {
            Some(expected) => format!("JSON of another form: {expected}"),
            None => "JSON of another form".to_owned(),
        },
    };
    format!("the API's answer is {problem}, at line {line}, column {column}")
}

/// What a type expected, as far as that is certain to be its own word: what was found is the API's.
fn expected(reason: &str) -> Option<String> {
    if reason.starts_with("missing field ") {
        return Some(reason.to_owned());
    }
    let mismatch = ["invalid type: ", "invalid value: ", "invalid length "];
    let is_mismatch = mismatch.iter().any(|start| reason.starts_with(start));
    let expected = reason.rsplit_once(", expected ").filter(|_| is_mismatch)?.1;
    Some(format!("expected {expected}"))
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    fn of(status: u16, retry_after: Option<&'static str>, effect: Effect) -> Error {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", http::HeaderValue::from_static(value));
        }
        let url = Url::parse("https://api.example/v1/x?key=canary").unwrap();
        refused(&url, StatusCode::from_u16(status).unwrap(), &headers, effect)
    }

    #[test]
    fn names_the_status_and_says_whether_the_call_may_be_repeated() {
        for (status, once, per_sending) in [
            (400, false, false),
            (404, false, false),
            (408, true, true),
            (425, true, true),
            (429, true, true),
            (500, true, false),
            (501, false, false),
            (502, true, false),
            (503, true, false),
            (504, true, false),
            (599, true, false),
        ] {
            for (effect, retryable) in [(Effect::Once, once), (Effect::PerSending, per_sending)] {
                let error = of(status, None, effect);
                let text = error.to_string();
                assert_eq!((error.is_retryable(), error.status()), (retryable, Some(status)), "{text}");
                assert!(text.contains(&format!("the API answered {status}")), "{text}");
                assert!(text.contains("[https://api.example/v1/x]") && !text.contains("canary"), "{text}");
                assert!(!text.contains("mend") && !text.contains("tried again"), "{text}");
                let warns = text.contains(MAY_BE_DONE);
                assert_eq!(warns, once && !per_sending && effect == Effect::PerSending, "{text}");
            }
        }
    }

    #[test]
    fn gives_the_pause_that_the_api_asks_for() {
        let error = of(429, Some("3600"), Effect::PerSending);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
        assert!(error.to_string().ends_with("; retryable after 60 min"), "{error}");
        assert!(of(503, Some("2"), Effect::PerSending).is_retryable(), "it asks to be called again");
        let error = of(500, Some("2"), Effect::PerSending);
        assert_eq!((error.is_retryable(), error.retry_after()), (false, Some(Duration::from_secs(2))));
    }

    #[test]
    fn says_where_json_is_wrong_without_a_word_of_it() {
        #[derive(Deserialize, Debug)]
        #[expect(dead_code, reason = "only its form matters")]
        struct Order {
            id: u32,
            kind: Kind,
        }
        #[derive(Deserialize, Debug)]
        enum Kind {
            Plain,
        }
        for (text, said) in [
            ("<h1>canary</h1>", "no JSON: expected value, at line 1, column 1"),
            ("", "JSON that ends too early, at line 1, column 0"),
            ("{\"id\": 7,\n\"kind\": \"can", "JSON that ends too early, at line 2"),
            ("{\"id\": \"canary\"}", "JSON of another form: expected u32, at line 1, column 15"),
            ("{\"id\": \"canary, expected canary\"}", "expected u32"),
            ("{\"id\": 7}", "JSON of another form: missing field `kind`, at line 1, column 9"),
            ("{\"id\": 7, \"kind\": \"canary\"}", "JSON of another form, at line 1"),
            ("{\"canary\": x}", "no JSON: expected value, at line 1, column 12"),
        ] {
            let json = serde_json::from_str::<Order>(text).unwrap_err();
            let url = Url::parse("https://api.example/").unwrap();
            let error = not_json(&url, StatusCode::OK, &HeaderMap::new(), Effect::Once, &json);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(said) && !shown.contains("canary"), "{text}: {shown}");
            assert!(!error.is_retryable() && error.source().is_none());
        }
    }
}
