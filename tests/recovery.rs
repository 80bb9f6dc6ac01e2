//! A 401 of the API: one renewal, one replay, and no storm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::sync::Arc;
use std::time::Duration;

use evertoken::http::StatusCode;
use evertoken::testing::{AuthServer, Fault, ManualClock};
use evertoken::{Client, Event};
use house::{at_once, client, source};

async fn all_at_once(api: &Client, path: &'static str, callers: usize) -> Vec<StatusCode> {
    let calls: Vec<_> = (0..callers)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.get(path).send().await.unwrap().status() })
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_tasks_meet_a_revoked_token_and_one_renewal_serves_them_all() {
    let server = AuthServer::start().await.unwrap();
    let api = client(&server).build().unwrap();
    let old = api.token().await.unwrap();
    server.revoke(old.as_str());
    let statuses = all_at_once(&api, "orders", 200).await;
    assert!(statuses.iter().all(|status| status.is_success()), "{statuses:?}");
    assert_eq!((server.token_requests(), server.max_in_flight()), (2, 1));
    assert!(server.api_refused() <= 200 && server.api_calls() <= 400);

    // A straggler who still holds the old one causes none.
    api.invalidate(&old);
    assert!(at_once(api.token()).unwrap().unwrap() != old);
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test]
async fn a_straggler_with_a_token_of_before_renews_nothing() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let api = client(&server).clock(clock.clone()).build().unwrap();
    let old = api.token().await.unwrap();
    clock.advance(api.status().next_attempt.unwrap());
    house::until("it was renewed", || api.current_token().is_some_and(|token| token != old)).await;
    api.invalidate(&old);
    assert!(at_once(api.token()).unwrap().unwrap() != old);
    assert_eq!((server.token_requests(), api.status().state), (2, evertoken::State::Fresh));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_always_refuses_costs_one_renewal_a_cooldown_and_stops_no_other() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let api = client(&server).clock(clock.clone()).build().unwrap();
    api.prefetch().await.unwrap();
    // Past the floor of 1 s between two requests. It stands still from here on.
    clock.advance(Duration::from_secs(2));
    for _ in 0..5 {
        let refused = all_at_once(&api, "always-401", 40);
        let served = all_at_once(&api, "orders", 40);
        let (refused, served) = tokio::join!(refused, served);
        assert!(refused.iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{refused:?}");
        assert!(served.iter().all(|status| status.is_success()), "{served:?}");
    }
    // All of it lies within the first cooldown: the first token and one renewal.
    assert_eq!((server.token_requests(), server.max_in_flight()), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_renewal_fails_the_token_serves_on_and_the_401_is_handed_on() {
    for fault in [
        Fault::Status { status: 500, headers: Vec::new(), body: String::new() },
        Fault::Oauth { status: 401, error: "invalid_client".into(), description: String::new() },
        Fault::Reset,
    ] {
        let server = AuthServer::start().await.unwrap();
        let api = client(&server).build().unwrap();
        let held = api.token().await.unwrap();
        server.fail_always(fault.clone());
        let (refused, served) =
            tokio::join!(all_at_once(&api, "always-401", 10), all_at_once(&api, "orders", 10));
        assert!(refused.iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{fault:?}");
        assert!(served.iter().all(|status| status.is_success()), "{fault:?}: {served:?}");
        assert_eq!(at_once(api.token()).unwrap().unwrap(), held, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_hangs_takes_no_valid_token_from_anybody() {
    let server = AuthServer::start().await.unwrap();
    let api = client(&server).token_timeout(Duration::from_secs(2)).build().unwrap();
    let held = api.token().await.unwrap();
    server.fail_always(Fault::Hang);
    api.invalidate(&held);
    assert!(api.current_token().is_none(), "withheld while its renewal runs");
    assert_eq!(api.token().await.unwrap(), held, "better than an error at the deadline");
    assert!(api.get("orders").send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn what_is_not_a_refusal_of_the_token_renews_nothing() {
    let server = AuthServer::start().await.unwrap();
    let api = client(&server).build().unwrap();
    assert_eq!(api.get("forbidden").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    for challenge in [
        "DPoP error=\"use_dpop_nonce\"",
        "Bearer error=\"insufficient_scope\"",
        "DPoP error=\"invalid_dpop_proof\"",
    ] {
        server.fail_next_api(Fault::Status {
            status: 401,
            headers: vec![("WWW-Authenticate".into(), challenge.into())],
            body: String::new(),
        });
        assert_eq!(api.get("orders").send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{challenge}");
    }
    assert_eq!(server.token_requests(), 1);
}

#[tokio::test]
async fn a_changed_secret_serves_on_and_a_changed_app_id_does_not() {
    let server = AuthServer::start().await.unwrap();
    server.register("other", "one");
    let source = source(&server).build().unwrap();
    let held = source.token().await.unwrap();
    server.rotate(AuthServer::APP_ID, "new");
    source.set_credentials(AuthServer::APP_ID, "new").unwrap();
    assert_eq!(source.current_token().unwrap(), held);
    assert_eq!(server.token_requests(), 1);
    source.set_credentials("other", "one").unwrap();
    assert!(source.current_token().is_none(), "it belongs to somebody else");
    assert!(source.token().await.unwrap() != held);
    assert_eq!(server.token_requests(), 2);
    assert!(source.set_credentials("", "x").is_err());
    assert_eq!(server.log().iter().filter_map(|entry| entry.client_id.as_deref()).next_back(), Some("other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pending_answer_for_another_app_id_is_discarded() {
    let server = AuthServer::start().await.unwrap();
    server.register("other", "one");
    server.fail_next(Fault::Hang);
    let source = source(&server).build().unwrap();
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    server.wait_for_token_requests(1).await;
    source.set_credentials("other", "one").unwrap();
    let token = waiting.await.unwrap().unwrap();
    assert!(server.accepts(token.as_str()) || server.issued_tokens() == [token.as_str()]);
    assert_eq!(server.token_requests(), 2);
}

/// The whole of a rejection: the held token serves, probing is slow, the right secret mends it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_credential_costs_nothing_while_held_and_mends_at_once() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let source = source(&server).clock(clock.clone()).build().unwrap();
    let mut events = source.events();
    let held = source.token().await.unwrap();
    server.rotate(AuthServer::APP_ID, "new");
    clock.advance(source.status().next_attempt.unwrap());
    loop {
        match events.next().await.unwrap() {
            Event::CredentialsRejected { error, .. } => {
                assert_eq!(error.oauth_error(), Some("invalid_client"));
                break;
            }
            Event::RenewalFailed { .. } => panic!("the rejection is told first"),
            _ => {}
        }
    }
    assert_eq!(at_once(source.token()).unwrap().unwrap(), held);
    let status = source.status();
    assert_eq!(status.state, evertoken::State::Rejected);
    assert!(status.next_attempt.is_some(), "{status:?}");
    source.set_credentials(AuthServer::APP_ID, "new").unwrap();
    // The floor of 1 s between two requests.
    clock.advance(Duration::from_secs(1));
    server.wait_for_token_requests(3).await;
    house::until("the new token is there", || source.current_token().is_some_and(|token| token != held))
        .await;
    assert_eq!(server.token_requests(), 3);
    assert_eq!(source.status().state, evertoken::State::Fresh);
}
