//! The token is renewed ahead of its end, and nobody notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evertoken::testing::{AuthServer, ManualClock};
use evertoken::{ErrorKind, Event, RenewalPolicy, State};
use house::{at_once, box_of, source, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ten_lifetimes_no_read_ever_waits() {
    const ROUND_TRIP: Duration = Duration::from_millis(200);
    let server = box_of(Duration::from_secs(3600)).await;
    // Each answer takes some time, so that reads fall into every renewal.
    server.set_latency(ROUND_TRIP);
    let clock = Arc::new(ManualClock::default());
    let source = source(&server).clock(clock.clone()).build().unwrap();
    source.prefetch().await.unwrap();
    let read = || at_once(source.token()).expect("a read does not wait").unwrap();
    for renewals in 1..=10 {
        let held = read();
        clock.advance(source.status().next_attempt.unwrap());
        server.wait_for_token_requests(renewals + 1).await;
        clock.advance(ROUND_TRIP);
        until("it is renewed", || {
            let token = read();
            assert!(server.accepts(token.as_str()));
            token != held
        })
        .await;
        until("the next is planned", || source.status().state == State::Fresh).await;
    }
    assert_eq!((server.token_requests(), server.max_in_flight()), (11, 1));
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
        let clock = Arc::new(ManualClock::default());
        let source = source(&server).clock(clock.clone()).build().unwrap();
        let waiting = tokio::spawn({
            let source = source.clone();
            async move { source.token().await }
        });
        for failures in 1..=3 {
            until("it failed", || source.status().consecutive_failures == failures).await;
            let error = source.status().last_error.unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{error}");
            assert!(error.is_retryable());
            // One request for each step of the clock, which stands still until then.
            assert_eq!(server.token_requests(), u64::from(failures));
            let pause = source.status().next_attempt.unwrap();
            assert!(pause > Duration::ZERO);
            clock.advance(pause);
        }
        clock.advance(Duration::from_secs(10));
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
}

#[tokio::test]
async fn a_server_that_gives_the_same_token_again_is_not_hammered() {
    let server = box_of(Duration::from_secs(4)).await;
    server.set_same_token(true);
    let began = Instant::now();
    let source = source(&server).build().unwrap();
    let first = source.token().await.unwrap();
    let mut second = first.clone();
    while second == first {
        tokio::time::sleep(Duration::from_millis(5)).await;
        second = source.token().await.unwrap();
    }
    // Each answer has less life left than the one before: a few requests, never more than the floor of 0.4 s allows
    // in the time that it really took.
    let (requests, took) = (server.token_requests(), began.elapsed());
    assert!(requests >= 2 && requests as f64 <= took.as_secs_f64() / 0.4 + 1.0, "{requests} in {took:?}");
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
