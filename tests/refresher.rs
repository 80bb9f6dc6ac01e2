//! What callers are promised while the authorization server misbehaves: scripted answers, and a clock that goes only where a
//! test moves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use evertoken::http::{HeaderMap, Request, Response, StatusCode};
use evertoken::testing::{ManualClock, TimeSource, Transport, TransportError};
use evertoken::{AccessToken, AppCredentials, ErrorKind, Pass, RenewalPolicy, Result, State, TokenSource};
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
    /// When each request came, and its `Authorization`.
    requests: Mutex<Vec<(Duration, String)>>,
}

impl Scene {
    fn new(script: impl Fn(usize) -> Deed + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(ManualClock::default()),
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
        })
    }

    fn source(
        self: &Arc<Self>,
        seed: u64,
        credentials: AppCredentials,
        policy: RenewalPolicy,
    ) -> TokenSource {
        TokenSource::builder_with(credentials)
            .token_url("https://as.example/token")
            .base_url(API)
            .clock(self.clock.clone())
            .transport(Arc::new(Endpoint(self.clone())))
            .renewal(policy)
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

struct Endpoint(Arc<Scene>);

impl Transport for Endpoint {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let scene = &self.0;
        let header = request.headers().get("authorization");
        let header = header.map_or("", |value| value.to_str().unwrap()).to_owned();
        let nth = {
            let mut requests = scene.requests.lock().unwrap();
            requests.push((scene.now(), header));
            requests.len()
        };
        let deed = scene.script.lock().unwrap()(nth);
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

#[tokio::test]
async fn a_refused_credential_makes_five_requests_in_its_first_minute_at_most() {
    for (name, credentials) in [
        ("plain", AppCredentials::new("app", "secret")),
        ("with two forms", AppCredentials::new("app", "s+t:u")),
        ("with a next secret", AppCredentials::new("app", "secret").next_secret("other")),
        ("with both", AppCredentials::new("a:p", "s+t").next_secret("o+t")),
    ] {
        for deed in
            [refused(), answer(403, ""), answer(401, "no"), answer(400, r#"{"error":"invalid_scope"}"#)]
        {
            let scene = Scene::new(move |_| deed.clone());
            let source = scene.source(3, credentials.clone(), RenewalPolicy::default());
            let began = scene.now();
            for _ in 0..10 * 60 {
                drop(call(&source));
                scene.pass_in_steps(s(1), s(1)).await;
            }
            let times: Vec<_> = scene.times().iter().map(|at| *at - began).collect();
            let early = times.iter().filter(|at| **at < s(60)).count();
            assert!((2..=5).contains(&early), "{name}: {times:?}");
            let late = times.iter().filter(|at| **at >= s(60)).count();
            assert!((1..=20).contains(&late), "{name}: {times:?}");
        }
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
    let scene = Scene::new(|nth| if nth == 2 { Deed::Slow(s(4)) } else { Deed::Token(20) });
    let source = scene.source(1, AppCredentials::new("app", "secret"), RenewalPolicy::default().jitter(0.0));
    scene.outcome(call(&source)).await.0.unwrap();
    scene.pass_in_steps(Duration::from_millis(250), s(22)).await;
    assert_eq!(source.current_token().unwrap().as_str(), "t2");
    assert_eq!(newest.call(&scene, &source).await, (200, texts(&["t2", "t3"])));

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
