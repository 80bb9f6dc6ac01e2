//! A web service whose handlers share one client: readiness, a graceful end.
//!
//! `cargo run --example axum_service` runs on an authorization server in a box; with `EVERTOKEN_APP_ID`,
//! `EVERTOKEN_APP_SECRET`, `EVERTOKEN_ISSUER`, `EVERTOKEN_AUDIENCE` and `EVERTOKEN_BASE_URL` set, on a real one. It
//! serves on a free port of loopback, visits itself, and ends.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use evertoken::http::{StatusCode, header};
use evertoken::testing::AuthServer;
use evertoken::{Client, ClientBuilder, reqwest};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Hands on what the API answers.
async fn orders(State(api): State<Client>) -> Result<Response, Failure> {
    let answer = api.get("orders").send().await?;
    Ok((answer.status(), answer.bytes().await?).into_response())
}

/// Ready means that a valid token is held. Without one the check asks for it: before the service is ready it gets no calls
/// that would.
async fn ready(State(api): State<Client>) -> StatusCode {
    if api.status().is_ready() {
        return StatusCode::OK;
    }
    api.prefetch();
    StatusCode::SERVICE_UNAVAILABLE
}

struct Failure(evertoken::Error);

impl<E: Into<evertoken::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        println!("  {}", self.0);
        match self.0.retry_after().filter(|_| self.0.is_retryable()) {
            Some(after) => {
                let seconds = (after.as_secs() + 1).to_string();
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, seconds)]).into_response()
            }
            None => StatusCode::BAD_GATEWAY.into_response(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let real = std::env::var_os("EVERTOKEN_APP_ID").is_some();
    let server = if real { None } else { Some(AuthServer::start().await?) };
    let api = match &server {
        None => ClientBuilder::from_env().build()?,
        Some(server) => Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .issuer(server.issuer())
            .audience(server.audience())
            .base_url(server.api_url())
            .build()?,
    };

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new().route("/orders", get(orders)).route("/ready", get(ready)).with_state(api.clone());
    // A service in earnest listens for a signal here, such as `tokio::signal::ctrl_c`.
    let (stop, stopped) = oneshot::channel::<()>();
    let service = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = stopped.await;
    });
    let service = tokio::spawn(service.into_future());

    let http = reqwest::Client::new();
    let visit = async |path: &str| -> reqwest::Result<()> {
        let answer = http.get(format!("http://{address}{path}")).send().await?;
        println!("GET {path}  {}", answer.status());
        Ok(())
    };
    visit("/ready").await?;
    while !api.status().is_ready() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    visit("/ready").await?;
    visit("/orders").await?;
    if let Some(server) = &server {
        println!("the authorization server goes down");
        server.outage();
        visit("/orders").await?;
        visit("/ready").await?;
    }

    let _ = stop.send(());
    service.await??;
    api.shutdown().await?;
    println!("the service has ended, the client is {:?}", api.status().state);
    Ok(())
}
