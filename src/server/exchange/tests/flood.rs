//! What a flood of made-up app ids does to a server that allows so many requests a second.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::scripted::{Answer, INVALID_CLIENT, LIFE, Scene, rest};

/// Has the server allow `rate` requests in any second, and answer 429 and `Retry-After: 60` beyond it.
fn limit(scene: &Scene, rate: usize) {
    let clock = scene.clock.clone();
    let mut last: VecDeque<SystemTime> = VecDeque::new();
    scene.endpoint.script(move |seen| {
        let now = clock.wall();
        while last.front().is_some_and(|at| now >= *at + Duration::from_secs(1)) {
            last.pop_front();
        }
        if last.len() >= rate {
            return Answer::Refusal(429, &[("retry-after", "60")], "");
        }
        last.push_back(now);
        if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT }
    });
}

struct Figures {
    served: usize,
    failed: usize,
    /// The last second in which a call failed.
    last_failure: u64,
    newcomers: usize,
}

/// 30 customers whose tokens have ended call once a second for a minute, or until they are served,
/// while `flood` made-up app ids come each second, each from an address of its own.
async fn flooded(scene: &Scene, rate: usize, flood: usize) -> Figures {
    const CUSTOMERS: usize = 30;
    for customer in 0..CUSTOMERS {
        scene.token_from(&format!("app-{customer}"), "right", "192.0.2.1").await.unwrap();
    }
    scene.advance(LIFE);
    limit(scene, rate);
    let mut figures = Figures { served: 0, failed: 0, last_failure: 0, newcomers: 0 };
    let mut waiting = Vec::new();
    let mut unserved: Vec<usize> = (0..CUSTOMERS).collect();
    let mut made_up = Vec::new();
    for second in 0..60_u64 {
        for number in 0..flood {
            let exchange = scene.exchange.clone();
            let peer = format!("2001:db8:{second:x}:{number:x}::1").parse().unwrap();
            made_up.push(tokio::spawn(async move {
                exchange.token(&format!("made-up-{second}-{number}"), &"guess".into(), Some(peer)).await
            }));
        }
        rest().await;
        for customer in unserved.drain(..) {
            waiting.push((customer, scene.call(format!("app-{customer}"), "right", "192.0.2.1")));
        }
        for _ in 0..10 {
            rest().await;
            scene.clock.advance(Duration::from_millis(100));
        }
        rest().await;
        for (customer, call) in std::mem::take(&mut waiting) {
            if !call.is_finished() {
                waiting.push((customer, call));
            } else if call.await.unwrap().is_ok() {
                figures.served += 1;
            } else {
                figures.failed += 1;
                figures.last_failure = second;
                unserved.push(customer);
            }
        }
    }
    figures.newcomers = (0..60)
        .map(|second| {
            (0..flood).map(|n| scene.endpoint.requests_of(&format!("made-up-{second}-{n}"))).sum::<usize>()
        })
        .sum();
    figures
}

#[tokio::test]
async fn serves_known_customers_while_made_up_app_ids_spend_the_rate_limit() {
    for (rate, flood) in [(10, 40), (10, 200), (2, 40)] {
        let scene = Scene::new();
        let figures = flooded(&scene, rate, flood).await;
        println!(
            "{flood} made-up ids a second at {rate}/s: {} of 30 known customers served, {} calls failed, \
             the last in second {}; {} made-up ids reached the server",
            figures.served, figures.failed, figures.last_failure, figures.newcomers
        );
        assert_eq!(figures.served, 30, "{flood} at {rate}/s");
    }
}

/// The server's limit of 10/s is learned from its first 429: later floods leave half of it to the others.
#[tokio::test]
async fn newcomers_leave_half_of_the_rate_that_a_429_has_shown() {
    let scene = Scene::new();
    let mut refused = 0;
    limit(&scene, 10);
    let mut made_up = Vec::new();
    for second in 0..120 {
        if second % 60 == 0 {
            made_up.clear();
        }
        let before = scene.endpoint.requests();
        for number in 0..40 {
            made_up.push(scene.call(format!("made-up-{second}-{number}"), "guess", ""));
        }
        for _ in 0..10 {
            rest().await;
            scene.clock.advance(Duration::from_millis(100));
        }
        let asked = scene.endpoint.requests() - before;
        match second {
            0 => assert!((10..=48).contains(&asked), "{asked}"),
            1..60 => assert_eq!(asked, 0, "held back for Retry-After, in second {second}"),
            _ => assert!((4..=10).contains(&asked), "{asked} in second {second}"),
        }
        refused += usize::from(asked > 10);
    }
    assert_eq!(refused, 1, "one 429 has to do");
}

#[tokio::test]
async fn newcomers_have_the_rate_that_was_set_and_known_customers_go_first() {
    let scene = Scene::with(|builder| builder.max_newcomers_per_second(2.0));
    scene.token("known", "right").await.unwrap();
    scene.endpoint.script(|seen| if seen.secret == "right" { Answer::Token } else { INVALID_CLIENT });
    let before = scene.endpoint.requests();
    let flood: Vec<_> = (0..50).map(|n| scene.call(format!("made-up-{n}"), "guess", "")).collect();
    rest().await;
    assert_eq!(scene.endpoint.requests() - before, 1, "one was for the known customer");
    scene.advance(LIFE);
    scene.token("known", "right").await.unwrap();
    rest().await;
    let before = scene.endpoint.requests();
    let flood_again: Vec<_> = (0..50).map(|n| scene.call(format!("another-{n}"), "guess", "")).collect();
    for _ in 0..10 {
        scene.advance(1);
        rest().await;
    }
    let asked = scene.endpoint.requests() - before;
    assert!((18..=22).contains(&asked), "{asked} in 10 s");
    drop((flood, flood_again));
}

/// With nothing to get, the server is asked less and less, and nobody waits for it.
#[tokio::test]
async fn known_customers_are_told_to_come_again_if_the_server_refuses_them_all() {
    let scene = Scene::new();
    for customer in 0..20 {
        scene.token(&format!("app-{customer}"), "right").await.unwrap();
    }
    scene.advance(LIFE);
    scene.endpoint.script(|_| Answer::Refusal(429, &[("retry-after", "300")], ""));
    let before = scene.endpoint.requests();
    let mut waiting = Vec::new();
    for second in 0..290_u64 {
        waiting.extend((0..20).map(|n| (second, scene.call(format!("app-{n}"), "right", ""))));
        rest().await;
        scene.advance(1);
        rest().await;
        for (since, call) in std::mem::take(&mut waiting) {
            if call.is_finished() {
                let error = call.await.unwrap().unwrap_err();
                assert!(error.retry_after().unwrap() <= Duration::from_secs(10), "{error}");
            } else {
                assert!(second - since < 5, "it waits since second {since}");
                waiting.push((since, call));
            }
        }
    }
    let asked = scene.endpoint.requests() - before;
    assert!((25..=75).contains(&asked), "{asked} in 290 s");
}

/// Their tokens serve, so they need not ask.
#[tokio::test]
async fn renewals_wait_for_the_end_of_a_pause() {
    let scene = Scene::new();
    scene.token("renewed", "right").await.unwrap();
    scene.advance(LIFE / 2 - 1);
    scene.endpoint.script(|_| Answer::Refusal(429, &[("retry-after", "100")], ""));
    assert!(scene.token("new", "right").await.is_err());
    scene.endpoint.script(|_| Answer::Token);
    for second in 0..100 {
        scene.advance(1);
        assert_eq!(scene.held("renewed", "right").as_deref(), Some("t1"));
        rest().await;
        assert_eq!(scene.endpoint.requests_of("renewed"), if second < 99 { 1 } else { 2 }, "{second}");
    }
}

/// A quota of which every answer tells less is one that all share.
#[tokio::test]
async fn newcomers_are_slowed_down_by_a_shared_quota_and_not_by_one_client_s_own() {
    const BODY: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":1000}"#;
    const SHARED: [&[(&str, &str)]; 4] = [
        &[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "34"), ("x-ratelimit-reset", "100")],
        &[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "33"), ("x-ratelimit-reset", "100")],
        &[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "32"), ("x-ratelimit-reset", "100")],
        &[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "31"), ("x-ratelimit-reset", "100")],
    ];
    for (is_shared, expected) in [(true, 1..=4), (false, 40..=40)] {
        let scene = Scene::new();
        let mut answers = 0;
        scene.endpoint.script(move |seen| {
            if seen.secret != "right" {
                return INVALID_CLIENT;
            }
            answers += 1;
            Answer::Refusal(200, SHARED[if is_shared { (answers - 1).min(3) } else { 0 }], BODY)
        });
        for customer in 0..4 {
            scene.token(&format!("app-{customer}"), "right").await.unwrap();
        }
        let before = scene.endpoint.requests();
        let flood: Vec<_> = (0..40).map(|n| scene.call(format!("made-up-{n}"), "guess", "")).collect();
        for _ in 0..20 {
            rest().await;
            scene.advance(1);
        }
        let asked = scene.endpoint.requests() - before;
        assert!(expected.contains(&asked), "{asked}, shared: {is_shared}");
        drop(flood);
    }
}
