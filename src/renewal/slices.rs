//! A fleet on paper in slices of 100 ms: what clients that are started together do while the server is down for seconds.
//! The weeks of a fleet lie in `fleet`.
//!
//! With `EVERTOKEN_SLICES_CSV=path` the requests in each slice are written there for the picture in the documentation, beside
//! those of a fleet with a floor of 1 s between two attempts in the place of the least pause.
#![allow(clippy::print_stdout)]

use std::fmt::Write;
use std::time::Duration;

use super::plan::{Failure, Next, Plan};
use super::policy::RenewalPolicy;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};

const CLIENTS: u64 = 1_000;
const SLICE: Duration = Duration::from_millis(100);
const ROUND_TRIP: Duration = Duration::from_millis(20);
const OUTAGE: Duration = Duration::from_secs(4);
const LENGTH: Duration = Duration::from_secs(8);

fn at(time: Duration) -> Moment {
    // Away from zero, as clocks are.
    let time = time + Duration::from_secs(3_600);
    Moment::new(time, time, Some(time))
}

/// When each client of a fleet sends its requests, up to the first that is answered well or the end.
type Requests = Vec<Vec<Duration>>;

/// A fleet that meets `error` in every answer before `end`.
fn fleet(end: Duration, error: &Error) -> Requests {
    let client = |seed| {
        let mut plan = Plan::new(RenewalPolicy::default(), Some(seed));
        let (mut requests, mut now) = (Vec::new(), Duration::ZERO);
        while now < LENGTH {
            match plan.next(&at(now), None) {
                Next::Attempt { .. } => {
                    requests.push(now);
                    if now >= end {
                        break;
                    }
                    now += ROUND_TRIP;
                    let failure = Failure { error: error.clone(), requests: 1, refused: false };
                    plan.failed(&at(now), failure, None);
                    // Callers wait, as they do in a fleet that has just been started.
                    plan.want();
                }
                Next::Sleep(length) => now += length,
                Next::Rest => unreachable!("nothing is to be had without an attempt"),
            }
        }
        requests
    };
    (0..CLIENTS).map(client).collect()
}

/// The same with full jitter over steps from 0.5 s on, but never within 1 s of the attempt before.
fn fleet_with_floor(end: Duration) -> Requests {
    let client = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut requests, mut now, mut step) = (Vec::new(), Duration::ZERO, Duration::from_millis(500));
        while now < LENGTH {
            requests.push(now);
            if now >= end {
                break;
            }
            now += (ROUND_TRIP + step.mul_f64(random.f64())).max(Duration::from_secs(1));
            step *= 2;
        }
        requests
    };
    (0..CLIENTS).map(client).collect()
}

fn slices(requests: &Requests) -> Vec<usize> {
    let mut slices = vec![0; (LENGTH.as_millis() / SLICE.as_millis()) as usize];
    for time in requests.iter().flatten().filter(|time| **time < LENGTH) {
        slices[(time.as_millis() / SLICE.as_millis()) as usize] += 1;
    }
    slices
}

fn worst_after_the_first(requests: &Requests) -> f64 {
    *slices(requests)[1..].iter().max().unwrap() as f64 / CLIENTS as f64
}

fn unavailable() -> Error {
    Error::new(ErrorKind::AuthServerUnavailable, "down")
}

#[test]
fn clients_that_failed_together_do_not_retry_together() {
    let drawn = fleet(OUTAGE, &unavailable());
    let floored = fleet_with_floor(OUTAGE);
    let (worst, floored_worst) = (worst_after_the_first(&drawn), worst_after_the_first(&floored));
    println!(
        "worst slice of 100 ms after the first: {worst:.2} of the fleet; with a floor {floored_worst:.2}"
    );
    assert!(worst <= 0.2, "{worst}");
    assert!(floored_worst > 0.9, "the slices see it: {floored_worst}");
    for times in &drawn {
        let early = times.iter().filter(|time| **time < Duration::from_secs(3)).count();
        assert!(early <= 4, "{times:?}");
    }
    let mean_gap = |nth: usize| {
        let gaps: Vec<_> = drawn.iter().filter_map(|times| Some(*times.get(nth + 1)? - times[nth])).collect();
        gaps.iter().sum::<Duration>() / u32::try_from(gaps.len()).unwrap()
    };
    let gaps: Vec<_> = (0..3).map(mean_gap).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "gaps grow: {gaps:?}");
    if let Ok(path) = std::env::var("EVERTOKEN_SLICES_CSV") {
        let mut csv = String::from("seconds,drawn,floor\n");
        for (n, (drawn, floored)) in slices(&drawn).iter().zip(slices(&floored)).enumerate() {
            writeln!(csv, "{:.1},{drawn},{floored}", n as f64 / 10.0).unwrap();
        }
        std::fs::write(path, csv).unwrap();
    }
}

#[test]
fn one_failure_at_a_cold_start_costs_a_caller_half_a_second() {
    let fleet = fleet(Duration::from_nanos(1), &unavailable());
    let total: Duration = fleet.iter().map(|times| times[1] + ROUND_TRIP).sum();
    let mean = total / u32::try_from(CLIENTS).unwrap();
    assert!(mean < Duration::from_millis(600), "{mean:?}");
}

#[test]
fn clients_that_were_told_the_same_retry_after_spread_out_after_it() {
    for seconds in [1, 2, 5] {
        let wait = Duration::from_secs(seconds);
        let error = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(Some(wait));
        let fleet = fleet(Duration::from_nanos(1), &error);
        assert!(fleet.iter().all(|times| times[1] >= wait + ROUND_TRIP), "{seconds}: never early");
        let worst = worst_after_the_first(&fleet);
        assert!(worst < 0.33, "{seconds}: {worst}");
    }
}
