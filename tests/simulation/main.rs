//! Thousands of client lives in a world where everything goes wrong, each from a seed, and the rules that must hold
//! checked after every step. Built with optimisation it runs 2,000 seeds, else a few.
//!
//! `EVERTOKEN_SIM_SEEDS=100000` runs more of them; `EVERTOKEN_SIM_SEED=17` replays one, and tells all that happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod authority;
mod clock;
mod rules;
mod run;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use run::{Tally, run};

fn variable(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

/// The panics of the scripted transport are part of the script, and not worth a line.
fn hush() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains(authority::SCRIPTED) {
            usual(panic);
        }
    }));
}

fn checked(seed: u64) -> Result<Tally, String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
        Ok(outcome) => outcome.map_err(|(broken, _)| broken),
        Err(_) => Err("a panic".into()),
    }
}

fn replay(seed: u64) {
    match run(seed, true) {
        Ok(tally) => println!("seed {seed}: {tally:#?}"),
        Err((broken, trace)) => panic!("{}\nseed {seed}: {broken}", trace.join("\n")),
    }
}

#[test]
fn the_rules_hold_whatever_happens() {
    hush();
    if let Some(seed) = variable("EVERTOKEN_SIM_SEED") {
        return replay(seed);
    }
    let seeds = variable("EVERTOKEN_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 100 } else { 2_000 });
    let next = AtomicU64::new(0);
    let broken = AtomicU64::new(u64::MAX);
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    match checked(seed) {
                        Ok(tally) => all.lock().unwrap().add(&tally),
                        Err(rule) => {
                            println!("seed {seed}: {rule}");
                            broken.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let broken = broken.into_inner();
    if broken != u64::MAX {
        println!("replay it with EVERTOKEN_SIM_SEED={broken} and the same build");
        replay(broken);
        panic!("seed {broken} did not replay");
    }
    let all = all.into_inner().unwrap();
    let years = all.time.as_secs_f64() / (365.25 * 86_400.0);
    println!(
        "{seeds} seeds, {years:.0} years in {} steps: {} events, {} calls, {} of them failed, {} requests, {} tokens",
        all.steps, all.events, all.calls, all.failed, all.requests, all.tokens
    );
    println!("renewals by age, in twentieths of the life: {:?}", all.ages);
    assert!(all.failed > 0 && all.failed < all.calls / 2, "failures happen, and are the exception");
    let [short, long] = all.pauses;
    println!("pauses after a failure: {short} of up to 2 s, {long} longer ones");
    assert!(long > 4 * short, "the pauses grow");
    let [early, late] = [14..16, 16..18].map(|ages| all.ages[ages].iter().sum::<u64>());
    assert!(early.min(late) * 3 > early.max(late), "renewals are spread out: {early} early, {late} late");
}

#[test]
fn a_seed_replays_exactly() {
    hush();
    for seed in 0..20 {
        assert_eq!(checked(seed), checked(seed), "seed {seed}");
    }
}
