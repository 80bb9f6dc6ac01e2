//! Keeps a valid token at hand through renewals, an outage of the authorization server and a revoked token, in 15 s.
//!
//! `cargo run --example quickstart` starts an authorization server in a box and prints one line per event. On a
//! terminal, a ticker at the bottom counts the calls. With `EVERTOKEN_APP_ID`, `EVERTOKEN_APP_SECRET`,
//! `EVERTOKEN_ISSUER` (or `EVERTOKEN_TOKEN_URL`), `EVERTOKEN_BASE_URL` and, if your server needs them,
//! `EVERTOKEN_AUDIENCE` and `EVERTOKEN_SCOPE`, it calls a real API instead.
#![allow(clippy::print_stdout, missing_docs)]

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evertoken::testing::AuthServer;
use evertoken::{Client, ClientBuilder, Event};
use tokio::time::{interval, sleep};

const RUN: Duration = Duration::from_secs(15);
const LIFETIME: Duration = Duration::from_secs(5);
const TASKS: usize = 20;
/// Columns of the ticker, which is overwritten in place and so must fit on one line.
const TICKER: usize = 76;

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    calls: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
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
        None => println!("Calling the API of EVERTOKEN_BASE_URL for {} s.\n", RUN.as_secs()),
        Some(_) => println!(
            "An authorization server that issues tokens of {} s, an API, and {TASKS} tasks that call it.\n",
            LIFETIME.as_secs()
        ),
    }

    let tally = Arc::new(Tally::default());
    let mut events = client.events();
    let mut story = Story::new(client.clone(), server.clone(), tally.clone());
    client.prefetch().await?;
    let pace = Duration::from_millis(if real { 1_000 } else { 20 });
    let callers: Vec<_> = (0..if real { 1 } else { TASKS })
        .map(|_| tokio::spawn(call(client.clone(), tally.clone(), pace)))
        .collect();

    let mut ticks = interval(Duration::from_millis(100));
    while story.began.elapsed() < RUN || !story.is_over() {
        tokio::select! {
            biased;
            Some(event) = events.next() => story.continue_with(event).await?,
            _ = ticks.tick() => story.tick()?,
        }
    }
    tally.over.store(true, Relaxed);
    for caller in callers {
        caller.await?;
    }
    story.end();
    client.shutdown().await?;
    match tally.failed.load(Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} calls failed").into()),
    }
}

/// Calls the API again and again, as one of many callers. It knows nothing of tokens.
async fn call(api: Client, tally: Arc<Tally>, pace: Duration) {
    while !tally.over.load(Relaxed) {
        let began = Instant::now();
        let answer = api.get("").send().await;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.slowest_us.fetch_max(took, Relaxed);
        tally.calls.fetch_add(1, Relaxed);
        if !answer.is_ok_and(|answer| answer.status().is_success()) {
            tally.failed.fetch_add(1, Relaxed);
        }
        sleep(pace).await;
    }
}

/// What goes wrong next, and what ends it.
enum Act {
    /// The server works. An outage follows the second token.
    Prologue,
    /// The server is down until a renewal has failed.
    Outage,
    /// The server is back. The next token ends the outage.
    Recovery,
    /// Since when all has been well again. The token is revoked 2 s later.
    Calm(Instant),
    /// The token is revoked. The next one ends the story.
    Revocation,
    Epilogue,
}

/// Prints one line per event, and makes things go wrong in between.
struct Story {
    began: Instant,
    client: Client,
    server: Option<AuthServer>,
    tally: Arc<Tally>,
    act: Act,
    /// When the API refused the token that is being replaced.
    refused: Option<Instant>,
    received: u64,
    failed_renewals: u64,
    on_terminal: bool,
}

impl Story {
    fn new(client: Client, server: Option<AuthServer>, tally: Arc<Tally>) -> Self {
        Self {
            began: Instant::now(),
            client,
            act: if server.is_some() { Act::Prologue } else { Act::Epilogue },
            server,
            tally,
            refused: None,
            received: 0,
            failed_renewals: 0,
            on_terminal: std::io::stdout().is_terminal(),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.act, Act::Epilogue)
    }

    async fn continue_with(&mut self, event: Event) -> std::io::Result<()> {
        match event {
            Event::Renewed { lifetime, .. } => {
                self.received += 1;
                let refused = self.refused.take();
                match refused {
                    Some(refused) => {
                        let took = refused.elapsed().as_secs_f64() * 1e3;
                        self.say(
                            "401 recovered",
                            format!("new token after {took:.1} ms, refused calls are sent again"),
                        );
                    }
                    None => {
                        let kind = if self.received == 1 { "token received" } else { "renewed" };
                        self.say(kind, format!("lifetime {:.1} s", lifetime.as_secs_f64()));
                    }
                }
                self.renewed(refused.is_some());
            }
            Event::RenewalFailed { error, .. } => {
                self.failed_renewals += 1;
                match self.client.status().expires_in {
                    Some(left) => self.say(
                        "renewal failed",
                        format!("the held token serves on for {:.1} s: {error}", left.as_secs_f64()),
                    ),
                    None => self.say("renewal failed", format!("no token is held: {error}")),
                }
                if let (Act::Outage, Some(server)) = (&self.act, &self.server) {
                    server.recover().await?;
                    self.say("server back", "the authorization server accepts connections");
                    self.act = Act::Recovery;
                }
            }
            Event::Invalidated => self.refused = Some(Instant::now()),
            Event::Closed => {}
            other => self.say("event", format!("{other:?}")),
        }
        Ok(())
    }

    /// Goes on to the next act, if a new token ends this one.
    fn renewed(&mut self, was_refused: bool) {
        match (&self.act, &self.server) {
            (Act::Prologue, Some(server)) if self.received == 2 => {
                self.say("server down", "the authorization server refuses connections");
                server.outage();
                self.act = Act::Outage;
            }
            (Act::Revocation, _) if was_refused => self.act = Act::Epilogue,
            // After a revocation without a 401 the renewal was due just then: it is revoked once more.
            (Act::Recovery | Act::Revocation, _) => self.act = Act::Calm(Instant::now()),
            _ => {}
        }
    }

    fn tick(&mut self) -> std::io::Result<()> {
        if let (Act::Calm(since), Some(server)) = (&self.act, &self.server)
            && since.elapsed() >= Duration::from_secs(2)
        {
            self.say("token revoked", "the API refuses it from now on");
            server.revoke_all();
            self.act = Act::Revocation;
        }
        if self.on_terminal {
            let status = self.client.status();
            let line = format!(
                "{:>5.1} s  {} calls, {} failed; token age {:.1} s, {:?}",
                self.began.elapsed().as_secs_f64(),
                self.tally.calls.load(Relaxed),
                self.tally.failed.load(Relaxed),
                status.age.unwrap_or_default().as_secs_f64(),
                status.state,
            );
            print!("\r{line:<TICKER$}");
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    /// Prints a line of its own, in place of the ticker if there is one.
    fn say(&self, kind: &str, text: impl std::fmt::Display) {
        self.clear_ticker();
        println!("{:>5.1} s  {kind:<14}  {text}", self.began.elapsed().as_secs_f64());
    }

    fn clear_ticker(&self) {
        if self.on_terminal {
            print!("\r{:TICKER$}\r", "");
        }
    }

    fn end(&self) {
        self.clear_ticker();
        println!(
            "\n  calls             {}\n  calls failed      {}\n  slowest call      {:.1} ms\n  \
             tokens received   {}\n  renewals failed   {}",
            self.tally.calls.load(Relaxed),
            self.tally.failed.load(Relaxed),
            self.tally.slowest_us.load(Relaxed) as f64 / 1e3,
            self.received,
            self.failed_renewals,
        );
        if let Some(server) = &self.server {
            println!(
                "  401s of the API   {}\n  token requests    {} that reached the server, at most {} at once",
                server.api_refused(),
                server.token_requests(),
                server.max_in_flight(),
            );
        }
    }
}
