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
//! | `LISTEN` | for clients: `127.0.0.1:8080` |
//! | `ADMIN` | for the operator and for other proxies: `127.0.0.1:9090` |
//! | `PUBLIC_URL` | the address that clients know, for DPoP |
//! | `EVERTOKEN_PROFILE` | `auth0` for Auth0's own JWTs in place of those of RFC 9068 |
//! | `INTROSPECTION_APP_ID`, `INTROSPECTION_APP_SECRET` | by what the gateway asks about opaque tokens |
//! | `USAGE_FILE` | where usage is written, as JSON lines |
//! | `ANONYMOUS` | `yes` lets requests without any credentials through, unnamed |
//!
//! On the admin port stand `/health`, `/usage` and `/auth`. The last one answers nginx's `auth_request` and Traefik's
//! `forwardAuth` for APIs that stand behind them: a 200 with `Authorization` and `X-App-Id` for the upstream, or a
//! refusal. Connections that are upgraded (WebSocket) are not handed on.
#![allow(clippy::print_stdout, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, OriginalUri, Request, State};
use axum::middleware::map_request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use evertoken::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use evertoken::http::{Method, StatusCode, Uri};
use evertoken::server::{
    CallOutcome, Caller, CallerLayer, Exchange, Introspection, PeerAddress, Profile, Usage, UsageBatch,
    UsageFile, UsageSink, Verifier, Written,
};
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, reqwest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the environment says.
#[derive(Debug, Default)]
pub struct Config {
    pub issuer: String,
    pub audience: String,
    pub scope: Option<String>,
    pub upstream: String,
    pub listen: String,
    pub admin: String,
    pub public_url: Option<String>,
    pub auth0: bool,
    pub introspection: Option<(String, String)>,
    pub usage_file: Option<String>,
    pub anonymous: bool,
}

impl Config {
    fn from_env() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self {
            issuer: get("EVERTOKEN_ISSUER")?,
            audience: get("EVERTOKEN_AUDIENCE")?,
            scope: get("EVERTOKEN_SCOPE"),
            upstream: get("UPSTREAM")?,
            listen: get("LISTEN").unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            admin: get("ADMIN").unwrap_or_else(|| "127.0.0.1:9090".to_owned()),
            public_url: get("PUBLIC_URL"),
            auth0: get("EVERTOKEN_PROFILE").is_some_and(|profile| profile == "auth0"),
            introspection: get("INTROSPECTION_APP_ID").zip(get("INTROSPECTION_APP_SECRET")),
            usage_file: get("USAGE_FILE"),
            anonymous: get("ANONYMOUS").is_some_and(|said| said == "yes"),
        })
    }
}

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
        let usage = Usage::builder(ledger.clone()).interval(Duration::from_secs(10)).start()?;
        let (verifier, exchange) = (verifier.build()?, exchange.usage(&usage).build()?);
        let callers =
            CallerLayer::new(verifier.clone()).exchange(exchange.clone()).forward_token().usage(&usage);

        let at_the_door = if config.anonymous { callers.clone().optional() } else { callers.clone() };

        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            .connect_timeout(Duration::from_secs(5));
        // Tokens in plain http stay on this machine, whatever proxy the environment names.
        if is_plain_loopback(&config.upstream) {
            http = http.no_proxy();
        }
        let http = http.build()?;
        let upstream = Upstream { base: config.upstream.trim_end_matches('/').to_owned(), http };
        let front = Router::new().fallback(hand_on).with_state(upstream).layer(at_the_door);
        let auth = any(allow).layer(callers).layer(map_request(as_the_client_sent_it));
        let back = Router::new()
            .route("/auth", auth.layer(axum::middleware::map_response(for_a_proxy)))
            .route("/health", get(health).with_state((verifier, exchange)))
            .route(
                "/usage",
                get(async |State(ledger): State<Ledger>| Json(ledger.shown())).with_state(ledger),
            );

        let listener = TcpListener::bind(&config.listen).await?;
        let admin = TcpListener::bind(&config.admin).await?;
        let (address, admin_address) = (listener.local_addr()?, admin.local_addr()?);
        let (end, ended) = watch::channel(false);
        let over = |mut ended: watch::Receiver<bool>| async move {
            let _ = ended.wait_for(|ended| *ended).await;
        };
        // Requests under way are answered to their end; then what was counted goes out.
        let front = axum::serve(listener, front.into_make_service_with_connect_info::<SocketAddr>());
        let front = front.with_graceful_shutdown(over(ended.clone())).into_future();
        let back = axum::serve(admin, back.into_make_service_with_connect_info::<SocketAddr>());
        let back = back.with_graceful_shutdown(over(ended)).into_future();
        let serving = tokio::spawn(async move {
            tokio::try_join!(front, back)?;
            Ok(usage.shutdown().await?)
        });
        Ok(Self { address, admin: admin_address, end, serving })
    }

    pub async fn stop(self) -> Result<(), Failure> {
        self.end.send_replace(true);
        self.serving.await?
    }
}

#[derive(Clone)]
struct Upstream {
    base: String,
    http: reqwest::Client,
}

/// Headers that concern one connection only (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const APP_ID: HeaderName = HeaderName::from_static("x-app-id");
const SCOPES: HeaderName = HeaderName::from_static("x-scopes");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn without_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// What the upstream is told of the caller, and nobody else may tell it.
fn introduce(caller: Option<&Caller>, headers: &mut HeaderMap) {
    headers.remove(APP_ID);
    headers.remove(SCOPES);
    let Some(caller) = caller else { return };
    let scopes = caller.scopes().collect::<Vec<_>>().join(" ");
    for (name, value) in [(APP_ID, caller.app_id()), (SCOPES, &scopes)] {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
}

async fn hand_on(
    State(upstream): State<Upstream>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    caller: Option<Caller>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    without_hop_by_hop(&mut parts.headers);
    parts.headers.remove(header::HOST);
    introduce(caller.as_ref(), &mut parts.headers);
    parts.headers.insert(FORWARDED_FOR, address(peer.ip()));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let sent = upstream
        .http
        .request(parts.method, format!("{}{path}", upstream.base))
        .headers(parts.headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()));
    match sent.send().await {
        Ok(answer) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            without_hop_by_hop(&mut headers);
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(error) => {
            println!("the upstream did not answer: {}", error.without_url());
            (StatusCode::BAD_GATEWAY, [(header::CACHE_CONTROL, "no-store")]).into_response()
        }
    }
}

fn is_plain_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.scheme() == "http" && loopback
}

fn address(ip: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The answer to a proxy that asks whether a request may pass: what it is to put on it.
async fn allow(caller: Caller, headers: HeaderMap) -> (StatusCode, HeaderMap) {
    let mut answer = HeaderMap::new();
    introduce(Some(&caller), &mut answer);
    answer.extend(headers.get(header::AUTHORIZATION).map(|token| (header::AUTHORIZATION, token.clone())));
    (StatusCode::OK, answer)
}

/// A proxy's question has the client's headers, and tells method, URL and address of the client's request in some of its
/// own: Traefik in `X-Forwarded-*`, nginx in what its configuration says. Only proxies reach the admin port.
async fn as_the_client_sent_it(mut request: Request) -> Result<Request, StatusCode> {
    let said = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
    // What one proxy says, a client may say to the other: with both, nobody knows what it asks for.
    let [traefik, nginx] =
        ["forwarded", "original"].map(|who| ["method", "uri"].map(|what| said(&format!("x-{who}-{what}"))));
    let [by_traefik, by_nginx] = [&traefik, &nginx].map(|said| said.iter().any(Option::is_some));
    if by_traefik && by_nginx {
        return Err(StatusCode::BAD_REQUEST);
    }
    let [method, uri] = if by_traefik { traefik } else { nginx };
    let (method, uri) = (method.and_then(|text| text.parse().ok()), uri.and_then(|text| text.parse().ok()));
    let peer = said("x-real-ip").or_else(|| said("x-forwarded-for"));
    let peer = peer.and_then(|text| text.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
    if let Some::<Method>(method) = method {
        *request.method_mut() = method;
    }
    let extensions = request.extensions_mut();
    if let Some::<Uri>(uri) = uri {
        extensions.insert(OriginalUri(uri));
    }
    if let Some(peer) = peer {
        extensions.insert(PeerAddress(peer));
    }
    Ok(request)
}

/// nginx knows 2xx, 401 and 403 only: a malformed request is a 401 there.
async fn for_a_proxy(mut answer: Response) -> Response {
    if answer.status() == StatusCode::BAD_REQUEST {
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
    }
    answer
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

/// Usage since the start by app id, for the page; and in the file, for the bill. App ids that were only ever refused may
/// be made up, and share a line.
#[derive(Debug, Clone)]
pub struct Ledger {
    totals: Arc<Mutex<BTreeMap<String, BTreeMap<&'static str, u64>>>>,
    file: Option<UsageFile>,
}

impl Ledger {
    pub fn new(file: Option<String>) -> Self {
        Self { totals: Arc::default(), file: file.map(UsageFile::new) }
    }

    pub fn shown(&self) -> Value {
        json!(*self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl UsageSink for Ledger {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        Box::pin(async move {
            if let Some(file) = &self.file {
                file.write(batch).await?;
            }
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            for record in &batch.records {
                let is_customer = record.calls.contains_key(&CallOutcome::Accepted)
                    || record.app_id.as_ref().is_some_and(|app_id| totals.contains_key(app_id));
                let app_id = record.app_id.clone().filter(|_| is_customer).unwrap_or_default();
                let of = totals.entry(app_id).or_default();
                for (outcome, calls) in &record.calls {
                    *of.entry(outcome.name()).or_default() += calls;
                }
            }
            Ok(())
        })
    }
}

async fn interrupted() {
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
    let hello = async |uri: Uri, headers: HeaderMap| format!("{uri} for {:?}\n", headers.get(APP_ID));
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

async fn serve(config: Config, end: impl Future<Output = ()>) -> Result<(), Failure> {
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
