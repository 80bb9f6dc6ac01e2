//! The diagnosis says what is wrong, and neither secret nor token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use evertoken::testing::{AuthServer, ManualClock};
use evertoken::{AppCredentials, Builder, ClientAuth, TokenSource};
use serde_json::json;

const SECRET: &str = "0pen-s3s4me";

async fn server() -> AuthServer {
    AuthServer::builder().client("app", SECRET).start().await.unwrap()
}

fn builder(server: &AuthServer) -> Builder<TokenSource> {
    TokenSource::builder("app", SECRET)
        .issuer(server.issuer())
        .audience(server.audience())
        .scope("a b")
        .token_timeout(Duration::from_secs(2))
}

/// The lines, after a look at what must not be in them.
async fn checked(server: &AuthServer, builder: Builder<TokenSource>, ok: bool) -> String {
    let diagnosis = builder.check().await;
    let lines = diagnosis.to_string();
    assert_eq!(diagnosis.is_ok(), ok, "{lines}");
    assert_eq!(lines.contains("FAIL"), !ok, "{lines}");
    for text in [&lines, &format!("{diagnosis:?}")] {
        assert!(!text.contains(SECRET), "{text}");
        for token in server.issued_tokens() {
            assert!(!text.contains(&token) && !text.contains(token.rsplit('.').next().unwrap()), "{text}");
        }
    }
    lines
}

fn has(lines: &str, expected: &[&str]) {
    for line in expected {
        assert!(lines.contains(line), "{line:?} is missing in\n{lines}");
    }
}

#[tokio::test]
async fn a_good_client_has_no_warning() {
    let server = server().await;
    let lines = checked(&server, builder(&server), true).await;
    assert!(!lines.contains("warn"), "{lines}");
    has(
        &lines,
        &[
            "ok    settings",
            &format!("ok    metadata: GET {}/.well-known/", server.issuer()),
            &format!("ok    token request by client_secret_basic: POST {} answered 200", server.token_url()),
            "ok    lifetime: 3600 s; this one is renewed in ",
            "ok    scope: a b",
            "ok    audience: \"https://api.example\"",
            "ok    clock: by the answer's Date, the server's is ",
            "ok    clock: by the token's iat, ",
            "A token is to be had.",
        ],
    );
    assert_eq!(server.token_requests(), 1);
    let post = builder(&server).client_auth(ClientAuth::ClientSecretPost);
    has(&checked(&server, post, true).await, &["token request by client_secret_post"]);
}

#[tokio::test]
async fn each_failure_is_named() {
    let server = server().await;
    let wrong = TokenSource::builder("app", "wr0ng").issuer(server.issuer());
    has(
        &checked(&server, wrong, false).await,
        &["answered 401", "FAIL  token: ", "invalid_client", "No token is to be had."],
    );

    let mistaken = TokenSource::builder("", SECRET).issuer(server.issuer());
    has(&checked(&server, mistaken, false).await, &["FAIL  settings: "]);

    let elsewhere = builder(&server).issuer(format!("{}/other", server.issuer()));
    has(
        &checked(&server, elsewhere, false).await,
        &["warn  metadata: GET ", "answered 404", "FAIL  token: "],
    );

    server.set_announced_issuer("https://another.example");
    has(&checked(&server, builder(&server), false).await, &["FAIL  token: ", "https://another.example"]);

    server.outage();
    has(
        &checked(&server, builder(&server).token_timeout(Duration::from_millis(300)), false).await,
        &["could not connect; check the address", "FAIL  token: "],
    );
}

#[tokio::test]
async fn what_is_odd_is_a_warning() {
    let server = server().await;
    server.answer_with(json!({ "scope": "a" }));
    has(&checked(&server, builder(&server), true).await, &["warn  scope: a: not granted: b"]);
    server.heal();

    server.answer_with(json!({ "access_token": "opaque" }));
    has(&checked(&server, builder(&server), true).await, &["ok    audience: not to be seen"]);
    server.heal();

    let clock = Arc::new(ManualClock::new(SystemTime::now() - Duration::from_secs(7200)));
    has(
        &checked(&server, builder(&server).clock(clock), true).await,
        &["warn  clock: by the answer's Date, the server's is +7", "warn  clock: by the token's iat"],
    );

    server.set_lifetime(Duration::from_secs(30));
    has(&checked(&server, builder(&server), true).await, &["warn  lifetime: 30 s"]);
    server.set_lifetime(Duration::from_secs(3600));

    server.set_quota(1, Duration::from_secs(3600));
    has(&checked(&server, builder(&server), true).await, &["warn  quota: 0 of 1 tokens left"]);
}

#[tokio::test]
async fn a_refused_secret_whose_successor_works_is_a_warning() {
    let server = server().await;
    let given = AppCredentials::new("app", "outdated").next_secret(SECRET);
    let lines = checked(&server, TokenSource::builder_with(given).issuer(server.issuer()), true).await;
    has(&lines, &["warn  credential: the server refused it, and took what came next", "answered 401"]);
}
