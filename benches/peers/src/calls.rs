//! An API call on loopback: what ours costs over bare reqwest with a static header.

use std::time::Duration;

use axum::Router;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use rustix::time::{ClockId, clock_gettime};

use crate::results::{Table, median};
use crate::server::TokenServer;
use crate::{DAY, alloc};

const CALLS: usize = 20_000;
/// So many of one, then so many of the other.
const IN_TURN: usize = 100;
/// The first open connections.
const WARMING: usize = 500;

/// Of this thread alone.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The callers' side has a thread of its own, with all that its HTTP stack does.
pub async fn measure() -> Table {
    let tokens = TokenServer::start(DAY, Duration::ZERO).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(|| async { "{}" })).await });
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(compare(&tokens.url("/token"), &url))
    });
    measured.await.expect("no panic")
}

async fn compare(token_url: &str, url: &str) -> Table {
    let api = evertoken::Client::builder("app", "secret").token_url(token_url).base_url(url).build();
    let api = api.expect("a client");
    let token = api.token().await.expect("a token");
    let header = HeaderValue::try_from(format!("Bearer {}", token.as_str())).expect("a header");
    let bare = evertoken::reqwest::Client::new();
    let path = format!("{url}orders");

    let mut samples: [Vec<f64>; 2] = Default::default();
    let mut allocations = [0; 2];
    // In turns, so that whatever else the machine does falls on both; a hundred each, since in a program that makes the same
    // call again and again its code does not go cold in between.
    for call in 0..2 * (CALLS + WARMING) {
        let ours = 1 - call / IN_TURN % 2;
        let (began, before) = (cpu(), alloc::count());
        let answer = match ours {
            0 => bare.get(&path).header(AUTHORIZATION, header.clone()).send().await.expect("an answer"),
            _ => api.get("orders").send().await.expect("an answer").into_inner(),
        };
        answer.bytes().await.expect("a body");
        if call >= 2 * WARMING {
            samples[ours].push((cpu() - began).as_secs_f64() * 1e6);
            allocations[ours] += alloc::count() - before;
        }
    }
    let mut table = Table::new("calls", &["client", "cpu_us_per_call", "allocations_per_call"]);
    for (name, n) in [("reqwest with a static header", 0), ("evertoken", 1)] {
        let middle = median(&mut samples[n]);
        let allocations = allocations[n] as f64 / CALLS as f64;
        table.row([name.to_owned(), format!("{middle:.2}"), format!("{allocations:.2}")]);
    }
    table
}
