use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::document::Document;
use super::quote::{LONGEST_TEXT, Quoter};
use super::transport::{Transport, TransportError};
use super::{PROOF, TokenEndpoint};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::Result;
use crate::origin;

/// Ways to authenticate, as they are shown.
pub(crate) const BASIC: &str = "client_secret_basic";
pub(crate) const SIGNED: &str = "a signed assertion";

/// What is kept of one request and its answer: neither the secret nor the token.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// As `origin::shown` has it.
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    /// The server's `Date` less our wall clock, in seconds.
    pub(crate) skew: Option<f64>,
    /// The half round trip and the whole second of `Date`, by which that may be wrong.
    pub(crate) blur: f64,
    pub(crate) said: Said,
}

/// What matters in the answer.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// A discovery document, or what stood in its place.
    Metadata(Announced),
    /// An answer of the token endpoint.
    Token {
        has_expires_in: bool,
        /// Where the token is a JWT.
        claims: Option<Claims>,
        /// Our wall clock, in seconds since the Unix epoch.
        answered: f64,
    },
}

/// What a discovery document says (RFC 8414 2).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Announced {
    pub(crate) issuer: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) token_endpoint_auth_methods_supported: Vec<String>,
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
    /// What a server could have put there of what it was sent is cut out.
    fn of(token: &str, quoter: &Quoter<'_>) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
        let mut this: Self = serde_json::from_slice(&decoded).ok()?;
        let quote = |text: &mut String| *text = quoter.text(text, LONGEST_TEXT);
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

/// The exchanges with an authorization server, in their order.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    exchanges: Mutex<Vec<Exchange>>,
    /// How the client authenticated last, answered or not; `None` before the token endpoint was asked.
    method: Mutex<Option<&'static str>>,
}

impl Recording {
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.exchanges).clone()
    }

    pub(crate) fn method(&self) -> Option<&'static str> {
        *lock(&self.method)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is needed of a request until its answer is judged.
struct Sent {
    url: String,
    /// Of the token endpoint.
    form: Option<Bytes>,
    proof: Option<HeaderValue>,
    wall: Duration,
}

/// A transport that keeps what is said over it.
struct Recorder {
    by: Arc<dyn Transport>,
    clock: Clock,
    credentials: Arc<Credentials>,
    recording: Arc<Recording>,
}

impl Recorder {
    fn keep(&self, sent: &Sent, answer: &Response<Bytes>) {
        let answered = self.clock.now().wall;
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let trip = answered.saturating_sub(sent.wall).as_secs_f64();
        // `Date` is cut to the whole second.
        let skew = date.map(|date| date.as_secs_f64() + 0.5 - (sent.wall.as_secs_f64() + trip / 2.0));
        let said = match &sent.form {
            None => Said::Metadata(serde_json::from_slice(answer.body()).unwrap_or_default()),
            Some(form) => {
                let document = Document::parse(answer.body()).ok();
                let document = document.as_ref().filter(|_| answer.status().is_success());
                let token = document.and_then(|document| document.text("access_token"));
                let quoter = Quoter {
                    credentials: &self.credentials,
                    token,
                    assertion: field(form, "client_assertion="),
                    proof: sent.proof.as_ref().and_then(|proof| proof.to_str().ok()),
                };
                Said::Token {
                    has_expires_in: document.is_some_and(|document| document.number("expires_in").is_some()),
                    claims: token.and_then(|token| Claims::of(token, &quoter)),
                    answered: answered.as_secs_f64(),
                }
            }
        };
        let exchange =
            Exchange { url: sent.url.clone(), status: answer.status(), skew, blur: 0.5 + trip / 2.0, said };
        lock(&self.recording.exchanges).push(exchange);
    }
}

impl Transport for Recorder {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let url =
            Url::parse(&request.uri().to_string()).map_or_else(|_| String::new(), |url| origin::shown(&url));
        let form = (request.method() == Method::POST).then(|| request.body().clone());
        *lock(&self.recording.method) = form.is_some().then(|| method_of(&request));
        let proof = request.headers().get(PROOF).cloned();
        let sent = Sent { url, form, proof, wall: self.clock.now().wall };
        Box::pin(async move {
            let answer = self.by.send(request).await?;
            self.keep(&sent, &answer);
            Ok(answer)
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
        "client_secret_post"
    } else if has("client_assertion=") {
        SIGNED
    } else {
        "mutual TLS"
    }
}

impl TokenEndpoint {
    /// The same, with all that is said to and by the server kept in the recording.
    pub(crate) fn recorded(&self, clock: &Clock, credentials: &Arc<Credentials>) -> (Self, Arc<Recording>) {
        let recording = Arc::<Recording>::default();
        let mut this = self.for_request(self.request.clone());
        this.transport = Arc::new(Recorder {
            by: this.transport,
            clock: clock.clone(),
            credentials: credentials.clone(),
            recording: recording.clone(),
        });
        (this, recording)
    }
}
