//! The verifier beside the box: its keys over their lives, what it remembers, opaque tokens, and its clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evertoken::server::{
    How, Introspection, Profile, RefusalKind, TokenAlgorithm, Verifier, VerifierBuilder,
};
use evertoken::testing::{AuthServer, Discovery, Fault, ManualClock, Signing};
use evertoken::{Client, ErrorKind, TokenSource};
use house::{at_once, until};
use serde_json::json;

fn verifier(server: &AuthServer) -> VerifierBuilder {
    Verifier::builder(server.issuer()).audience(server.audience())
}

async fn token(server: &AuthServer) -> String {
    let source =
        TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET).token_url(server.token_url());
    source.scope("orders:read orders:write").build().unwrap().token().await.unwrap().as_str().to_owned()
}

const S: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test]
async fn a_token_says_who_calls_and_what_it_may() {
    for signing in [Signing::Rs256, Signing::Es256] {
        let server = AuthServer::builder().signing(signing).start().await.unwrap();
        let verifier = verifier(&server).build().unwrap();
        let caller = verifier.verify(&token(&server).await).await.unwrap();
        assert_eq!(caller.app_id(), AuthServer::APP_ID);
        assert_eq!(caller.scopes().collect::<Vec<_>>(), ["orders:read", "orders:write"]);
        assert!(caller.has_scope("orders:read") && !caller.has_scope("orders"));
        assert_eq!((caller.how(), &caller.claims()["iss"]), (How::Bearer, &json!(server.issuer())));
        let left = caller.expires_at().unwrap().duration_since(SystemTime::now()).unwrap();
        assert!(left > S(3500) && left <= S(3601), "{left:?}");
        assert!(caller.issued_at().unwrap() <= SystemTime::now());
        assert_eq!((server.jwks_requests(), server.discovery_requests()), (1, 1));
    }
}

#[tokio::test]
async fn what_clings_to_a_token_is_ignored_and_what_is_within_is_not() {
    let server = AuthServer::start().await.unwrap();
    let verifier = verifier(&server).build().unwrap();
    let token = token(&server).await;
    for padded in [format!("{token}\n"), format!("{token}\r\n"), format!(" {token}\t"), token.clone()] {
        verifier.verify(&padded).await.unwrap();
        let Ok(line) = format!("Bearer {}", padded.trim_end_matches(['\r', '\n'])).parse() else { continue };
        let (mut parts, ()) = evertoken::http::Request::new(()).into_parts();
        parts.headers.insert("authorization", line);
        verifier.verify_request(&parts).await.unwrap();
    }
    // One place in the cache.
    assert_eq!(verifier.condition().tokens, 1);
    for broken in
        [token.replacen('.', ".\n", 1), token.replacen('.', " .", 1), format!("a\0{token}"), "\n".into()]
    {
        assert_eq!(
            verifier.verify(&broken).await.unwrap_err().kind(),
            RefusalKind::InvalidToken,
            "{broken:?}"
        );
    }
}

#[tokio::test]
async fn a_token_seen_before_is_ready_at_once_and_so_is_one_whose_key_is_held() {
    let server = AuthServer::start().await.unwrap();
    let verifier = verifier(&server).build().unwrap();
    let [first, second] = [token(&server).await, token(&server).await];
    assert!(at_once(verifier.verify(&first)).is_none(), "the keys must be read first");
    verifier.verify(&first).await.unwrap();
    server.outage();
    assert!(at_once(verifier.verify(&first)).unwrap().is_ok());
    assert!(at_once(verifier.verify(&second)).unwrap().is_ok());
    assert_eq!(verifier.condition().tokens, 2);
}

#[tokio::test]
async fn the_keys_are_read_once_for_all_who_wait() {
    let server = AuthServer::start().await.unwrap();
    let verifier = verifier(&server).build().unwrap();
    let token = token(&server).await;
    let all = (0..100).map(|_| {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(server.jwks_requests(), 1);
}

#[tokio::test]
async fn prefetch_tells_what_is_wrong() {
    let server = AuthServer::start().await.unwrap();
    let good = verifier(&server).build().unwrap();
    good.prefetch().await.unwrap();
    assert_eq!(good.condition().keys, 1);

    server.set_discovery(Discovery::None);
    let error = verifier(&server).build().unwrap().prefetch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidResponse);
    assert!(error.to_string().contains("the issuer has no metadata"), "{error}");
    // Told where they lie, it needs none.
    verifier(&server).jwks_url(server.jwks_url()).build().unwrap().prefetch().await.unwrap();

    for (fault, said) in [
        (Fault::RetryAfterSeconds(503, 7), "503"),
        (Fault::Garbage, "not JSON"),
        (Fault::EndlessBody, "longer than 1 MiB"),
        (Fault::Reset, "broke off"),
    ] {
        server.fail_next_jwks(fault);
        let verifier = verifier(&server).jwks_url(server.jwks_url()).build().unwrap();
        let error = verifier.prefetch().await.unwrap_err();
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(text.contains(said) && text.contains("/jwks"), "{said}: {text}");
        assert!(error.is_retryable(), "{text}");
    }
}

#[tokio::test]
async fn a_new_key_is_found_by_the_first_token_that_names_it() {
    let server = AuthServer::start().await.unwrap();
    let verifier = verifier(&server).build().unwrap();
    let old = token(&server).await;
    verifier.verify(&old).await.unwrap();
    // Again and again: a reading that finds what it was for holds nobody up.
    for round in 2..5 {
        server.rotate_keys().unwrap();
        server.drop_old_keys();
        verifier.verify(&token(&server).await).await.unwrap();
        assert_eq!(server.jwks_requests(), round);
    }
    // What a key signed that is no longer published is no longer good, though it was verified once.
    let refusal = verifier.verify(&old).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::InvalidToken);
}

#[tokio::test]
async fn a_new_key_without_a_name_is_found_as_well() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).build().unwrap();
    let publish = || {
        let mut keys = server.jwks();
        let keys = keys["keys"].as_array_mut().unwrap();
        keys.iter_mut().for_each(|key| drop(key.as_object_mut().unwrap().remove("kid")));
        server.set_jwks(Some(json!({ "keys": keys })));
    };
    for (kid, requests) in [(json!(null), 2), (json!("some"), 3)] {
        publish();
        let sign = || server.sign(json!({ "kid": kid }), json!({ "exp": 9_999_999_999_u64 })).unwrap();
        if requests == 2 {
            verifier.verify(&sign()).await.unwrap();
        }
        server.rotate_keys().unwrap();
        publish();
        verifier.verify(&sign()).await.unwrap();
        assert_eq!(server.jwks_requests(), requests);
        // Whoever forges tokens has them read no more often than unknown names do.
        for n in 0..100 {
            let forged = format!("{}{n:03}A", &sign()[..sign().len() - 4]);
            assert_eq!(verifier.verify(&forged).await.unwrap_err().kind(), RefusalKind::InvalidToken);
        }
        assert_eq!(server.jwks_requests(), requests);
        clock.advance(S(10));
    }
}

#[tokio::test]
async fn keys_are_renewed_ahead_of_their_age_and_kept_when_that_fails() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).build().unwrap();
    let signed = |jti: &str, exp| server.sign(json!({}), json!({ "jti": jti, "exp": exp })).unwrap();
    let wall = || clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs();
    verifier.verify(&signed("1", wall() + 60)).await.unwrap();
    clock.advance(S(440));
    tokio::task::yield_now().await;
    assert_eq!(server.jwks_requests(), 1);
    clock.advance(S(101));
    until("the keys are renewed", || {
        server.jwks_requests() == 2 && verifier.condition().keys_age == Some(S(0))
    })
    .await;

    server.outage();
    for _ in 0..23 {
        clock.advance(S(3600));
        let known = at_once(verifier.verify(&signed("2", wall() + 60))).expect("no token waits");
        known.unwrap();
    }
    until("the failure shows", || verifier.condition().last_error.is_some()).await;
    clock.advance(S(3600));
    let refusal = verifier.verify(&signed("3", wall() + 60)).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::Unavailable);
    assert!(refusal.retry_after().is_some(), "{refusal:?}");

    server.recover().await.unwrap();
    clock.advance(S(300));
    until("the keys are read again", || verifier.condition().last_error.is_none()).await;
    verifier.verify(&signed("4", wall() + 60)).await.unwrap();
}

#[tokio::test]
async fn without_keys_calls_are_told_when_to_come_again() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).build().unwrap();
    server.fail_always_jwks(Fault::RetryAfterSeconds(503, 40));
    let token = token(&server).await;
    let refusal = verifier.verify(&token).await.unwrap_err();
    // Never earlier than the server said, and spread out after it.
    let wait = refusal.retry_after().unwrap();
    assert!(refusal.kind() == RefusalKind::Unavailable && (S(40)..=S(60)).contains(&wait), "{refusal:?}");
    let again = at_once(verifier.verify(&token)).expect("nobody is asked before").unwrap_err();
    assert_eq!(again.retry_after(), Some(wait));
    assert_eq!(server.jwks_requests(), 1);
    server.heal();
    clock.advance(wait);
    until("the task has read them", || verifier.condition().keys == 1).await;
    verifier.verify(&token).await.unwrap();
    assert_eq!(server.jwks_requests(), 2);
}

#[tokio::test]
async fn a_silent_server_costs_five_seconds() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).build().unwrap();
    server.fail_next_jwks(Fault::Hang);
    let token = token(&server).await;
    let waiting = tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.verify(&token).await }
    });
    until("the keys are asked for", || server.jwks_requests() == 1).await;
    clock.advance(S(5));
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), RefusalKind::Unavailable);
    let error = verifier.condition().last_error.unwrap().to_string();
    assert!(error.contains("not read within 5 s") && error.contains(&server.issuer()), "{error}");
}

#[tokio::test]
async fn a_token_is_remembered_no_longer_than_it_lives() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).leeway(S(30)).build().unwrap();
    let exp = clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100;
    let token = server.sign(json!({}), json!({ "exp": exp })).unwrap();
    verifier.verify(&token).await.unwrap();
    clock.advance(S(101));
    // Within the leeway it is taken, and not remembered.
    verifier.verify(&token).await.unwrap();
    assert_eq!(verifier.condition().tokens, 0);
    clock.advance(S(30));
    let refusal = verifier.verify(&token).await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.reason()), (RefusalKind::InvalidToken, "it has expired"));
}

#[tokio::test]
async fn neither_clock_set_back_lengthens_a_remembered_life() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = verifier(&server).clock(clock.clone()).leeway(S(0)).build().unwrap();
    let exp = clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100;
    let token = server.sign(json!({}), json!({ "exp": exp, "iat": exp - 100 })).unwrap();
    verifier.verify(&token).await.unwrap();
    clock.advance(S(90));
    clock.set_wall(clock.wall() - S(1000));
    // What is remembered stays so until its time has passed by either clock.
    at_once(verifier.verify(&token)).unwrap().unwrap();
    clock.advance(S(20));
    let refusal = at_once(verifier.verify(&token)).unwrap().unwrap_err();
    assert_eq!(refusal.reason(), "it is not valid yet");
    clock.set_wall(clock.wall() + S(2000));
    assert_eq!(at_once(verifier.verify(&token)).unwrap().unwrap_err().reason(), "it has expired");
}

#[tokio::test]
async fn auth0s_tokens_are_read_by_their_profile() {
    let server = AuthServer::start().await.unwrap();
    let auth0 = verifier(&server).profile(Profile::Auth0).build().unwrap();
    let header = json!({ "typ": "JWT" });
    let claims = json!({
        "azp": "shop", "client_id": null, "jti": null, "sub": "shop@clients", "scope": "read:a",
        "permissions": ["read:a", "write:a"], "gty": "client-credentials",
    });
    let token = server.sign(header, claims).unwrap();
    let caller = auth0.verify(&token).await.unwrap();
    assert_eq!((caller.app_id(), caller.scopes().collect::<Vec<_>>()), ("shop", vec!["read:a", "write:a"]));
    let refusal = verifier(&server).build().unwrap().verify(&token).await.unwrap_err();
    assert_eq!(refusal.reason(), "its type is not that of an access token");
}

#[tokio::test]
async fn opaque_tokens_are_asked_about_once_and_then_remembered() {
    let server = AuthServer::start().await.unwrap();
    server.set_opaque(true);
    server.register("api", "its secret: 1%+");
    let clock = Arc::new(ManualClock::default());
    let introspection = Introspection::new("api", "its secret: 1%+").max_age(S(60));
    let verifier = verifier(&server).clock(clock.clone()).introspection(introspection).build().unwrap();
    let token = token(&server).await;
    let all = (0..50).map(|_| {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await })
    });
    for one in all.collect::<Vec<_>>() {
        let caller = one.await.unwrap().unwrap();
        assert_eq!((caller.app_id(), caller.has_scope("orders:read")), (AuthServer::APP_ID, true));
    }
    assert_eq!(server.introspections(), 1);

    // What was revoked is taken until the answer is too old, or purged.
    server.revoke(&token);
    verifier.verify(&token).await.unwrap();
    verifier.purge("another");
    verifier.verify(&token).await.unwrap();
    clock.advance(S(60));
    for _ in 0..3 {
        assert_eq!(verifier.verify(&token).await.unwrap_err().kind(), RefusalKind::InvalidToken);
    }
    assert_eq!(server.introspections(), 2);
    assert_eq!(server.jwks_requests(), 0);
}

/// A server with opaque tokens, and a verifier that asks about each again after so long.
async fn asking(max_age: Duration) -> (AuthServer, Arc<ManualClock>, Verifier) {
    let server = AuthServer::start().await.unwrap();
    server.set_opaque(true);
    let clock = Arc::new(ManualClock::default());
    let introspection = Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET).max_age(max_age);
    let verifier = verifier(&server).clock(clock.clone()).introspection(introspection).build().unwrap();
    (server, clock, verifier)
}

#[tokio::test]
async fn a_failed_introspection_is_shared_and_takes_nothing_away() {
    let (server, clock, verifier) = asking(S(600)).await;
    let [held, other] = [token(&server).await, token(&server).await];
    verifier.verify(&held).await.unwrap();

    server.fail_next_introspection(Fault::RetryAfterSeconds(503, 3));
    let all = [(); 20].map(|()| {
        let (verifier, other) = (verifier.clone(), other.clone());
        tokio::spawn(async move { verifier.verify(&other).await })
    });
    for one in all {
        let refusal = one.await.unwrap().unwrap_err();
        assert_eq!((refusal.kind(), refusal.retry_after()), (RefusalKind::Unavailable, Some(S(3))));
    }
    assert_eq!(server.introspections(), 2);
    verifier.verify(&held).await.unwrap();
    clock.advance(S(3));
    verifier.verify(&other).await.unwrap();
}

/// Whoever makes up tokens takes only the turns that are for tokens not seen before.
#[tokio::test]
async fn a_crowd_of_made_up_tokens_does_not_stand_before_one_that_was_good() {
    let (server, clock, verifier) = asking(S(30)).await;
    let held = token(&server).await;
    verifier.verify(&held).await.unwrap();
    clock.advance(S(30));
    (0..48).for_each(|_| server.fail_next_introspection(Fault::Hang));
    let crowd: Vec<_> = (0..200)
        .map(|number| {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&format!("made-up-{number}")).await })
        })
        .collect();
    until("all their turns are taken", || server.introspections() == 49).await;
    let outcome = tokio::time::timeout(S(30), verifier.verify(&held)).await;
    outcome.expect("it has a turn").unwrap();
    assert_eq!(server.introspections(), 50);
    assert!(crowd.iter().all(|call| !call.is_finished()));
    crowd.iter().for_each(|call| call.abort());
}

/// No longer than its own `exp`, though answers may be remembered for longer.
#[tokio::test]
async fn an_opaque_token_is_asked_about_again_when_it_ends() {
    let (server, clock, verifier) = asking(S(600)).await;
    let exp = clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    // A null is as good as nothing.
    let body = json!({
        "active": true, "client_id": "shop", "aud": server.audience(), "exp": exp, "nbf": null, "iat": null,
    });
    server.fail_next_introspection(Fault::Status { status: 200, headers: vec![], body: body.to_string() });
    verifier.verify("opaque").await.unwrap();
    clock.advance(S(59));
    verifier.verify("opaque").await.unwrap();
    assert_eq!(server.introspections(), 1);
    clock.advance(S(1));
    assert_eq!(verifier.verify("opaque").await.unwrap_err().kind(), RefusalKind::InvalidToken);
    assert_eq!(server.introspections(), 2);
}

#[tokio::test]
async fn a_wrong_secret_of_the_api_itself_is_not_the_callers_fault() {
    let server = AuthServer::start().await.unwrap();
    server.set_opaque(true);
    let verifier = verifier(&server).introspection(Introspection::new("api", "wrong")).build().unwrap();
    let refusal = verifier.verify(&token(&server).await).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::Unavailable);
}

#[tokio::test]
async fn the_audience_of_an_opaque_token_counts_unless_the_server_names_none() {
    let server = AuthServer::start().await.unwrap();
    server.set_opaque(true);
    let introspection = || Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET);
    let elsewhere = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .token_url(server.token_url())
        .audience("https://other.example")
        .base_url(server.api_url())
        .build()
        .unwrap();
    let token = elsewhere.token_source().token().await.unwrap();
    for introspection in [introspection(), introspection().audience_optional()] {
        let verifier = verifier(&server).introspection(introspection).build().unwrap();
        let before = server.introspections();
        for _ in 0..3 {
            let refusal = verifier.verify(token.as_str()).await.unwrap_err();
            assert_eq!(refusal.reason(), "it is for another audience");
        }
        assert_eq!(server.introspections(), before + 1, "once is enough");
    }
    for (introspection, taken) in [(introspection(), false), (introspection().audience_optional(), true)] {
        let body = json!({ "active": true, "client_id": "shop" }).to_string();
        server.fail_next_introspection(Fault::Status { status: 200, headers: vec![], body });
        let verifier = verifier(&server).introspection(introspection).build().unwrap();
        assert_eq!(verifier.verify("opaque").await.is_ok(), taken);
    }
}

#[test]
fn mistakes_are_told_by_build() {
    let fine = || Verifier::builder("https://as.example/").audience("https://api.example");
    fine().build().unwrap();
    for (builder, said) in [
        (Verifier::builder("https://as.example/"), "no audience"),
        (fine().audience(""), "no audience"),
        (Verifier::builder("as.example").audience("a"), "not a URL"),
        (Verifier::builder("http://as.example").audience("a"), "plain http"),
        (fine().jwks_url("http://as.example/keys"), "plain http"),
        (fine().introspection(Introspection::new("a", "b").url("nowhere")), "not a URL"),
        (fine().public_url("api.example"), "not a URL"),
        (fine().algorithms([]), "no algorithm"),
        (fine().leeway(S(301)), "leeway"),
        (fine().root_certificate("canary"), "no certificate"),
        (fine().proxy("canary"), "not a URL"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(said) && !error.to_string().contains("canary"), "{said}: {error}");
    }
    assert!(fine().algorithms([TokenAlgorithm::Es384]).build().is_ok());
}

/// Where nothing can be read nobody waits, and it is read later all the same.
#[test]
fn outside_of_a_runtime_it_says_so_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(AuthServer::start()).unwrap();
    let verifier = verifier(&server).build().unwrap();
    let token = runtime.block_on(token(&server));
    let refusal = at_once(verifier.verify(&token)).unwrap().unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::Unavailable);
    runtime.block_on(verifier.verify(&token)).unwrap();
}

/// A verifier in a `static` is used by one runtime after the other.
#[test]
fn it_survives_the_end_of_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (outer, clock) = (runtime(), Arc::new(ManualClock::default()));
    let server = outer.block_on(AuthServer::start()).unwrap();
    let verifier = verifier(&server).clock(clock.clone()).build().unwrap();
    let inner = runtime();
    let sign = || server.sign(json!({}), json!({ "exp": 9_999_999_999_u64 })).unwrap();
    let [first, second] = [sign(), {
        server.rotate_keys().unwrap();
        sign()
    }];
    server.set_jwks(None);
    std::thread::scope(|scope| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = scope.spawn(|| outer.block_on(async { stopped.await.ok() }));
        inner.block_on(verifier.verify(&first)).unwrap();
        drop(inner);
        clock.advance(S(700));
        // Old as they are the keys serve, and are renewed by the task that this starts.
        let next = runtime();
        next.block_on(async {
            verifier.verify(&second).await.unwrap();
            until("a new task has read them", || server.jwks_requests() == 2).await;
        });
        stop.send(()).unwrap();
        serving.join().unwrap();
    });
}
