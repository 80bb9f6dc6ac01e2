//! The layer around an axum service, over real HTTP: who comes through, and what the others are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{Path, Request};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use evertoken::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use evertoken::http::{HeaderMap, Method, StatusCode};
use evertoken::reqwest::{self, Response};
use evertoken::server::{
    CallOutcome, Caller, CallerLayer, ClientCertificate, Exchange, Introspection, RequireScope, StatusClass,
    Usage, UsageBatch, UsageSink, Verifier, Written,
};
use evertoken::testing::{AuthServer, Fault, ManualClock, Signing, Transport, TransportError};
use evertoken::{ApiKey, Client, ClientBuilder, Dpop, TokenSource};
use house::until;
use serde_json::{Value, json};

/// An API behind the layer, on a port of its own.
struct Api {
    server: AuthServer,
    url: String,
    http: reqwest::Client,
    /// Whether a call that does not end has come; each that is under way holds it.
    arrived: Arc<AtomicBool>,
}

async fn never(arrived: Arc<AtomicBool>) {
    arrived.store(true, Ordering::Relaxed);
    std::future::pending::<()>().await;
    drop(arrived);
}

async fn whoami(caller: Caller, headers: HeaderMap) -> Json<Value> {
    let shown =
        |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Json(json!({
        "app_id": caller.app_id(),
        "scopes": caller.scopes().collect::<Vec<_>>(),
        "how": format!("{:?}", caller.how()),
        "authorization": shown("authorization"),
        "key": shown("x-api-key"),
    }))
}

impl Api {
    async fn start(layer: impl FnOnce(&AuthServer, Verifier, Exchange) -> CallerLayer) -> Self {
        let server = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let verifier =
            Verifier::builder(server.issuer()).audience(server.audience()).public_url(&url).build().unwrap();
        let exchange = Exchange::builder(server.issuer())
            .audience(server.audience())
            .scope("orders:read")
            .build()
            .unwrap();
        let nested = Router::new().route("/deep/whoami", get(whoami));
        let guarded = get(whoami).layer(RequireScope::new("orders:write").unwrap());
        let guarded = Router::new().route("/write", guarded).layer(RequireScope::new("orders:read").unwrap());
        let arrived = Arc::new(AtomicBool::new(false));
        let hold = arrived.clone();
        let app = Router::new()
            .route("/whoami", get(whoami))
            .route("/optional", get(|caller: Option<Caller>| async move { format!("{}", caller.is_some()) }))
            .route("/read", get(whoami).layer(RequireScope::new("orders:read").unwrap()))
            .route("/write", get(whoami).layer(RequireScope::new("orders:read orders:write").unwrap()))
            .nest("/guarded", guarded)
            .route("/never", get(move || never(hold.clone())))
            .route(
                "/status/{status}",
                get(|Path(status): Path<u16>| async move { StatusCode::from_u16(status).unwrap() }),
            )
            .nest("/nested", nested)
            .layer(layer(&server, verifier, exchange));
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { server, url, http: reqwest::Client::new(), arrived }
    }

    async fn plain() -> Self {
        Self::start(|_, verifier, _| CallerLayer::new(verifier)).await
    }

    async fn whole() -> Self {
        Self::start(|_, verifier, exchange| CallerLayer::new(verifier).exchange(exchange)).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn token(&self, scope: &str) -> String {
        let source = TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .token_url(self.server.token_url());
        source.scope(scope).build().unwrap().token().await.unwrap().as_str().to_owned()
    }

    /// A customer with the SDK.
    fn client(&self) -> ClientBuilder {
        Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .issuer(self.server.issuer())
            .audience(self.server.audience())
            .base_url(&self.url)
    }
}

fn challenges(response: &Response) -> Vec<&str> {
    response.headers().get_all(WWW_AUTHENTICATE).iter().map(|line| line.to_str().unwrap()).collect()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test]
async fn an_sdks_calls_come_through_and_so_do_those_with_app_id_and_secret() {
    let api = Api::whole().await;
    let answer: Value =
        api.client().build().unwrap().get("whoami").send().await.unwrap().json().await.unwrap();
    assert_eq!((&answer["app_id"], &answer["how"]), (&json!("app"), &json!("Bearer")));

    let key = ApiKey::issue("acme_live", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    for (headers, how) in [
        ([("authorization", basic("app", "secret"))], "Basic"),
        ([("x-api-key", key.expose().to_owned())], "ApiKey"),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = api.get("/whoami", &headers).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        // What was secret does not reach the handler.
        assert_eq!(
            answer,
            json!({ "app_id": "app", "how": how, "scopes": ["orders:read"], "authorization": null, "key": null })
        );
    }
    // Both have the same token.
    assert_eq!(api.server.token_requests(), 2);
}

#[tokio::test]
async fn an_app_id_and_secret_of_any_characters_work() {
    let api = Api::whole().await;
    api.server.register("shop: %41+ä", "s3cr+t%2B:\"x\"");
    // By RFC 7617 the app id cannot have a colon; a key takes all.
    let key = ApiKey::issue("acme", "shop: %41+ä", "s3cr+t%2B:\"x\"").unwrap();
    let answer: Value = api.get("/whoami", &[("x-api-key", key.expose())]).await.json().await.unwrap();
    assert_eq!(answer["app_id"], "shop: %41+ä");
    api.server.register("a b%20", "c:d+e");
    let answer: Value =
        api.get("/whoami", &[("authorization", &basic("a b%20", "c:d+e"))]).await.json().await.unwrap();
    assert_eq!(answer["app_id"], "a b%20");
}

#[tokio::test]
async fn refusals_say_what_the_standards_say() {
    let api = Api::start(|_, verifier, exchange| {
        CallerLayer::new(verifier)
            .exchange(exchange)
            .resource_metadata("https://api.example/.well-known/oauth-protected-resource")
    })
    .await;
    let metadata = "resource_metadata=\"https://api.example/.well-known/oauth-protected-resource\"";
    let realm = "realm=\"https://api.example\"";

    let none = api.get("/whoami", &[]).await;
    assert_eq!(
        (none.status(), &none.headers()[CACHE_CONTROL]),
        (evertoken::http::StatusCode::UNAUTHORIZED, &"no-store".parse().unwrap())
    );
    assert_eq!(
        challenges(&none),
        [
            format!("Bearer {realm}, {metadata}"),
            format!("DPoP {realm}, algs=\"ES256 EdDSA\", {metadata}"),
            format!("Basic {realm}, charset=\"UTF-8\""),
        ]
    );
    assert_eq!(none.text().await.unwrap(), "");

    let bad = api.get("/whoami", &[("authorization", "Bearer abc")]).await;
    let description = "the access token is refused: it is no signed JWT";
    assert_eq!(bad.status(), 401);
    assert_eq!(
        challenges(&bad)[0],
        format!("Bearer {realm}, error=\"invalid_token\", error_description=\"{description}\", {metadata}")
    );
    assert_eq!(bad.headers()[CACHE_CONTROL], "no-store");
    let body: Value = bad.json().await.unwrap();
    assert_eq!(body, json!({ "error": "invalid_token", "error_description": description }));

    let twice = api.get("/whoami", &[("authorization", "Bearer a"), ("authorization", "Bearer a")]).await;
    assert_eq!(twice.status(), 400);
    assert!(challenges(&twice)[0].contains("error=\"invalid_request\""));

    let token = api.token("orders:read").await;
    let bearer = format!("Bearer {token}");
    assert_eq!(api.get("/read", &[("authorization", &bearer)]).await.status(), 200);
    let scope = api.get("/write", &[("authorization", &bearer)]).await;
    assert_eq!(scope.status(), 403);
    assert_eq!(
        challenges(&scope)[0],
        format!(
            "Bearer {realm}, error=\"insufficient_scope\", error_description=\"the access token does not allow this\", \
             scope=\"orders:read orders:write\", {metadata}"
        )
    );
    let both = format!("Bearer {}", api.token("orders:write orders:read").await);
    assert_eq!(api.get("/write", &[("authorization", &both)]).await.status(), 200);
}

#[tokio::test]
async fn an_unknown_app_id_and_a_wrong_secret_are_told_in_the_same_words() {
    let api = Api::whole().await;
    let mut told = Vec::new();
    let keys = ["nobody", AuthServer::APP_ID].map(|id| ApiKey::issue("acme", id, "wrong").unwrap());
    for header in [
        ("authorization", basic("nobody", "wrong")),
        ("authorization", basic(AuthServer::APP_ID, "wrong")),
        ("authorization", basic(AuthServer::APP_ID, "")),
        ("x-api-key", keys[0].expose().to_owned()),
        ("x-api-key", keys[1].expose().to_owned()),
        ("x-api-key", "acme_mistyped_000000".to_owned()),
    ] {
        let answer = api.get("/whoami", &[(header.0, &header.1)]).await;
        let mut headers = answer.headers().clone();
        headers.remove("date");
        told.push((answer.status(), headers, answer.text().await.unwrap()));
    }
    assert_eq!(told[0].0, 401);
    assert!(told[0].2.contains("invalid_client"), "{}", told[0].2);
    assert!(told.iter().all(|other| *other == told[0]), "{told:#?}");
}

#[tokio::test]
async fn credentials_come_one_way_at_a_time_and_never_in_the_query() {
    let api = Api::whole().await;
    let token = api.token("orders:read").await;
    let key = ApiKey::issue("acme", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let (bearer, basic) = (format!("Bearer {token}"), basic("app", "secret"));
    let key = key.expose();
    for headers in [
        &[("authorization", bearer.as_str()), ("x-api-key", key)][..],
        &[("authorization", &basic), ("x-api-key", key)],
        &[("authorization", &basic), ("authorization", &bearer)],
        &[("x-api-key", key), ("x-api-key", key)],
        &[("authorization", "Basic !!!")],
        &[("authorization", "Basic YXBw")],
        &[("authorization", "Basic YXBwOnNlY3JldAA=")],
        &[("authorization", "Basic")],
    ] {
        assert_eq!(api.get("/whoami", headers).await.status(), 400, "{headers:?}");
    }
    for query in [
        format!("access_token={token}"),
        format!("x-api-key={key}"),
        format!("api_key={key}"),
        "client_id=app&client_secret=secret".to_owned(),
    ] {
        assert_eq!(api.get(&format!("/whoami?{query}"), &[]).await.status(), 401, "{query}");
    }
    // Without an exchange, secrets are not taken, and not looked at.
    let plain = Api::plain().await;
    assert_eq!(plain.get("/whoami", &[("authorization", &basic)]).await.status(), 401);
    assert_eq!(plain.get("/whoami", &[("x-api-key", key)]).await.status(), 401);
    assert_eq!(plain.server.token_requests(), 0);
}

#[tokio::test]
async fn keys_have_the_header_and_the_prefix_that_the_api_says() {
    let api = Api::start(|_, verifier, exchange| {
        CallerLayer::new(verifier)
            .api_key_header("Acme-Key")
            .unwrap()
            .api_key_prefix("acme_live")
            .exchange(exchange)
    })
    .await;
    let key = |prefix| ApiKey::issue(prefix, AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    assert_eq!(api.get("/whoami", &[("acme-key", key("acme_live").expose())]).await.status(), 200);
    assert_eq!(api.get("/whoami", &[("acme-key", key("acme_test").expose())]).await.status(), 401);
    assert_eq!(api.get("/whoami", &[("x-api-key", key("acme_live").expose())]).await.status(), 401);
    assert_eq!(api.server.token_requests(), 1);
    let verifier = Verifier::builder("https://as.example").audience("a").build().unwrap();
    for bad in ["authorization", "", "a b"] {
        assert!(CallerLayer::new(verifier.clone()).api_key_header(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn the_token_goes_on_where_it_is_wanted() {
    let api =
        Api::start(|_, verifier, exchange| CallerLayer::new(verifier).exchange(exchange).forward_token())
            .await;
    let answer: Value =
        api.get("/whoami", &[("authorization", &basic("app", "secret"))]).await.json().await.unwrap();
    let forwarded = answer["authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    assert!(api.server.accepts(forwarded));
}

#[tokio::test]
async fn where_credentials_are_optional_bad_ones_are_refused_all_the_same() {
    let api =
        Api::start(|_, verifier, exchange| CallerLayer::new(verifier).exchange(exchange).optional()).await;
    assert_eq!(api.get("/optional", &[]).await.text().await.unwrap(), "false");
    assert_eq!(
        api.get("/optional", &[("authorization", &basic("app", "secret"))]).await.text().await.unwrap(),
        "true"
    );
    assert_eq!(api.get("/optional", &[("authorization", "Bearer abc")]).await.status(), 401);
    assert_eq!(api.get("/optional", &[("authorization", &basic("app", "wrong"))]).await.status(), 401);
    for unknown in ["Digest username=\"app\"", "Bearer\tabc def", "Negotiate abc"] {
        assert_eq!(api.get("/optional", &[("authorization", unknown)]).await.status(), 401, "{unknown}");
    }
    assert_eq!(api.get("/read", &[]).await.status(), 401);
    assert_eq!(api.get("/whoami", &[]).await.status(), 500);
}

#[tokio::test]
async fn an_outage_takes_nothing_from_whoever_was_here_and_tells_the_others() {
    let api = Api::whole().await;
    let known = basic("app", "secret");
    api.server.register("newcomer", "secret");
    assert_eq!(api.get("/whoami", &[("authorization", &known)]).await.status(), 200);
    api.server.fail_always(Fault::RetryAfterSeconds(503, 7));
    assert_eq!(api.get("/whoami", &[("authorization", &known)]).await.status(), 200);
    let late = api.get("/whoami", &[("authorization", &basic("newcomer", "secret"))]).await;
    assert_eq!((late.status().as_u16(), challenges(&late)), (503, vec![]));
    let after: u64 = late.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=7).contains(&after), "{after}");
    assert_eq!(late.json::<Value>().await.unwrap()["error"], "temporarily_unavailable");
    api.server.heal();
    api.server.fail_always(Fault::RetryAfterSeconds(429, 9));
    api.server.register("third", "secret");
    let third = api.get("/whoami", &[("authorization", &basic("third", "secret"))]).await;
    assert!(
        [429, 503].contains(&third.status().as_u16()) && third.headers().contains_key(RETRY_AFTER),
        "{third:?}"
    );
}

#[tokio::test]
async fn a_dpop_client_comes_through_with_each_proof_once() {
    let api = Api::whole().await;
    let client = api.client().dpop(Dpop::new()).build().unwrap();
    for path in ["whoami", "whoami?page=2", "nested/deep/whoami"] {
        let answer = client.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["how"], "Dpop");
    }

    let source = client.token_source();
    let url = reqwest::Url::parse(&format!("{}/whoami", api.url)).unwrap();
    let proven = source.headers(&Method::GET, &url).await.unwrap();
    let send = async |headers: HeaderMap, path: &str| {
        let answer = api.http.get(format!("{}{path}", api.url)).headers(headers).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer
                .headers()
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .map(|line| line.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join("; "),
        )
    };
    assert_eq!(send(proven.clone(), "/whoami").await.0, 200);
    let (status, said) = send(proven.clone(), "/whoami").await;
    assert!(status == 401 && said.contains("DPoP") && said.contains("it was used before"), "{said}");
    assert!(
        !said.split("DPoP").next().unwrap().contains("error"),
        "the Bearer challenge has no error: {said}"
    );
    for (wrong, path, why) in [
        (source.headers(&Method::POST, &url).await.unwrap(), "/whoami", "another method"),
        (source.headers(&Method::GET, &url).await.unwrap(), "/optional", "another URL"),
    ] {
        let (status, said) = send(wrong, path).await;
        assert!(
            status == 401 && said.contains("error=\"invalid_dpop_proof\"") && said.contains(why),
            "{said}"
        );
    }
    // Somebody else's key, somebody else's token.
    let thief = api.client().dpop(Dpop::new()).build().unwrap();
    let mut stolen = thief.token_source().headers(&Method::GET, &url).await.unwrap();
    stolen.insert(AUTHORIZATION, proven[AUTHORIZATION].clone());
    let (status, said) = send(stolen, "/whoami").await;
    assert!(status == 401 && said.contains("it is for another token"), "{said}");
    let mut bare = HeaderMap::new();
    bare.insert(AUTHORIZATION, proven[AUTHORIZATION].clone());
    assert!(send(bare.clone(), "/whoami").await.1.contains("there is none"));
    let token = proven[AUTHORIZATION].to_str().unwrap().strip_prefix("DPoP ").unwrap().to_owned();
    bare.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    assert!(send(bare, "/whoami").await.1.contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_wants_that_certificate() {
    let (mut mine, mut other) = (Vec::new(), Vec::new());
    for certificate in [&mut mine, &mut other] {
        let made = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
        certificate.extend_from_slice(made.cert.der());
    }
    let server = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
    let verifier = Verifier::builder(server.issuer()).audience(server.audience()).build().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &mine);
    let x5t = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(digest);
    let token = server.sign(json!({}), json!({ "cnf": { "x5t#S256": x5t } })).unwrap();
    let app = Router::new().route("/", get(whoami)).layer(CallerLayer::new(verifier));
    for (certificate, status) in [(Some(&mine), 200), (Some(&other), 401), (None, 401)] {
        let mut request = Request::get("/")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        if let Some(der) = certificate {
            request.extensions_mut().insert(ClientCertificate::from_der(der.clone()));
        }
        let answer = tower::ServiceExt::oneshot(app.clone(), request).await.unwrap();
        assert_eq!(answer.status(), status);
        if status == 200 {
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains("\"how\":\"Certificate\""));
        }
    }
}

/// The server has another key, and the API has read its keys anew: what was signed by the old one is replaced.
#[tokio::test]
async fn a_held_token_whose_key_is_gone_is_replaced() {
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let own = clock.clone();
    let api = Api::start(move |server, _, _| {
        let verifier = Verifier::builder(server.issuer()).audience(server.audience()).clock(own.clone());
        let exchange = Exchange::builder(server.issuer()).audience(server.audience()).clock(own);
        // It remembers one token, and so has to look at the key of any other.
        let verifier = verifier.remembered(1).build().unwrap();
        CallerLayer::new(verifier).exchange(exchange.build().unwrap())
    })
    .await;
    api.server.register("other", "secret");
    let call = async |id: &str| {
        let answer = api.get("/whoami", &[("authorization", &basic(id, "secret"))]).await;
        answer.status().as_u16()
    };
    assert_eq!((call("app").await, call("other").await), (200, 200));
    api.server.rotate_keys().unwrap();
    api.server.drop_old_keys();
    clock.advance(Duration::from_secs(61));
    api.server.register("third", "secret");
    assert_eq!(call("third").await, 200, "it has the new keys read");
    let before = api.server.token_requests();
    assert_eq!((call("app").await, call("app").await), (200, 200));
    assert_eq!(api.server.token_requests(), before + 1);
}

/// An opaque token that is held serves to its end, though the server cannot be asked about it any more.
#[tokio::test]
async fn an_outage_takes_nothing_from_opaque_tokens_that_are_held() {
    let introspection =
        Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET).max_age(Duration::ZERO);
    let api = Api::start(|server, _, exchange| {
        server.set_opaque(true);
        let verifier = Verifier::builder(server.issuer()).audience(server.audience());
        CallerLayer::new(verifier.introspection(introspection).build().unwrap()).exchange(exchange)
    })
    .await;
    let known = basic("app", "secret");
    assert_eq!(api.get("/whoami", &[("authorization", &known)]).await.status(), 200);
    let token = api.token("orders:read").await;
    let bearer = format!("Bearer {token}");
    assert_eq!(api.get("/whoami", &[("authorization", &bearer)]).await.status(), 200);
    api.server.outage();
    assert_eq!(api.get("/whoami", &[("authorization", &known)]).await.status(), 200);
    // The clocks of the read path may lag behind, so that its `max_age` of zero has not passed yet.
    let shown = loop {
        let shown = api.get("/whoami", &[("authorization", &bearer)]).await;
        if shown.status() != 200 {
            break shown;
        }
    };
    assert_eq!(shown.status(), 503, "whose it is now, nobody can say");
    assert!(shown.headers().contains_key(RETRY_AFTER));
}

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Vec<UsageBatch>>>);

impl Ledger {
    fn calls(&self) -> BTreeMap<Option<String>, BTreeMap<CallOutcome, u64>> {
        let batches = self.0.lock().unwrap();
        let records = batches.iter().flat_map(|batch| &batch.records);
        records.map(|record| (record.app_id.clone(), record.calls.clone())).collect()
    }
}

impl UsageSink for Ledger {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        self.0.lock().unwrap().push(batch.clone());
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn every_call_is_counted_by_whose_it_is_and_what_became_of_it() {
    let ledger = Ledger::default();
    let usage = Usage::builder(ledger.clone()).interval(Duration::from_secs(3600)).start().unwrap();
    let api =
        Api::start(|_, verifier, exchange| CallerLayer::new(verifier).exchange(exchange).usage(&usage)).await;
    let known = basic("app", "secret");
    for path in ["/whoami", "/read", "/read", "/write"] {
        api.get(path, &[("authorization", &known)]).await;
    }
    api.get("/whoami", &[]).await;
    api.get("/whoami", &[("authorization", "Bearer")]).await;
    api.get("/whoami", &[("authorization", &basic("app", "wrong"))]).await;
    usage.shutdown().await.unwrap();
    for record in ledger.0.lock().unwrap().iter().flat_map(|batch| &batch.records) {
        if record.app_id.is_some() {
            assert_eq!(record.scopes, BTreeMap::from([("orders:read".to_owned(), 2)]));
        }
    }
    let app = BTreeMap::from([
        (CallOutcome::Accepted, 3),
        (CallOutcome::Forbidden, 1),
        (CallOutcome::Unauthorized, 1),
    ]);
    let nobody = BTreeMap::from([(CallOutcome::Unauthorized, 1), (CallOutcome::Malformed, 1)]);
    assert_eq!(ledger.calls(), BTreeMap::from([(None, nobody), (Some("app".to_owned()), app)]));
}

/// Nobody is to pay for a failure of the API.
#[tokio::test]
async fn a_call_that_the_api_fails_is_not_counted_as_accepted() {
    let ledger = Ledger::default();
    let usage = Usage::builder(ledger.clone()).interval(Duration::from_secs(3600)).start().unwrap();
    let api =
        Api::start(|_, verifier, exchange| CallerLayer::new(verifier).exchange(exchange).usage(&usage)).await;
    let known = basic("app", "secret");
    for status in ["502", "502", "502", "200", "404", "999"] {
        api.get(&format!("/status/{status}"), &[("authorization", &known)]).await;
    }
    // A handler that panics: the connection ends without an answer.
    let panicking = api.http.get(format!("{}/status/7", api.url)).header("authorization", &known);
    panicking.send().await.unwrap_err();
    usage.shutdown().await.unwrap();
    let app = BTreeMap::from([(CallOutcome::Accepted, 2), (CallOutcome::Failed, 5)]);
    assert_eq!(ledger.calls(), BTreeMap::from([(Some("app".to_owned()), app)]));
    let batches = ledger.0.lock().unwrap();
    let responses = [(StatusClass::Success, 1), (StatusClass::ClientError, 1), (StatusClass::ServerError, 5)];
    assert_eq!(batches[0].records[0].responses, BTreeMap::from(responses));
}

#[tokio::test]
async fn calls_without_credentials_within_two_guards_and_cut_short_are_counted() {
    let ledger = Ledger::default();
    let usage = Usage::builder(ledger.clone()).interval(Duration::from_secs(3600)).start().unwrap();
    let layer = |_: &AuthServer, verifier, exchange| {
        CallerLayer::new(verifier).exchange(exchange).usage(&usage).optional()
    };
    let api = Api::start(layer).await;
    api.get("/optional", &[]).await;
    api.get("/read", &[]).await;
    let known = basic("app", "secret");
    assert_eq!(api.get("/guarded/write", &[("authorization", &known)]).await.status(), 403);
    // The caller goes away while the call is under way.
    let call = api.http.get(format!("{}/never", api.url)).header("authorization", &known);
    let call = tokio::spawn(call.send());
    until("the call is under way", || api.arrived.load(Ordering::Relaxed)).await;
    call.abort();
    until("it has ended", || Arc::strong_count(&api.arrived) == 2).await;
    usage.shutdown().await.unwrap();
    let app = BTreeMap::from([(CallOutcome::Accepted, 1), (CallOutcome::Forbidden, 1)]);
    let nobody = BTreeMap::from([(CallOutcome::Accepted, 1), (CallOutcome::Unauthorized, 1)]);
    assert_eq!(ledger.calls(), BTreeMap::from([(None, nobody), (Some("app".to_owned()), app)]));
}

#[tokio::test]
async fn a_guard_without_a_layer_around_it_lets_nobody_through() {
    let app =
        Router::new().route("/", get(|| async { "secret" })).layer(RequireScope::new("orders:read").unwrap());
    let answer =
        tower::ServiceExt::oneshot(app, Request::new(axum::body::Body::from(Bytes::new()))).await.unwrap();
    assert_eq!(answer.status(), 500);
    for bad in ["", " ", "a\"b", "é"] {
        assert!(RequireScope::new(bad).is_err(), "{bad}");
    }
}

/// An API with a verifier that remembers one token only, and an exchange that holds many more.
async fn forgetful(
    opaque: bool,
    clock: &Arc<ManualClock>,
    shared: &Arc<Mutex<Option<(Verifier, Exchange)>>>,
) -> Api {
    let (own, out) = (clock.clone(), shared.clone());
    let api = Api::start(move |server, _, _| {
        server.set_opaque(opaque);
        let mut verifier =
            Verifier::builder(server.issuer()).audience(server.audience()).clock(own.clone()).remembered(1);
        if opaque {
            verifier = verifier.introspection(Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET));
        }
        let verifier = verifier.build().unwrap();
        let exchange = Exchange::builder(server.issuer()).audience(server.audience()).clock(own);
        let exchange = exchange.build().unwrap();
        *out.lock().unwrap() = Some((verifier.clone(), exchange.clone()));
        CallerLayer::new(verifier).exchange(exchange)
    })
    .await;
    for customer in 0..30 {
        api.server.register(&format!("app-{customer}"), "secret");
    }
    api
}

#[tokio::test]
async fn customers_beyond_what_the_verifier_remembers_are_served_in_an_outage() {
    for opaque in [true, false] {
        let (clock, shared) = (Arc::new(ManualClock::new(SystemTime::now())), Arc::default());
        let api = forgetful(opaque, &clock, &shared).await;
        let (verifier, exchange) = shared.lock().unwrap().clone().unwrap();
        let call = async |id: &str| {
            let answer = api.get("/whoami", &[("authorization", &basic(id, "secret"))]).await;
            answer.status().as_u16()
        };
        let names: Vec<String> = (0..30).map(|customer| format!("app-{customer}")).collect();
        for name in &names {
            assert_eq!(call(name).await, 200);
        }
        api.server.outage();
        // What is asked about opaque tokens is to be asked again by now.
        clock.advance(Duration::from_secs(60));
        for name in &names {
            assert_eq!(call(name).await, 200, "{name}, opaque: {opaque}");
        }
        // A purge concerns its app and no other.
        verifier.purge("app-7");
        assert_eq!((call("app-8").await, call("app-9").await), (200, 200));
        assert_eq!(call("app-7").await, if opaque { 503 } else { 200 }, "a JWT is verified anew");
        exchange.purge("app-8");
        assert_eq!((call("app-8").await, call("app-9").await), (503, 200));
        // No other secret gets what is kept.
        let wrong = api.get("/whoami", &[("authorization", &basic("app-9", "wrong"))]).await;
        assert_eq!(wrong.status(), 503);
    }
}

/// The server's word on an opaque token ends it, whatever is kept of it.
#[tokio::test]
async fn what_is_kept_with_a_held_token_is_asked_about_when_its_time_has_come() {
    let (clock, shared) = (Arc::new(ManualClock::new(SystemTime::now())), Arc::default());
    let api = forgetful(true, &clock, &shared).await;
    let call = async |id: &str| {
        let answer = api.get("/whoami", &[("authorization", &basic(id, "secret"))]).await;
        answer.status().as_u16()
    };
    for id in ["app-1", "app-2", "app-1", "app-2"] {
        assert_eq!(call(id).await, 200);
    }
    assert_eq!(api.server.introspections(), 2, "each once within 30 s");
    clock.advance(Duration::from_secs(31));
    assert_eq!((call("app-1").await, call("app-2").await), (200, 200));
    assert_eq!(api.server.introspections(), 4);
}

#[tokio::test]
async fn api_keys_are_taken_as_bearer_tokens_and_as_user_names() {
    for prefix in [Some("acme_live"), None] {
        let api = Api::start(|_, verifier, exchange| {
            let layer = CallerLayer::new(verifier).exchange(exchange);
            match prefix {
                Some(prefix) => layer.api_key_prefix(prefix),
                None => layer,
            }
        })
        .await;
        let key = ApiKey::issue("acme_live", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
        let key = key.expose();
        for header in [
            format!("Bearer {key}"),
            format!("bearer  {key}"),
            basic(key, ""),
            basic(key, "x"),
            basic(key, "x-oauth-basic"),
        ] {
            let answer = api.get("/whoami", &[("authorization", &header)]).await;
            assert_eq!(answer.status(), 200, "{prefix:?}");
            let answer: Value = answer.json().await.unwrap();
            assert_eq!((&answer["app_id"], &answer["how"]), (&json!("app"), &json!("ApiKey")));
            assert_eq!(answer["authorization"], Value::Null, "not seen behind");
        }
        assert_eq!(api.server.token_requests(), 1);
        // Bare, or by a scheme that is none here: named.
        for header in [key.to_owned(), format!("Token {key}"), format!("ApiKey {key}"), format!("Key  {key}")]
        {
            let answer = api.get("/whoami", &[("authorization", &header)]).await;
            assert_eq!(answer.status(), 400);
            let text = answer.text().await.unwrap();
            assert!(text.contains("Authorization: Bearer") && !text.contains(key), "{text}");
        }
        // One credential at a time, and no key by DPoP.
        let bearer = format!("Bearer {key}");
        let twice = [("authorization", bearer.as_str()), ("x-api-key", key)];
        assert_eq!(api.get("/whoami", &twice).await.status(), 400);
        assert_eq!(api.get("/whoami", &[("authorization", &format!("DPoP {key}"))]).await.status(), 401);
        // Wrong ones are refused in the words for keys, and those of another prefix without asking.
        let wrong = ApiKey::issue("acme_live", AuthServer::APP_ID, "wrong").unwrap();
        let foreign = ApiKey::issue("acme_test", AuthServer::APP_ID, "wrong").unwrap();
        let mistyped = format!("{}000000", &key[..key.len() - 6]);
        for (key, is_taken_for_one) in
            [(wrong.expose(), true), (foreign.expose(), true), (&*mistyped, prefix.is_some())]
        {
            let answer = api.get("/whoami", &[("authorization", &format!("Bearer {key}"))]).await;
            assert_eq!(answer.status(), 401);
            let text = answer.text().await.unwrap();
            assert_eq!(text.contains("invalid_client"), is_taken_for_one, "{text}");
        }
        assert_eq!(api.server.token_requests(), 2);
        // Tokens of the server's own that look alike are tokens.
        let answer = api.get("/whoami", &[("authorization", "Bearer acme_live_at_0123456789")]).await;
        assert!(answer.text().await.unwrap().contains("invalid_token"));
    }
    // Without an exchange nothing is taken for a key.
    let plain = Api::plain().await;
    let key = ApiKey::issue("acme_live", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let answer = plain.get("/whoami", &[("authorization", &format!("Bearer {}", key.expose()))]).await;
    assert!(answer.text().await.unwrap().contains("invalid_token"));
}

/// Gives out a token that names another app than the one that asked for it.
struct Aliased(String);

impl Transport for Aliased {
    fn send(
        &self,
        _: evertoken::http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<evertoken::http::Response<Bytes>, TransportError>> + Send + '_>>
    {
        let body = json!({ "access_token": self.0, "token_type": "Bearer", "expires_in": 900 }).to_string();
        Box::pin(std::future::ready(Ok(evertoken::http::Response::new(body.into()))))
    }
}

#[tokio::test]
async fn a_purge_finds_what_is_held_for_an_alias_by_the_app_id_that_its_token_names() {
    let shared = Arc::new(Mutex::new(None));
    let out = shared.clone();
    let api = Api::start(move |server, verifier, _| {
        let token = server.sign(json!({}), json!({ "client_id": "0oa42" })).unwrap();
        let exchange = Exchange::builder(server.issuer())
            .token_url(server.token_url())
            .transport(Arc::new(Aliased(token)))
            .build()
            .unwrap();
        *out.lock().unwrap() = Some(exchange.clone());
        CallerLayer::new(verifier).exchange(exchange)
    })
    .await;
    let exchange: Exchange = shared.lock().unwrap().clone().unwrap();
    let answer = api.get("/whoami", &[("authorization", &basic("alias", "secret"))]).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["app_id"], "0oa42");
    assert_eq!(exchange.status().customers, 1);
    exchange.purge("0oa42");
    assert_eq!(exchange.status().customers, 0);
}
