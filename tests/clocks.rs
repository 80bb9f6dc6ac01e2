//! Clocks that jump, and refreshers that stand still or die: each by a clock that the test moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evertoken::http::{Request, Response};
use evertoken::testing::{ManualClock, Transport, TransportError};
use evertoken::{AccessToken, State, TokenSource};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

const HOUR: Duration = Duration::from_secs(3600);
/// Until when a token of an hour is served, and the second after which it is not.
const SERVED: Duration = Duration::from_secs(3570);
const SECOND: Duration = Duration::from_secs(1);
/// Ends a wait for what will never come; nothing here is measured against it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the authorization server does with one request.
#[derive(Clone, Copy)]
enum Deed {
    Answer,
    Hang,
    Panic,
}

/// An authorization server without a network: a deed for each of the first requests, then answers. The n-th request
/// gets the token `tn`, for an hour.
struct Script {
    deeds: Vec<Deed>,
    requests: AtomicU64,
}

impl Script {
    fn new(deeds: &[Deed]) -> Arc<Self> {
        Arc::new(Self { deeds: deeds.to_vec(), requests: AtomicU64::new(0) })
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn source(self: &Arc<Self>, clock: &Arc<ManualClock>) -> TokenSource {
        TokenSource::builder("app", "secret")
            .token_url("https://as.example/token")
            .clock(clock.clone())
            .transport(self.clone())
            .build()
            .unwrap()
    }
}

impl Transport for Script {
    fn send(
        &self,
        _: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let nth = self.requests.fetch_add(1, Ordering::SeqCst);
        let deed = usize::try_from(nth).ok().and_then(|nth| self.deeds.get(nth));
        let deed = deed.copied().unwrap_or(Deed::Answer);
        Box::pin(async move {
            match deed {
                Deed::Answer => {
                    // As a network has it: the answer is not there at once.
                    yield_now().await;
                    let token = format!("t{}", nth + 1);
                    let body =
                        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
                    Ok(Response::new(body.into()))
                }
                Deed::Hang => pending().await,
                Deed::Panic => panic!("the transport's own mistake"),
            }
        })
    }
}

fn held(source: &TokenSource) -> Option<String> {
    source.current_token().map(|token| token.as_str().to_owned())
}

async fn token(source: &TokenSource) -> String {
    text(&within(source.token()).await.unwrap())
}

fn text(token: &AccessToken) -> String {
    token.as_str().to_owned()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends")
}

/// Gives every task that could do something the time to do it.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// A source that holds `t1`, and its clock.
async fn with_a_token(clock: ManualClock) -> (Arc<ManualClock>, Arc<Script>, TokenSource) {
    let clock = Arc::new(clock);
    let script = Script::new(&[]);
    let source = script.source(&clock);
    assert_eq!(token(&source).await, "t1");
    (clock, script, source)
}

#[tokio::test]
async fn a_wall_clock_set_forward_keeps_the_token() {
    let (clock, script, source) = with_a_token(ManualClock::default()).await;
    clock.set_wall(clock.wall() + HOUR);
    assert_eq!(held(&source).as_deref(), Some("t1"));
    assert_eq!(token(&source).await, "t1");
    settle().await;
    assert_eq!((script.requests(), source.status().state), (1, State::Fresh));

    // It ends when it would have ended: no sooner, and no later.
    clock.advance(SERVED - SECOND);
    assert_eq!(held(&source).as_deref(), Some("t1"));
    clock.advance(SECOND);
    assert_eq!(held(&source), None);
    assert_eq!(token(&source).await, "t2");
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn a_wall_clock_set_back_prolongs_nothing() {
    for clock in [ManualClock::default(), ManualClock::default().without_boot()] {
        let (clock, script, source) = with_a_token(clock).await;
        clock.set_wall(clock.wall() - HOUR);
        assert_eq!(held(&source).as_deref(), Some("t1"));
        settle().await;
        assert_eq!(script.requests(), 1);
        clock.advance(SERVED - SECOND);
        assert_eq!(held(&source).as_deref(), Some("t1"));
        clock.advance(SECOND);
        assert_eq!(held(&source), None);
        assert_eq!(token(&source).await, "t2");
        assert_eq!(script.requests(), 2);
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_again_and_again_neither_ends_nor_prolongs_a_token() {
    let (clock, script, source) = with_a_token(ManualClock::default()).await;
    let steps = 100;
    for step in 0..steps {
        clock.advance(SERVED / (2 * steps));
        let (now, far) = (clock.wall(), HOUR * (step + 1));
        clock.set_wall(if step % 2 == 0 { now + far } else { now - far });
        assert_eq!(held(&source).as_deref(), Some("t1"));
        settle().await;
    }
    assert_eq!(script.requests(), 1);
    clock.advance(SERVED / 2 + SECOND);
    assert_eq!(held(&source), None);
}

#[tokio::test]
async fn a_suspend_is_noticed_by_the_next_read() {
    for clock in [ManualClock::default(), ManualClock::default().without_boot()] {
        let (clock, script, source) = with_a_token(clock).await;
        clock.suspend(8 * HOUR);
        // Nobody is woken by it.
        settle().await;
        assert_eq!(script.requests(), 1);
        assert_eq!(held(&source), None);
        assert_eq!(token(&source).await, "t2");
        assert_eq!(script.requests(), 2);

        // One that is shorter than the token's life counts, too.
        clock.suspend(SERVED / 2);
        assert_eq!(held(&source).as_deref(), Some("t2"));
        clock.advance(SERVED / 2 + SECOND);
        assert_eq!(held(&source), None);
    }
}

#[tokio::test]
async fn without_a_boot_clock_the_earlier_end_wins() {
    let (clock, script, source) = with_a_token(ManualClock::default().without_boot()).await;
    clock.set_wall(clock.wall() + HOUR);
    assert_eq!(held(&source), None);
    assert_eq!(token(&source).await, "t2");
    settle().await;
    assert_eq!((script.requests(), held(&source).as_deref()), (2, Some("t2")));
}

/// A thousand callers at once, on threads of their own; each gets `expected`.
async fn a_thousand_get(source: &TokenSource, expected: &str) {
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let source = source.clone();
        callers.spawn(async move { source.token().await });
    }
    while let Some(got) = within(callers.join_next()).await {
        assert_eq!(text(&got.unwrap().unwrap()), expected);
    }
}

/// Lets time pass until `script` has seen so many requests. The steps are short and the pauses real, so that every
/// waiter runs in each of its graces.
async fn advance_until_requests(clock: &ManualClock, script: &Script, requests: u64) {
    let passing = async {
        while script.requests() < requests {
            clock.advance(Duration::from_millis(50));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(passing).await;
}

#[test]
fn a_thousand_cold_callers_make_one_request() {
    let runtime = threads();
    for _ in 0..50 {
        let script = Script::new(&[]);
        let source = script.source(&Arc::default());
        runtime.block_on(a_thousand_get(&source, "t1"));
        assert_eq!(script.requests(), 1);
    }
}

#[test]
fn a_frozen_refresher_is_taken_over_once() {
    let callers = threads();
    for _ in 0..20 {
        let clock = Arc::new(ManualClock::default());
        let script = Script::new(&[]);
        let source = script.source(&clock);
        let frozen = one_thread();
        assert_eq!(frozen.block_on(token(&source)), "t1");

        // From here on nobody drives it.
        clock.advance(2 * HOUR);
        callers.block_on(a_thousand_get(&source, "t2"));
        assert_eq!(script.requests(), 2);

        frozen.block_on(settle());
        assert_eq!(frozen.metrics().num_alive_tasks(), 0, "the superseded task ends");
        assert_eq!((script.requests(), held(&source).as_deref()), (2, Some("t2")));
        // The new one is at work.
        clock.advance(HOUR);
        callers.block_on(a_thousand_get(&source, "t3"));
        assert_eq!(script.requests(), 3);
    }
}

#[test]
fn a_refresher_frozen_in_mid_request_is_taken_over_once() {
    let callers = threads();
    for _ in 0..5 {
        let clock = Arc::new(ManualClock::default());
        let script = Script::new(&[Deed::Hang]);
        let source = script.source(&clock);
        let frozen = one_thread();
        frozen.block_on(async {
            source.prefetch();
            settle().await;
        });
        assert_eq!(script.requests(), 1);

        callers.block_on(async {
            let pump = async {
                advance_until_requests(&clock, &script, 2).await;
                pending().await
            };
            tokio::select! {
                () = a_thousand_get(&source, "t2") => {}
                () = pump => {}
            }
        });
        assert_eq!(script.requests(), 2);
        frozen.block_on(settle());
        assert_eq!(frozen.metrics().num_alive_tasks(), 0, "the superseded task ends");
        assert_eq!((script.requests(), held(&source).as_deref()), (2, Some("t2")));
    }
}

#[test]
fn a_runtime_that_is_dropped_in_mid_request_is_replaced_once() {
    let callers = threads();
    for _ in 0..20 {
        let clock = Arc::new(ManualClock::default());
        let script = Script::new(&[Deed::Hang]);
        let source = script.source(&clock);
        let gone = one_thread();
        gone.block_on(async {
            source.prefetch();
            settle().await;
        });
        callers.block_on(async {
            let waiting = {
                let source = source.clone();
                tokio::spawn(async move { a_thousand_get(&source, "t2").await })
            };
            tokio::task::spawn_blocking(move || drop(gone)).await.unwrap();
            // The next attempt keeps its distance from the one that was lost.
            advance_until_requests(&clock, &script, 2).await;
            waiting.await.unwrap();
        });
        assert_eq!(script.requests(), 2);
    }
}

#[test]
fn a_panic_in_a_transport_costs_one_attempt() {
    let runtime = threads();
    for _ in 0..20 {
        let clock = Arc::new(ManualClock::default());
        let script = Script::new(&[Deed::Panic]);
        let source = script.source(&clock);
        runtime.block_on(async {
            let waiting = {
                let source = source.clone();
                tokio::spawn(async move { a_thousand_get(&source, "t2").await })
            };
            advance_until_requests(&clock, &script, 2).await;
            waiting.await.unwrap();
        });
        assert_eq!(script.requests(), 2);
    }
}

#[tokio::test]
async fn a_panic_while_a_token_is_held_costs_nothing() {
    let clock = Arc::new(ManualClock::default());
    let script = Script::new(&[Deed::Answer, Deed::Panic]);
    let source = script.source(&clock);
    assert_eq!(token(&source).await, "t1");
    clock.advance(SERVED - SECOND);
    settle().await;
    assert_eq!(script.requests(), 2);
    // The read finds the token, and the task dead.
    assert_eq!(held(&source).as_deref(), Some("t1"));
    advance_until_requests(&clock, &script, 3).await;
    settle().await;
    assert_eq!(token(&source).await, "t3");
}
