//! Nobody's request, secret or quota stands in another's way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::scripted::{Answer, INVALID_CLIENT, RENEW_AT, SERVE_UNTIL, Scene, at_once, rest};
use crate::error::ErrorKind;
use crate::server::exchange::gate::Rank;

#[tokio::test]
async fn a_thousand_first_calls_make_one_request_and_who_goes_away_cancels_nothing() {
    let scene = Scene::new();
    let gate = Arc::new(Notify::new());
    let later = gate.clone();
    scene.endpoint.script(move |_| Answer::TokenLater(later.clone()));
    let calls: Vec<_> = (0..1_000).map(|_| scene.call("app", "s", "192.0.2.1")).collect();
    rest().await;
    calls[0].abort();
    gate.notify_one();
    for call in calls.into_iter().skip(1) {
        assert_eq!(call.await.unwrap().unwrap().as_str(), "t1");
    }
    assert_eq!((scene.endpoint.requests(), scene.exchange.status().requests), (1, 0));
}

#[tokio::test]
async fn one_customer_s_hanging_requests_delay_nobody_else() {
    let scene = Scene::with(|builder| builder.max_concurrent(8).max_concurrent_per_app(2));
    scene.token("known", "s").await.unwrap();
    scene.endpoint.script(|seen| if seen.app_id == "bad" { Answer::Never } else { Answer::Token });
    let secrets = ["a", "b", "c", "d"];
    let bad: Vec<_> = secrets.into_iter().map(|secret| scene.call("bad", secret, "192.0.2.1")).collect();
    rest().await;
    assert_eq!(scene.endpoint.requests_of("bad"), 2);
    scene.token("good", "s").await.unwrap();
    scene.token("better", "s").await.unwrap();
    assert!(scene.held("known", "s").is_some());
    assert!(bad.iter().all(|call| !call.is_finished()));
}

/// Newcomers who hang fill all that newcomers may have, and no more.
#[tokio::test]
async fn customers_who_had_a_token_have_a_share_of_their_own() {
    let scene = Scene::with(|builder| builder.max_concurrent(4));
    scene.token("known", "s").await.unwrap();
    scene.token("ended", "s").await.unwrap();
    scene.endpoint.script(|seen| match &*seen.app_id {
        "known" | "ended" => Answer::Token,
        _ => Answer::Never,
    });
    let apps = ["a", "b", "c", "d", "e", "f"];
    let strangers: Vec<_> = apps.into_iter().map(|app| scene.call(app, "s", "")).collect();
    rest().await;
    assert_eq!(scene.endpoint.requests(), 5, "three of four at once");
    scene.advance(RENEW_AT);
    assert!(scene.held("known", "s").is_some());
    rest().await;
    assert_eq!(scene.endpoint.requests_of("known"), 2, "a renewal");
    drop(strangers);
}

#[tokio::test]
async fn wrong_secrets_for_an_app_id_lock_nobody_out() {
    let scene = Scene::with(|builder| builder.max_concurrent(4).max_concurrent_per_app(1));
    scene.endpoint.script(|seen| if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT });
    scene.token_from("victim", "right", "198.51.100.7").await.unwrap();
    let attack = |peer: String| {
        let scene = &scene;
        async move {
            let mut asked = 0;
            for number in 0..200 {
                let before = scene.endpoint.requests();
                let outcome = scene.token_from("victim", &format!("guess-{number}"), &peer).await;
                assert!(outcome.is_err());
                asked += scene.endpoint.requests() - before;
            }
            asked
        }
    };
    // From one address: the free ones, and then nothing while time stands still.
    assert_eq!(attack("192.0.2.1".to_owned()).await, 6);
    let error = scene.token_from("victim", "guess", "192.0.2.1").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_millis(100))));
    // Held: served. Ended: known. Forgotten: new, but from an address that did nothing wrong.
    assert!(scene.held("victim", "right").is_some());
    scene.advance(SERVE_UNTIL);
    attack("192.0.2.1".to_owned()).await;
    assert!(
        scene.token_from("victim", "right", "192.0.2.1").await.is_ok(),
        "even from the attacker's address"
    );
    attack("192.0.2.1".to_owned()).await;
    scene.exchange.purge("victim");
    attack("192.0.2.1".to_owned()).await;
    scene.token_from("victim", "right", "198.51.100.7").await.unwrap();
}

/// Whoever waits for a turn while others from there are refused is looked at again.
#[tokio::test]
async fn a_burst_of_made_up_app_ids_asks_no_more_than_one_after_the_other() {
    let scene = Scene::with(|builder| builder.max_concurrent(4));
    scene.endpoint.script(|seen| if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT });
    let burst: Vec<_> =
        (0..500).map(|number| scene.call(format!("app-{number}"), "guess", "192.0.2.1")).collect();
    let newcomer = scene.call("new", "right", "198.51.100.7");
    for call in burst {
        assert!(call.await.unwrap().is_err());
    }
    assert!(newcomer.await.unwrap().is_ok());
    let asked = scene.endpoint.requests() - 1;
    assert!((21..=24).contains(&asked), "{asked}");
}

#[tokio::test]
async fn an_address_that_tries_app_ids_is_slowed_down_and_what_it_holds_is_not() {
    let scene = Scene::new();
    scene.endpoint.script(|seen| if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT });
    scene.token("own", "right").await.unwrap();
    let mut asked = 0;
    let mut words = Vec::new();
    for number in 0..100 {
        let before = scene.endpoint.requests();
        let error = scene.token(&format!("app-{number}"), "guess").await.unwrap_err();
        words.push((error.kind(), error.oauth_error().map(str::to_owned)));
        asked += scene.endpoint.requests() - before;
    }
    assert_eq!(asked, 21);
    assert!(
        words[..21].iter().all(|words| *words == words_of(ErrorKind::CredentialsRejected, "invalid_client"))
    );
    assert!(words[21..].iter().all(|words| words.0 == ErrorKind::Throttled));
    assert!(scene.held("own", "right").is_some());
    assert!(scene.token_from("new", "right", "198.51.100.7").await.is_ok());
    // In an hour at most one in two seconds, and after ten minutes without any it is forgotten.
    scene.advance(600);
    assert!(
        scene
            .token("app-again", "guess")
            .await
            .is_err_and(|error| error.kind() == ErrorKind::CredentialsRejected)
    );
}

fn words_of(kind: ErrorKind, code: &str) -> (ErrorKind, Option<String>) {
    (kind, Some(code.to_owned()))
}

#[tokio::test]
async fn failures_of_the_server_are_nobody_s_strikes() {
    let scene = Scene::new();
    for answer in [(500, r#"{"error":"invalid_client"}"#), (503, ""), (400, r#"{"error":"invalid_scope"}"#)] {
        scene.endpoint.script(move |_| Answer::Refusal(answer.0, &[], answer.1));
        for number in 0..50 {
            let error = scene.token(&format!("app-{number}"), &format!("s{}", answer.0)).await.unwrap_err();
            assert!(
                !matches!(error.kind(), ErrorKind::Throttled | ErrorKind::CredentialsRejected),
                "{error}"
            );
        }
    }
    assert_eq!(scene.endpoint.requests(), 150);
}

#[tokio::test]
async fn a_429_pauses_all_token_requests_for_its_time_and_what_is_held_serves() {
    let scene = Scene::new();
    scene.token("held", "s").await.unwrap();
    scene.endpoint.script(|_| Answer::Refusal(429, &[("retry-after", "60")], ""));
    let error = scene.token("a", "s").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), error.retry_after()),
        (ErrorKind::AuthServerUnavailable, Some(429), Some(Duration::from_secs(60)))
    );
    scene.endpoint.script(|_| Answer::Token);
    scene.advance(59);
    let error = scene.token("b", "s").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::AuthServerUnavailable, Some(Duration::from_secs(1)))
    );
    assert_eq!(scene.exchange.status().paused_for, Some(Duration::from_secs(1)));
    assert!(scene.held("held", "s").is_some());
    assert_eq!(scene.endpoint.requests(), 2);
    scene.advance(1);
    assert!(scene.exchange.status().is_ready());
    scene.token("b", "s").await.unwrap();
    let a = scene.call("a", "s", "");
    rest().await;
    assert!(!a.is_finished(), "newcomers are slow at first");
    scene.advance(1);
    a.await.unwrap().unwrap();

    // A renewal is put off, too; and five minutes are the most.
    scene.endpoint.script(|_| Answer::Refusal(429, &[("retry-after", "86400")], ""));
    scene.advance(RENEW_AT);
    assert!(scene.held("held", "s").is_some());
    rest().await;
    let requests = scene.endpoint.requests();
    scene.endpoint.script(|_| Answer::Token);
    scene.advance(299);
    assert!(scene.held("held", "s").is_some());
    rest().await;
    assert_eq!(scene.endpoint.requests(), requests);
    scene.advance(1);
    assert!(scene.held("held", "s").is_some());
    rest().await;
    assert_eq!(scene.endpoint.requests(), requests + 1);
}

#[tokio::test]
async fn those_who_wait_for_their_turn_when_it_comes_are_not_sent() {
    let scene = Scene::with(|builder| builder.max_concurrent(2));
    let gate = Arc::new(Notify::new());
    let later = gate.clone();
    scene.endpoint.script(move |_| Answer::TokenLater(later.clone()));
    let (first, second) = (scene.call("a", "s", ""), scene.call("b", "s", ""));
    rest().await;
    assert_eq!(scene.endpoint.requests(), 1);
    let core = &scene.exchange.core;
    let pass = at_once(core.gate.enter(Rank::Known, &core.clock)).unwrap().unwrap();
    core.gate.pause(core.clock.now(), Some(Duration::from_secs(9)), &pass, 0.0);
    gate.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().unwrap_err().retry_after(), Some(Duration::from_secs(9)));
    assert_eq!(scene.endpoint.requests(), 1);
}

#[tokio::test]
async fn a_customer_s_own_quota_is_its_own_matter() {
    const OWN: &[(&str, &str)] =
        &[("retry-after", "30"), ("auth0-client-quota-limit", "b=per_hour;q=10;r=0;t=30")];
    let scene = Scene::new();
    scene
        .endpoint
        .script(|seen| if seen.app_id == "spender" { Answer::Refusal(429, OWN, "") } else { Answer::Token });
    let error = scene.token("spender", "s").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(30))));
    scene.token("other", "s").await.unwrap();
    scene.advance(29);
    assert!(at_once(scene.token("spender", "s")).unwrap().is_err());
    assert_eq!(scene.endpoint.requests_of("spender"), 1);
    scene.advance(1);
    assert!(scene.token("spender", "s").await.is_err());
    assert_eq!(scene.endpoint.requests_of("spender"), 2);
}
