//! Tokens are billed and counted: what is left is told, and little left is made to last.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::sync::Arc;
use std::time::Duration;

use evertoken::testing::{AuthServer, ManualClock};
use evertoken::{ErrorKind, Event, Events, State};
use house::{source, until};

const HOUR: Duration = Duration::from_secs(3600);

/// An hour less the leeway of 30 s, 1½ floors, a round trip or two, and a twentieth. Without need it is 3240 s at most.
const LATE: Duration = Duration::from_secs(3380);

fn lows(events: &mut Events) -> usize {
    std::iter::from_fn(|| events.try_next()).filter(|event| matches!(event, Event::QuotaLow { .. })).count()
}

#[tokio::test]
async fn what_is_left_is_told_and_enough_changes_nothing() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(100, HOUR);
    let source = source(&server).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    let status = source.status();
    let quota = status.quota.unwrap();
    assert_eq!((quota.limit, quota.remaining, quota.is_low()), (Some(100), 99, false));
    assert!(quota.resets_at.is_some());
    assert!(status.next_attempt.unwrap() <= HOUR.mul_f64(0.9));
    assert_eq!(lows(&mut events), 0);
}

#[tokio::test]
async fn without_a_word_of_it_there_is_no_quota() {
    let server = AuthServer::start().await.unwrap();
    let source = source(&server).build().unwrap();
    source.token().await.unwrap();
    assert!(source.status().quota.is_none());
}

#[tokio::test]
async fn little_left_is_made_to_last_and_told_once() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(1, 2 * HOUR);
    let clock = Arc::new(ManualClock::default());
    let source = source(&server).clock(clock.clone()).build().unwrap();
    let mut events = source.events();
    let first = source.token().await.unwrap();
    let status = source.status();
    assert!(status.quota.unwrap().is_low());
    let next = status.next_attempt.unwrap();
    assert!(next > LATE && next < HOUR, "{next:?}");
    assert_eq!(lows(&mut events), 1);

    // The next token has little left behind it as well: known by now.
    server.set_quota(1, 2 * HOUR);
    clock.advance(next);
    until("it was renewed", || source.current_token().is_some_and(|token| token != first)).await;
    assert!(source.status().next_attempt.unwrap() > LATE);
    assert_eq!(lows(&mut events), 0);

    // Enough, and then again little.
    server.set_quota(100, 2 * HOUR);
    clock.advance(source.status().next_attempt.unwrap());
    until("there is enough", || source.status().quota.is_some_and(|quota| !quota.is_low())).await;
    server.set_quota(1, 2 * HOUR);
    clock.advance(source.status().next_attempt.unwrap());
    until("there is little", || source.status().quota.is_some_and(|quota| quota.is_low())).await;
    assert_eq!(lows(&mut events), 1);
}

#[tokio::test]
async fn a_quota_that_is_there_again_in_time_is_no_matter() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(1, Duration::from_secs(60));
    let source = source(&server).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    let status = source.status();
    assert!(status.quota.unwrap().is_low() && status.next_attempt.unwrap() <= HOUR.mul_f64(0.9));
    assert_eq!(lows(&mut events), 0);
}

#[tokio::test]
async fn a_quota_used_up_costs_no_held_token() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(1, 2 * HOUR);
    let clock = Arc::new(ManualClock::default());
    let source = source(&server).clock(clock.clone()).build().unwrap();
    let held = source.token().await.unwrap();
    clock.advance(source.status().next_attempt.unwrap());
    until("it was refused", || source.status().state == State::Degraded).await;
    assert_eq!(source.token().await.unwrap(), held);
    assert_eq!(server.token_requests(), 2);
    let status = source.status();
    assert_eq!(status.last_error.unwrap().kind(), ErrorKind::Throttled);
    // The reset is hours away; more than 5 min no server is believed.
    let next = status.next_attempt.unwrap();
    assert!(next > Duration::from_secs(290) && next <= Duration::from_secs(330), "{next:?}");
}

#[tokio::test]
async fn who_has_no_token_learns_when_there_is_one() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(0, HOUR);
    let error = source(&server).build().unwrap().token().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Throttled, true));
    assert!(error.retry_after().unwrap() > Duration::from_secs(290));
}
