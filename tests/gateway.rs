//! The example gateway, in front of an upstream that tells what reaches it: here what it does for callers; attacks, its end
//! and a real nginx in front of it are in `tests/gateway/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "gateway/attacks.rs"]
mod attacks;
#[path = "../examples/gateway.rs"]
mod gateway;
mod house;
#[path = "gateway/nginx.rs"]
mod nginx;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/waiting.rs"]
mod waiting;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use evertoken::http::{HeaderMap, Method, StatusCode};
use evertoken::server::{CallOutcome, Usage};
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, ClientBuilder, Dpop, reqwest};
use gateway::{Config, Gateway};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Tells what came, without the token; and gives a long body where it is asked for.
async fn upstream(request: Request) -> axum::response::Response {
    use axum::response::IntoResponse;
    let (parts, body) = request.into_parts();
    match parts.uri.path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(700)).await;
            return "at last".into_response();
        }
        "/long" => {
            return (
                StatusCode::CREATED,
                [("x-kind", "long"), ("connection", "x-hop"), ("x-hop", "1")],
                "x".repeat(3 << 20),
            )
                .into_response();
        }
        path => {
            if let Some(status) = path.strip_prefix("/status/") {
                let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
                return (status, [("www-authenticate", "Upstream")], "its own words").into_response();
            }
        }
    }
    let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
    let all = |name: &str| {
        parts
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let names: Vec<&str> = parts.headers.keys().map(|name| name.as_str()).collect();
    axum::Json(json!({
        "method": parts.method.as_str(), "uri": parts.uri.to_string(), "body": body.len(), "names": names,
        "app": all("x-app-id"), "scopes": all("x-scopes"), "authorization": all("authorization"), "for": all("x-forwarded-for"),
    }))
    .into_response()
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

struct Setting {
    server: AuthServer,
    gateway: Gateway,
    upstream: SocketAddr,
    http: reqwest::Client,
}

impl Setting {
    async fn new(public_url: Option<String>, usage_file: Option<String>) -> Self {
        Self::with(|config| {
            config.public_url = public_url;
            config.usage_file = usage_file;
        })
        .await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let server = AuthServer::start().await.unwrap();
        let upstream = serve(Router::new().fallback(upstream)).await;
        let mut config = Config {
            issuer: server.issuer(),
            audience: server.audience(),
            scope: Some("orders:read".into()),
            upstream: format!("http://{upstream}/"),
            listen: "127.0.0.1:0".into(),
            admin: "127.0.0.1:0".into(),
            ..Config::default()
        };
        change(&mut config);
        let gateway = Gateway::start(config).await.unwrap();
        Self { server, gateway, upstream, http: reqwest::Client::new() }
    }

    fn front(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.address)
    }

    fn back(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.admin)
    }

    fn client(&self, base: &str) -> ClientBuilder {
        let builder = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
        builder
            .issuer(self.server.issuer())
            .audience(self.server.audience())
            .scope("orders:read")
            .base_url(base)
    }

    fn assert_introduced(&self, told: &Value) {
        assert_eq!((&told["app"], &told["scopes"]), (&json!(["app"]), &json!(["orders:read"])));
        let authorization = told["authorization"].as_array().unwrap();
        let token = authorization[0].as_str().unwrap().strip_prefix("Bearer ").unwrap();
        assert!(authorization.len() == 1 && self.server.accepts(token));
    }
}

#[tokio::test]
async fn every_kind_of_caller_comes_out_with_a_verified_token() {
    let setting = Setting::new(None, None).await;
    let key = ApiKey::issue("acme", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let orders = setting.front("/orders?page=2&q=%20x");
    let forged = |request: reqwest::RequestBuilder| {
        request
            .header("x-app-id", "root")
            .header("x-scopes", "all")
            .header("x-forwarded-for", "10.0.0.1")
            .header("connection", "x-gone")
            .header("x-gone", "1")
            .header("te", "trailers")
    };
    let sdk = setting.client(&setting.front("/")).build().unwrap();
    for answer in [
        forged(setting.http.post(&orders).basic_auth("app", Some("secret")))
            .body("twelve bytes")
            .send()
            .await
            .unwrap(),
        forged(setting.http.post(&orders).header("x-api-key", key.expose()))
            .body("twelve bytes")
            .send()
            .await
            .unwrap(),
        sdk.post("orders?page=2&q=%20x").body("twelve bytes").send().await.unwrap().into_inner(),
    ] {
        assert_eq!(answer.status(), 200);
        let told: Value = answer.json().await.unwrap();
        setting.assert_introduced(&told);
        assert_eq!(
            (&told["method"], &told["uri"], &told["body"]),
            (&json!("POST"), &json!("/orders?page=2&q=%20x"), &json!(12))
        );
        assert_eq!(told["for"], json!(["127.0.0.1"]));
        let names = told["names"].as_array().unwrap();
        assert!(
            ["x-api-key", "x-gone", "te", "connection"].iter().all(|gone| !names.contains(&json!(gone))),
            "{names:?}"
        );
    }
    for refused in [
        setting.http.get(&orders).send().await.unwrap(),
        setting.http.get(&orders).basic_auth("app", Some("wrong")).send().await.unwrap(),
        setting.http.get(&orders).bearer_auth("abc").send().await.unwrap(),
    ] {
        assert_eq!(refused.status(), 401);
    }
}

#[tokio::test]
async fn answers_come_back_whole_and_an_absent_upstream_is_a_502() {
    let setting = Setting::new(None, None).await;
    let answer =
        setting.http.get(setting.front("/long")).basic_auth("app", Some("secret")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-kind"]), (201, &"long".parse().unwrap()));
    assert!(!answer.headers().contains_key("x-hop"));
    assert_eq!(answer.bytes().await.unwrap().len(), 3 << 20);
    let large = Bytes::from(vec![b'y'; 5 << 20]);
    let told: Value = setting
        .http
        .put(setting.front("/x"))
        .basic_auth("app", Some("secret"))
        .body(large)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(told["body"], 5 << 20);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = Gateway::start(Config {
        issuer: setting.server.issuer(),
        audience: setting.server.audience(),
        upstream: format!("http://{nobody}"),
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        anonymous: true,
        ..Config::default()
    })
    .await
    .unwrap();
    let url = format!("http://{}/x", gone.address);
    assert_eq!(setting.http.get(&url).basic_auth("app", Some("secret")).send().await.unwrap().status(), 502);
    // Anonymous requests go on to the upstream there; those with bad credentials do not.
    assert_eq!(setting.http.get(&url).send().await.unwrap().status(), 502);
    assert_eq!(setting.http.get(&url).basic_auth("app", Some("wrong")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_loses_no_count() {
    let file = std::env::temp_dir().join(format!("evertoken-gateway-{}.jsonl", std::process::id()));
    let _ = fs::remove_file(&file);
    let setting = Setting::new(None, Some(file.to_str().unwrap().to_owned())).await;
    let health: Value = setting.http.get(setting.back("/health")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["ready"], &health["keys"]), (&json!(true), &json!(1)));
    let slow = setting.http.get(setting.front("/slow")).basic_auth("app", Some("secret"));
    let slow = tokio::spawn(async move { slow.send().await.unwrap().text().await.unwrap() });
    house::until("the request is under way", || setting.server.token_requests() == 1).await;
    setting.http.get(setting.front("/x")).send().await.unwrap();
    let front = setting.front("/x");
    setting.gateway.stop().await.unwrap();
    assert_eq!(slow.await.unwrap(), "at last");
    assert!(reqwest::Client::new().get(front).send().await.is_err());
    let calls = process::calls(&file);
    fs::remove_file(&file).unwrap();
    let expected = [(None, CallOutcome::Unauthorized, 1), (Some("app".to_owned()), CallOutcome::Accepted, 1)];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn while_the_authorization_server_is_away_who_was_here_stays() {
    let setting = Setting::new(None, None).await;
    let get = || setting.http.get(setting.front("/x")).basic_auth("app", Some("secret")).send();
    assert_eq!(get().await.unwrap().status(), 200);
    setting.server.outage();
    assert_eq!(get().await.unwrap().status(), 200);
    let newcomer =
        setting.http.get(setting.front("/x")).basic_auth("new", Some("secret")).send().await.unwrap();
    assert_eq!(newcomer.status(), 503);
    assert!(newcomer.headers().contains_key("retry-after"));
}

/// What Traefik's forwardAuth sends: the client's headers, and the request in `X-Forwarded-*`.
#[tokio::test]
async fn a_forward_auth_question_is_judged_as_the_clients_request() {
    let setting = Setting::new(Some("https://api.example".into()), None).await;
    let client = setting.client("https://api.example/").dpop(Dpop::new()).build().unwrap();
    let url = reqwest::Url::parse("https://api.example/v1/orders").unwrap();
    let ask = async |headers: HeaderMap, method: &str, uri: &str| {
        let request = setting.http.get(setting.back("/auth")).headers(headers);
        let request = request.header("x-forwarded-method", method).header("x-forwarded-uri", uri);
        request
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "api.example")
            .send()
            .await
            .unwrap()
    };
    let proven = client.token_source().headers(&Method::DELETE, &url).await.unwrap();
    let answer = ask(proven.clone(), "DELETE", "/v1/orders?page=1").await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-app-id"]), (200, &"app".parse().unwrap()));
    assert!(answer.headers()["authorization"].to_str().unwrap().starts_with("DPoP "));
    let fresh = || async { client.token_source().headers(&Method::DELETE, &url).await.unwrap() };
    assert_eq!(ask(fresh().await, "GET", "/v1/orders").await.status(), 401);
    assert_eq!(ask(fresh().await, "DELETE", "/v1/other").await.status(), 401);
    assert_eq!(ask(proven, "DELETE", "/v1/orders").await.status(), 401);
    // What nginx would say beside it, a client may have said.
    for (name, value) in [("x-original-method", "DELETE"), ("x-original-uri", "/v1/orders")] {
        let mut headers = fresh().await;
        headers.insert(name, value.parse().unwrap());
        assert_eq!(ask(headers, "DELETE", "/v1/orders").await.status(), 401, "{name}");
    }
    assert_eq!(ask(fresh().await, "DELETE", "/v1/orders").await.status(), 200);
    let twice =
        setting.http.get(setting.back("/auth")).header("authorization", "Bearer").send().await.unwrap();
    assert_eq!(twice.status(), 401);
}

#[tokio::test]
async fn an_authorization_server_with_opaque_tokens_will_do() {
    let server = AuthServer::start().await.unwrap();
    server.set_opaque(true);
    let upstream = serve(Router::new().fallback(upstream)).await;
    let gateway = Gateway::start(Config {
        issuer: server.issuer(),
        audience: server.audience(),
        upstream: format!("http://{upstream}"),
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        introspection: Some(("app".into(), "secret".into())),
        ..Config::default()
    });
    let gateway = gateway.await.unwrap();
    let url = format!("http://{}/x", gateway.address);
    let answer = reqwest::Client::new().get(url).basic_auth("app", Some("secret")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Made-up app ids have one line between them.
#[tokio::test]
async fn the_usage_page_has_a_line_for_each_customer() {
    let file = std::env::temp_dir().join(format!("evertoken-gateway-page-{}.jsonl", std::process::id()));
    let ledger = gateway::Ledger::new(Some(file.to_str().unwrap().to_owned()));
    let usage = Usage::builder(ledger.clone()).start().unwrap();
    for app_id in ["made-up", "made-up-as-well"] {
        usage.call(Some(app_id), CallOutcome::Unauthorized, None);
    }
    usage.call(Some("app"), CallOutcome::Accepted, None);
    usage.call(Some("app"), CallOutcome::Unauthorized, None);
    usage.shutdown().await.unwrap();
    let expected = json!({ "": { "unauthorized": 2 }, "app": { "accepted": 1, "unauthorized": 1 } });
    assert_eq!(ledger.shown(), expected);
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 3, "the bill has them all");
    fs::remove_file(&file).unwrap();
}
