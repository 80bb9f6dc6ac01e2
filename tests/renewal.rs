//! The token is renewed ahead of its end, and nobody notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::time::Duration;

use evertoken::testing::AuthServer;
use evertoken::{ErrorKind, Event, RenewalPolicy, State};
use house::{at_once, box_of, source, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ten_lifetimes_no_read_ever_waits() {
    let server = box_of(Duration::from_secs(3)).await;
    server.set_latency(Duration::from_millis(200));
    let source = source(&server).build().unwrap();
    source.prefetch().await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reads = 0;
    while server.token_requests() < 11 {
        ticks.tick().await;
        let token = at_once(source.token()).expect("a read does not wait").unwrap();
        assert!(server.accepts(token.as_str()), "an expired token was served");
        reads += 1;
    }
    assert_eq!(server.max_in_flight(), 1);
    assert!(reads > 1_000, "{reads}");
}

#[tokio::test]
async fn nothing_is_asked_before_the_first_read() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    assert_eq!(source.status().state, State::Starting);
    assert_eq!(source.status().next_attempt, None);
    tokio::task::yield_now().await;
    assert_eq!((server.token_requests(), server.discovery_requests()), (0, 0));
    // A prefetch in passing is enough.
    source.prefetch();
    server.wait_for_token_requests(1).await;
    until("the token is there", || source.current_token().is_some()).await;
    assert!(source.status().is_ready());
}

#[tokio::test]
async fn a_read_without_waiting_starts_the_refresher_too() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    assert!(source.current_token().is_none());
    server.wait_for_token_requests(1).await;
}

#[tokio::test]
async fn expired_on_arrival_is_a_failure_and_no_hot_loop() {
    for expires_in in [json!(0), json!(-5), json!("0"), json!(0.001)] {
        let server = AuthServer::start().await.unwrap();
        server.answer_with(json!({ "expires_in": expires_in }));
        let source = source(&server).token_timeout(Duration::from_millis(2_500)).build().unwrap();
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{error}");
        assert!(error.is_retryable());
        assert!((1..=4).contains(&server.token_requests()), "{} requests", server.token_requests());
    }
}

#[tokio::test]
async fn a_server_that_gives_the_same_token_again_is_not_hammered() {
    let server = box_of(Duration::from_secs(4)).await;
    server.set_same_token(true);
    let source = source(&server).build().unwrap();
    let first = source.token().await.unwrap();
    let mut second = first.clone();
    while second == first {
        tokio::time::sleep(Duration::from_millis(5)).await;
        second = source.token().await.unwrap();
    }
    // Each answer has less life left than the one before: a few requests, never more than the floor allows.
    assert!((3..=8).contains(&server.token_requests()), "{} requests", server.token_requests());
}

#[tokio::test]
async fn a_missing_lifetime_is_taken_for_five_minutes() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "expires_in": null }));
    let source = source(&server).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    match events.next().await {
        Some(Event::Renewed { lifetime, .. }) => assert_eq!(lifetime, Duration::from_secs(300)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scopes_that_are_not_granted_are_reported() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "scope": "read" }));
    let source = source(&server).scope("read write").build().unwrap();
    let mut events = source.events();
    assert_eq!(source.token().await.unwrap().scope(), Some("read"));
    assert_eq!(source.status().scope.as_deref(), Some("read"));
    match events.next().await {
        Some(Event::Renewed { missing_scopes, .. }) => assert_eq!(missing_scopes, ["write"]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn refresh_in_brings_the_renewal_forward() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "refresh_in": 2 }));
    let source = source(&server).renewal(RenewalPolicy::default().jitter(0.0)).build().unwrap();
    source.token().await.unwrap();
    let next = source.status().next_attempt.unwrap();
    assert!(next <= Duration::from_secs(2), "{next:?}");
}

#[tokio::test]
async fn events_and_status_tell_the_story() {
    let server = box_of(Duration::from_secs(600)).await;
    let source = source(&server).build().unwrap();
    let mut events = source.events();
    source.prefetch().await.unwrap();
    let status = source.status();
    assert_eq!((status.state, status.consecutive_failures), (State::Fresh, 0));
    assert!(status.age.unwrap() < Duration::from_secs(30) && status.last_error.is_none());
    assert!(status.expires_in.unwrap() <= Duration::from_secs(570));
    assert!(status.next_attempt.unwrap() <= Duration::from_secs(540) && status.last_renewal.is_some());
    source.shutdown().await.unwrap();
    assert_eq!(source.status().state, State::Closed);
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(source.current_token().is_none());
    assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
    assert!(matches!(events.next().await, Some(Event::Closed)));
    assert!(events.next().await.is_none());
    assert!(source.events().next().await.is_none());
}

#[tokio::test]
async fn a_slow_listener_is_told_what_it_missed() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    let mut events = source.events();
    for turn in 0..100 {
        source.set_credentials(AuthServer::APP_ID, format!("secret {turn}")).unwrap();
    }
    assert!(matches!(events.try_next(), Some(Event::Missed(36))), "64 are kept");
    assert!(matches!(events.try_next(), Some(Event::CredentialsRotated)));
}
