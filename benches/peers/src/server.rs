//! A token server that costs next to nothing: every path answers as an OAuth token endpoint, which is also what
//! Google's metadata server and Entra answer.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::{Json, Router};
use serde_json::{Value, json};

/// As long as a signed token usually is.
const TOKEN_LENGTH: usize = 900;

pub struct TokenServer(SocketAddr);

/// Since the Unix epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TokenServer {
    pub async fn start(lifetime: Duration) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let router = Router::new().fallback(answer).with_state(lifetime);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(address)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }
}

async fn answer(State(lifetime): State<Duration>) -> Json<Value> {
    let ends = now() + lifetime;
    let mut token = format!("{}.", ends.as_millis());
    token.extend(std::iter::repeat_n('x', TOKEN_LENGTH - token.len()));
    Json(json!({
        "access_token": token, "token_type": "Bearer", "expires_in": lifetime.as_secs(),
        "expires_on": ends.as_secs().to_string(), "ext_expires_in": lifetime.as_secs(),
    }))
}
