//! A token endpoint of a few lines, and time that goes only where it is moved.

use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, header};
use tokio::sync::Notify;

use crate::RenewalPolicy;
use crate::error::Result;
use crate::grant::{Transport, TransportError};
use crate::renewal::AccessToken;
use crate::server::{Exchange, ExchangeBuilder};
use crate::testing::ManualClock;

pub(super) const LIFE: u64 = 1_000;
/// Half of the life.
pub(super) const RENEW_AT: u64 = 500;
/// The life less its leeway of 30 s.
pub(super) const SERVE_UNTIL: u64 = 970;

pub(super) enum Answer {
    /// The next token, `t1` and so on.
    Token,
    /// The next token, once it is let go.
    TokenLater(Arc<Notify>),
    /// This status, header and body.
    Refusal(u16, &'static [(&'static str, &'static str)], &'static str),
    /// A 200 with this body.
    Body(String),
    Never,
}

pub(super) const INVALID_CLIENT: Answer = Answer::Refusal(401, &[], r#"{"error":"invalid_client"}"#);
pub(super) const OUT: Answer = Answer::Refusal(503, &[], "");

type Script = Box<dyn FnMut(&Seen) -> Answer + Send>;

/// What a token request said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) app_id: String,
    pub(super) secret: String,
    pub(super) form: Vec<(String, String)>,
}

pub(super) struct Endpoint {
    script: Mutex<Script>,
    log: Mutex<Vec<Seen>>,
    issued: Mutex<u64>,
}

impl Endpoint {
    pub(super) fn script(&self, script: impl FnMut(&Seen) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(super) fn requests_of(&self, app_id: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|seen| seen.app_id == app_id).count()
    }

    fn token(&self) -> Response<Bytes> {
        let mut issued = self.issued.lock().unwrap();
        *issued += 1;
        ok(format!(r#"{{"access_token":"t{issued}","token_type":"Bearer","expires_in":{LIFE}}}"#))
    }
}

fn ok(body: String) -> Response<Bytes> {
    Response::new(body.into())
}

impl Transport for Endpoint {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let basic =
            request.headers()[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
        let (app_id, secret) = pair.split_once(':').unwrap();
        let decoded =
            |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let form = url::form_urlencoded::parse(request.body()).into_owned().collect();
        let seen = Seen { app_id: decoded(app_id), secret: decoded(secret), form };
        self.log.lock().unwrap().push(seen.clone());
        let answer = (self.script.lock().unwrap())(&seen);
        Box::pin(async move {
            Ok(match answer {
                Answer::Token => self.token(),
                Answer::TokenLater(gate) => {
                    gate.notified().await;
                    self.token()
                }
                Answer::Body(body) => ok(body),
                Answer::Refusal(status, headers, body) => headers
                    .iter()
                    .fold(Response::builder().status(status), |answer, (name, value)| {
                        answer.header(*name, *value)
                    })
                    .body(Bytes::from_static(body.as_bytes()))
                    .unwrap(),
                Answer::Never => pending().await,
            })
        })
    }
}

pub(super) struct Scene {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) exchange: Exchange,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(super) fn with(set: impl FnOnce(ExchangeBuilder) -> ExchangeBuilder) -> Self {
        let endpoint = Arc::new(Endpoint {
            script: Mutex::new(Box::new(|_| Answer::Token)),
            log: Mutex::default(),
            issued: Mutex::default(),
        });
        let clock = Arc::new(ManualClock::default());
        let builder = Exchange::builder("https://as.example")
            .token_url("https://as.example/token")
            .renewal(RenewalPolicy::default().renew_at(0.5).jitter(0.0))
            .clock(clock.clone())
            .transport(endpoint.clone())
            .seed(7);
        let exchange = set(builder).build().unwrap();
        Self { endpoint, clock, exchange }
    }

    pub(super) async fn token(&self, app_id: &str, secret: &str) -> Result<AccessToken> {
        self.token_from(app_id, secret, "192.0.2.1").await
    }

    pub(super) async fn token_from(&self, app_id: &str, secret: &str, peer: &str) -> Result<AccessToken> {
        let peer = (!peer.is_empty()).then(|| peer.parse().unwrap());
        self.exchange.token(app_id, &secret.into(), peer).await
    }

    /// What a call gets that does not wait.
    pub(super) fn at_once(&self, app_id: &str, secret: &str) -> Option<Result<AccessToken>> {
        at_once(self.token(app_id, secret))
    }

    /// The text of the token that a call gets without waiting.
    pub(super) fn held(&self, app_id: &str, secret: &str) -> Option<String> {
        self.at_once(app_id, secret)?.ok().map(|token| token.as_str().to_owned())
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A call in a task of its own.
    pub(super) fn call(
        &self,
        app_id: impl Into<String>,
        secret: &'static str,
        peer: &'static str,
    ) -> tokio::task::JoinHandle<Result<AccessToken>> {
        let (exchange, app_id) = (self.exchange.clone(), app_id.into());
        let peer = (!peer.is_empty()).then(|| peer.parse().unwrap());
        tokio::spawn(async move { exchange.token(&app_id, &secret.into(), peer).await })
    }
}

pub(super) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Lets all tasks go on until they wait for time or for the endpoint.
pub(super) async fn rest() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
