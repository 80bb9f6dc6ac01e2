//! How a customer's token lives: got, served, renewed by who comes by, and never served past its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::scripted::{Answer, INVALID_CLIENT, LIFE, OUT, RENEW_AT, SERVE_UNTIL, Scene, rest};
use crate::error::ErrorKind;

#[tokio::test]
async fn a_token_serves_all_calls_until_renew_at_and_nobody_asks_for_it_unasked() {
    let scene = Scene::new();
    let first = scene.token("app", "s").await.unwrap();
    assert_eq!((first.as_str(), first.authorization().as_bytes()), ("t1", &b"Bearer t1"[..]));
    assert_eq!(first.expires_at(), scene.clock.wall() + Duration::from_secs(LIFE));
    scene.advance(RENEW_AT - 1);
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
    rest().await;
    assert_eq!(scene.endpoint.requests(), 1);
    // Nobody calls any more.
    scene.advance(10 * LIFE);
    rest().await;
    assert_eq!((scene.endpoint.requests(), scene.exchange.status().requests), (1, 0));
}

#[tokio::test]
async fn from_renew_at_on_one_call_has_it_renewed_and_all_are_served_meanwhile() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    let gate = Arc::new(Notify::new());
    let later = gate.clone();
    scene.endpoint.script(move |_| Answer::TokenLater(later.clone()));
    scene.advance(RENEW_AT);
    for _ in 0..100 {
        assert_eq!(scene.held("app", "s").unwrap(), "t1");
        rest().await;
    }
    assert_eq!(scene.endpoint.requests(), 2);
    gate.notify_one();
    rest().await;
    assert_eq!(scene.held("app", "s").unwrap(), "t2");
    // Its life counts from when it was asked for.
    scene.advance(RENEW_AT - 1);
    assert_eq!(scene.held("app", "s").unwrap(), "t2");
    rest().await;
    assert_eq!(scene.endpoint.requests(), 2);
}

#[tokio::test]
async fn it_is_served_to_serve_until_and_not_a_moment_longer() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.endpoint.script(|_| OUT);
    scene.advance(SERVE_UNTIL);
    scene.clock.set_wall(scene.clock.wall() - Duration::from_millis(1));
    assert!(scene.at_once("app", "s").is_none(), "by the boot clock it is over");

    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.clock.advance(Duration::from_secs(SERVE_UNTIL) - Duration::from_millis(1));
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
}

#[tokio::test]
async fn a_wall_clock_set_forward_ends_nothing_and_a_suspend_does() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.clock.set_wall(scene.clock.wall() + Duration::from_secs(3_600));
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
    rest().await;
    assert_eq!(scene.endpoint.requests(), 1);
    scene.clock.suspend(Duration::from_secs(SERVE_UNTIL));
    assert!(scene.at_once("app", "s").is_none());
    // What was seen to have ended is over.
    scene.clock.set_wall(scene.clock.wall() - Duration::from_secs(7_200));
    assert_ne!(scene.token("app", "s").await.unwrap().as_str(), "t1");
}

#[tokio::test]
async fn in_an_outage_a_token_serves_through_its_leeway_then_calls_fail_till_it_is_over() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.endpoint.script(|_| OUT);
    scene.advance(RENEW_AT);
    let mut requests = 1;
    while scene.clock.wall() < scene.token("app", "s").await.unwrap().expires_at() - Duration::from_secs(1) {
        rest().await;
        let now = scene.endpoint.requests();
        assert!(now - requests <= 1, "one attempt a second at most");
        requests = now;
        scene.advance(1);
    }
    // 0.4 to 0.8 s, doubling to 15 to 30 s, over 500 s.
    assert!((20..45).contains(&scene.endpoint.requests()), "{}", scene.endpoint.requests());

    scene.advance(1);
    let error = scene.token("app", "s").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    assert_eq!(error.server(), Some("https://as.example/token"));
    let wait = error.retry_after().unwrap();
    assert!(wait <= Duration::from_secs(30), "{wait:?}");
    let requests = scene.endpoint.requests();
    assert!(scene.at_once("app", "s").unwrap().is_err(), "from memory");
    scene.endpoint.script(|_| Answer::Token);
    scene.clock.advance(wait);
    scene.token("app", "s").await.unwrap();
    assert_eq!(scene.endpoint.requests(), requests + 1);
}

#[tokio::test]
async fn a_token_in_its_leeway_is_served_if_the_server_fails_and_only_then() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.advance(SERVE_UNTIL);
    scene.endpoint.script(|_| OUT);
    assert_eq!(scene.token("app", "s").await.unwrap().as_str(), "t1", "nobody has called since renew-at");
    assert_eq!(scene.endpoint.requests(), 2, "it was tried");

    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.advance(SERVE_UNTIL);
    scene.endpoint.script(|_| INVALID_CLIENT);
    assert_eq!(scene.token("app", "s").await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
}

#[tokio::test]
async fn a_secret_that_is_refused_at_a_renewal_is_a_wrong_one_from_then_on() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.endpoint.script(|_| INVALID_CLIENT);
    scene.advance(RENEW_AT);
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
    rest().await;
    let error = scene.at_once("app", "s").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
    // Whatever is no word of its own takes nothing away.
    for (status, body) in [
        (500, ""),
        (403, ""),
        (401, ""),
        (400, r#"{"error":"invalid_scope"}"#),
        (503, r#"{"error":"invalid_client"}"#),
    ] {
        let scene = Scene::new();
        scene.token("app", "s").await.unwrap();
        scene.endpoint.script(move |_| Answer::Refusal(status, &[], body));
        scene.advance(RENEW_AT);
        scene.held("app", "s").unwrap();
        rest().await;
        assert_eq!(
            (scene.endpoint.requests(), scene.held("app", "s")),
            (2, Some("t1".into())),
            "{status} {body}"
        );
    }
}

/// No part of any error code.
const SECRET: &str = "0123456789";

/// What servers answer for a client that was disabled or lost its right to the API.
#[tokio::test]
async fn ends_held_token_if_server_refuses_its_client() {
    for (status, body) in [
        (400, r#"{"error":"unauthorized_client"}"#),
        (401, r#"{"error":"unauthorized_client","error_description":"Client is disabled"}"#),
        (403, r#"{"error":"unauthorized_client","error_description":"Client is disabled"}"#),
        (403, r#"{"error":"access_denied"}"#),
        (400, r#"{"error":"invalid_grant"}"#),
        (400, r#"{"error":"invalid_client"}"#),
        (403, r#"{"error":"invalid_client"}"#),
    ] {
        let scene = Scene::new();
        scene.token("app", SECRET).await.unwrap();
        scene.token("other", SECRET).await.unwrap();
        scene.endpoint.script(move |seen| match &*seen.app_id {
            "app" => Answer::Refusal(status, &[], body),
            _ => Answer::Token,
        });
        scene.advance(RENEW_AT);
        assert_eq!(scene.held("app", SECRET).unwrap(), "t1", "served while it is renewed");
        rest().await;
        let outcome = scene.at_once("app", SECRET).unwrap();
        let error = outcome.expect_err(&format!("{status} {body}"));
        assert!(!error.is_retryable(), "{status} {body}: {error}");
        assert_eq!(scene.endpoint.requests_of("app"), 2, "from memory");
        assert!(scene.held("other", SECRET).is_some(), "nobody else's");
        // The server may change its mind.
        scene.endpoint.script(|_| Answer::Token);
        scene.advance(10);
        scene.token("app", SECRET).await.unwrap();
    }
}

/// A bare status, a framework's word for it and a server that fails say nothing about the client.
#[tokio::test]
async fn keeps_held_token_if_answer_is_no_verdict_on_its_client() {
    for (status, body) in [
        (403, ""),
        (403, "<html>Forbidden</html>"),
        (403, r#"{"error":"Forbidden"}"#),
        (403, r#"{"message":"unauthorized_client"}"#),
        (502, r#"{"error":"unauthorized_client"}"#),
        (503, r#"{"error":"access_denied"}"#),
        (429, r#"{"error":"access_denied"}"#),
        (302, r#"{"error":"unauthorized_client"}"#),
        (400, r#"{"error":"temporarily_unavailable"}"#),
        (400, r#"{"error":"invalid_request"}"#),
    ] {
        let scene = Scene::new();
        scene.token("app", SECRET).await.unwrap();
        scene.endpoint.script(move |_| Answer::Refusal(status, &[], body));
        scene.advance(RENEW_AT);
        for _ in 0..SERVE_UNTIL - RENEW_AT {
            assert_eq!(scene.held("app", SECRET).as_deref(), Some("t1"), "{status} {body}");
            rest().await;
            scene.advance(1);
        }
        assert!(scene.endpoint.requests() > 2, "{status} {body}: it was tried again");
    }
}

/// As oidc-provider does it: `invalid_request` for a client that was disabled, while the others get
/// what they ask for in the very same way.
#[tokio::test]
async fn ends_held_token_if_only_its_client_is_refused_again_and_again() {
    for code in ["invalid_request", "invalid_scope", "invalid_target", "inactive_user"] {
        for others_are_served in [true, false] {
            let scene = Scene::new();
            scene.token("app", SECRET).await.unwrap();
            scene.endpoint.script(move |seen| match &*seen.app_id {
                "app" => Answer::Body(format!(r#"{{"error":"{code}"}}"#)),
                _ if others_are_served => Answer::Token,
                _ => Answer::Body(format!(r#"{{"error":"{code}"}}"#)),
            });
            scene.advance(RENEW_AT);
            for second in 0..60 {
                let _ = scene.token(&format!("other-{second}"), SECRET).await;
                let _ = scene.token("app", SECRET).await;
                rest().await;
                scene.advance(1);
            }
            let held = scene.held("app", SECRET).is_some();
            assert_eq!(held, !others_are_served, "{code}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_remembered_briefly_and_for_this_secret_alone() {
    let scene = Scene::new();
    scene.endpoint.script(|seen| if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT });
    let refused = scene.token("app", "wrong").await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(10)));
    scene.advance(9);
    let again = scene.at_once("app", "wrong").unwrap().unwrap_err();
    assert_eq!(
        (again.kind(), again.retry_after()),
        (ErrorKind::CredentialsRejected, Some(Duration::from_secs(1)))
    );
    assert_eq!(again.oauth_error(), Some("invalid_client"));
    assert_eq!(scene.token("app", "right").await.unwrap().as_str(), "t1");
    assert_eq!(scene.endpoint.requests(), 2);
    scene.advance(1);
    assert_eq!(scene.token("app", "wrong").await.unwrap_err().retry_after(), Some(Duration::from_secs(20)));
    assert_eq!(scene.endpoint.requests(), 3);
    for empty in [("", "s"), ("app", "")] {
        let error = scene.token(empty.0, empty.1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
    }
    assert_eq!(scene.endpoint.requests(), 3);
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_that_is_no_refusal() {
    let scene = Scene::new();
    scene.endpoint.script(|_| Answer::Never);
    let call = scene.call("app", "s", "");
    rest().await;
    scene.clock.advance(Duration::from_millis(9_999));
    rest().await;
    assert!(!call.is_finished());
    scene.clock.advance(Duration::from_millis(1));
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AuthServerUnavailable | ErrorKind::Timeout), "{error}");
    rest().await;
    assert_eq!(scene.exchange.status().requests, 0);
    scene.endpoint.script(|_| Answer::Token);
    scene.advance(1);
    scene.token("app", "s").await.unwrap();
}

#[tokio::test]
async fn max_age_has_the_secret_checked_sooner() {
    let scene = Scene::with(|builder| builder.max_age(Duration::from_secs(100)));
    let token = scene.token("app", "s").await.unwrap();
    assert_eq!(token.expires_at(), scene.clock.wall() + Duration::from_secs(LIFE), "the truth");
    scene.advance(49);
    assert!(scene.held("app", "s").is_some());
    rest().await;
    assert_eq!(scene.endpoint.requests(), 1);
    scene.endpoint.script(|_| OUT);
    scene.advance(45);
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
    scene.advance(1);
    rest().await;
    assert_eq!(
        scene.token("app", "s").await.unwrap().as_str(),
        "t1",
        "in its leeway, since the server fails"
    );
    scene.advance(5);
    assert!(scene.token("app", "s").await.is_err(), "never past `max_age`");
}

#[tokio::test]
async fn the_same_token_again_makes_no_storm() {
    let scene = Scene::new();
    let (clock, start) = (scene.clock.clone(), scene.clock.wall());
    scene.endpoint.script(move |_| {
        let left = LIFE - clock.wall().duration_since(start).unwrap().as_secs().min(LIFE - 1);
        Answer::Body(format!(r#"{{"access_token":"same","token_type":"Bearer","expires_in":{left}}}"#))
    });
    scene.token("app", "s").await.unwrap();
    for _ in 0..4 * (LIFE - 1) {
        scene.clock.advance(Duration::from_millis(250));
        let _ = scene.at_once("app", "s");
        rest().await;
    }
    assert!(scene.endpoint.requests() < 40, "{}", scene.endpoint.requests());
}

#[tokio::test]
async fn what_is_forgotten_is_asked_for_anew_and_what_is_under_way_is_not_kept() {
    let scene = Scene::new();
    scene.token("app", "s").await.unwrap();
    scene.token("other", "s").await.unwrap();
    scene.exchange.purge("app");
    assert_eq!(scene.exchange.status().customers, 1);
    assert_eq!(scene.held("other", "s").unwrap(), "t2");
    assert_eq!(scene.token("app", "s").await.unwrap().as_str(), "t3");

    // A renewal that was asked for before.
    let gate = Arc::new(Notify::new());
    let later = gate.clone();
    scene.endpoint.script(move |_| Answer::TokenLater(later.clone()));
    scene.advance(RENEW_AT);
    assert_eq!(scene.held("app", "s").unwrap(), "t3");
    rest().await;
    scene.exchange.purge("app");
    // Who comes after it has the server asked, which may know the secret no more.
    scene.endpoint.script(|_| INVALID_CLIENT);
    assert!(scene.token("app", "s").await.is_err());
    gate.notify_one();
    rest().await;
    assert!(scene.token("app", "s").await.is_err(), "not kept");
    // And a refusal is forgotten, too.
    scene.exchange.purge("app");
    scene.endpoint.script(|_| Answer::Token);
    scene.token("app", "s").await.unwrap();
}

#[tokio::test]
async fn a_token_that_the_api_does_not_take_is_replaced_once_a_minute_at_most() {
    let scene = Scene::new();
    let first = scene.token("app", "s").await.unwrap();
    scene.advance(59);
    assert!(!scene.exchange.give_up(&first));
    assert_eq!(scene.held("app", "s").unwrap(), "t1");
    scene.advance(1);
    assert!(scene.exchange.give_up(&first));
    let second = scene.token("app", "s").await.unwrap();
    assert_eq!(second.as_str(), "t2");
    assert!(!scene.exchange.give_up(&second));
    // Of those who had the first one, too.
    assert!(scene.exchange.give_up(&first));
    assert_eq!(scene.token("app", "s").await.unwrap().as_str(), "t2");
}

#[tokio::test]
async fn it_holds_no_more_than_it_may() {
    let scene = Scene::with(|builder| builder.capacity(100));
    for number in 0..1_000 {
        scene.token(&format!("app-{number}"), "s").await.unwrap();
        assert!(scene.exchange.status().customers <= 100);
    }
    assert!(scene.exchange.status().customers >= 90);
}

#[test]
fn a_request_whose_runtime_ends_leaves_the_way_free() {
    let scene = Scene::new();
    scene.endpoint.script(|_| Answer::Never);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime();
    first.block_on(async {
        drop(scene.call("app", "s", ""));
        rest().await;
        assert_eq!((scene.endpoint.requests(), scene.exchange.status().requests), (1, 1));
    });
    drop(first);
    assert_eq!(scene.exchange.status().requests, 0);
    scene.endpoint.script(|_| Answer::Token);
    assert_eq!(runtime().block_on(scene.token("app", "s")).unwrap().as_str(), "t1");
    // Outside of any, a call says so.
    let error = scene.at_once("other", "s").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(scene.held("app", "s").unwrap(), "t1", "what is held needs none");
}
