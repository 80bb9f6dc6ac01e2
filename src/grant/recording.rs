use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::document::Document;
use super::quote::{LONGEST_TEXT, Quoter};
use super::transport::{Transport, TransportError};
use super::{ClientAuth, PROOF, TokenEndpoint, response};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::Result;
use crate::origin;

/// Ways to authenticate, as they are shown.
pub(crate) const BASIC: &str = "client_secret_basic";
pub(crate) const POST: &str = "client_secret_post";
pub(crate) const SIGNED: &str = "a signed assertion";

/// What is kept of requests and answers: neither a secret nor a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// How the client authenticated, answered or not, each way once and the last one last.
    pub(crate) methods: Vec<&'static str>,
    /// By the last answer that has a `Date`.
    pub(crate) skew: Option<Skew>,
    /// Whether there was any answer.
    pub(crate) answered: bool,
    /// Those of the token endpoint, in their order.
    pub(crate) answers: Vec<Answer>,
}

/// How the server's clock differs from ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skew {
    /// The server's `Date` less our wall clock, in seconds.
    pub(crate) seconds: f64,
    /// The half round trip and the whole second of `Date`, by which that may be wrong.
    pub(crate) blur: f64,
}

/// An answer of the token endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// As `origin::shown` has it.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) has_lifetime: bool,
    /// Where the token is a JWT.
    pub(crate) claims: Option<Claims>,
    /// Our wall clock, in seconds since the Unix epoch.
    pub(crate) at: f64,
}

/// What a JWT says of itself (RFC 7519 4.1), not verified.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Claims {
    aud: Option<Audience>,
    pub(crate) iat: Option<f64>,
    pub(crate) exp: Option<f64>,
    pub(crate) iss: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// What a server could have put there of what it was sent is cut out, except for the audiences that were asked for: they
    /// are compared with what is here.
    fn of(token: &str, asked: &[String], quoter: &Quoter<'_>) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
        let mut this: Self = serde_json::from_slice(&decoded).ok()?;
        let quote = |text: &mut String| {
            if !asked.contains(text) {
                *text = quoter.text(text, LONGEST_TEXT);
            }
        };
        this.iss.as_mut().map(quote);
        match &mut this.aud {
            Some(Audience::One(one)) => quote(one),
            Some(Audience::Several(several)) => several.iter_mut().for_each(quote),
            None => {}
        }
        Some(this)
    }

    pub(crate) fn audience(&self) -> &[String] {
        match &self.aud {
            Some(Audience::One(one)) => std::slice::from_ref(one),
            Some(Audience::Several(several)) => several,
            None => &[],
        }
    }
}

/// A record that is being made.
#[derive(Debug, Default)]
pub(crate) struct Recording(Mutex<Recorded>);

impl Recording {
    pub(crate) fn so_far(&self) -> Recorded {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transport that keeps what is said over it.
struct Recorder {
    by: Arc<dyn Transport>,
    clock: Clock,
    credentials: Arc<Credentials>,
    /// The audiences that tokens are asked for.
    asked: Vec<String>,
    recording: Arc<Recording>,
}

/// What is needed of a request to the token endpoint until its answer is judged.
struct Sent {
    url: String,
    form: Bytes,
    proof: Option<HeaderValue>,
}

impl Recorder {
    fn keep(&self, sent: Option<Sent>, began: Duration, response: &Response<Bytes>) {
        let at = self.clock.now().wall;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let half_trip = at.saturating_sub(began).as_secs_f64() / 2.0;
        // `Date` is cut to the whole second.
        let skew = date.map(|date| Skew {
            seconds: date.as_secs_f64() + 0.5 - (began.as_secs_f64() + half_trip),
            blur: 0.5 + half_trip,
        });
        let answer = sent.map(|sent| self.judged(sent, response, at.as_secs_f64()));
        let mut recorded = self.recording.lock();
        recorded.skew = skew.or(recorded.skew);
        recorded.answered = true;
        recorded.answers.extend(answer);
    }

    fn judged(&self, sent: Sent, response: &Response<Bytes>, at: f64) -> Answer {
        let status = response.status();
        let document = Document::parse(response.body()).ok().filter(|_| status.is_success());
        let token = document.as_ref().and_then(|document| document.text("access_token"));
        let quoter = Quoter {
            credentials: &self.credentials,
            token,
            assertion: field(&sent.form, "client_assertion="),
            proof: sent.proof.as_ref().and_then(|proof| proof.to_str().ok()),
        };
        Answer {
            url: sent.url,
            status,
            has_lifetime: document.as_ref().is_some_and(response::has_lifetime),
            claims: token.and_then(|token| Claims::of(token, &self.asked, &quoter)),
            at,
        }
    }
}

impl Transport for Recorder {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let sent = (request.method() == Method::POST).then(|| Sent {
            url: origin::shown_text(&request.uri().to_string()),
            form: request.body().clone(),
            proof: request.headers().get(PROOF).cloned(),
        });
        if sent.is_some() {
            let method = method_of(&request);
            let methods = &mut self.recording.lock().methods;
            methods.retain(|known| *known != method);
            methods.push(method);
        }
        Box::pin(async move {
            let began = self.clock.now().wall;
            let response = self.by.send(request).await?;
            self.keep(sent, began, &response);
            Ok(response)
        })
    }
}

/// The value of a form's field, which needs no decoding where it is a JWT.
fn field<'a>(form: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(form).ok()?.split('&').find_map(|pair| pair.strip_prefix(name))
}

fn method_of(request: &Request<Bytes>) -> &'static str {
    let has = |name: &str| field(request.body(), name).is_some();
    if request.headers().contains_key(header::AUTHORIZATION) {
        BASIC
    } else if has("client_secret=") {
        POST
    } else if has("client_assertion=") {
        SIGNED
    } else {
        "mutual TLS"
    }
}

impl Recorded {
    /// Returns how the client authenticated last, None before the token endpoint was asked.
    pub(crate) fn method(&self) -> Option<&'static str> {
        self.methods.last().copied()
    }
}

impl TokenEndpoint {
    /// The same, with the client authenticating in this way.
    pub(crate) fn authenticated_by(mut self, auth: ClientAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The same, with all that is said to and by the server kept in the recording.
    pub(crate) fn recorded(&self, clock: &Clock, credentials: &Arc<Credentials>) -> (Self, Arc<Recording>) {
        let recording = Arc::<Recording>::default();
        let mut this = self.for_request(self.request.clone());
        this.transport = Arc::new(Recorder {
            by: this.transport,
            clock: clock.clone(),
            credentials: credentials.clone(),
            asked: this.request.audience.iter().chain(&this.request.resources).cloned().collect(),
            recording: recording.clone(),
        });
        (this, recording)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_changes_an_audience_that_was_asked_for() {
        let claims =
            URL_SAFE_NO_PAD.encode(r#"{"aud":["https://api.acme.example","https://api.other"],"iss":"api"}"#);
        let credentials = Credentials { app_id: "app".into(), app_secret: "api".into(), generation: 0 };
        let quoter = Quoter { credentials: &credentials, token: None, assertion: None, proof: None };
        let asked = ["https://api.acme.example".to_owned()];
        let claims = Claims::of(&format!("h.{claims}.s"), &asked, &quoter).unwrap();
        assert_eq!(claims.audience(), ["https://api.acme.example", "https://[redacted].other"]);
        assert_eq!(claims.iss.as_deref(), Some("[redacted]"));
    }
}
