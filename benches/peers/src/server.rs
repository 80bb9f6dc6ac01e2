//! A token server that costs next to nothing: every path answers as an OAuth token endpoint, which is also what
//! Google's metadata server and Entra answer. It counts what it is asked, can be slow, and can be down.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

/// As long as a signed token usually is.
const TOKEN_LENGTH: usize = 900;

pub struct TokenServer {
    address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    lifetime: Duration,
    latency: Duration,
    down: AtomicBool,
    asked: Mutex<Vec<Instant>>,
}

/// Since the Unix epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TokenServer {
    pub async fn start(lifetime: Duration, latency: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let desk =
            Arc::new(Desk { lifetime, latency, down: AtomicBool::new(false), asked: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, desk }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// While it is down it answers 503 to everything.
    pub fn set_down(&self, down: bool) {
        self.desk.down.store(down, Ordering::Relaxed);
    }

    /// When it was asked for a token, in vain or not.
    pub fn asked(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.desk.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(desk): State<Arc<Desk>>) -> Response {
    desk.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    if !desk.latency.is_zero() {
        tokio::time::sleep(desk.latency).await;
    }
    if desk.down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let lifetime = desk.lifetime;
    let ends = now() + lifetime;
    let mut token = format!("{}.", ends.as_millis());
    token.extend(std::iter::repeat_n('x', TOKEN_LENGTH - token.len()));
    Json(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
        "expires_on": ends.as_secs().to_string(), "ext_expires_in": lifetime.as_secs(),
    }))
    .into_response()
}
