//! A valid token at hand through renewals, an outage of the authorization server and a revoked token, in 15 seconds.
//!
//! `cargo run --example quickstart` runs on an authorization server in a box. With `EVERTOKEN_APP_ID`,
//! `EVERTOKEN_APP_SECRET`, `EVERTOKEN_ISSUER` (or `EVERTOKEN_TOKEN_URL`), `EVERTOKEN_BASE_URL`, and where your server
//! wants them `EVERTOKEN_AUDIENCE` and `EVERTOKEN_SCOPE`, it calls a real API instead.
#![allow(clippy::print_stdout, missing_docs)]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evertoken::testing::AuthServer;
use evertoken::{Client, ClientBuilder, Event};
use tokio::time::sleep;

const RUN: Duration = Duration::from_secs(15);
const LIFETIME: Duration = Duration::from_secs(5);
const TASKS: usize = 20;

#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    renewals: AtomicU64,
    missed_renewals: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let real = std::env::var_os("EVERTOKEN_APP_ID").is_some();
    let server = match real {
        true => None,
        false => Some(AuthServer::builder().lifetime(LIFETIME).start().await?),
    };
    let client = match &server {
        None => ClientBuilder::from_env().build()?,
        Some(server) => Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .issuer(server.issuer())
            .audience(server.audience())
            .base_url(server.api_url())
            .build()?,
    };
    match &server {
        None => println!("Calling the API of EVERTOKEN_BASE_URL for 15 seconds."),
        Some(_) => println!(
            "An authorization server whose tokens live {} s, an API, and {TASKS} tasks that call it.",
            LIFETIME.as_secs()
        ),
    }

    let tally = Arc::new(Tally::default());
    let mut events = client.events();
    let counted = tally.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Renewed { .. } => counted.renewals.fetch_add(1, Relaxed),
                Event::RenewalFailed { .. } => counted.missed_renewals.fetch_add(1, Relaxed),
                _ => 0,
            };
        }
    });
    client.prefetch().await?;

    let begun = Instant::now();
    let pace = Duration::from_millis(if real { 1_000 } else { 20 });
    let callers: Vec<_> = (0..if real { 1 } else { TASKS })
        .map(|_| tokio::spawn(call(client.clone(), tally.clone(), begun, pace)))
        .collect();
    let incidents = server.clone().map(|server| tokio::spawn(happen(server, client.clone())));

    let mut note = "";
    while begun.elapsed() < RUN {
        if let Some(server) = &server {
            note = if server.is_out() { "   << authorization server is DOWN" } else { "" };
        }
        print!("\r{}{note:<40}", line(begun.elapsed(), &tally, &client));
        std::io::stdout().flush()?;
        sleep(Duration::from_millis(100)).await;
    }
    for caller in callers {
        caller.await?;
    }
    if let Some(incidents) = incidents {
        incidents.await?;
    }
    println!("\r{:<120}\n{}", line(begun.elapsed(), &tally, &client), summary(&tally, server.as_ref()));
    client.shutdown().await?;
    match tally.failed.load(Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} calls failed").into()),
    }
}

/// One caller among many. It knows nothing of tokens.
async fn call(api: Client, tally: Arc<Tally>, begun: Instant, pace: Duration) {
    while begun.elapsed() < RUN {
        let asked = Instant::now();
        let answer = api.get("").send().await;
        let took = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.slowest_us.fetch_max(took, Relaxed);
        tally.calls.fetch_add(1, Relaxed);
        if !answer.is_ok_and(|answer| answer.status().is_success()) {
            tally.failed.fetch_add(1, Relaxed);
        }
        sleep(pace).await;
    }
}

/// What goes wrong meanwhile: the server is down for longer than a renewal, and later the token is revoked.
async fn happen(server: AuthServer, client: Client) {
    sleep(Duration::from_secs(5)).await;
    // Down from before the renewal is due until it has failed, with the token's end yet to come.
    while client.status().age.is_none_or(|age| age > LIFETIME / 4) {
        sleep(Duration::from_millis(20)).await;
    }
    server.outage();
    while client.status().consecutive_failures == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    if let Err(error) = server.recover().await {
        println!("\nthe server did not come back: {error}");
    }
    sleep(Duration::from_secs(2)).await;
    server.revoke_all();
}

fn line(elapsed: Duration, tally: &Tally, client: &Client) -> String {
    let status = client.status();
    format!(
        "{:>4.1} s   {:>6} calls   {} failed   {} renewals   token age {:>3.1} s   {:?}",
        elapsed.as_secs_f64(),
        tally.calls.load(Relaxed),
        tally.failed.load(Relaxed),
        tally.renewals.load(Relaxed),
        status.age.unwrap_or_default().as_secs_f64(),
        status.state,
    )
}

fn summary(tally: &Tally, server: Option<&AuthServer>) -> String {
    let mut text = format!(
        "\n  calls made        {}\n  calls failed      {}\n  slowest call      {:.1} ms\n  tokens received   {}\n  renewals failed   {}",
        tally.calls.load(Relaxed),
        tally.failed.load(Relaxed),
        tally.slowest_us.load(Relaxed) as f64 / 1e3,
        tally.renewals.load(Relaxed),
        tally.missed_renewals.load(Relaxed),
    );
    if let Some(server) = server {
        text.push_str(&format!(
            "\n  lifetimes passed  {:.1}\n  token requests    {} that reached the server, at most {} at once\n\n  \
             The authorization server was down once, and the token was revoked once.",
            RUN.as_secs_f64() / LIFETIME.as_secs_f64(),
            server.token_requests(),
            server.max_in_flight(),
        ));
    }
    text
}
