//! Fifty tasks call an API for a while, and the authorization server fails in every way it can; not one call fails that
//! could have been saved.
//!
//! `EVERTOKEN_SOAK_SECONDS=600` lasts longer than the usual 20 s; `EVERTOKEN_SOAK_SEED` gives the seed of the faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod house;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evertoken::testing::{AuthServer, Fault};
use evertoken::{Client, Event, RenewalPolicy};
use house::{box_of, client, until};
use tokio::time::sleep;

const LIFE: Duration = Duration::from_secs(4);
const TASKS: usize = 50;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// From the end of an outage to a token: a hung attempt (1 s), a pause (1 s), the floor (0.4 s), and a busy machine.
const RECOVERY: Duration = Duration::from_secs(5);
/// A busy machine is as late in each of so many steps of a call or a renewal as it is in waking a sleeper.
const STEPS: u32 = 8;
/// For so long before its expiry a token of 4 s is not handed out.
const LEEWAY: Duration = Duration::from_secs(1);
/// So far apart are the API's refusals of a good token, that the cooldown of 10 s forbids no renewal.
const BETWEEN_REVOCATIONS: Duration = Duration::from_secs(11);

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// What truly happened.
#[derive(Default)]
struct History {
    /// An outage that lasts is open to the far future.
    outages: Vec<Range<Instant>>,
    revocations: Vec<Instant>,
    /// When the client was known to hold a token, and which.
    held: Vec<Range<Instant>>,
    /// By how much the machine was late at most in waking a sleeper.
    late: Duration,
}

/// A call that came to nothing.
struct Failure {
    call: Range<Instant>,
    /// The API refused the token; else there was none.
    refused: bool,
    what: String,
}

impl History {
    fn out(&self, during: &Range<Instant>) -> bool {
        let recovery = RECOVERY + self.late * STEPS;
        self.outages.iter().any(|out| out.start < during.end && during.start < out.end + recovery)
    }

    /// Why a perfect client could have saved this call; `None` where it could not.
    fn reproach(&self, failure: &Failure) -> Option<&'static str> {
        let call = &failure.call;
        let revoked = self.revocations.iter().rev().find(|at| **at < call.end);
        if failure.refused {
            // The token may have expired on the way.
            if call.end - call.start >= LEEWAY {
                return None;
            }
            let Some(revoked) = revoked else { return Some("the API refused a token that is good") };
            return (!self.out(&(*revoked..call.end))).then_some("the refused token was not replaced");
        }
        // Since a renewal that was seen to be there, and up to shortly before its end.
        let late = self.late * STEPS;
        let mut held =
            self.held.iter().filter(|held| held.start <= call.start && call.start + late < held.end);
        if held.any(|held| revoked.is_none_or(|revoked| *revoked + ms(500) + late <= held.start)) {
            return Some("there was a valid token");
        }
        (!self.out(call)).then_some("the authorization server was well")
    }
}

fn fault(random: &mut fastrand::Rng) -> Fault {
    let status = |status, body: &str| Fault::Status { status, headers: Vec::new(), body: body.into() };
    let oauth =
        |status, error: &str| Fault::Oauth { status, error: error.into(), description: String::new() };
    match random.u8(0..13) {
        0 => Fault::Hang,
        1 => Fault::Reset,
        2 => Fault::Close,
        3 => Fault::TornBody,
        4 => Fault::EndlessBody,
        5 => Fault::Garbage,
        6 => Fault::RetryAfterSeconds(503, 1),
        7 => Fault::RetryAfterDate(429, ms(500)),
        8 => status(500, "<h1>oops</h1>"),
        9 => status(403, "<h1>firewall</h1>"),
        10 => oauth(503, "invalid_client"),
        11 => oauth(400, "temporarily_unavailable"),
        _ => Fault::Latency(ms(random.u64(100..3_000))),
    }
}

/// Makes one thing after another go wrong.
async fn havoc(
    server: Arc<AuthServer>,
    api: Client,
    history: Arc<Mutex<History>>,
    seed: u64,
    end: Instant,
) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut faults = 0;
    let mut last_revocation = Instant::now() - BETWEEN_REVOCATIONS;
    while Instant::now() < end {
        sleep(ms(random.u64(500..7_000))).await;
        if random.u8(0..4) == 0 && last_revocation.elapsed() > BETWEEN_REVOCATIONS {
            if let Some(token) = api.current_token() {
                last_revocation = Instant::now();
                history.lock().unwrap().revocations.push(last_revocation);
                server.revoke(token.as_str());
            }
            continue;
        }
        let begun = Instant::now();
        let nth = {
            let mut history = history.lock().unwrap();
            history.outages.push(begun..begun + Duration::from_secs(3600));
            history.outages.len() - 1
        };
        faults += 1;
        let refuses = random.u8(0..6) == 0;
        if refuses {
            server.outage();
        } else {
            server.fail_always(fault(&mut random));
        }
        sleep(ms(random.u64(100..4_500))).await;
        if refuses {
            server.recover().await.unwrap();
        } else {
            server.heal();
        }
        history.lock().unwrap().outages[nth].end = Instant::now();
    }
    faults
}

/// Takes down from when until when there is a token.
async fn watch(api: Client, history: Arc<Mutex<History>>) -> u64 {
    let mut events = api.events();
    let mut renewals = 0;
    while let Some(event) = events.next().await {
        if let Event::Renewed { .. } = event {
            renewals += 1;
            let now = Instant::now();
            if let Some(left) = api.status().expires_in.and_then(|left| left.checked_sub(ms(200))) {
                history.lock().unwrap().held.push(now..now + left);
            }
        }
    }
    renewals
}

/// Takes down how late the machine is.
async fn watch_lateness(history: Arc<Mutex<History>>) {
    loop {
        let began = Instant::now();
        sleep(ms(10)).await;
        let late = began.elapsed().saturating_sub(ms(15));
        let mut history = history.lock().unwrap();
        history.late = history.late.max(late);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_one_call_fails_that_could_have_been_saved() {
    let length = Duration::from_secs(variable("EVERTOKEN_SOAK_SECONDS").unwrap_or(20));
    let seed = variable("EVERTOKEN_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("{} s with EVERTOKEN_SOAK_SEED={seed}", length.as_secs());
    let server = Arc::new(box_of(LIFE).await);
    let policy = RenewalPolicy::default().request_timeout(ms(1_000)).backoff_cap(ms(1_000));
    let api = client(&server).renewal(policy).token_timeout(ms(2_500)).build().unwrap();
    let history = Arc::new(Mutex::new(History::default()));
    let watching = tokio::spawn(watch(api.clone(), history.clone()));
    api.prefetch().await.unwrap();

    let lateness = tokio::spawn(watch_lateness(history.clone()));
    let began = Instant::now();
    let end = began + length;
    let havoc = tokio::spawn(havoc(server.clone(), api.clone(), history.clone(), seed, end));
    let (calls, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..TASKS)
        .map(|_| {
            let (api, calls, over) = (api.clone(), calls.clone(), over.clone());
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let outcome = api.get("orders").send().await;
                    let call = start..Instant::now();
                    calls.fetch_add(1, Ordering::Relaxed);
                    match outcome {
                        Ok(response) if response.status().is_success() => {}
                        Ok(response) => {
                            let what = response.status().to_string();
                            failures.push(Failure { call, refused: true, what });
                        }
                        Err(error) => {
                            failures.push(Failure { call, refused: false, what: error.to_string() })
                        }
                    }
                    sleep(ms(20)).await;
                }
                failures
            })
        })
        .collect();
    let faults = havoc.await.unwrap();
    until("there were some renewals", || history.lock().unwrap().held.len() > 2).await;
    until("each has called a few times", || calls.load(Ordering::Relaxed) > 3 * TASKS as u64).await;
    over.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(caller.await.unwrap());
    }
    api.shutdown().await.unwrap();
    let renewals = watching.await.unwrap();
    let took = began.elapsed();
    lateness.abort();

    let history = history.lock().unwrap();
    let calls = calls.load(Ordering::Relaxed);
    let slowest =
        failures.iter().map(|failure| failure.call.end - failure.call.start).max().unwrap_or_default();
    println!(
        "{calls} calls, {} failed (the slowest took {slowest:.1?}), {faults} faults, {} refused tokens, {renewals} renewals, \
         {} token requests; the machine was late by {:.1?} at most",
        failures.len(),
        history.revocations.len(),
        server.token_requests(),
        history.late,
    );
    for failure in &failures {
        if let Some(reproach) = history.reproach(failure) {
            panic!("EVERTOKEN_SOAK_SEED={seed}: {reproach}, and a call failed: {}", failure.what);
        }
    }
    assert!(faults > 0, "it was a soak");
    assert_eq!(server.max_in_flight(), 1);
    // One for each floor of 0.4 s at the very most, in the time that it really took.
    let (requests, most) = (server.token_requests(), took.as_secs_f64() / 0.4 + 10.0);
    assert!(requests as f64 <= most, "{requests} requests in {took:?}");
}
