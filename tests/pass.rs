//! Calls over an HTTP stack of one's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use evertoken::http::{Method, StatusCode};
use evertoken::testing::{AuthServer, Fault};
use evertoken::{Dpop, ErrorKind, TokenSource, reqwest};
use house::until;

/// One call over bare reqwest, and how often it was sent.
async fn call(source: &TokenSource, server: &AuthServer, repeatable: bool) -> (StatusCode, usize) {
    let stack = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = server.api_url().parse::<reqwest::Url>().unwrap().join("orders").unwrap();
    let mut pass = source.pass().await.unwrap();
    let mut sent = 0;
    loop {
        sent += 1;
        let headers = pass.headers(&Method::GET, &url).unwrap();
        let answer = stack.get(url.clone()).headers(headers).send().await.unwrap();
        if !pass.repeats(&url, answer.status(), answer.headers(), repeatable).await {
            return (answer.status(), sent);
        }
    }
}

fn source(server: &AuthServer) -> evertoken::Builder<TokenSource> {
    TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .base_url(server.api_url())
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_call_sent_once_more() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    assert_eq!(call(&source, &server, true).await, (StatusCode::OK, 1));
    server.revoke(source.token().await.unwrap().as_str());
    assert_eq!(call(&source, &server, true).await, (StatusCode::OK, 2));
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test]
async fn what_cannot_be_sent_twice_has_the_token_renewed_for_the_next() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let refused = source.token().await.unwrap();
    server.revoke(refused.as_str());
    assert_eq!(call(&source, &server, false).await, (StatusCode::UNAUTHORIZED, 1));
    until("there is another token", || source.current_token().is_some_and(|token| token != refused)).await;
    assert_eq!(call(&source, &server, false).await, (StatusCode::OK, 1));
}

#[tokio::test]
async fn other_answers_are_handed_on() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    server.fail_next_api(Fault::Status { status: 403, headers: Vec::new(), body: String::new() });
    assert_eq!(call(&source, &server, true).await, (StatusCode::FORBIDDEN, 1));
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test]
async fn a_token_goes_to_no_other_origin() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let pass = source.pass().await.unwrap();
    let error = pass.headers(&Method::GET, &"https://elsewhere.example/".parse().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedOrigin);
    assert!(!format!("{pass:?}").contains(source.token().await.unwrap().as_str()));
}

#[tokio::test]
async fn a_nonce_is_given_once_besides() {
    let server = AuthServer::start().await.unwrap();
    server.set_api_nonce(Some("nonce-1"));
    let source = source(&server).dpop(Dpop::new()).build().unwrap();
    assert_eq!(call(&source, &server, true).await, (StatusCode::OK, 2));
    assert_eq!(call(&source, &server, true).await, (StatusCode::OK, 1));
    assert_eq!(server.token_requests(), 1);
}
