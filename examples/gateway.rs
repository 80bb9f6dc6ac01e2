//! A gateway in front of any API: access tokens, or app ids and secrets, or API keys go in; requests with a verified bearer
//! token come out at the upstream.
//!
//! `cargo run --example gateway` runs on an authorization server in a box, in front of a small upstream of its own, until it
//! is interrupted; with `-- --demo` it calls itself and ends. A real one is told by the environment:
//!
//! | variable | |
//! |---|---|
//! | `EVERTOKEN_ISSUER`, `EVERTOKEN_AUDIENCE` | the authorization server, and what this API is called there |
//! | `EVERTOKEN_SCOPE` | what app ids and secrets are exchanged for |
//! | `UPSTREAM` | where requests go on to, such as `http://127.0.0.1:3000` |
//! | `UPSTREAM_PROXY` | the proxy on the way there; `HTTP_PROXY` and its kind serve for the authorization server only |
//! | `LISTEN` | for clients: `127.0.0.1:8080` |
//! | `ADMIN` | for the operator and for other proxies: `127.0.0.1:9090` |
//! | `PUBLIC_URL` | the address that clients know, for DPoP |
//! | `EVERTOKEN_PROFILE` | `auth0` for Auth0's own JWTs in place of those of RFC 9068 |
//! | `INTROSPECTION_APP_ID`, `INTROSPECTION_APP_SECRET` | by what the gateway asks about opaque tokens |
//! | `USAGE_FILE` | where usage is written, as JSON lines |
//! | `ANONYMOUS` | `yes` lets requests without any credentials through, unnamed |
//! | `HEAD_SECONDS` | for a request's head, and for the next request of a connection: 20 |
//! | `BODY_SECONDS` | for the next part of a body from or to a client: 30 |
//! | `UPSTREAM_SECONDS` | for the upstream to answer, and for the next part of its body: 60 |
//! | `USAGE_SECONDS` | between two batches of usage: 10 |
//! | `DRAIN_SECONDS` | for requests in flight once the gateway is told to stop (SIGTERM): 15 |
//!
//! On the admin port stand `/health`, `/usage` and `/auth`. The last one answers nginx's `auth_request` and Traefik's
//! `forwardAuth` for APIs that stand behind them: a 200 with `Authorization` and `X-App-Id` for the upstream, or a
//! refusal; `examples/nginx.conf` is a configuration for nginx. Connections that are upgraded (WebSocket) are not handed on.
#![allow(clippy::print_stdout, dead_code, missing_docs)]

use std::future::Future;
use std::net::SocketAddr;

use axum::extract::State;
use axum::middleware::map_request;
use axum::routing::get;
use axum::{Json, Router};
use evertoken::http::{HeaderMap, StatusCode, Uri};
use evertoken::server::{CallerLayer, Exchange, Introspection, Profile, Usage, Verifier};
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, reqwest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

#[path = "gateway/auth.rs"]
mod auth;
#[path = "gateway/config.rs"]
pub mod config;
#[path = "gateway/connections.rs"]
mod connections;
#[path = "gateway/forward.rs"]
mod forward;
#[path = "gateway/headers.rs"]
mod headers;
#[path = "gateway/ledger.rs"]
mod ledger;
#[path = "gateway/pace.rs"]
mod pace;
#[path = "gateway/target.rs"]
pub mod target;

pub use config::Config;
pub use ledger::Ledger;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A gateway that serves.
#[derive(Debug)]
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    end: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Gateway {
    pub async fn start(config: Config) -> Result<Self, Failure> {
        let upstream = forward::Upstream::new(&config)?;
        let mut verifier = Verifier::builder(&config.issuer).audience(&config.audience);
        let mut exchange = Exchange::builder(&config.issuer).audience(&config.audience);
        if let Some(url) = config.public_url {
            verifier = verifier.public_url(url);
        }
        if config.auth0 {
            verifier = verifier.profile(Profile::Auth0);
        }
        if let Some((app_id, app_secret)) = config.introspection {
            verifier = verifier.introspection(Introspection::new(app_id, app_secret));
        }
        if let Some(scope) = config.scope {
            exchange = exchange.scope(scope);
        }
        let ledger = Ledger::new(config.usage_file);
        let usage = Usage::builder(ledger.clone()).interval(config.limits.usage).start()?;
        let (verifier, exchange) = (verifier.build()?, exchange.usage(&usage).build()?);
        let callers =
            CallerLayer::new(verifier.clone()).exchange(exchange.clone()).forward_token().usage(&usage);
        let at_the_door = if config.anonymous { callers.clone().optional() } else { callers.clone() };

        let front = Router::new().fallback(forward::hand_on).with_state(upstream).layer(at_the_door);
        let front = front.layer(map_request(target::only_plain));
        let back =
            auth::router(callers).route("/health", get(health).with_state((verifier, exchange))).route(
                "/usage",
                get(async |State(ledger): State<Ledger>| Json(ledger.shown())).with_state(ledger),
            );

        let listener = TcpListener::bind(&config.listen).await?;
        let admin = TcpListener::bind(&config.admin).await?;
        let (address, admin_address) = (listener.local_addr()?, admin.local_addr()?);
        let (end, mut ended) = watch::channel(false);
        let front = connections::serve(listener, front, config.limits, ended.clone());
        let back = connections::serve(admin, back, config.limits, ended.clone());
        let serving = tokio::spawn(async move {
            // What is counted by then goes out at once: whoever stops the gateway may lose patience while it drains.
            let flushed = async {
                let _ = ended.wait_for(|ended| *ended).await;
                if let Err(error) = usage.flush().await {
                    println!("usage is written later: {error}");
                }
            };
            tokio::join!(front, back, flushed);
            Ok(usage.shutdown().await?)
        });
        Ok(Self { address, admin: admin_address, end, serving })
    }

    /// Stops accepting connections, lets requests in flight end, and writes the usage.
    pub async fn stop(self) -> Result<(), Failure> {
        self.end.send_replace(true);
        self.serving.await?
    }
}

async fn health(State((verifier, exchange)): State<(Verifier, Exchange)>) -> (StatusCode, Json<Value>) {
    // Ready means that tokens can be judged: the first look reads the keys.
    let ready = verifier.prefetch().await.is_ok();
    let (keys, status) = (verifier.condition(), exchange.status());
    let page = json!({
        "ready": ready,
        "keys": keys.keys,
        "keys_age_seconds": keys.keys_age.map(|age| age.as_secs()),
        "error": keys.last_error.map(|error| error.to_string()),
        "tokens_remembered": keys.tokens,
        "customers_held": status.customers,
        "token_requests_now": status.requests,
    });
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(page))
}

pub async fn interrupted() {
    let ctrl_c = async { tokio::signal::ctrl_c().await.ok() };
    #[cfg(unix)]
    let terminated = async {
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        signal.ok()?.recv().await
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<Option<()>>();
    tokio::select! { _ = ctrl_c => {}, _ = terminated => {} }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    if let Some(config) = Config::from_env() {
        return serve(config, interrupted()).await;
    }
    let server = AuthServer::start().await?;
    let upstream = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", upstream.local_addr()?);
    let hello =
        async |uri: Uri, headers: HeaderMap| format!("{uri} for {:?}\n", headers.get(headers::APP_ID));
    tokio::spawn(async move { axum::serve(upstream, Router::new().fallback(hello)).await });
    let is_demo = std::env::args().any(|arg| arg == "--demo");
    let at = |port: &str| if is_demo { "127.0.0.1:0".to_owned() } else { format!("127.0.0.1:{port}") };
    let config = Config {
        issuer: server.issuer(),
        audience: server.audience(),
        upstream: base,
        listen: at("8080"),
        admin: at("9090"),
        ..Config::default()
    };
    if is_demo {
        return demo(&server, config).await;
    }
    println!("try: curl -u {}:{} http://127.0.0.1:8080/orders", AuthServer::APP_ID, AuthServer::APP_SECRET);
    serve(config, interrupted()).await
}

pub async fn serve(config: Config, end: impl Future<Output = ()>) -> Result<(), Failure> {
    let gateway = Gateway::start(config).await?;
    println!("clients: http://{}  admin: http://{}/health", gateway.address, gateway.admin);
    end.await;
    gateway.stop().await
}

async fn demo(server: &AuthServer, config: Config) -> Result<(), Failure> {
    let gateway = Gateway::start(config).await?;
    let (front, back) = (format!("http://{}", gateway.address), format!("http://{}", gateway.admin));
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (id, secret) = (AuthServer::APP_ID, AuthServer::APP_SECRET);
    let sdk = Client::builder(id, secret)
        .issuer(server.issuer())
        .audience(server.audience())
        .base_url(&front)
        .build()?;
    let key = ApiKey::issue("acme_live", id, secret)?;
    for (what, answer) in [
        ("the SDK", sdk.get("orders?page=2").send().await?.into_inner()),
        ("an API key", http.get(front.clone() + "/orders").header("x-api-key", key.expose()).send().await?),
        ("a wrong secret", http.get(front.clone() + "/orders").basic_auth(id, Some("wrong")).send().await?),
        ("a proxy's question", http.get(back.clone() + "/auth").basic_auth(id, Some(secret)).send().await?),
        ("the health page", http.get(back + "/health").send().await?),
    ] {
        println!("{what:<20} {} {}", answer.status(), answer.text().await?.trim_end());
    }
    gateway.stop().await
}
