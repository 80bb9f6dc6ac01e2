//! Whatever the number of callers: one request, and everybody has its token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::time::{Duration, Instant};

use evertoken::testing::{AuthServer, Fault};
use evertoken::{AccessToken, TokenSource};
use house::{at_once, source};

const CALLERS: usize = 1_000;

/// What a thousand callers get who come at the same moment, and how long the last of them waited.
async fn thousand(source: &TokenSource) -> (Vec<evertoken::Result<AccessToken>>, Duration) {
    let begun = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    let mut answers = Vec::with_capacity(CALLERS);
    for caller in callers {
        answers.push(caller.await.unwrap());
    }
    (answers, begun.elapsed())
}

fn one_token(answers: &[evertoken::Result<AccessToken>]) -> &AccessToken {
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap() == first));
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cold_callers_make_one_request() {
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_millis(500));
    let source = source(&server).build().unwrap();
    let (answers, took) = thousand(&source).await;
    one_token(&answers);
    assert_eq!((server.token_requests(), server.max_in_flight()), (1, 1));
    eprintln!("the last of {CALLERS} cold callers waited {took:?} with an endpoint of 500 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_go_away_cancel_nothing() {
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_millis(200));
    let source = source(&server).build().unwrap();
    let gone: Vec<_> = (0..100)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    server.wait_for_token_requests(1).await;
    for caller in gone {
        caller.abort();
    }
    source.token().await.unwrap();
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_request_all_share_the_next_attempt() {
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_millis(100));
    server.fail_next(Fault::Status { status: 500, headers: Vec::new(), body: "<h1>oops</h1>".into() });
    let source = source(&server).build().unwrap();
    let (answers, _) = thousand(&source).await;
    one_token(&answers);
    assert_eq!((server.token_requests(), server.max_in_flight()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_invalidate_all_share_the_renewal() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let old = source.token().await.unwrap();
    server.set_latency(Duration::from_millis(200));
    for _ in 0..CALLERS {
        source.invalidate(&old);
    }
    let (answers, _) = thousand(&source).await;
    assert!(*one_token(&answers) != old);
    assert_eq!((server.token_requests(), server.max_in_flight()), (2, 1));
    source.invalidate(&old);
    assert!(source.current_token().is_some(), "a straggler with the old token changes nothing");
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_audience_s_slow_server_blocks_no_other() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let held = source.token().await.unwrap();
    server.fail_always(Fault::Hang);
    let other = source.with("https://other.example", ["a"]).unwrap();
    let waiting = tokio::spawn(async move { other.token().await });
    server.wait_for_token_requests(2).await;
    assert_eq!(at_once(source.token()).unwrap().unwrap(), held);
    assert_eq!(server.token_requests(), 2);
    waiting.abort();
}

#[tokio::test]
async fn a_family_keeps_tokens_apart_and_gives_each_once() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let mut tokens = vec![source.token().await.unwrap()];
    for (audience, scope) in [("a", "x"), ("a", "y"), ("b", "x"), ("", "x")] {
        let scopes = [scope];
        tokens.push(source.with(audience, scopes).unwrap().token().await.unwrap());
        let again = source.with(audience, scopes).unwrap().token().await.unwrap();
        assert_eq!(tokens.last(), Some(&again));
    }
    assert_eq!(server.token_requests(), 5);
    for (index, token) in tokens.iter().enumerate() {
        assert!(!tokens[index + 1..].contains(token));
    }
    assert!(source.with("a", ["not \"a scope"]).is_err());
}
