//! Calls through the client: what is sent, where to, and what happens after a 401.

mod loopback;

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use evertoken::http::{Method, StatusCode};
use evertoken::reqwest::{Body, Request};
use evertoken::{Client, ErrorKind};
use loopback::{FOREVER, Server, now, stalling_api};

fn unauthorized(challenge: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| Some(text.to_string())).collect()
}

#[tokio::test]
async fn a_call_carries_the_token_and_what_was_asked() {
    let server = Server::guarded();
    let api = server.client();
    assert_eq!(server.issued(), 0, "nothing is asked before the first call");
    let response = api
        .post("/orders?a=1")
        .query(&[("page", "2")])
        .header("x-one", "1")
        .json(&serde_json::json!({ "n": 7 }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "{\"n\":7}");
    api.put("o").form(&[("a", "b c")]).send().await.unwrap();
    for request in [api.get("x"), api.patch("x"), api.delete("x"), api.head("x")] {
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    let log = server.log();
    assert_eq!(log[0].uri, "/v1/orders?a=1&page=2");
    assert_eq!(
        (&log[0].headers["x-one"], &log[0].headers["content-type"]),
        (&"1".parse().unwrap(), &"application/json".parse().unwrap())
    );
    assert_eq!(log[1].body, "a=b+c");
    let methods: Vec<_> = log.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PUT", "GET", "PATCH", "DELETE", "HEAD"]);
    assert!(log.iter().all(|seen| seen.authorization() == Some("Bearer t1")));
    assert_eq!(server.issued(), 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_call_repeated_once() {
    let server = Server::guarded();
    let api = server.client();
    api.get("x").send().await.unwrap();
    server.revoke();
    let response = api.get("x?y").header("x-one", "1").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let log = server.log();
    assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t1", "Bearer t2"]));
    assert_eq!(log[2].uri, "/v1/x?y");
    assert_eq!(log[2].headers["x-one"], "1");
}

#[tokio::test]
async fn a_body_is_sent_again() {
    let server = Server::guarded();
    let api = server.client();
    api.get("x").send().await.unwrap();
    server.revoke();
    let response = api.post("x").body("the body").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "the body");
    assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t1", "Bearer t2"]));
}

#[tokio::test]
async fn a_stream_is_not_sent_again_but_the_next_call_has_a_new_token() {
    let server = Server::guarded();
    let api = server.client();
    api.get("x").send().await.unwrap();
    server.revoke();
    let response = api.post("x").body(Body::wrap(Body::from("the body"))).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(server.log().len(), 2);
    assert_eq!(api.get("x").send().await.unwrap().status(), 200);
    assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t1", "Bearer t2"]));
}

#[tokio::test]
async fn a_second_401_is_handed_on() {
    let server = Server::start(|_, _| now(unauthorized("Bearer error=\"invalid_token\"")));
    let api = server.client();
    let response = api.get("x").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t2"]));
}

#[tokio::test]
async fn other_refusals_are_handed_on_and_the_token_stays() {
    for answer in [
        || unauthorized("Bearer error=\"insufficient_scope\""),
        || unauthorized("DPoP error=\"use_dpop_nonce\""),
        || unauthorized("Basic, Bearer error=\"insufficient_user_authentication\""),
        || {
            (StatusCode::FORBIDDEN, [("www-authenticate", "Bearer error=\"insufficient_scope\"")])
                .into_response()
        },
        || {
            (StatusCode::BAD_REQUEST, [("www-authenticate", "Bearer error=\"invalid_request\"")])
                .into_response()
        },
        || (StatusCode::FORBIDDEN, "Bearer error=\"invalid_token\"").into_response(),
    ] {
        let server = Server::start(move |_, _| now(answer()));
        let api = server.client();
        for _ in 0..2 {
            assert!(api.get("x").send().await.unwrap().status().is_client_error());
        }
        assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t1"]));
        assert_eq!(server.issued(), 1);
    }
}

/// The answers with which APIs refuse a token in other words than a 401 for its scheme.
#[tokio::test]
async fn an_expired_token_in_other_words_is_renewed_and_the_call_sent_once_more() {
    for refusal in [
        || unauthorized("Basic realm=\"x\""),
        || unauthorized("Negotiate"),
        || (StatusCode::FORBIDDEN, [("www-authenticate", "Bearer error=\"invalid_token\"")]).into_response(),
        || {
            (StatusCode::BAD_REQUEST, [("www-authenticate", "Bearer error=\"invalid_token\"")])
                .into_response()
        },
    ] {
        let server = Server::start(move |_, seen| {
            now(if seen.authorization() == Some("Bearer t1") { refusal() } else { ().into_response() })
        });
        let api = server.client();
        assert_eq!(api.post("x").body("the body").send().await.unwrap().status(), 200);
        assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t2"]));
        assert_eq!(server.log()[1].body, "the body");
    }
}

#[tokio::test]
async fn one_renewal_per_cooldown_whatever_the_words() {
    for refusal in [
        || unauthorized("Basic realm=\"x\""),
        || (StatusCode::FORBIDDEN, [("www-authenticate", "Bearer error=\"invalid_token\"")]).into_response(),
    ] {
        let server = Server::start(move |_, _| now(refusal()));
        let api = server.client();
        for _ in 0..5 {
            assert!(api.get("x").send().await.unwrap().status().is_client_error());
        }
        assert_eq!(server.issued(), 2);
    }
}

#[tokio::test]
async fn a_refusal_of_the_apis_own_words_is_named_by_a_hook() {
    let server = Server::start(move |_, seen| {
        now(match seen.authorization() {
            Some("Bearer t1") => (StatusCode::OK, [("x-error-code", "TOKEN_EXPIRED")]).into_response(),
            _ => ().into_response(),
        })
    });
    let hook = |status: StatusCode, headers: &evertoken::http::HeaderMap| {
        status == 200 && headers.get("x-error-code").is_some_and(|code| code == "TOKEN_EXPIRED")
    };
    assert!(server.client().get("x").send().await.unwrap().headers().contains_key("x-error-code"));
    let server = Server::start(move |_, seen| {
        now(match seen.authorization() {
            Some("Bearer t1") => (StatusCode::OK, [("x-error-code", "TOKEN_EXPIRED")]).into_response(),
            _ => ().into_response(),
        })
    });
    let api = server.builder().refused_when(hook).build().unwrap();
    for _ in 0..2 {
        let answer = api.get("x").send().await.unwrap();
        assert!(!answer.headers().contains_key("x-error-code"));
    }
    assert_eq!(server.authorizations(), some(&["Bearer t1", "Bearer t2", "Bearer t2"]));
}

#[tokio::test]
async fn an_authorization_of_the_callers_own_stands() {
    let server = Server::guarded();
    let api = server.client();
    let response = api.get("x").header("authorization", "Basic abc").send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(server.authorizations(), some(&["Basic abc"]));
    assert_eq!(server.issued(), 0);
    let elsewhere = Server::guarded();
    let error = api.get(elsewhere.base_url()).header("authorization", "Basic abc").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedOrigin);
}

#[tokio::test]
async fn foreign_origins_are_an_error_before_anything_is_sent() {
    let (server, other) = (Server::guarded(), Server::start(|_, _| now(())));
    let api = server.client();
    let url: evertoken::reqwest::Url = other.base_url().parse().unwrap();
    let errors = [
        api.get(other.base_url()).send().await.unwrap_err(),
        api.execute(Request::new(Method::GET, url.clone())).await.unwrap_err(),
        api.headers(&Method::GET, &url).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::UntrustedOrigin);
        assert!(error.server().unwrap().starts_with(&other.url), "{error}");
    }
    assert_eq!((server.issued(), other.log().len()), (0, 0));

    let own = format!("{}/v2/x", server.url);
    assert_eq!(api.get(&own).send().await.unwrap().status(), 200);
    assert_eq!(api.headers(&Method::GET, &own.parse().unwrap()).await.unwrap()["authorization"], "Bearer t1");
    let both = server.builder().trusted_origin(other.base_url()).build().unwrap();
    both.get(other.base_url()).send().await.unwrap();
    assert_eq!(other.log().len(), 1);
}

#[tokio::test]
async fn headers_for_a_websocket_go_to_the_origins_of_http() {
    let server = Server::guarded();
    let at = |scheme: &str| server.base_url().replace("http", scheme).parse().unwrap();
    let api = server.client();
    assert_eq!(api.headers(&Method::GET, &at("ws")).await.unwrap()["authorization"], "Bearer t1");
    for trusted in ["wss://stream.acme.com/", "https://stream.acme.com"] {
        let api = server.builder().trusted_origin(trusted).build().unwrap();
        let url = "wss://stream.acme.com/v1/events?x".parse().unwrap();
        assert_eq!(api.headers(&Method::GET, &url).await.unwrap().len(), 1);
    }
    for refused in [at("wss"), "wss://stream.acme.com/".parse().unwrap()] {
        let error = api.headers(&Method::GET, &refused).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UntrustedOrigin, "{error}");
    }
    let error = server.builder().trusted_origin("ws://stream.acme.com/").build().unwrap_err();
    assert!(error.to_string().contains("`trusted_origin` is plain http and not loopback"), "{error}");
    let server = evertoken::TokenSource::builder("id", "secret").token_url("wss://as.acme.com/");
    assert!(server.build().is_err());
}

#[tokio::test]
async fn a_request_that_cannot_be_built_is_not_sent() {
    let server = Server::guarded();
    let api = server.client();
    for request in [
        api.get("../x"),
        api.get("//other.example/x"),
        api.get("x").header("a b", "c"),
        api.get("x").header("a", "b\nc"),
        api.get("x").json(&std::collections::HashMap::from([((), 1)])),
    ] {
        assert_eq!(request.send().await.unwrap_err().kind(), ErrorKind::Configuration);
    }
    assert_eq!((server.issued(), server.log().len()), (0, 0));

    let built = api.get("x").query(&[("a", "b")]).build().unwrap();
    assert!(built.url().as_str().ends_with("/v1/x?a=b") && built.headers().is_empty());
    assert_eq!(api.execute(built).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_timeout_covers_the_wait_for_the_token() {
    let server = Server::with_token_delay(FOREVER, |server, seen| now(server.guard(seen)));
    let api = server.builder().timeout(Duration::from_millis(50)).build().unwrap();
    assert_eq!(api.get("x").send().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(server.log().len(), 0);
}

/// Tries with longer and longer limits, until the machine is quick enough to come as far as the test wants within one.
async fn at_the_limit(came_so_far: impl AsyncFn(Duration) -> bool) {
    let mut has_come = false;
    for millis in [300, 1_500, 6_000, 24_000] {
        has_come = has_come || came_so_far(Duration::from_millis(millis)).await;
    }
    assert!(has_come, "it does not come so far within any limit");
}

#[tokio::test]
async fn a_timeout_covers_the_wait_and_the_answer_together() {
    at_the_limit(async |limit| {
        let each = limit * 2 / 3;
        let server = Server::with_token_delay(each, move |_, _| (each, "late".into_response()));
        match server.client().get("x").timeout(limit).send().await {
            // The token came in time, and the answer did not.
            Err(error) => error.kind() == ErrorKind::Api && server.log().len() == 1,
            Ok(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_timeout_covers_the_replay() {
    at_the_limit(async |limit| {
        let server = Server::start(|server, seen| match seen.authorization() {
            Some("Bearer t1") => now(server.guard(seen)),
            _ => (FOREVER, ().into_response()),
        });
        let api = server.client();
        api.get("x").send().await.unwrap();
        server.revoke();
        // The second token comes no sooner than the floor under the interval of token requests lets it, 1 s.
        let Err(error) = api.get("x").timeout(limit).send().await else { return false };
        assert!(error.is_retryable());
        error.kind() == ErrorKind::Api
            && server.authorizations() == some(&["Bearer t1", "Bearer t1", "Bearer t2"])
    })
    .await;
}

#[tokio::test]
async fn a_timeout_covers_the_body() {
    at_the_limit(async |limit| {
        let server = Server::guarded();
        let builder = Client::builder("id", "secret").token_url(server.token_url());
        let api = builder.base_url(stalling_api()).timeout(limit).build().unwrap();
        match api.get("x").send().await {
            Ok(response) => {
                let error = response.bytes().await.unwrap_err();
                assert!(error.is_timeout() && error.is_retryable(), "{error}");
                true
            }
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn the_user_agent_is_ours_or_the_callers() {
    let server = Server::guarded();
    server.client().get("x").send().await.unwrap();
    server.client().get("x").header("user-agent", "own").send().await.unwrap();
    let agents: Vec<_> = server.log().iter().map(|seen| seen.headers["user-agent"].clone()).collect();
    assert_eq!(agents, [concat!("evertoken/", env!("CARGO_PKG_VERSION")), "own"]);
}

#[test]
fn debug_shows_no_secret() {
    let api = Client::builder("id", "s3cr3t")
        .token_url("https://as.example/token")
        .base_url("https://api.acme.com/v1")
        .build()
        .unwrap();
    let shown = format!("{api:?} {:?}", api.get("x?key=s3cr3t"));
    assert!(shown.contains("https://api.acme.com/v1/") && !shown.contains("s3cr3t"), "{shown}");
}
