//! From a held token to a ready header, on 1, 2, 4 and 8 threads.

use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::runtime::Handle;

use crate::peers::{self, Peer};
use crate::results::{Table, median};
use crate::server::TokenServer;
use crate::{DAY, alloc};

const THREADS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 41;
/// A round, on one thread, takes about this long.
const ROUND_NS: f64 = 4e6;

/// A measured run of so many reads on so many threads: nanoseconds.
type Run = Box<dyn Fn(usize, usize) -> f64>;

struct Subject {
    name: &'static str,
    run: Run,
    allocations: f64,
    reads: usize,
}

/// A read that waits for nobody needs no executor.
fn at_once(peer: &impl Peer) -> HeaderValue {
    let mut future = pin!(peer.header());
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(header) = future.as_mut().poll(&mut context) {
            return header.expect("a held token");
        }
        std::thread::yield_now();
    }
}

fn run(peer: &Arc<impl Peer>, runtime: &Handle, threads: usize, reads: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // AWS looks for a runtime even where it waits for nothing.
                    let _runtime = runtime.enter();
                    black_box(at_once(&**peer));
                    barrier.wait();
                    let began = Instant::now();
                    for _ in 0..reads {
                        black_box(at_once(&**peer));
                    }
                    (began, Instant::now())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let began = spans.iter().map(|span| span.0).min().expect("a thread");
    let ended = spans.iter().map(|span| span.1).max().expect("a thread");
    (ended - began).as_secs_f64() * 1e9
}

async fn subject<P: Peer>(server: &TokenServer) -> Subject {
    let peer = Arc::new(P::new(server).await);
    if peer.header().await.is_none() {
        panic!("{} got no token", P::NAME);
    }
    const COUNTED: u64 = 1_000;
    let runtime = Handle::current();
    // On a thread of its own: in a task, tokio's budget would have its locks wait after 128 reads.
    let counting = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let _runtime = runtime.enter();
            black_box(at_once(&*peer));
            let before = alloc::count();
            for _ in 0..COUNTED {
                black_box(at_once(&*peer));
            }
            alloc::count() - before
        });
        counting.join().expect("no panic")
    });
    let allocations = counting as f64 / COUNTED as f64;
    let trial = run(&peer, &runtime, 1, 10_000) / 10_000.0;
    let reads = (ROUND_NS / trial) as usize;
    Subject {
        name: P::NAME,
        run: Box::new(move |threads, reads| run(&peer, &runtime, threads, reads)),
        allocations,
        reads,
    }
}

pub async fn measure() -> Table {
    let server = TokenServer::start(DAY, Duration::ZERO).await;
    let server = &server;
    let subjects = [
        subject::<peers::bare::Bare<1>>(server).await,
        subject::<peers::bare::Bare<2>>(server).await,
        subject::<peers::ever::Evertoken>(server).await,
        subject::<peers::aliri::Aliri>(server).await,
        subject::<peers::google::Google>(server).await,
        subject::<peers::oauth2_rwlock::Oauth2>(server).await,
        subject::<peers::gcp_auth::GcpAuth>(server).await,
        subject::<peers::yup::Yup>(server).await,
        subject::<peers::azure::Azure>(server).await,
        subject::<peers::gears::Gears>(server).await,
        subject::<peers::huskarl::Huskarl>(server).await,
        subject::<peers::aws::Aws>(server).await,
    ];
    let mut table =
        Table::new("reads", &["client", "threads", "ns_per_read", "min_ns_per_read", "allocations_per_read"]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in THREADS {
        let mut samples = vec![Vec::new(); subjects.len()];
        for _ in 0..ROUNDS {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                let reads = subject.reads / threads.div_ceil(cores);
                // Threads beyond the cores take turns, which is no cost of the read.
                let took = (subject.run)(threads, reads) * threads.min(cores) as f64;
                samples.push(took / (reads * threads) as f64);
            }
        }
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let middle = median(samples);
            let cells = [format!("{middle:.1}"), format!("{:.1}", samples[0])];
            let [middle, least] = cells;
            table.row([
                subject.name.to_owned(),
                threads.to_string(),
                middle,
                least,
                format!("{}", subject.allocations),
            ]);
        }
    }
    table
}
