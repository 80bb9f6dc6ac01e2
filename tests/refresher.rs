//! What callers are promised while the authorization server misbehaves: scripted answers, and a clock that goes only where a
//! test moves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use evertoken::http::{HeaderMap, Request, Response, StatusCode};
use evertoken::testing::{ManualClock, TimeSource, Transport, TransportError};
use evertoken::{
    AccessToken, AppCredentials, Dpop, ErrorKind, Pass, RenewalPolicy, Result, State, TokenSource,
};
use tokio::task::{JoinHandle, yield_now};

const TICK: Duration = Duration::from_millis(50);

const API: &str = "https://api.example/v1/";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What becomes of a token request.
#[derive(Clone)]
enum Deed {
    /// A token that lives for so many seconds.
    Token(u64),
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    Hang,
    /// A token, so much later.
    Slow(Duration),
}

fn answer(status: u16, body: &'static str) -> Deed {
    Deed::Answer(status, Vec::new(), body)
}

fn refused() -> Deed {
    answer(401, r#"{"error":"invalid_client"}"#)
}

/// A token endpoint on a clock of the test's.
struct Scene {
    clock: Arc<ManualClock>,
    script: Mutex<Box<dyn Fn(usize) -> Deed + Send>>,
    /// When each request came, and the secret in it, as it was sent.
    requests: Mutex<Vec<(Duration, String)>>,
    /// The secret that is right, as it has to be sent, whatever the script says.
    right: Mutex<Option<&'static str>>,
}

impl Scene {
    fn new(script: impl Fn(usize) -> Deed + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(ManualClock::default()),
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            right: Mutex::default(),
        })
    }

    fn source(
        self: &Arc<Self>,
        seed: u64,
        credentials: AppCredentials,
        policy: RenewalPolicy,
    ) -> TokenSource {
        self.source_with(seed, credentials, policy, None)
    }

    fn source_with(
        self: &Arc<Self>,
        seed: u64,
        credentials: AppCredentials,
        policy: RenewalPolicy,
        dpop: Option<Dpop>,
    ) -> TokenSource {
        let builder = TokenSource::builder_with(credentials)
            .token_url("https://as.example/token")
            .base_url(API)
            .clock(self.clock.clone())
            .transport(Arc::new(Endpoint(self.clone())))
            .renewal(policy)
            .seed(seed);
        dpop.into_iter().fold(builder, |builder, dpop| builder.dpop(dpop)).build().unwrap()
    }

    fn by_issuer(self: &Arc<Self>, seed: u64) -> TokenSource {
        TokenSource::builder("app", "secret")
            .issuer("https://as.example")
            .clock(self.clock.clone())
            .transport(Arc::new(Endpoint(self.clone())))
            .seed(seed)
            .build()
            .unwrap()
    }

    fn plain(self: &Arc<Self>, seed: u64) -> TokenSource {
        self.source(seed, AppCredentials::new("app", "secret"), RenewalPolicy::default())
    }

    fn becomes(&self, deed: Deed) {
        *self.script.lock().unwrap() = Box::new(move |_| deed.clone());
    }

    fn accepts(&self, secret: &'static str) {
        *self.right.lock().unwrap() = Some(secret);
    }

    /// The secrets that came, as they were sent.
    fn shown(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, secret)| secret.clone()).collect()
    }

    fn times(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    /// Lets time pass in small steps, in each of which everybody does what there is to do.
    async fn pass(&self, length: Duration) {
        self.pass_in_steps(TICK, length).await;
    }

    async fn pass_in_steps(&self, step: Duration, length: Duration) {
        let end = self.now() + length;
        settle().await;
        while self.now() < end {
            self.clock.advance(step.min(end - self.now()));
            settle().await;
        }
    }

    /// The same until `wait` ends. Returns its outcome and how long it took.
    async fn outcome<T>(&self, wait: JoinHandle<T>) -> (T, Duration) {
        let began = self.now();
        settle().await;
        while !wait.is_finished() {
            assert!(self.now() - began < s(600), "it never ends");
            self.pass(TICK).await;
        }
        (wait.await.unwrap(), self.now() - began)
    }
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

fn call(source: &TokenSource) -> JoinHandle<Result<AccessToken>> {
    let source = source.clone();
    tokio::spawn(async move { source.token().await })
}

/// The secret in a request, as it was sent: by Basic, or in the body.
fn secret_in(request: &Request<Bytes>) -> String {
    if let Some(header) = request.headers().get("authorization") {
        let pair = STANDARD.decode(header.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        // The id of these tests has a colon at most where the secret has none.
        return pair.strip_prefix("a:p:").unwrap_or_else(|| pair.split_once(':').unwrap().1).to_owned();
    }
    let form = std::str::from_utf8(request.body()).unwrap();
    let secret = form.split('&').find_map(|pair| pair.strip_prefix("client_secret="));
    secret.map_or_else(String::new, |secret| {
        format!("{} in the body", percent_encoding::percent_decode_str(secret).decode_utf8().unwrap())
    })
}

struct Endpoint(Arc<Scene>);

impl Transport for Endpoint {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let scene = &self.0;
        let secret = secret_in(&request);
        let nth = {
            let mut requests = scene.requests.lock().unwrap();
            requests.push((scene.now(), secret.clone()));
            requests.len()
        };
        let deed = match *scene.right.lock().unwrap() {
            Some(right) if right == secret => Deed::Token(3_600),
            _ => scene.script.lock().unwrap()(nth),
        };
        // The metadata, if they are asked for and there is a server that would give a token.
        let deed = match deed {
            Deed::Token(_) if request.method() == "GET" => {
                answer(200, r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token"}"#)
            }
            deed => deed,
        };
        Box::pin(async move {
            yield_now().await;
            let token = |life: u64| {
                format!(r#"{{"access_token":"t{nth}","token_type":"Bearer","expires_in":{life}}}"#)
            };
            let (status, headers, body) = match deed {
                Deed::Token(life) => (200, Vec::new(), token(life)),
                Deed::Answer(status, headers, body) => (status, headers, body.to_owned()),
                Deed::Hang => pending().await,
                Deed::Slow(length) => {
                    scene.clock.sleep(length).await;
                    (200, Vec::new(), token(3_600))
                }
            };
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(body.into()).unwrap())
        })
    }
}

#[tokio::test]
async fn one_failure_at_a_cold_start_costs_half_a_second_and_fleets_spread_out() {
    let scene = Scene::new(|_| answer(503, ""));
    let sources: Vec<_> = (0..100).map(|seed| scene.plain(seed)).collect();
    let began = scene.now();
    let calls: Vec<_> = sources.iter().map(call).collect();
    scene.pass(s(4)).await;
    scene.becomes(Deed::Token(3_600));
    scene.pass(s(9)).await;
    for wait in calls {
        assert!(wait.await.unwrap().is_ok());
    }
    let mut slices = [0; 130];
    for at in scene.times() {
        slices[((at - began).as_millis() / 100) as usize] += 1;
    }
    assert_eq!(slices[0], 100);
    assert!(slices[1..].iter().all(|count| *count <= 33), "{slices:?}");
}

#[tokio::test]
async fn retry_after_is_kept_spread_out_and_capped_however_large_it_is() {
    let told = |value: &'static str| {
        let scene = Scene::new(move |_| Deed::Answer(429, vec![("retry-after", value.into())], ""));
        let sources: Vec<_> = (0..30).map(|seed| scene.plain(seed)).collect();
        (scene, sources)
    };
    let (scene, sources) = told("2");
    let began = scene.now();
    sources.iter().for_each(|source| drop(call(source)));
    scene.pass(s(4)).await;
    let mut again: Vec<_> =
        scene.times().iter().map(|at| *at - began).filter(|at| !at.is_zero()).take(30).collect();
    again.sort();
    assert!(again.len() == 30 && again[0] >= s(2), "{again:?}");
    assert!(again[29] - again[0] > Duration::from_millis(500), "{again:?}");

    for digits in ["99999999999999999999", "18446744073709551616", "1e300", "300"] {
        let (scene, sources) = told(digits);
        let (outcome, _) = scene.outcome(call(&sources[0])).await;
        let wait = outcome.unwrap_err().retry_after().unwrap();
        assert!((s(300)..=s(330)).contains(&wait), "{digits}: {wait:?}");
    }
}

#[tokio::test]
async fn one_garbled_answer_locks_nobody_out() {
    let token = r#"{"access_token":"t","token_type":"#;
    for (status, headers, body) in [
        (200, vec![], "{\"access_token\":\"a\\u0007b\",\"token_type\":\"Bearer\"}"),
        (200, vec![], "{\"access_token\":\"t\",\"token_type\":\"mac\"}"),
        (200, vec![], "{\"access_token\":\"t\",\"expires_in\":-1}"),
        (200, vec![], "<h1>welcome</h1>"),
        (200, vec![], "{\"access_token\":\"t"),
        (200, vec![], token),
        (301, vec![("location", "https://as.example/token/".to_owned())], ""),
        (308, vec![("location", "/other".to_owned())], ""),
        (302, vec![], ""),
        (404, vec![], ""),
        (418, vec![], "short and stout"),
    ] {
        let what = format!("{status} {body}");
        let garbled = Deed::Answer(status, headers, body);
        // At the first renewal of a token of 10 s.
        let deeds = garbled.clone();
        let scene = Scene::new(move |nth| if nth == 2 { deeds.clone() } else { Deed::Token(10) });
        let source = scene.plain(1);
        scene.outcome(call(&source)).await.0.unwrap();
        for _ in 0..30 * 20 {
            scene.pass(TICK).await;
            assert!(source.current_token().is_some(), "{what}: lost after {:?}", scene.now());
        }
        assert!(source.status().last_error.is_none(), "{what}");
        // At a cold start.
        let scene = Scene::new(move |nth| if nth == 1 { garbled.clone() } else { Deed::Token(10) });
        let (outcome, waited) = scene.outcome(call(&scene.plain(1))).await;
        assert!(outcome.is_ok() && waited < s(1), "{what}: {outcome:?} after {waited:?}");
    }
}

#[tokio::test]
async fn a_new_secret_that_is_refused_at_first_is_checked_again_soon() {
    let scene = Scene::new(|_| refused());
    let source = scene.plain(1);
    let (outcome, _) = scene.outcome(call(&source)).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CredentialsRejected);
    assert_eq!(source.status().state, State::Rejected);
    scene.becomes(Deed::Token(3_600));
    scene.pass(s(7)).await;
    assert!(source.current_token().is_some());
}

/// All that can be tried together: other forms of Basic, the body, the next secret, a source that is asked again, and nonces.
#[tokio::test]
async fn a_refused_credential_makes_five_requests_in_its_first_minute_at_most() {
    let app = AppCredentials::new;
    for (name, credentials, first) in [
        ("plain", app("app", "secret"), "secret, secret in the body"),
        ("special", app("app", "s+t:u"), "s%2Bt%3Au, s+t:u, s+t:u in the body"),
        (
            "next",
            app("app", "secret").next_secret("other"),
            "secret, other, secret in the body, other in the body",
        ),
        (
            "special, next",
            app("a:p", "s+t").next_secret("other"),
            "s%2Bt, other, s+t, s+t in the body, other",
        ),
        (
            "next special",
            app("app", "secret").next_secret("o+t"),
            "secret, o%2Bt, secret in the body, o+t, o+t in the body",
        ),
        ("both special", app("app", "s+t").next_secret("o+t"), "s%2Bt, o%2Bt, s+t, s+t in the body, o+t"),
    ] {
        for (status, body, is_about_client) in [
            (401, r#"{"error":"invalid_client"}"#, true),
            (401, r#"{"error":"bad_credentials"}"#, true),
            (401, "no", true),
            (403, "", true),
            (400, "", true),
            (400, r#"{"error":"unauthorized_client"}"#, true),
            (403, r#"{"error":"unauthorized_client"}"#, true),
            (400, r#"{"error":"invalid_grant"}"#, true),
            (400, r#"{"error":"incorrect_client_credentials"}"#, true),
            (400, r#"{"error":"invalid_request"}"#, false),
            (422, r#"{"detail":[{"loc":["body","client_id"]}]}"#, false),
            (400, r#"{"error":"invalid_scope"}"#, false),
        ] {
            for nonces in [false, true] {
                let scene = Scene::new(move |nth| match nth {
                    1 if nonces => Deed::Answer(
                        400,
                        vec![("dpop-nonce", "n0nce".into())],
                        r#"{"error":"use_dpop_nonce"}"#,
                    ),
                    _ => answer(status, body),
                });
                let dpop = nonces.then(Dpop::new);
                let source = scene.source_with(3, credentials.clone(), RenewalPolicy::default(), dpop);
                let began = scene.now();
                drop(call(&source));
                settle().await;
                let all = scene.shown();
                let shown = if nonces { &all[1..] } else { &all[..] };
                let expected: Vec<&str> = first.split(", ").collect();
                let what = format!("{name}: {status} {body}, nonces: {nonces}");
                if is_about_client {
                    assert_eq!(shown, &expected[..shown.len()], "{what}");
                    assert_eq!(all.len(), (expected.len() + usize::from(nonces)).min(5), "{what}");
                } else {
                    assert!(
                        shown.len() <= 2 && shown.iter().all(|way| !way.starts_with('o')),
                        "{what}: {shown:?}"
                    );
                }
                // Somebody waits all the time; after the first minute in longer steps.
                for step in [s(1); 60].into_iter().chain([s(6); 90]) {
                    drop(call(&source));
                    scene.pass_in_steps(step, step).await;
                }
                let times: Vec<_> = scene.times().iter().map(|at| *at - began).collect();
                let early = times.iter().filter(|at| **at < s(60)).count();
                assert!((2..=5).contains(&early), "{what}: {times:?}");
                let late = times.iter().filter(|at| **at >= s(60)).count();
                assert!((1..=25).contains(&late), "{what}: {times:?}");
            }
        }
    }
}

/// Whatever is right is found in the first attempt, as long as that makes no more than five requests.
#[tokio::test]
async fn the_first_refusal_has_everything_tried_that_could_have_been_meant() {
    let app = AppCredentials::new;
    for (credentials, right, requests) in [
        (app("app", "secret"), "secret in the body", 2),
        (app("app", "s+t"), "s+t", 2),
        (app("app", "s+t"), "s+t in the body", 3),
        (app("app", "secret").next_secret("other"), "other", 2),
        (app("app", "secret").next_secret("other"), "other in the body", 4),
        (app("app", "s+t").next_secret("o+t"), "o%2Bt", 2),
        (app("app", "s+t").next_secret("o+t"), "s+t in the body", 4),
        (app("app", "s+t").next_secret("o+t"), "o+t", 5),
    ] {
        for (status, body) in [
            (401, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"unauthorized_client"}"#),
            (403, r#"{"error":"unauthorized_client"}"#),
            (400, r#"{"error":"invalid_grant"}"#),
            (401, r#"{"error":"bad_credentials"}"#),
            (403, "forbidden"),
            (400, ""),
        ] {
            let scene = Scene::new(move |_| answer(status, body));
            scene.accepts(right);
            let source = scene.source(3, credentials.clone(), RenewalPolicy::default());
            let (outcome, waited) = scene.outcome(call(&source)).await;
            assert!(outcome.is_ok() && waited < s(1), "{right}: {status} {body}: {outcome:?}");
            assert_eq!(scene.times().len(), requests, "{right}: {status} {body}: {:?}", scene.shown());
            // And it is remembered, for other tokens as well.
            let other = source.with("https://other.example", ["x"]).unwrap();
            assert!(scene.outcome(call(&other)).await.0.is_ok());
            assert_eq!(scene.times().len(), requests + 1, "{right}: {:?}", scene.shown());
        }
    }
}

/// A secret that the server learns of late is found by the checks, in whatever way it has to be sent.
#[tokio::test]
async fn what_becomes_right_later_is_found_in_its_turn() {
    for right in ["s%2Bt", "s+t", "s+t in the body", "o%2Bt", "o+t", "o+t in the body"] {
        let scene = Scene::new(|_| refused());
        let source =
            scene.source(3, AppCredentials::new("app", "s+t").next_secret("o+t"), RenewalPolicy::default());
        drop(call(&source));
        scene.pass_in_steps(s(1), s(3)).await;
        scene.accepts(right);
        scene.pass_in_steps(s(1), s(3 * 3_600)).await;
        assert!(source.current_token().is_some(), "{right}: {:?}", scene.shown());
    }
}

/// The next secret, and the raw form of Basic, have their turn in later checks, too: what works only after a while is found.
#[tokio::test]
async fn checks_take_turns_between_what_could_have_been_meant() {
    let scene = Scene::new(|_| refused());
    let credentials = AppCredentials::new("app", "s+t").next_secret("o+t");
    let _source = scene.source(3, credentials, RenewalPolicy::default());
    drop(call(&_source));
    scene.pass_in_steps(s(1), s(3_600)).await;
    let seen: std::collections::BTreeSet<_> =
        scene.requests.lock().unwrap().iter().skip(4).map(|(_, header)| header.clone()).collect();
    assert!(seen.len() >= 3, "{seen:?}");
}

#[tokio::test]
async fn one_hung_request_fails_no_caller_and_a_slow_server_gives_a_token() {
    for seed in 0..20 {
        let scene = Scene::new(|nth| if nth == 1 { Deed::Hang } else { Deed::Token(3_600) });
        let source = scene.plain(seed);
        let calls: Vec<_> = (0..10).map(|_| call(&source)).collect();
        for wait in calls {
            assert!(scene.outcome(wait).await.0.is_ok());
        }
        assert_eq!(scene.times().len(), 2);

        let scene = Scene::new(|_| Deed::Slow(s(8)));
        let source = scene.plain(seed);
        let (_, _) = scene.outcome(call(&source)).await;
        scene.pass(s(10)).await;
        assert!(source.current_token().is_some(), "a server that needs 8 s");
    }
}

#[tokio::test]
async fn while_renewals_fail_a_token_is_served_up_to_its_expiry_and_not_beyond() {
    for (deed, policy, life, served) in [
        (answer(503, ""), RenewalPolicy::default(), 10, Duration::from_millis(9_900)),
        (refused(), RenewalPolicy::default(), 10, Duration::from_millis(9_900)),
        (Deed::Hang, RenewalPolicy::default(), 10, Duration::from_millis(9_900)),
        (answer(503, ""), RenewalPolicy::default(), 3_600, Duration::from_millis(3_599_900)),
        // A leeway that the user set holds.
        (answer(503, ""), RenewalPolicy::default().leeway(s(2)), 10, Duration::from_millis(7_950)),
    ] {
        let scene = Scene::new(move |nth| if nth == 1 { Deed::Token(life) } else { deed.clone() });
        let source = scene.source(5, AppCredentials::new("app", "secret"), policy.clone());
        let began = scene.now();
        scene.outcome(call(&source)).await.0.unwrap();
        let step = if life > 60 { s(10) } else { TICK };
        let mut last = Duration::ZERO;
        while scene.now() - began < s(life) + s(2) {
            if source.current_token().is_some() {
                last = scene.now() - began;
            }
            let near = (scene.now() + s(20)).saturating_sub(began) >= s(life);
            scene.clock.advance(if near { TICK } else { step });
            settle().await;
        }
        assert!(last >= served && last < s(life), "{life} s, {policy:?}: served for {last:?}");
        if served < s(life) - s(1) {
            assert!(last < s(life) - s(2), "{policy:?}: {last:?}");
        }
    }
}

#[tokio::test]
async fn the_leeway_of_a_token_that_the_api_refused_is_not_served() {
    let scene = Scene::new(|nth| if nth == 1 { Deed::Token(100) } else { answer(503, "") });
    let source = scene.plain(5);
    let token = scene.outcome(call(&source)).await.0.unwrap();
    scene.pass(s(50)).await;
    source.invalidate(&token);
    scene.pass(s(30)).await;
    assert_eq!(source.current_token(), Some(token), "it serves on, since no other is to be had");
    scene.pass(s(16)).await;
    assert_eq!(source.current_token(), None, "but not through its leeway, from 95 s on");
}

#[tokio::test]
async fn a_new_caller_finds_out_that_the_server_has_recovered() {
    for seed in 0..10 {
        let scene = Scene::new(|_| answer(200, "garbage"));
        let source = scene.plain(seed);
        drop(call(&source));
        // Nobody else comes by, and the pauses grow.
        scene.pass_in_steps(s(1), s(400)).await;
        scene.becomes(Deed::Token(3_600));
        let (outcome, waited) = scene.outcome(call(&source)).await;
        assert!(outcome.is_ok() && waited < s(10), "{outcome:?} after {waited:?}");
    }
}

/// Keycloak answers so until its realms are there, and so do others before their routes are.
#[tokio::test]
async fn callers_of_a_server_that_is_starting_are_served_as_soon_as_it_is_up() {
    for starting in [
        answer(404, r#"{"error":"Realm does not exist"}"#),
        answer(404, r#"{"error":"realm_not_found","error_description":"no such realm"}"#),
        answer(404, "404 page not found"),
        answer(405, ""),
        answer(410, r#"{"error":"Gone"}"#),
    ] {
        for (seed, up_after) in [(1, 3), (2, 8), (3, 30), (4, 110), (5, 3), (6, 30), (7, 110)] {
            let deed = starting.clone();
            let scene = Scene::new(move |_| deed.clone());
            let source = if seed < 5 { scene.plain(seed) } else { scene.by_issuer(seed) };
            // A caller each second, of whom none is told before its deadline to give up.
            let mut calls = Vec::new();
            for _ in 0..up_after {
                calls.push((scene.now(), call(&source)));
                scene.pass(s(1)).await;
            }
            let up = scene.now();
            scene.becomes(Deed::Token(3_600));
            scene.pass(Duration::from_millis(3_500)).await;
            assert!(source.current_token().is_some(), "{up_after} s: no token after {:?}", scene.times());
            let late = call(&source);
            assert!(scene.outcome(late).await.0.is_ok());
            for (came, wait) in calls {
                let outcome = wait.await.unwrap();
                assert!(outcome.is_ok() || up - came >= s(6), "{up_after} s: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_address_without_a_token_endpoint_is_tried_ever_more_slowly() {
    let scene = Scene::new(|_| answer(404, r#"{"error":"Realm does not exist"}"#));
    let source = scene.plain(1);
    let began = scene.now();
    for _ in 0..600 {
        drop(call(&source));
        scene.pass_in_steps(s(1), s(1)).await;
    }
    let late = scene.times().iter().filter(|at| **at - began > s(125)).count();
    assert!((5..=12).contains(&late), "{late}");
    let (outcome, waited) = scene.outcome(call(&source)).await;
    let error = outcome.unwrap_err();
    assert!(waited < s(1) && error.to_string().contains("Realm does not exist"), "{waited:?}: {error}");
    assert!(error.to_string().contains("`token_url`") && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_readiness_check_that_prefetches_becomes_ready_without_traffic() {
    let scene = Scene::new(|_| Deed::Token(100));
    let policy = RenewalPolicy::default().stop_after_unused(1);
    let source = scene.source(1, AppCredentials::new("app", "secret"), policy);
    let check = || {
        let is_ready = source.status().is_ready();
        if !is_ready {
            source.prefetch();
        }
        is_ready
    };
    for round in 1..=2 {
        scene.pass(s(300)).await;
        assert!(!source.status().is_ready(), "asking for it fetches no token");
        assert!(!check());
        scene.pass(s(1)).await;
        assert!(check());
        assert_eq!(scene.times().len(), round, "one request each time that there is no token");
    }
}

/// An API that knows these tokens and no others. Returns how a call to it ends, and the tokens it was sent with.
struct Api {
    knows: fn(&str) -> bool,
    challenge: &'static str,
}

impl Api {
    const BEARER: &'static str = "Bearer error=\"invalid_token\"";

    async fn call(&self, scene: &Scene, source: &TokenSource) -> (u16, Vec<String>) {
        let mut pass = source.pass().await.unwrap();
        let mut sent = Vec::new();
        loop {
            let token = pass.token().as_str().to_owned();
            let known = (self.knows)(&token);
            sent.push(token);
            if known {
                assert!(!repeats(&mut pass, 200, None).await);
                return (200, sent);
            }
            let challenge = self.challenge;
            let again = tokio::spawn(async move {
                let again = repeats(&mut pass, 401, Some(challenge)).await;
                (pass, again)
            });
            let ((back, again), _) = scene.outcome(again).await;
            if !again {
                return (401, sent);
            }
            pass = back;
        }
    }
}

async fn repeats(pass: &mut Pass, status: u16, challenge: Option<&'static str>) -> bool {
    let mut headers = HeaderMap::new();
    headers.extend(challenge.map(|challenge| {
        (
            evertoken::http::header::WWW_AUTHENTICATE,
            challenge.parse::<evertoken::http::HeaderValue>().unwrap(),
        )
    }));
    pass.repeats(&API.parse().unwrap(), StatusCode::from_u16(status).unwrap(), &headers, true).await
}

/// A source that has renewed its first token just now, in time, and the API that refuses what `knows` does not name.
async fn renewed(scene: &Arc<Scene>, policy: RenewalPolicy) -> TokenSource {
    let source = scene.source(1, AppCredentials::new("app", "secret"), policy.jitter(0.0));
    scene.outcome(call(&source)).await.0.unwrap();
    scene.pass_in_steps(s(1), s(90)).await;
    assert_eq!(scene.times().len(), 2, "it was renewed");
    source
}

fn texts(tokens: &[&str]) -> Vec<String> {
    tokens.iter().map(|token| (*token).to_owned()).collect()
}

#[tokio::test]
async fn a_young_token_that_the_api_does_not_know_yet_gives_way_to_the_previous_one() {
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, RenewalPolicy::default()).await;
    let old_only = Api { knows: |token| token == "t1", challenge: Api::BEARER };
    for _ in 0..3 {
        assert_eq!(old_only.call(&scene, &source).await, (200, texts(&["t2", "t1"])));
    }
    assert_eq!(source.current_token().unwrap().as_str(), "t2", "it was not given up");
    assert_eq!(scene.times().len(), 2, "without a renewal");
    let all = Api { knows: |_| true, ..old_only };
    assert_eq!(all.call(&scene, &source).await, (200, texts(&["t2"])));
    // Past its youth a refusal means what it says.
    scene.pass(s(6)).await;
    let newest = Api { knows: |token| token == "t3", ..all };
    assert_eq!(newest.call(&scene, &source).await, (200, texts(&["t2", "t3"])));
    assert_eq!(newest.call(&scene, &source).await, (200, texts(&["t3"])));
}

#[tokio::test]
async fn a_server_at_which_a_new_token_ends_the_previous_one_is_recovered_from_as_usual() {
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, RenewalPolicy::default()).await;
    let newest = Api { knows: |token| token == "t3", challenge: Api::BEARER };
    assert_eq!(newest.call(&scene, &source).await, (200, texts(&["t2", "t1", "t3"])));
    assert_eq!(scene.times().len(), 3);
    // Both that went before were refused.
    let none = Api { knows: |_| false, ..newest };
    assert_eq!(none.call(&scene, &source).await, (401, texts(&["t3"])), "the cooldown holds");
    assert_eq!(scene.times().len(), 3);
}

#[tokio::test]
async fn the_previous_token_is_tried_only_if_it_is_known_to_be_good() {
    let newest = Api { knows: |token| token == "t3", challenge: Api::BEARER };
    // It was refused in a call that was still under way.
    let scene = Scene::new(|_| Deed::Token(100));
    let source = scene.source(1, AppCredentials::new("app", "secret"), RenewalPolicy::default().jitter(0.0));
    let first = scene.outcome(call(&source)).await.0.unwrap();
    scene.pass_in_steps(s(1), s(90)).await;
    source.invalidate(&first);
    assert_eq!(newest.call(&scene, &source).await, (200, texts(&["t2", "t3"])));

    // It is of another credential: by hand, and of another app.
    for id in ["app", "other"] {
        let scene = Scene::new(|_| Deed::Token(100));
        let source =
            scene.source(1, AppCredentials::new("app", "secret"), RenewalPolicy::default().jitter(0.0));
        scene.outcome(call(&source)).await.0.unwrap();
        source.set_credentials(id, "new").unwrap();
        scene.pass_in_steps(s(1), s(90)).await;
        scene.outcome(call(&source)).await.0.unwrap();
        let sent = newest.call(&scene, &source).await.1;
        assert!(!sent.contains(&"t1".to_owned()), "{id}: {sent:?}");
    }
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, RenewalPolicy::default()).await;
    source.set_credentials("app", "new").unwrap();
    let sent = newest.call(&scene, &source).await;
    assert_eq!(sent, (200, texts(&["t2", "t3"])), "set after the renewal");

    // It has expired, in its leeway at least.
    let scene = Scene::new(|nth| if nth == 2 { Deed::Slow(s(3)) } else { Deed::Token(20) });
    let source = scene.source(1, AppCredentials::new("app", "secret"), RenewalPolicy::default().jitter(0.0));
    scene.outcome(call(&source)).await.0.unwrap();
    scene.pass_in_steps(Duration::from_millis(250), s(22)).await;
    assert_ne!(source.current_token().unwrap().as_str(), "t1");
    let none = Api { knows: |_| false, ..newest };
    let sent = none.call(&scene, &source).await.1;
    assert!(!sent.contains(&"t1".to_owned()), "{sent:?}");

    // A caller's own word renews at once.
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, RenewalPolicy::default()).await;
    source.invalidate(&source.current_token().unwrap());
    assert_eq!(scene.outcome(call(&source)).await.0.unwrap().as_str(), "t3");
}

#[tokio::test]
async fn a_new_token_settles_while_the_previous_one_serves() {
    let scene = Scene::new(|_| Deed::Token(100));
    let settling = RenewalPolicy::default().settle(s(3));
    let source = scene.source(1, AppCredentials::new("app", "secret"), settling.clone().jitter(0.0));
    let (first, waited) = scene.outcome(call(&source)).await;
    assert_eq!(first.unwrap().as_str(), "t1");
    assert!(waited < s(1), "with nothing held it is served at once");
    let serves = |token: &str| source.current_token().is_some_and(|held| held.as_str() == token);
    while scene.times().len() < 2 {
        scene.pass(TICK).await;
    }
    let came = scene.now();
    while !serves("t2") {
        assert!(serves("t1"), "one of them serves");
        scene.pass(TICK).await;
    }
    assert!(scene.now() - came >= s(3) - TICK && scene.now() - came <= s(4), "{:?}", scene.now() - came);
    assert_eq!(source.status().state, State::Fresh);

    // A refusal of the previous one ends the wait.
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, settling.clone()).await;
    let held = source.current_token().unwrap();
    source.invalidate(&held);
    assert!(source.current_token().is_some_and(|newer| newer != held));

    // So does its end, however long the new one is to settle.
    let scene = Scene::new(|_| Deed::Token(100));
    let source = renewed(&scene, RenewalPolicy::default().settle(s(1_000))).await;
    for _ in 0..400 {
        assert!(source.current_token().is_some(), "one of them serves");
        scene.pass(s(1)).await;
    }
}

#[tokio::test]
async fn a_401_for_other_schemes_only_renews_once_until_a_call_succeeds() {
    let scene = Scene::new(|_| Deed::Token(1_000_000));
    let source = scene.plain(1);
    scene.outcome(call(&source)).await.0.unwrap();
    scene.pass(s(10)).await;
    let foreign = Api { knows: |_| false, challenge: "Basic realm=\"api\"" };
    assert_eq!(foreign.call(&scene, &source).await, (401, texts(&["t1", "t2"])));
    for _ in 0..20 {
        scene.pass_in_steps(s(1), s(60)).await;
        assert_eq!(foreign.call(&scene, &source).await, (401, texts(&["t2"])), "no other");
    }
    assert_eq!(scene.times().len(), 2);
    // A challenge for our scheme is another matter.
    let ours = Api { knows: |token| token == "t3", challenge: Api::BEARER };
    assert_eq!(ours.call(&scene, &source).await, (200, texts(&["t2", "t3"])));
    scene.pass_in_steps(s(1), s(600)).await;
    assert_eq!(foreign.call(&scene, &source).await, (401, texts(&["t3", "t4"])), "a call has succeeded");
}
