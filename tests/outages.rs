//! The authorization server fails in every way it can; what is held serves to its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evertoken::testing::{AuthServer, Fault, ManualClock};
use evertoken::{ErrorKind, Event, State};
use house::{at_once, box_of, client, source, until};

const LIFETIME: Duration = Duration::from_secs(4);
/// Ends a wait for what will never come; nothing here is measured against it.
const PATIENCE: Duration = Duration::from_secs(60);

fn status(status: u16, content_type: &str, body: &str) -> Fault {
    let headers = vec![("Content-Type".into(), content_type.into())];
    Fault::Status { status, headers, body: body.into() }
}

fn oauth(status: u16, error: &str) -> Fault {
    Fault::Oauth { status, error: error.into(), description: "so it is".into() }
}

/// Every kind of outage, and what a caller without a token is told of it.
fn outages() -> Vec<(&'static str, Option<Fault>, ErrorKind)> {
    use ErrorKind::*;
    vec![
        ("refused", None, AuthServerUnavailable),
        ("hang", Some(Fault::Hang), AuthServerUnavailable),
        ("reset", Some(Fault::Reset), AuthServerUnavailable),
        ("closed", Some(Fault::Close), AuthServerUnavailable),
        ("torn body", Some(Fault::TornBody), AuthServerUnavailable),
        ("garbage JSON", Some(Fault::Garbage), InvalidResponse),
        ("endless body", Some(Fault::EndlessBody), InvalidResponse),
        ("500 HTML", Some(status(500, "text/html", "<h1>oops</h1>")), AuthServerUnavailable),
        ("503 with an OAuth code", Some(oauth(503, "invalid_client")), AuthServerUnavailable),
        ("502 empty", Some(status(502, "text/plain", "")), AuthServerUnavailable),
        ("429", Some(status(429, "text/plain", "slow down")), Throttled),
        ("429 with Retry-After", Some(Fault::RetryAfterSeconds(429, 1)), Throttled),
        ("503 with a date", Some(Fault::RetryAfterDate(503, Duration::from_secs(1))), AuthServerUnavailable),
        ("wrong secret", Some(oauth(401, "invalid_client")), CredentialsRejected),
        ("bare 401", Some(status(401, "text/plain", "")), RequestRefused),
        ("bare 403", Some(status(403, "text/html", "<h1>firewall</h1>")), RequestRefused),
        ("unknown code", Some(oauth(400, "scope_invalid")), RequestRefused),
        ("200 with an OAuth error", Some(oauth(200, "temporarily_unavailable")), AuthServerUnavailable),
        ("200 HTML", Some(status(200, "text/html", "<h1>log in</h1>")), InvalidResponse),
        ("redirect", Some(status(302, "text/html", "")), InvalidResponse),
        (
            "a token that is none",
            Some(status(200, "application/json", r#"{"access_token":"a\r\nb","token_type":"Bearer"}"#)),
            InvalidResponse,
        ),
        (
            "another token type",
            Some(status(200, "application/json", r#"{"access_token":"abc","token_type":"mac"}"#)),
            InvalidResponse,
        ),
    ]
}

fn begin(server: &AuthServer, fault: Option<Fault>) {
    match fault {
        Some(fault) => server.fail_always(fault),
        None => server.outage(),
    }
}

/// All at the same time, each with a box of its own: from before renew-at to shortly before the token's end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_token_is_held_no_call_fails_and_none_waits() {
    let mut runs = Vec::new();
    for (name, fault, _) in outages() {
        runs.push(tokio::spawn(async move {
            let server = box_of(LIFETIME).await;
            let source = source(&server).build().unwrap();
            let mut events = source.events();
            let held = source.token().await.unwrap();
            let end = Instant::now() + source.status().expires_in.unwrap() - Duration::from_millis(150);
            begin(&server, fault);
            let mut requests = 0;
            loop {
                let (seen, token, accepted) =
                    (server.token_requests(), at_once(source.token()), server.accepts(held.as_str()));
                // Looked at afterwards: a machine that stood still for so long has reached the token's end.
                if Instant::now() >= end {
                    break;
                }
                requests = seen;
                let token = token.unwrap_or_else(|| panic!("{name}: a read waits"));
                assert_eq!(token.unwrap_or_else(|error| panic!("{name}: {error}")), held);
                assert!(accepted, "{name}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // The floor for tokens of 4 s is 0.4 s; they are renewed at 2.39 s and served for 2.99 s.
            assert!(requests <= 4, "{name}: {requests} requests");
            assert_eq!(server.max_in_flight(), 1, "{name}");
            let failed =
                async { while !matches!(events.next().await.unwrap(), Event::RenewalFailed { .. }) {} };
            let failed = tokio::time::timeout(PATIENCE, failed).await;
            assert!(failed.is_ok() || name == "hang", "{name}: nothing failed");
        }));
    }
    for run in runs {
        run.await.unwrap();
    }
}

/// With no token held, a caller is told what kind of failure it is, within its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_the_error_says_what_it_is() {
    let patience = Duration::from_millis(2_500);
    let mut runs = Vec::new();
    for (name, fault, kind) in outages() {
        runs.push(tokio::spawn(async move {
            let server = AuthServer::start().await.unwrap();
            begin(&server, fault);
            let clock = Arc::new(ManualClock::default());
            let source = source(&server).clock(clock.clone()).token_timeout(patience).build().unwrap();
            let waiting = tokio::spawn({
                let source = source.clone();
                async move { source.token().await }
            });
            // The deadline comes once the first attempt has failed, however long that takes.
            match name {
                "hang" => server.wait_for_token_requests(1).await,
                _ => until("it failed", || source.status().consecutive_failures > 0).await,
            }
            clock.advance(patience);
            let error = waiting.await.unwrap().unwrap_err();
            let expected = if name == "hang" { ErrorKind::Timeout } else { kind };
            assert_eq!(error.kind(), expected, "{name}: {error}");
            assert_eq!(error.server(), Some(server.token_url().as_str()), "{name}: {error}");
            let text = error.to_string();
            assert!(text.contains(&server.token_url()), "{name}: {text}");
            assert!(text.contains("mend") || text.contains("tried again in"), "{name}: {text}");
            if !error.is_retryable() {
                // Known to be refused: the next caller learns it at once, and the server is left alone.
                let requests = server.token_requests();
                let again = at_once(source.token()).unwrap_or_else(|| panic!("{name}: waits")).unwrap_err();
                assert_eq!(again.kind(), kind, "{name}");
                assert!(again.retry_after().unwrap() > Duration::from_secs(1), "{name}: {again}");
                assert_eq!(server.token_requests(), requests, "{name}");
                assert_eq!(source.status().consecutive_failures, 1, "{name}");
            }
        }));
    }
    for run in runs {
        run.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_past_the_end_calls_get_a_typed_error_and_work_again_once_it_is_back() {
    let server = box_of(Duration::from_secs(3)).await;
    let api = client(&server).token_timeout(Duration::from_secs(1)).build().unwrap();
    assert!(api.get("orders").send().await.unwrap().status().is_success());
    server.outage();
    until("the token has ended", || api.current_token().is_none()).await;
    until("a renewal has failed", || api.status().consecutive_failures > 0).await;
    let error = api.get("orders").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable, "{error}");
    assert!(error.is_retryable() && error.retry_after().is_some(), "{error}");
    until("no attempt is under way", || api.status().state == State::Degraded).await;

    server.recover().await.unwrap();
    // One step of the backoff is at most 30 s long; the next attempt is planned within it.
    let next = api.status().next_attempt;
    assert!(next.is_none_or(|next| next <= Duration::from_secs(30)), "{next:?}");
    until("a call works again", || api.current_token().is_some()).await;
    assert!(api.get("orders").send().await.unwrap().status().is_success());
    assert_eq!(api.status().consecutive_failures, 0);
}

#[tokio::test]
async fn an_attempt_beyond_the_deadline_is_not_waited_for() {
    let server = AuthServer::start().await.unwrap();
    server.fail_always(Fault::RetryAfterSeconds(429, 120));
    let source = source(&server).build().unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.retry_after().unwrap() > Duration::from_secs(100));
    let again = at_once(source.token()).expect("told at once").unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Throttled);
    assert_eq!(server.token_requests(), 1);
}
