//! The authorization server, below the parsing of what it answers.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use evertoken::http::{Request, Response};
use evertoken::testing::{TimeSource, Transport, TransportError, TransportErrorKind};

use crate::clock::SimClock;

/// The panic of a transport, which is told from those of the code under test by it.
pub const SCRIPTED: &str = "the transport's own mistake";

/// How the token endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// It answers within 0.4 s.
    Fair,
    /// It answers, but takes up to 20 s for it.
    Slow,
    /// Nothing usable comes, each time for another reason.
    Down,
}

/// What an answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With the life that it is said to have.
    Token(String, Duration),
    /// `invalid_client`.
    Refused,
    /// Another OAuth error that condemns the request.
    Faulty,
    /// A 403 or 400 without an OAuth code, which may be a refusal.
    Forbidden,
    Failed {
        retry_after: Option<Duration>,
    },
}

/// What the server saw, in order, by the time that truly passed.
#[derive(Debug, Clone)]
pub enum Entry {
    Asked {
        at: Duration,
        request: u64,
        app_id: String,
        secret: String,
    },
    Answered {
        at: Duration,
        request: u64,
        answer: Answer,
    },
    /// The client gave up, or ran into a panic.
    Dropped {
        request: u64,
    },
}

#[derive(Debug, Clone)]
pub struct Issued {
    pub nth: u64,
    pub app_id: String,
    /// When the API stops accepting it.
    pub expires: Duration,
    /// Up to when a client that goes by the documented leeway serves it, and while renewals fail.
    pub served_until: Duration,
    pub last_resort: Duration,
    /// When the request that brought it first was sent, and for how long it is said to live.
    pub asked: Duration,
    pub life: Duration,
}

/// What a server is like for the whole of a run.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub life: Duration,
    /// `expires_in` is left out; the client assumes 5 minutes.
    pub silent: bool,
    /// The same token is given again while it lives.
    pub same: bool,
    /// `refresh_in` is sent: half of the life.
    pub refresh_in: bool,
}

pub struct Authority {
    clock: Arc<SimClock>,
    habits: Habits,
    state: Mutex<State>,
}

pub struct State {
    random: fastrand::Rng,
    pub weather: Weather,
    pub app_id: String,
    pub secret: String,
    pub tokens: HashMap<String, Issued>,
    last: Option<String>,
    requests: u64,
    /// With the runtime on which each runs; `None` for one that stands still.
    in_flight: BTreeMap<u64, Option<tokio::runtime::Id>>,
    pub log: Vec<Entry>,
}

impl State {
    /// Those that a client at work has in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.values().flatten().count()
    }

    pub fn all_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn freeze(&mut self, runtime: tokio::runtime::Id) {
        for on in self.in_flight.values_mut().filter(|on| **on == Some(runtime)) {
            *on = None;
        }
    }
}

/// By how much the clocks of the read path may lag.
const LAG: Duration = Duration::from_millis(10);

/// 5 % of the life, but 1.01 s to 30 s, and at most 35 % of the life: as the README has it.
pub fn leeway(life: Duration) -> Duration {
    (life / 20).clamp(Duration::from_millis(1_010), Duration::from_secs(30)).min(life.mul_f64(0.35))
}

impl Authority {
    pub fn new(clock: Arc<SimClock>, habits: Habits, seed: u64) -> Self {
        let state = Mutex::new(State {
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::Fair,
            app_id: "app-0".into(),
            secret: "secret-0".into(),
            tokens: HashMap::new(),
            last: None,
            requests: 0,
            in_flight: BTreeMap::new(),
            log: Vec::new(),
        });
        Self { clock, habits, state }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How long the answer's way back takes, and the answer; `None` is none at all.
    fn answer(&self, request: u64, asked: Duration, body: &[u8]) -> (Duration, Outcome) {
        let mut state = self.lock();
        let now = self.clock.truth();
        let state = &mut *state;
        let (app_id, secret) = credential(body);
        let back = match state.weather {
            Weather::Slow => Duration::from_millis(state.random.u64(100..20_000)),
            _ => Duration::from_millis(state.random.u64(1..200)),
        };
        if state.weather == Weather::Down {
            return (back, self.misfortune(&mut state.random));
        }
        if (app_id.as_str(), secret.as_str()) != (state.app_id.as_str(), state.secret.as_str()) {
            return (back, Outcome::oauth(401, "invalid_client", Answer::Refused));
        }
        let still = state.last.as_ref().filter(|_| self.habits.same).and_then(|last| {
            let issued = &state.tokens[last];
            let left = issued.expires.saturating_sub(now).as_secs();
            (issued.app_id == app_id && left > 0).then(|| (last.clone(), Duration::from_secs(left)))
        });
        let (token, life) = still.unwrap_or_else(|| (format!("token-{request}"), self.habits.life));
        let served_until = (asked + life).saturating_sub(leeway(life));
        let last_resort = (asked + life).saturating_sub(LAG);
        let issued =
            Issued { nth: request, app_id, expires: now + life, served_until, last_resort, asked, life };
        let issued = state.tokens.entry(token.clone()).or_insert(issued);
        issued.served_until = issued.served_until.min(served_until);
        issued.last_resort = issued.last_resort.min(last_resort);
        state.last = Some(token.clone());
        let expires_in =
            if self.habits.silent { String::new() } else { format!(r#","expires_in":{}"#, life.as_secs()) };
        let refresh_in = if self.habits.refresh_in {
            format!(r#","refresh_in":{}"#, life.as_secs() / 2)
        } else {
            String::new()
        };
        let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"{expires_in}{refresh_in}}}"#);
        (back, Outcome::Answer(200, None, body, Answer::Token(token, life)))
    }

    fn misfortune(&self, random: &mut fastrand::Rng) -> Outcome {
        let failed = Answer::Failed { retry_after: None };
        let retry_after = |status, seconds| {
            let answer = Answer::Failed { retry_after: Some(Duration::from_secs(seconds)) };
            Outcome::Answer(status, Some(seconds), String::new(), answer)
        };
        match random.u8(0..24) {
            0 => Outcome::Error(TransportErrorKind::Connect),
            1 => Outcome::Error(TransportErrorKind::Timeout),
            // A reset, before or in the middle of the body.
            2 | 3 => Outcome::Error(TransportErrorKind::Interrupted),
            4 => Outcome::Error(TransportErrorKind::TooLarge),
            5 | 6 => Outcome::Silence,
            7 => Outcome::Answer(500, None, "<h1>oops</h1>".into(), failed),
            8 => Outcome::oauth(503, "invalid_client", failed),
            9 if random.u8(0..8) == 0 => retry_after(503, u64::MAX),
            9 => retry_after(503, random.u64(1..1_200)),
            10 => retry_after(429, random.u64(1..60)),
            11 => Outcome::Answer(429, None, String::new(), failed),
            12 => Outcome::Answer(403, None, "<h1>firewall</h1>".into(), Answer::Forbidden),
            13 => Outcome::Answer(200, None, r#"{"access_token":"ey"#.into(), failed),
            14 => Outcome::Answer(
                200,
                None,
                r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#.into(),
                failed,
            ),
            15 => Outcome::oauth(400, "temporarily_unavailable", failed),
            16 => Outcome::oauth(400, "invalid_scope", Answer::Faulty),
            22 => Outcome::Answer(404, None, r#"{"error":"Realm does not exist"}"#.into(), failed),
            23 => Outcome::Answer(400, None, "<h1>bad request</h1>".into(), Answer::Forbidden),
            17 => Outcome::Panic,
            18 => Outcome::Answer(301, None, String::new(), failed),
            19 => Outcome::Answer(200, None, r#"{"access_token":"t","token_type":"mac"}"#.into(), failed),
            20 => Outcome::Answer(
                200,
                None,
                r#"{"access_token":"t\u0007t","token_type":"Bearer"}"#.into(),
                failed,
            ),
            _ => Outcome::Answer(200, None, r#"{"access_token":7,"expires_in":1e999}"#.into(), failed),
        }
    }
}

enum Outcome {
    /// Status, `Retry-After`, body.
    Answer(u16, Option<u64>, String, Answer),
    Error(TransportErrorKind),
    Silence,
    Panic,
}

impl Outcome {
    fn oauth(status: u16, code: &str, answer: Answer) -> Self {
        Outcome::Answer(status, None, format!(r#"{{"error":"{code}"}}"#), answer)
    }
}

/// By `client_secret_post`.
fn credential(body: &[u8]) -> (String, String) {
    let body = std::str::from_utf8(body).unwrap();
    let of = |name: &str| {
        let pair = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap_or_default().to_owned()
    };
    (of("client_id"), of("client_secret"))
}

/// A request on its way, until its future is dropped.
struct Flight<'a> {
    authority: &'a Authority,
    request: u64,
    answered: bool,
}

impl Flight<'_> {
    fn land(&mut self, answer: Answer) {
        self.answered = true;
        let at = self.authority.clock.truth();
        let request = self.request;
        self.authority.lock().log.push(Entry::Answered { at, request, answer });
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.authority.lock();
        state.in_flight.remove(&self.request);
        if !self.answered {
            state.log.push(Entry::Dropped { request: self.request });
        }
    }
}

impl Transport for Authority {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let asked = self.clock.truth();
            let (mut flight, there) = {
                let mut state = self.lock();
                state.requests += 1;
                let request_nth = state.requests;
                state.in_flight.insert(request_nth, Some(tokio::runtime::Handle::current().id()));
                let (app_id, secret) = credential(request.body());
                state.log.push(Entry::Asked { at: asked, request: request_nth, app_id, secret });
                let there = Duration::from_millis(state.random.u64(1..200));
                (Flight { authority: self, request: request_nth, answered: false }, there)
            };
            self.clock.sleep(there).await;
            let (back, outcome) = self.answer(flight.request, asked, request.body());
            self.clock.sleep(back).await;
            match outcome {
                Outcome::Answer(status, retry_after, body, answer) => {
                    flight.land(answer);
                    let mut response = Response::builder().status(status);
                    if let Some(seconds) = retry_after {
                        response = response.header("retry-after", seconds);
                    }
                    Ok(response.body(body.into()).unwrap())
                }
                Outcome::Error(kind) => {
                    flight.land(Answer::Failed { retry_after: None });
                    Err(TransportError::new(kind))
                }
                Outcome::Silence => pending().await,
                Outcome::Panic => {
                    flight.land(Answer::Failed { retry_after: None });
                    panic!("{SCRIPTED}")
                }
            }
        })
    }
}
