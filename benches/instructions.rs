//! How many instructions the read path takes, counted by valgrind and held against `instructions.txt`.
//!
//! With `check` it fails where a count has left its place, upwards or downwards; with `write` it takes what it counts
//! for right. Without either it runs everything once, so that `cargo test` sees that it still does.
//!
//! What happens before and after a read cancels out: a read costs the difference between so many runs and twice as many,
//! divided by their number. So do the clocks, which are the kernel's matter: two readings of them are counted alone
//! and subtracted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::env;
use std::fmt::Write;
use std::fs;
use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::Pin;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use evertoken::TokenSource;
use evertoken::http::{HeaderValue, Request, Response};
use evertoken::testing::{Transport, TransportError};
use rustix::time::{ClockId, clock_gettime};

/// By how many hundredths a count may differ from what is committed, in both directions: what is saved is kept, too.
const TOLERANCE: f64 = 2.0;

const RUNS: u64 = 20_000;

/// What is subtracted from the others.
const CLOCKS: &str = "two coarse clocks";

/// What no read can go below: a load of what is held, two coarse clocks, and a clone of the header.
const LIMIT: &str = "limit";

const READS: [&str; 5] = [CLOCKS, LIMIT, "current_token()", "token().await", "authorization().await"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("run") => repeat(&arguments[2], arguments[3].parse().unwrap()),
        Some("check") => return check(),
        Some("write") => fs::write(baseline(), shown(&counted())).unwrap(),
        _ => READS.iter().for_each(|read| repeat(read, 1)),
    }
    ExitCode::SUCCESS
}

fn baseline() -> impl AsRef<Path> {
    concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt")
}

fn check() -> ExitCode {
    let committed = fs::read_to_string(baseline()).unwrap();
    let counts = counted();
    let mut code = ExitCode::SUCCESS;
    for (read, count) in &counts {
        let line = committed.lines().find_map(|line| line.strip_prefix(read)?.strip_prefix(": "));
        let before: f64 = line.and_then(|count| count.parse().ok()).unwrap_or(f64::NAN);
        let change = (count / before - 1.0) * 100.0;
        println!("{read}: {count:.1} instructions, {before:.1} committed ({change:+.1} %)");
        // Not a number is not within it either.
        if !matches!(change.abs().partial_cmp(&TOLERANCE), Some(order) if order.is_le()) {
            code = ExitCode::FAILURE;
        }
    }
    if code != ExitCode::SUCCESS {
        println!(
            "A count has changed by more than {TOLERANCE} %. If that is meant, commit what this writes:"
        );
        println!("  make instructions DO=write");
    }
    code
}

fn shown(counts: &[(&str, f64)]) -> String {
    let mut text = "Instructions of one read, less those of the clocks.\n".to_owned();
    for (read, count) in counts {
        writeln!(text, "{read}: {count:.1}").unwrap();
    }
    text
}

/// Each read's instructions.
fn counted() -> Vec<(&'static str, f64)> {
    let [clocks, reads @ ..] = READS;
    let clocks = of_one(clocks);
    reads.map(|read| (read, of_one(read) - clocks)).into()
}

fn of_one(read: &str) -> f64 {
    (instructions(read, 2 * RUNS) - instructions(read, RUNS)) / RUNS as f64
}

/// Of a whole process that does nothing else.
fn instructions(read: &str, runs: u64) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .args(["run", read, &runs.to_string()])
        .output()
        .expect("valgrind can be run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let total = told.lines().find_map(|line| line.split_once("refs:")).expect("a total").1;
    total.trim().replace(',', "").parse().expect("a number")
}

fn repeat(read: &str, runs: u64) {
    match read {
        CLOCKS => times(runs, clocks),
        LIMIT => {
            let held = ArcSwapOption::from_pointee(Held {
                header: HeaderValue::from_maybe_shared(Bytes::from_owner(TOKEN)).unwrap(),
                until: (Duration::MAX, Duration::MAX),
            });
            times(runs, || {
                let held = held.load();
                let held = held.as_deref()?;
                let (monotonic, wall) = clocks();
                (monotonic < held.until.0 && wall < held.until.1).then(|| held.header.clone())
            });
        }
        "current_token()" => {
            let source = fresh();
            times(runs, || source.current_token().unwrap());
        }
        "token().await" => {
            let source = fresh();
            times(runs, || at_once(source.token()).unwrap());
        }
        "authorization().await" => {
            let source = fresh();
            times(runs, || at_once(source.authorization()).unwrap());
        }
        other => panic!("{other} is not known"),
    }
}

fn times<T>(runs: u64, read: impl Fn() -> T) {
    for _ in 0..runs {
        black_box(read());
    }
}

struct Held {
    header: HeaderValue,
    until: (Duration, Duration),
}

fn clocks() -> (Duration, Duration) {
    let read = |clock| {
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
    };
    (read(ClockId::MonotonicCoarse), read(ClockId::RealtimeCoarse))
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a fresh token is there at once"),
    }
}

const TOKEN: &str = "Bearer t0ken";

/// Grants a token that outlasts the run.
struct Granting;

impl Transport for Granting {
    fn send(
        &self,
        _: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let body = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":86400}"#;
        Box::pin(std::future::ready(Ok(Response::new(Bytes::from_static(body.as_bytes())))))
    }
}

fn fresh() -> TokenSource {
    let source = TokenSource::builder("app", "secret")
        .token_url("https://as.example/token")
        .transport(Arc::new(Granting))
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(source.token()).unwrap();
    source
}
