use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::body::Frame;
use serde_json::json;

use super::listen::Connection;
use super::state::lock;

/// Something that goes wrong, on command, at the token endpoint ([`AuthServer::fail_next`](super::AuthServer::fail_next),
/// [`AuthServer::fail_always`](super::AuthServer::fail_always)), at the API
/// ([`AuthServer::fail_next_api`](super::AuthServer::fail_next_api)) or at the revocation endpoint
/// ([`AuthServer::fail_next_revocation`](super::AuthServer::fail_next_revocation)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// This answer, word for word; without a `Content-Type` unless `headers` has one.
    Status {
        /// The HTTP status.
        status: u16,
        /// Names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// An empty answer of this status with `Retry-After` in seconds (RFC 9110 10.2.3).
    RetryAfterSeconds(u16, u64),
    /// An empty answer of this status with `Retry-After` as the date that lies this far ahead, rounded up to the
    /// whole second that the format knows.
    RetryAfterDate(u16, Duration),
    /// No answer; the connection stays open until the client gives up.
    Hang,
    /// The request is read, then the connection is reset (TCP RST).
    Reset,
    /// The request is read, then the connection is closed in order (TCP FIN) without an answer.
    Close,
    /// A 200 that announces more than it sends: the connection is reset in the middle of the JSON.
    TornBody,
    /// A 200 whose body never ends, as fast as the client reads.
    EndlessBody,
    /// A 200 with JSON that breaks off, though the answer is complete for HTTP.
    Garbage,
    /// An OAuth error (RFC 6749 5.2); with a 401 comes a `WWW-Authenticate` challenge.
    Oauth {
        /// The HTTP status.
        status: u16,
        /// The code, such as `invalid_client`.
        error: String,
        /// The `error_description`; left out where it is empty.
        description: String,
    },
    /// The usual answer, but this much later.
    Latency(Duration),
}

/// What is to go wrong: once each, in order, then always.
#[derive(Default)]
pub(super) struct Faults(Mutex<(VecDeque<Fault>, Option<Fault>)>);

impl Faults {
    pub(super) fn push(&self, fault: Fault) {
        lock(&self.0).0.push_back(fault);
    }

    pub(super) fn always(&self, fault: Fault) {
        lock(&self.0).1 = Some(fault);
    }

    pub(super) fn clear(&self) {
        *lock(&self.0) = Default::default();
    }

    /// The fault for the request at hand, and by how much its usual answer is late.
    pub(super) fn next(&self) -> (Option<Fault>, Duration) {
        let mut faults = lock(&self.0);
        match faults.0.pop_front().or_else(|| faults.1.clone()) {
            Some(Fault::Latency(late)) => (None, late),
            fault => (fault, Duration::ZERO),
        }
    }
}

const TORN_JSON: &str = r#"{"token_type":"Bearer","expires_in":3600,"access_token":"eyJ0eXAi"#;

impl Fault {
    /// `held` is kept for as long as the client is kept waiting.
    pub(super) async fn play(
        self,
        connection: &Connection,
        challenge: &str,
        held: impl Send + Unpin + 'static,
    ) -> Response {
        let response = Response::builder();
        let built = match self {
            Fault::Status { status, headers, body } => headers
                .iter()
                .fold(response.status(status), |response, (name, value)| response.header(name, value))
                .body(body.into()),
            Fault::RetryAfterSeconds(status, seconds) => {
                response.status(status).header(RETRY_AFTER, seconds).body(Body::empty())
            }
            Fault::RetryAfterDate(status, ahead) => {
                let date = SystemTime::now() + ahead + Duration::from_nanos(999_999_999);
                let date = httpdate::fmt_http_date(date);
                response.status(status).header(RETRY_AFTER, date).body(Body::empty())
            }
            Fault::Hang | Fault::Latency(_) => pending().await,
            Fault::Reset => {
                connection.reset();
                pending().await
            }
            Fault::Close => {
                connection.close();
                pending().await
            }
            Fault::TornBody => {
                let body = Broken { connection: Some(connection.clone()), started: false, _held: held };
                response
                    .header(CONTENT_TYPE, "application/json")
                    .header(CONTENT_LENGTH, 4096)
                    .body(Body::new(body))
            }
            Fault::EndlessBody => {
                let body = Broken { connection: None, started: false, _held: held };
                response.header(CONTENT_TYPE, "application/json").body(Body::new(body))
            }
            Fault::Garbage => response.header(CONTENT_TYPE, "application/json").body(TORN_JSON.into()),
            Fault::Oauth { status, error, description } => {
                let mut body = json!({ "error": error });
                if !description.is_empty() {
                    body["error_description"] = description.into();
                }
                let response = response.status(status).header(CONTENT_TYPE, "application/json");
                let response =
                    if status == 401 { response.header(WWW_AUTHENTICATE, challenge) } else { response };
                response.body(body.to_string().into())
            }
        };
        built.unwrap_or_else(|error| {
            (http::StatusCode::INTERNAL_SERVER_ERROR, format!("the fault is not valid HTTP: {error}"))
                .into_response()
        })
    }
}

/// A body that starts well. Then it resets `connection`; without one, it goes on for ever.
struct Broken<T> {
    connection: Option<Connection>,
    started: bool,
    _held: T,
}

impl<T: Unpin> hyper::body::Body for Broken<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.started {
            self.started = true;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(TORN_JSON.as_bytes())))));
        }
        match &self.connection {
            Some(connection) => {
                connection.reset();
                Poll::Pending
            }
            None => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 4096]))))),
        }
    }
}
