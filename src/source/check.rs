//! From a client's settings to a verdict that a person can act on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, DATE};
use http::{Method, Request, Response};
use serde_json::Value;
use url::Url;

use super::{Builder, TokenSource};
use crate::clock::{Clock, system_time};
use crate::error::Result;
use crate::grant::{Transport, TransportError};
use crate::origin;
use crate::renewal::{AccessToken, Event};

/// A clock that is off by more than this is told: servers allow for some seconds.
const MOST_SKEW: f64 = 5.0;

/// A shorter life means a renewal every few seconds.
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// What [`Builder::check`] found. It prints as one line for each finding, `ok`, `warn` or `FAIL` in front, and holds neither
/// a token nor a secret.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis(Vec<(Level, String)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Failure,
}

impl Diagnosis {
    /// Whether a token was got; there may be warnings all the same.
    pub fn is_ok(&self) -> bool {
        self.0.iter().all(|(level, _)| *level != Level::Failure)
    }

    fn add(&mut self, level: Level, text: impl Into<String>) {
        self.0.push((level, text.into()));
    }

    /// `fine`, or a warning.
    fn weigh(&mut self, fine: bool, text: String, advice: &str) {
        match fine {
            true => self.add(Level::Ok, text),
            false => self.add(Level::Warning, format!("{text}: {advice}")),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, text) in &self.0 {
            let level = match level {
                Level::Ok => "ok  ",
                Level::Warning => "warn",
                Level::Failure => "FAIL",
            };
            writeln!(f, "{level}  {text}")?;
        }
        f.write_str(if self.is_ok() { "A token is to be had.\n" } else { "No token is to be had.\n" })
    }
}

impl<T> Builder<T> {
    /// Asks for one token with these settings, and tells what happened on the way: discovery, client authentication,
    /// lifetime, scope, audience, clocks, quota. It costs a token, and waits for no more than the `token_timeout`. What is
    /// wrong with the settings themselves is a finding, too. It needs a tokio runtime, as `token` does.
    ///
    /// ```no_run
    /// # async fn run() {
    /// let diagnosis = evertoken::ClientBuilder::from_env().check().await;
    /// print!("{diagnosis}");
    /// # }
    /// ```
    pub async fn check(mut self) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        let exchanges = Arc::new(Exchanges { clock: self.config.clock.clone(), seen: Mutex::default() });
        self.config.exchanges = Some(exchanges.clone());
        let source = match self.into_source() {
            Ok(source) => source,
            Err(error) => {
                diagnosis.add(Level::Failure, format!("settings: {error}"));
                return diagnosis;
            }
        };
        diagnosis.add(Level::Ok, "settings");
        let mut events = source.events();
        let outcome = source.token().await;
        for exchange in exchanges.seen.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            exchange.tell(&mut diagnosis);
        }
        match &outcome {
            Ok(token) => {
                while let Some(event) = events.try_next() {
                    match event {
                        Event::CredentialsRotated => diagnosis.add(
                            Level::Warning,
                            "credential: the server refused it, and took what came next; put that in its place",
                        ),
                        Event::Renewed { lifetime, missing_scopes } => {
                            token_told(&mut diagnosis, &source, lifetime, &missing_scopes);
                        }
                        _ => {}
                    }
                }
                claims_told(&mut diagnosis, &source, token);
            }
            Err(error) => diagnosis.add(Level::Failure, format!("token: {error}")),
        }
        // What it has to say of a revocation is a finding of its own.
        if let Err(error) = source.shutdown().await {
            diagnosis.add(Level::Warning, format!("shutdown: {error}"));
        }
        diagnosis
    }
}

fn token_told(
    diagnosis: &mut Diagnosis,
    source: &TokenSource,
    lifetime: Duration,
    missing_scopes: &[String],
) {
    let status = source.status();
    let seconds = |length: Option<Duration>| length.unwrap_or_default().as_secs_f64();
    let text = format!(
        "lifetime: {:.0} s; this one is renewed in {:.0} s, and served for {:.0} s",
        lifetime.as_secs_f64(),
        seconds(status.next_attempt),
        seconds(status.expires_in),
    );
    diagnosis.weigh(lifetime >= SHORT_LIFE, text, "short; have the server issue tokens that live longer");
    let granted = status.scope.unwrap_or_else(|| "none told".to_owned());
    diagnosis.weigh(
        missing_scopes.is_empty(),
        format!("scope: {granted}"),
        &format!("not granted: {}; allow them for this client at the server", missing_scopes.join(" ")),
    );
    if let Some(quota) = status.quota {
        let limit = quota.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let text = format!("quota: {}{limit} tokens left", quota.remaining);
        diagnosis.weigh(
            !quota.is_low(),
            text,
            "few; see what asks for so many, or ask the provider for more",
        );
    }
}

/// What a JWT says of itself (RFC 9068 2.2), unverified: it is only shown.
fn claims_told(diagnosis: &mut Diagnosis, source: &TokenSource, token: &AccessToken) {
    let payload = token.as_str().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let Some(claims) = payload.and_then(|json| serde_json::from_slice::<Value>(&json).ok()) else {
        diagnosis.add(Level::Ok, "audience: not to be seen, the token is no JWT");
        return;
    };
    let wanted = source.refresher().grant_request().audience.clone();
    let has = |audience: &str| match &claims["aud"] {
        Value::Array(all) => all.iter().any(|one| one == audience),
        one => one == audience,
    };
    diagnosis.weigh(
        wanted.as_deref().is_none_or(has),
        format!("audience: {}", claims["aud"]),
        "not the one that was asked for; check `audience` and the API's settings at the server",
    );
    if let Some(issued) = claims["iat"].as_f64() {
        skew_told(diagnosis, "token's iat", issued - source.clock().now().wall.as_secs_f64());
    }
}

fn skew_told(diagnosis: &mut Diagnosis, whose: &str, ahead: f64) {
    // Whole seconds, and never a negative zero.
    let ahead = ahead.round() + 0.0;
    let text = format!("clock: by the {whose}, the server's is {ahead:+} s from ours");
    diagnosis.weigh(
        ahead.abs() <= MOST_SKEW,
        text,
        "set this machine's clock by NTP, or have the server's set",
    );
}

/// All that was asked of the authorization server. No body is kept, and no header but the date.
pub(crate) struct Exchanges {
    clock: Clock,
    seen: Mutex<Vec<Exchange>>,
}

struct Exchange {
    method: Method,
    url: String,
    /// How the client authenticated, for what asks so.
    auth: Option<&'static str>,
    outcome: Result<u16, String>,
    /// By how much the server's clock is ahead, in seconds.
    ahead: Option<f64>,
}

impl Exchange {
    fn tell(&self, diagnosis: &mut Diagnosis) {
        let what = match (self.auth, &self.method) {
            (Some(auth), _) => format!("token request by {auth}: {} {}", self.method, self.url),
            (None, method) => format!("metadata: {method} {}", self.url),
        };
        match &self.outcome {
            Ok(status) => diagnosis.weigh(
                (200..300).contains(status),
                format!("{what} answered {status}"),
                "see the lines that follow",
            ),
            Err(problem) => diagnosis.add(
                Level::Warning,
                format!("{what}: {problem}; check the address, the network and the proxy"),
            ),
        }
        // A date has whole seconds, and the answer was on its way.
        if let Some(ahead) = self.ahead.filter(|_| self.auth.is_some()) {
            skew_told(diagnosis, "answer's Date", ahead);
        }
    }
}

/// A transport that keeps a note of each exchange.
pub(super) struct Noted {
    pub(super) by: Arc<dyn Transport>,
    pub(super) exchanges: Arc<Exchanges>,
}

impl Transport for Noted {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let url = Url::parse(&request.uri().to_string());
            let url = url.map_or_else(|_| "?".to_owned(), |url| origin::shown(&url));
            let (method, auth) = (request.method().clone(), method_of(&request));
            let outcome = self.by.send(request).await;
            let wall = self.exchanges.clock.now().wall;
            let ahead = outcome.as_ref().ok().and_then(|answer| {
                let date = httpdate::parse_http_date(answer.headers().get(DATE)?.to_str().ok()?).ok()?;
                let ours = system_time(wall);
                Some(match date.duration_since(ours) {
                    Ok(ahead) => ahead.as_secs_f64(),
                    Err(behind) => -behind.duration().as_secs_f64(),
                })
            });
            let told = match &outcome {
                Ok(answer) => Ok(answer.status().as_u16()),
                Err(error) => Err(error.to_string()),
            };
            let exchange = Exchange { method, url, auth, outcome: told, ahead };
            self.exchanges.seen.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
            outcome
        })
    }
}

/// By what of the request the server knows who asks.
fn method_of(request: &Request<Bytes>) -> Option<&'static str> {
    if request.method() != Method::POST {
        return None;
    }
    let has = |field: &[u8]| request.body().split(|byte| *byte == b'&').any(|part| part.starts_with(field));
    Some(if request.headers().contains_key(AUTHORIZATION) {
        "client_secret_basic"
    } else if has(b"client_assertion=") {
        "a signed assertion"
    } else if has(b"client_secret=") {
        "client_secret_post"
    } else {
        "certificate"
    })
}
