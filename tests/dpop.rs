//! Tokens bound to a key (DPoP, RFC 9449), against the box and against APIs that behave oddly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;
mod loopback;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use evertoken::http::{Method, StatusCode};
use evertoken::reqwest::{Body, Url};
use evertoken::testing::{AuthServer, Fault};
use evertoken::{
    Client, ClientBuilder, Dpop, ErrorKind, SigningKey, TokenLayer, TokenMiddleware, blocking, reqwest,
};
use house::client;
use loopback::{Server, now};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

/// RFC 8037 A.1.
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn part(jwt: &str, index: usize) -> Value {
    let part = jwt.split('.').nth(index).expect("a JWT has three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A box that takes bound tokens only, and wants nonces of both kinds.
async fn strict() -> AuthServer {
    let server = AuthServer::start().await.unwrap();
    server.set_dpop_required(true);
    server.set_token_nonce(Some("at-the-as"));
    server.set_api_nonce(Some("at-the-api"));
    server
}

fn bound(server: &AuthServer) -> ClientBuilder {
    client(server).dpop(Dpop::new())
}

/// The statuses that the API answered with, in order.
fn api_statuses(server: &AuthServer) -> Vec<u16> {
    server.log().iter().filter(|entry| entry.what.contains("/v1/")).filter_map(|entry| entry.status).collect()
}

#[tokio::test]
async fn token_and_calls_are_proven_and_each_server_gets_its_nonce() {
    for dpop in [Dpop::new(), Dpop::with_key(SigningKey::from_jwk(ED).unwrap())] {
        let server = strict().await;
        let api = client(&server).dpop(dpop).build().unwrap();
        let token = api.token().await.unwrap();
        assert_eq!(server.token_requests(), 2, "one for the nonce");
        assert!(token.authorization().to_str().unwrap().starts_with("DPoP "));
        let mut ids = HashSet::new();
        for path in ["orders?page=2", "orders", "a%20b/c?d#e"] {
            let echo: Value = api.get(path).send().await.unwrap().json().await.unwrap();
            let claims = part(echo["headers"]["dpop"].as_str().unwrap(), 1);
            let wanted = format!("{}{}", server.api_url(), path.split('?').next().unwrap());
            assert_eq!((&claims["htm"], claims["htu"].as_str()), (&json!("GET"), Some(wanted.as_str())));
            assert_eq!(claims["nonce"], "at-the-api");
            ids.insert(claims["jti"].to_string());
        }
        assert_eq!(ids.len(), 3);
        // Of these, the first call alone had to learn the nonce.
        assert_eq!(api_statuses(&server), [401, 200, 200, 200]);
        let jkt = &part(token.as_str(), 1)["cnf"]["jkt"];
        assert_eq!(jkt.as_str().unwrap().len(), 43);
    }
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_nonce_and_a_stream_is_not() {
    let server = strict().await;
    let api = bound(&server).build().unwrap();
    let stream = || Body::wrap(Body::from("streamed"));
    assert_eq!(api.post("x").body(stream()).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // It learnt the nonce all the same.
    assert_eq!(api.post("x").body(stream()).send().await.unwrap().status(), StatusCode::OK);
    server.set_api_nonce(Some("another"));
    let echo: Value = api.post("x").body("kept").send().await.unwrap().json().await.unwrap();
    assert_eq!((&echo["body"], api.status().consecutive_failures), (&json!("kept"), 0));
    assert_eq!(api_statuses(&server), [401, 200, 401, 200]);
    assert_eq!(server.token_requests(), 2, "a nonce is no reason for another token");
}

#[tokio::test]
async fn a_refused_token_and_a_new_nonce_in_one_call_cost_one_sending_each() {
    let server = strict().await;
    let api = bound(&server).build().unwrap();
    assert_eq!(api.get("x").send().await.unwrap().status(), 200);
    server.reset_counters();
    server.revoke_all();
    server.set_api_nonce(Some("another"));
    assert_eq!(api.post("x").body("b").send().await.unwrap().status(), 200);
    assert_eq!(api_statuses(&server), [401, 401, 200]);
    assert_eq!(server.token_requests(), 1);
    // And no more than one each: the second challenge for a nonce is handed on.
    server.reset_counters();
    let challenge = Fault::Status {
        status: 401,
        headers: vec![
            ("WWW-Authenticate".into(), "DPoP error=\"use_dpop_nonce\"".into()),
            ("DPoP-Nonce".into(), "more".into()),
        ],
        body: String::new(),
    };
    server.fail_next_api(challenge.clone());
    server.fail_next_api(challenge);
    assert_eq!(api.get("x").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!((api_statuses(&server), server.token_requests()), (vec![401, 401], 0));
}

#[tokio::test]
async fn a_family_shares_key_and_nonces() {
    let server = strict().await;
    let api = bound(&server).build().unwrap();
    assert_eq!(api.get("x").send().await.unwrap().status(), 200);
    let other = api.with(server.audience(), ["orders"]).unwrap();
    assert_eq!(other.get("x").send().await.unwrap().status(), 200);
    let jkt = |token: &str| part(token, 1)["cnf"]["jkt"].clone();
    let tokens = [api.token().await.unwrap(), other.token().await.unwrap()];
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(jkt(tokens[0].as_str()), jkt(tokens[1].as_str()));
    assert_eq!((server.token_requests(), api_statuses(&server)), (3, vec![401, 200, 200]));
    // Another client has another key.
    let stranger = bound(&server).build().unwrap();
    assert_ne!(jkt(stranger.token().await.unwrap().as_str()), jkt(tokens[0].as_str()));
}

#[tokio::test]
async fn headers_are_for_one_call_and_authorization_fails() {
    let server = strict().await;
    let api = bound(&server).build().unwrap();
    let error = api.authorization().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("headers"), "{error}");
    assert_eq!(server.token_requests(), 0);

    let (http, url) = (reqwest::Client::new(), Url::parse(&format!("{}x?y=1", server.api_url())).unwrap());
    let source = api.token_source();
    let send = async || {
        let headers = source.headers(&Method::GET, &url).await.unwrap();
        assert_eq!(headers.len(), 2);
        http.get(url.clone()).headers(headers).send().await.unwrap()
    };
    let challenged = send().await;
    assert_eq!(challenged.status(), StatusCode::UNAUTHORIZED);
    assert!(source.note_nonce(&url, challenged.headers()));
    assert_eq!(send().await.status(), StatusCode::OK);
    let foreign = Url::parse("https://elsewhere.example/").unwrap();
    assert!(!source.note_nonce(&foreign, challenged.headers()));
    let error = source.headers(&Method::GET, &foreign).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedOrigin);
    assert_eq!(api.get(foreign.as_str()).send().await.unwrap_err().kind(), ErrorKind::UntrustedOrigin);

    // For Bearer they are what they were.
    server.set_dpop_required(false);
    let bearer = client(&server).build().unwrap();
    let headers = bearer.headers(&Method::GET, &url).await.unwrap();
    assert_eq!(headers.len(), 1);
    assert_eq!(headers["authorization"], bearer.authorization().await.unwrap());
    assert!(!bearer.token_source().note_nonce(&url, challenged.headers()));
}

#[tokio::test]
async fn a_bearer_answer_is_refused_and_so_is_a_client_without_a_proof() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "token_type": "Bearer" }));
    let error = bound(&server).build().unwrap().get("x").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidResponse);
    assert!(error.to_string().contains("only DPoP can be used"), "{error}");
    server.heal();
    server.set_dpop_required(true);
    let error = client(&server).build().unwrap().token().await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::RequestRefused, Some("invalid_dpop_proof")));
    assert_eq!(server.api_calls(), 0);
}

#[tokio::test]
async fn a_refused_proof_takes_no_token_away() {
    let server = AuthServer::start().await.unwrap();
    let api = bound(&server).build().unwrap();
    let held = api.token().await.unwrap();
    server.fail_next_api(Fault::Status {
        status: 401,
        headers: vec![("WWW-Authenticate".into(), "DPoP error=\"invalid_dpop_proof\"".into())],
        body: String::new(),
    });
    assert_eq!(api.get("x").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!((api.token().await.unwrap(), server.token_requests(), server.api_calls()), (held, 1, 1));
}

#[test]
fn the_blocking_client_proves_itself_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(strict());
    let api = blocking::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .token_url(server.token_url())
        .audience(server.audience())
        .base_url(server.api_url())
        .dpop(Dpop::new())
        .build()
        .unwrap();
    assert_eq!(api.post("x").body("b").send().unwrap().status(), StatusCode::OK);
    assert_eq!(api.get(format!("redirect?to={}x", server.api_url())).send().unwrap().status(), 307);
    assert_eq!(api.authorization().unwrap_err().kind(), ErrorKind::Configuration);
    let url = Url::parse(&server.api_url()).unwrap();
    assert!(api.headers(&Method::GET, &url).unwrap().contains_key("dpop"));
}

/// tower's view of the box: a reqwest client.
#[derive(Clone)]
struct Http(reqwest::Client);

impl Service<evertoken::http::Request<String>> for Http {
    type Response = evertoken::http::Response<()>;
    type Error = reqwest::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<evertoken::http::Response<()>, reqwest::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), reqwest::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: evertoken::http::Request<String>) -> Self::Future {
        let http = self.0.clone();
        Box::pin(async move {
            let answer = http.execute(reqwest::Request::try_from(request)?).await?;
            let mut response = evertoken::http::Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            Ok(response)
        })
    }
}

#[tokio::test]
async fn both_middlewares_prove_and_recover() {
    let server = strict().await;
    let api = bound(&server).build().unwrap();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = format!("{}x?y=1", server.api_url());

    let layer = TokenLayer::new(api.token_source().clone()).unwrap();
    let call = |layer: TokenLayer, url: &str| {
        let request = evertoken::http::Request::post(url).body("b".to_owned()).unwrap();
        tower::ServiceBuilder::new().layer(layer).service(Http(http.clone())).oneshot(request)
    };
    assert_eq!(call(layer.clone(), &url).await.unwrap().status(), StatusCode::OK);
    server.revoke_all();
    server.set_api_nonce(Some("another"));
    assert_eq!(call(layer.clone(), &url).await.unwrap().status(), StatusCode::OK);
    assert_eq!(api_statuses(&server), [401, 200, 401, 401, 200]);
    call(layer.clone(), "https://elsewhere.example/").await.unwrap_err();
    let streamed = layer.without_replay();
    server.set_api_nonce(Some("third"));
    for status in [401, 200] {
        let request = evertoken::http::Request::post(&url).body("b".to_owned()).unwrap();
        let service = tower::ServiceBuilder::new().layer(streamed.clone()).service(Http(http.clone()));
        assert_eq!(service.oneshot(request).await.unwrap().status(), status);
    }

    let stranger = bound(&server).build().unwrap();
    let middleware = TokenMiddleware::new(stranger.token_source().clone()).unwrap();
    let chain = reqwest_middleware::ClientBuilder::new(http).with(middleware).build();
    server.reset_counters();
    assert_eq!(chain.post(&url).body("b").send().await.unwrap().status(), StatusCode::OK);
    server.revoke_all();
    server.set_api_nonce(Some("fourth"));
    assert_eq!(chain.post(&url).body("b").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(api_statuses(&server), [401, 200, 401, 401, 200]);
    chain.get("https://elsewhere.example/").send().await.unwrap_err();
}

/// An API whose tokens come from the box.
fn odd_api(handler: impl Fn(&Server, usize) -> Response + Send + Sync + 'static) -> Server {
    let calls = AtomicUsize::new(0);
    Server::start(move |server, _| now(handler(server, calls.fetch_add(1, Ordering::SeqCst))))
}

async fn client_of(api: &Server) -> (AuthServer, Client) {
    let server = AuthServer::start().await.unwrap();
    let client = bound(&server).base_url(api.base_url()).build().unwrap();
    (server, client)
}

fn nonces(api: &Server) -> Vec<Value> {
    api.log().iter().map(|seen| part(seen.headers["dpop"].to_str().unwrap(), 1)["nonce"].clone()).collect()
}

fn challenge(nonce: &str) -> Response {
    let headers = [("www-authenticate", "DPoP error=\"use_dpop_nonce\""), ("dpop-nonce", nonce)];
    (StatusCode::UNAUTHORIZED, headers).into_response()
}

#[tokio::test]
async fn an_api_that_always_wants_another_nonce_is_asked_twice() {
    let odd = odd_api(|_, call| challenge(&format!("n{call}")));
    let (server, api) = client_of(&odd).await;
    for _ in 0..2 {
        assert_eq!(api.get("x").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(nonces(&odd), [Value::Null, "n0".into(), "n1".into(), "n2".into()]);
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test]
async fn the_nonce_of_any_answer_is_for_the_next_call_and_a_bad_one_for_none() {
    let odd = odd_api(|_, call| {
        let headers = [[("dpop-nonce", "n1")], [("dpop-nonce", "n 2")], [("x", "y")], [("dpop-nonce", "n3")]];
        (if call == 3 { StatusCode::NOT_FOUND } else { StatusCode::OK }, headers[call.min(3)]).into_response()
    });
    let (_server, api) = client_of(&odd).await;
    for _ in 0..5 {
        api.get("x").send().await.unwrap();
    }
    assert_eq!(nonces(&odd), [Value::Null, "n1".into(), "n1".into(), "n1".into(), "n3".into()]);

    // A challenge with nothing to answer it with is handed on.
    for bad in ["", "a b", "a\"b", &"x".repeat(3_000)] {
        let bad = bad.to_owned();
        let odd = odd_api(move |_, _| challenge(&bad));
        let (server, api) = client_of(&odd).await;
        assert_eq!(api.get("x").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!((odd.log().len(), server.token_requests()), (1, 1));
    }
}

#[tokio::test]
async fn each_origin_has_its_own_nonce() {
    let (one, two) = (
        odd_api(|_, _| [("dpop-nonce", "one")].into_response()),
        odd_api(|_, _| [("dpop-nonce", "two")].into_response()),
    );
    let server = AuthServer::start().await.unwrap();
    server.set_token_nonce(Some("as"));
    let api = bound(&server).base_url(one.base_url()).trusted_origin(two.base_url()).build().unwrap();
    for url in [one.base_url(), two.base_url(), one.base_url(), two.base_url()] {
        api.get(url).send().await.unwrap();
    }
    assert_eq!(nonces(&one), [Value::Null, "one".into()]);
    assert_eq!(nonces(&two), [Value::Null, "two".into()]);
}

#[tokio::test]
async fn redirects_are_handed_on() {
    let odd = odd_api(|server, _| {
        (StatusCode::TEMPORARY_REDIRECT, [("location", format!("{}y", server.base_url()))]).into_response()
    });
    let (_server, api) = client_of(&odd).await;
    for api in [api.clone(), api.with("", ["x"]).unwrap()] {
        assert_eq!(api.get("x").send().await.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
    }
    // With connections of its own as well.
    let server = AuthServer::start().await.unwrap();
    let own = bound(&server).base_url(odd.base_url()).connect_timeout(std::time::Duration::from_secs(5));
    assert_eq!(own.build().unwrap().get("x").send().await.unwrap().status(), 307);
    assert_eq!(odd.log().len(), 3);
    // A Bearer client beside it follows.
    let bearer = client(&server).base_url(odd.base_url()).build().unwrap();
    bearer.get("x").send().await.unwrap_err();
    assert_eq!(odd.log().len(), 3 + 11);
}

/// What the box makes of proofs that are right in themselves, but not for this request or this token.
#[tokio::test]
async fn the_box_takes_a_proof_for_its_own_request_and_key_and_once() {
    let server = AuthServer::start().await.unwrap();
    let (api, stranger) = (bound(&server).build().unwrap(), bound(&server).build().unwrap());
    let http = reqwest::Client::new();
    let url = |path: &str| Url::parse(&format!("{}{path}", server.api_url())).unwrap();
    let headers =
        async |api: &Client| api.token_source().headers(&Method::GET, &url("x")).await.unwrap().clone();
    let send = async |method: Method, path: &str, headers: evertoken::http::HeaderMap| {
        let answer = http.request(method, url(path)).headers(headers).send().await.unwrap();
        let challenge =
            answer.headers().get("www-authenticate").map(|said| said.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge.unwrap_or_default())
    };
    let right = headers(&api).await;
    assert_eq!(send(Method::GET, "x?any=query", right.clone()).await.0, 200);

    let mut stolen = headers(&stranger).await;
    stolen.insert("authorization", right["authorization"].clone());
    let mut another_token = headers(&api).await;
    another_token.insert("authorization", headers(&stranger).await["authorization"].clone());
    let mut twice = headers(&api).await;
    twice.append("dpop", headers(&api).await["dpop"].clone());
    let mut none = headers(&api).await;
    none.remove("dpop");
    for (name, method, path, headers) in [
        ("replayed", Method::GET, "x", right.clone()),
        ("another method", Method::POST, "x", headers(&api).await),
        ("another path", Method::GET, "y", headers(&api).await),
        ("another key", Method::GET, "x", stolen),
        ("another token", Method::GET, "x", another_token),
        ("two of them", Method::GET, "x", twice),
        ("none", Method::GET, "x", none),
    ] {
        let (status, challenge) = send(method, path, headers).await;
        assert_eq!(status, 401, "{name}");
        assert!(challenge.contains("DPoP error=\"invalid_dpop_proof\""), "{name}: {challenge}");
    }

    // A thief has the token and proves that, but with a key of their own.
    let token = api.token().await.unwrap();
    server.answer_with(json!({ "access_token": token.as_str() }));
    let thief = bound(&server).build().unwrap();
    assert_eq!(thief.token().await.unwrap(), token);
    let (status, challenge) = send(Method::GET, "x", headers(&thief).await).await;
    assert!(status == 401 && challenge.contains("invalid_dpop_proof"), "{challenge}");
    server.heal();

    // Whoever finds a bound token may not use it as if it were not.
    let mut as_bearer = headers(&api).await;
    as_bearer.insert("authorization", format!("Bearer {}", token.as_str()).parse().unwrap());
    assert_eq!(send(Method::GET, "x", as_bearer).await.0, 401);
    let unbound = client(&server).build().unwrap().token().await.unwrap();
    server.set_dpop_required(true);
    let bearer = evertoken::http::HeaderMap::from_iter([(
        evertoken::http::header::AUTHORIZATION,
        unbound.authorization().clone(),
    )]);
    let (status, challenge) = send(Method::GET, "x", bearer).await;
    assert!(status == 401 && challenge.starts_with("DPoP"), "{challenge}");
    server.set_api_nonce(Some("n"));
    let (status, challenge) = send(Method::GET, "x", headers(&api).await).await;
    assert!(status == 401 && challenge.contains("use_dpop_nonce"), "{challenge}");
}
