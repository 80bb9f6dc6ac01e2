//! Clients come and go by the ten thousand, in every state, and nothing is left: no task, thread or file, and not one
//! byte. One test, since it looks at the whole process. `EVERTOKEN_LEAK_CLIENTS` sets how many there are of each.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "../elsewhere/mod.rs"]
mod elsewhere;
mod holdings;
mod states;

use std::time::Instant;

use evertoken::blocking;
use evertoken::http::Method;
use evertoken::testing::Fault;

use elsewhere::{Elsewhere, one_thread, until, until_no_task_is_left, within};
use holdings::{Heap, Process};
use states::{Doing, Life};

/// Of each kind that costs little; an unoptimised build is slow.
fn most() -> usize {
    let default = if cfg!(debug_assertions) { 200 } else { 10_000 };
    std::env::var("EVERTOKEN_LEAK_CLIENTS").map_or(default, |number| number.parse().unwrap())
}

#[test]
fn nothing_is_left_of_a_client_whatever_it_was_doing() {
    let most = most();
    let few = most / 200 + 4;
    for doing in Doing::ALL {
        // Its key takes as long to make as a hundred clients.
        in_every_way(doing, if doing == Doing::BoundToAKey { few } else { most });
    }
    blocking_clients(most / 10);
    blocking_threads(few);
    transports(few);
    sockets(most / 20);
}

/// Makes and drops so many clients, and holds what the process has against what it had before. What it keeps may be
/// there for good from some moment on, as what the first wait of a thread needs; a leak is one in every round.
fn leaves_nothing(what: &str, number: usize, exact: bool, make_and_drop: impl Fn(usize)) {
    let begun = Instant::now();
    // Some pages come and go: what 200 bytes of each add up to shows with many clients only.
    let most_kib = (number >= 5_000).then_some(512 + number / 10);
    make_and_drop(number / 20 + 4);
    let mut left = String::new();
    for _ in 0..3 {
        let (heap, process) = (Heap::now(), Process::now());
        make_and_drop(number);
        let outcome = if exact { heap.wait_until_back() } else { Ok(()) };
        match outcome.and_then(|()| process.wait_until_back(most_kib)) {
            Ok(()) => {
                println!("{what}: {number} clients left nothing, {:.1} s", begun.elapsed().as_secs_f64());
                return;
            }
            Err(this) => left = this,
        }
    }
    panic!("{what}: {number} clients, and {left}");
}

fn in_every_way(doing: Doing, number: usize) {
    let runtime = one_thread();
    // Without one that lives on, each would make the shared transport anew, in 5 ms.
    let lasting = runtime.block_on(async { Life::new().builder().build().unwrap() });
    leaves_nothing(&format!("{doing:?}"), number, true, |number| {
        runtime.block_on(async {
            for _ in 0..number {
                within(Life::new().run(doing)).await;
            }
            until_no_task_is_left().await;
        });
    });
    drop(lasting);
}

fn blocking_client() -> blocking::Client {
    Life::new().builder().blocking().build().unwrap()
}

/// All on the one thread that a lasting client keeps.
fn blocking_clients(number: usize) {
    let lasting = blocking_client();
    leaves_nothing("Blocking", number, true, |number| {
        for nth in 0..number {
            let client = blocking_client();
            match nth % 4 {
                0 => {}
                1 => drop(client.token().unwrap()),
                2 => drop(client.events()),
                _ => {
                    client.token().unwrap();
                    client.shutdown().unwrap();
                }
            }
        }
        // Once the thread does this, it has done all else.
        lasting.token_source().prefetch();
        lasting.headers(&Method::GET, &"https://api.example/".parse().unwrap()).unwrap();
    });
}

/// Each the first and last one, with a thread of its own.
fn blocking_threads(number: usize) {
    leaves_nothing("Blocking, each with its thread", number, true, |number| {
        for _ in 0..number {
            drop(blocking_client().token().unwrap());
        }
    });
}

/// Each with connections and certificates of its own.
fn transports(number: usize) {
    leaves_nothing("Each with its transport and runtime", number, true, |number| {
        for _ in 0..number {
            one_thread().block_on(Life::new().run(Doing::Fresh));
        }
    });
}

/// Over real sockets, where the server and the kernel keep books of their own.
fn sockets(number: usize) {
    let runtime = one_thread();
    let elsewhere = Elsewhere::new();
    let server = &elsewhere.server;
    let lasting = runtime.block_on(async { elsewhere.client().build().unwrap() });
    leaves_nothing("Over sockets, in four states", number, false, |number| {
        runtime.block_on(async {
            for _ in 0..number {
                elsewhere.client().build().unwrap().token().await.unwrap();
                let client = elsewhere.client().build().unwrap();
                assert_eq!(client.get("orders").send().await.unwrap().status(), 200);
                client.shutdown().await.unwrap();

                server.fail_always(Fault::Reset);
                let client = elsewhere.client().build().unwrap();
                client.prefetch();
                until(|| client.status().consecutive_failures == 1).await;
                server.fail_always(Fault::Hang);
                server.reset_counters();
                let client = elsewhere.client().build().unwrap();
                client.prefetch();
                server.wait_for_token_requests(1).await;
                server.heal();
            }
            elsewhere.wait_until_nobody_waits().await;
        });
    });
    drop(lasting);
}
