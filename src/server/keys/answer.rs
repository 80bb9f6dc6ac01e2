//! What management interfaces answer.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{known_code, throttled};
use crate::origin::shown;
use crate::secret::one_line;

/// The longest piece of a server's text that goes into an error.
const LONGEST_TEXT: usize = 200;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// As errors may show it.
    pub(super) server: String,
}

/// What may be in an error's body: RFC 7591 3.2.2, and Auth0's own form.
#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
    message: Option<String>,
    #[serde(rename = "errorCode")]
    code: Option<String>,
}

impl Answer {
    pub(super) async fn of(response: reqwest::Response) -> Result<Self> {
        let (status, headers, server) =
            (response.status(), response.headers().clone(), shown(response.url()));
        Ok(Self { status, headers, body: response.bytes().await?, server })
    }

    /// An error for all but a 2xx.
    pub(super) fn check(&self) -> Result<()> {
        if self.status.is_success() { Ok(()) } else { Err(self.refusal(&[])) }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        self.check()?;
        serde_json::from_slice(&self.body).map_err(|error| {
            // Its words may quote what it read.
            let what = format!(
                "the answer is not what it should be (line {}, column {})",
                error.line(),
                error.column()
            );
            Error::new(ErrorKind::Api, what)
                .with_server(self.server.as_str())
                .with_status(self.status.as_u16())
        })
    }

    /// What it says, without these secrets.
    pub(super) fn refusal(&self, secrets: &[&str]) -> Error {
        let said: Refusal = serde_json::from_slice(&self.body).unwrap_or_default();
        let quoted = |text: String| one_line(&text, secrets, LONGEST_TEXT);
        let status = self.status;
        let (kind, what, advice) = match status.as_u16() {
            429 => {
                (ErrorKind::Throttled, "the management interface asks for fewer requests".to_owned(), None)
            }
            401 | 403 => (
                ErrorKind::Api,
                format!("the management interface refuses us ({status})"),
                Some("look at what the management app may do"),
            ),
            _ => (ErrorKind::Api, format!("the management interface answered {status}"), None),
        };
        let error = Error::new(kind, what)
            .retryable(status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS)
            .with_server(self.server.as_str())
            .with_status(status.as_u16())
            .with_oauth(
                said.code
                    .or(said.error)
                    .map(|code| known_code(&code).map_or_else(|| quoted(code), str::to_owned)),
                said.error_description.or(said.message).map(quoted),
            )
            .with_retry_after(match kind {
                ErrorKind::Throttled => throttled(&self.headers, Clock::System.now().wall),
                _ => None,
            });
        match advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

/// What a path segment may have as it is (RFC 3986 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An app id in a path, where it can only be one segment.
pub(super) fn path_segment(app_id: &str) -> Result<String> {
    if matches!(app_id, "" | "." | "..") {
        return Err(Error::configuration(format!("{app_id:?} is no app id")));
    }
    Ok(utf8_percent_encode(app_id, SEGMENT).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_changes_a_code_that_is_known() {
        for secret in ["client", "e", "invalid_client_metadata", "error"] {
            let answer = Answer {
                status: StatusCode::BAD_REQUEST,
                headers: HeaderMap::new(),
                body: Bytes::from_static(br#"{"error":"invalid_client_metadata","error_description":"no"}"#),
                server: "https://as.example/register".into(),
            };
            assert_eq!(answer.refusal(&[secret]).oauth_error(), Some("invalid_client_metadata"), "{secret}");
        }
        let answer = Answer {
            status: StatusCode::UNAUTHORIZED,
            headers: HeaderMap::new(),
            body: Bytes::from_static(br#"{"error":"no_s3cret_here"}"#),
            server: "https://as.example/register".into(),
        };
        assert_eq!(answer.refusal(&["s3cret"]).oauth_error(), Some("no_[redacted]_here"));
    }
}
