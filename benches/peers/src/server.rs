//! A token server that costs next to nothing: every path answers as an OAuth token endpoint, which is also what
//! Google's metadata server and Entra answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};

/// As long as a signed token usually is.
const TOKEN_LENGTH: usize = 900;

#[derive(Clone)]
pub struct TokenServer(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    state: Mutex<Settings>,
}

struct Settings {
    lifetime: Duration,
    latency: Duration,
    out: bool,
    /// When each request came, by the wall clock.
    requests: Vec<Duration>,
    granted: Vec<Duration>,
}

/// Since the Unix epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TokenServer {
    pub async fn start(lifetime: Duration, latency: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let state = Settings { lifetime, latency, out: false, requests: Vec::new(), granted: Vec::new() };
        let this = Self(Arc::new(Inner { address, state: Mutex::new(state) }));
        let router = Router::new().fallback(answer).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.0.state.lock().expect("no panic under the lock")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    pub fn port(&self) -> u16 {
        self.0.address.port()
    }

    pub fn set_out(&self, out: bool) {
        self.state().out = out;
    }

    pub fn requests(&self) -> Vec<Duration> {
        self.state().requests.clone()
    }

    /// When each token went out.
    pub fn granted(&self) -> Vec<Duration> {
        self.state().granted.clone()
    }
}

async fn answer(State(server): State<TokenServer>) -> Response {
    let (latency, lifetime, out) = {
        let mut state = server.state();
        state.requests.push(now());
        (state.latency, state.lifetime, state.out)
    };
    if out {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let ends = now() + lifetime;
    tokio::time::sleep(latency).await;
    server.state().granted.push(now());
    let mut token = format!("{}.", ends.as_millis());
    token.extend(std::iter::repeat_n('x', TOKEN_LENGTH - token.len()));
    Json(serde_json::json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
        "expires_on": ends.as_secs().to_string(), "ext_expires_in": lifetime.as_secs(),
    }))
    .into_response()
}

/// Whether a header holds a token that has not ended.
pub fn is_live(header: &http::HeaderValue) -> bool {
    let ends =
        header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")?.split('.').next()?.parse().ok());
    ends.is_some_and(|ends: u128| ends > now().as_millis())
}
