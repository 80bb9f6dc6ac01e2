//! One run: a client, its callers and its server through everything that a seed has in store for them.

use std::sync::Arc;
use std::time::Duration;

use evertoken::{AccessToken, AppCredentials, ClientAuth, Result, TokenSource};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::authority::{Authority, Entry, Habits, Weather};
use crate::clock::{SimClock, s};
use crate::rules::{Rules, Verdict};

const DAY: Duration = Duration::from_secs(86_400);
/// In how many rounds everybody has done what there is to do at some moment.
const MOST_ROUNDS: u32 = 10_000;

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub time: Duration,
    pub steps: u64,
    pub events: u64,
    pub calls: u64,
    pub failed: u64,
    pub requests: u64,
    pub tokens: u64,
    pub ages: [u64; 20],
    pub pauses: [u64; 2],
    /// Of all that was seen, in order.
    pub hash: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.steps += other.steps;
        self.events += other.events;
        self.calls += other.calls;
        self.failed += other.failed;
        self.requests += other.requests;
        self.tokens += other.tokens;
        let counts = self.ages.iter_mut().chain(&mut self.pauses);
        counts.zip(other.ages.iter().chain(&other.pauses)).for_each(|(sum, more)| *sum += more);
    }
}

/// What is to happen at some moment.
#[derive(Debug, Clone, Copy)]
enum Event {
    Weather(Weather, Duration),
    Clear,
    Suspend(Duration),
    StepWall(Duration, bool),
    /// The slice of sleep ends in which a suspend or a step of the wall clock fell.
    Nudge,
    Freeze(Duration),
    Thaw,
    /// The refresher's runtime goes for good.
    DropRuntime,
    /// The API refuses the current token, in so many calls.
    Refuse(usize),
    /// It refuses an older one.
    RefuseOld,
    RotateSecret(Duration),
    SetSecret,
    ChangeApp,
}

struct Call {
    started: Duration,
    wait: JoinHandle<(Duration, Result<AccessToken>)>,
}

struct Run {
    random: fastrand::Rng,
    clock: Arc<SimClock>,
    server: Arc<Authority>,
    habits: Habits,
    /// `None` when it is gone.
    home: Option<Runtime>,
    callers: Runtime,
    source: TokenSource,
    patience: Duration,
    rules: Rules,
    calls: Vec<Call>,
    /// By the running clock.
    agenda: Vec<(Duration, Event)>,
    unseen_setback: bool,
    unseen_suspend: bool,
    older: Option<AccessToken>,
    tally: Tally,
    trace: Option<Vec<String>>,
}

/// Runs a seed; the error has the rule that was broken and, where `traced`, all that led to it.
pub fn run(seed: u64, traced: bool) -> Result<Tally, (String, Vec<String>)> {
    let mut run = Run::new(seed, traced);
    let lived = run.live();
    let trace = run.trace.take().unwrap_or_default();
    lived.and_then(|()| run.end()).map_err(|broken| (broken, trace))
}

fn runtime() -> Runtime {
    // Its own time is paused, and passes only where nothing else is left to do.
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Runs all that can run there.
fn idle(runtime: &Runtime) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
}

impl Run {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // From a second to thirty days, as many short ones as long ones.
        let life =
            Duration::from_secs_f64((random.f64() * (30.0 * DAY.as_secs_f64()).ln()).exp().floor().max(1.0));
        let silent = random.u8(0..12) == 0;
        let life = if silent { s(300) } else { life };
        let kind = random.u8(0..12);
        let habits =
            Habits { life, silent, same: kind == 0 && !silent, refresh_in: kind == 1 && life >= s(20) };
        let has_boot = random.u8(0..4) > 0;
        let clock = Arc::new(SimClock::new(has_boot));
        let server = Arc::new(Authority::new(clock.clone(), habits, random.u64(..)));
        let (home, callers) = (runtime(), runtime());
        let patience = s(random.u64(5..30));
        let mut credentials = AppCredentials::new("app-0", "secret-0");
        if random.bool() {
            credentials = credentials.next_secret("secret-1");
        }
        let source = TokenSource::builder_with(credentials)
            .token_url("https://as.example/token")
            .client_auth(ClientAuth::ClientSecretPost)
            .clock(clock.clone())
            .transport(server.clone())
            .runtime(home.handle().clone())
            .token_timeout(patience)
            .seed(random.u64(..))
            .build()
            .unwrap();
        let rules = Rules::new(habits, has_boot, clock.truth());
        let trace =
            traced.then(|| vec![format!("{habits:?}, boot clock: {has_boot}, patience {patience:?}")]);
        Self {
            random,
            clock,
            server,
            habits,
            home: Some(home),
            callers,
            source,
            patience,
            rules,
            calls: Vec::new(),
            agenda: Vec::new(),
            unseen_setback: false,
            unseen_suspend: false,
            older: None,
            tally: Tally::default(),
            trace,
        }
    }

    fn live(&mut self) -> Verdict {
        let began = self.clock.truth();
        let lifetimes = self.random.u32(6..30);
        let end = began + (self.habits.life * lifetimes).max(s(300)).min(120 * DAY);
        let mut next_event = self.clock.running() + self.until_next_event();
        let mut next_call = self.clock.running();
        while self.clock.truth() < end {
            let now = self.clock.running();
            let due = self.agenda.iter().map(|(at, _)| *at).chain([next_event, next_call]).min().unwrap();
            let length = due.saturating_sub(now).min(self.clock.next().unwrap_or(due));
            self.clock.pass(length);
            let now = self.clock.running();
            self.settle()?;
            while let Some(i) = self.agenda.iter().position(|(at, _)| *at <= now) {
                let (_, event) = self.agenda.remove(i);
                self.happen(event)?;
            }
            if now >= next_event {
                let event = self.draw();
                self.tally.events += 1;
                self.happen(event)?;
                next_event = now + self.until_next_event();
            }
            if now >= next_call {
                self.call();
                let mean = (self.habits.life / 8).clamp(Duration::from_millis(100), DAY / 4);
                next_call = now + mean.mul_f64(-(1.0 - self.random.f64()).ln());
            }
            self.settle()?;
            self.look()?;
            self.tally.steps += 1;
        }
        self.tally.time = self.clock.truth() - began;
        Ok(())
    }

    fn until_next_event(&mut self) -> Duration {
        let mean = (self.habits.life * 2).clamp(s(5), 20 * DAY);
        mean.mul_f64(-(1.0 - self.random.f64()).ln())
    }

    fn draw(&mut self) -> Event {
        let life = self.habits.life.as_secs_f64();
        let mut about = |from: f64, to: f64| {
            Duration::from_secs_f64((from * (to / from).powf(self.random.f64())).clamp(0.5, 40.0 * 86_400.0))
        };
        let (outage, pause, step) =
            (about(0.05 * life, 3.0 * life), about(0.01 * life, 3.0 * life), about(1.0, 36_000.0));
        let gap = about(0.1, 600.0);
        match self.random.u8(0..20) {
            0..=5 => Event::Weather(Weather::Down, outage),
            6..=7 => Event::Weather(Weather::Slow, outage),
            8..=9 => Event::Suspend(pause),
            10..=11 => Event::StepWall(step, self.random.bool()),
            12 => Event::Freeze(pause),
            13 if self.random.u8(0..4) == 0 => Event::DropRuntime,
            13..=15 => Event::Refuse(if self.random.u8(0..4) == 0 { self.random.usize(2..500) } else { 1 }),
            16 => Event::RefuseOld,
            17..=18 => Event::RotateSecret(gap),
            _ => Event::ChangeApp,
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String, number: u64) {
        self.tally.hash = (self.tally.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>14.3}  {}", self.clock.truth().as_secs_f64(), what()));
        }
    }

    fn at(&mut self, length: Duration, event: Event) {
        self.agenda.push((self.clock.running() + length, event));
    }

    fn nudge_soon(&mut self) {
        let slice = Duration::from_millis(self.random.u64(0..30_000));
        self.at(slice, Event::Nudge);
    }

    fn happen(&mut self, event: Event) -> Verdict {
        let now = self.clock.truth();
        self.note(|| format!("{event:?}"), now.as_nanos() as u64);
        match event {
            Event::Weather(weather, length) => {
                self.rules.weather(now, weather)?;
                self.server.lock().weather = weather;
                self.agenda.retain(|(_, event)| !matches!(event, Event::Clear));
                self.at(length, Event::Clear);
            }
            Event::Clear => {
                self.server.lock().weather = Weather::Fair;
                self.rules.weather(now, Weather::Fair)?;
                self.credential_in_use();
            }
            Event::Suspend(length) => {
                // Where it wakes there is no network, and its clock is set back by more than it slept.
                if self.random.u8(0..4) == 0 {
                    self.happen(Event::Weather(Weather::Down, length + s(600)))?;
                    self.at(s(60), Event::StepWall(length + s(60), false));
                }
                self.rules.blind |= self.unseen_setback || self.rules.frozen;
                self.clock.suspend(length);
                self.unseen_suspend = true;
                self.rules.disturbed = self.clock.truth() + s(31);
                self.rules.resumed = self.clock.truth();
                self.nudge_soon();
            }
            Event::StepWall(length, forward) => {
                self.clock.step_wall(length, forward);
                if forward {
                    self.rules.stepped_forward = now;
                } else {
                    self.unseen_setback = true;
                    self.rules.blind |= self.unseen_suspend;
                }
                self.nudge_soon();
            }
            Event::Nudge => {
                self.clock.nudge();
                let looked = !self.rules.frozen && !self.rules.orphaned;
                if looked && self.server.lock().all_in_flight() == 0 {
                    self.unseen_setback = false;
                    self.unseen_suspend = false;
                    self.rules.blind = false;
                }
            }
            Event::Freeze(length) => {
                if let Some(home) = self.home.as_ref().filter(|_| !self.rules.frozen) {
                    self.server.lock().freeze(home.handle().id());
                    self.rules.frozen = true;
                    self.rules.disturbed = now;
                    self.at(length, Event::Thaw);
                    // Nobody but a reader can see then that a token has ended by one clock, and not by the other.
                    if self.random.u8(0..4) == 0 {
                        self.at(length / 4, Event::StepWall(length + self.habits.life, false));
                    }
                }
            }
            Event::Thaw => {
                self.rules.frozen = false;
                self.rules.disturbed = now;
                self.nudge_soon();
            }
            Event::DropRuntime => {
                self.home = None;
                self.rules.frozen = false;
                self.rules.orphaned = true;
                self.rules.disturbed = now;
            }
            Event::Refuse(calls) => {
                let _entered = self.callers.enter();
                let Some(token) = self.source.current_token() else { return Ok(()) };
                for _ in 0..calls {
                    self.source.invalidate(&token);
                }
                let gone = self.source.current_token().is_none();
                self.rules.invalidated(now, self.clock.running(), gone)?;
            }
            Event::RefuseOld => {
                let _entered = self.callers.enter();
                let current = self.source.current_token();
                if let Some(older) = self.older.as_ref().filter(|older| current.as_ref() != Some(older)) {
                    self.source.invalidate(older);
                }
            }
            Event::RotateSecret(gap) => {
                let nth = self.server.lock().secret.trim_start_matches("secret-").parse::<u64>().unwrap() + 1;
                self.server.lock().secret = format!("secret-{nth}");
                self.rules.disturbed = now;
                self.rules.well_since = None;
                self.agenda.retain(|(_, event)| !matches!(event, Event::SetSecret));
                self.at(gap, Event::SetSecret);
            }
            Event::SetSecret => self.set_credentials(now),
            Event::ChangeApp => {
                let nth = self.rules.app_id.trim_start_matches("app-").parse::<u64>().unwrap() + 1;
                self.server.lock().app_id = format!("app-{nth}");
                self.set_credentials(now);
            }
        }
        Ok(())
    }

    fn set_credentials(&mut self, now: Duration) {
        self.agenda.retain(|(_, event)| !matches!(event, Event::SetSecret));
        let (app_id, secret) = {
            let server = self.server.lock();
            (server.app_id.clone(), server.secret.clone())
        };
        let _entered = self.callers.enter();
        self.source.set_credentials(app_id.clone(), secret.clone()).unwrap();
        self.rules.set(now, &app_id, &secret);
        self.older = None;
        self.credential_in_use();
    }

    /// All is well only where the credential is, too.
    fn credential_in_use(&mut self) {
        let rotating = self.agenda.iter().any(|(_, event)| matches!(event, Event::SetSecret));
        let fair = self.server.lock().weather == Weather::Fair;
        self.rules.well_since = (fair && !rotating).then(|| self.clock.truth());
    }

    /// One caller, or many at once; some go away again.
    fn call(&mut self) {
        let many = match self.random.u8(0..60) {
            0 => self.random.usize(100..=1_000),
            1..=4 => self.random.usize(2..50),
            _ => 1,
        };
        // Who waits in vain is joined by no crowd: a thousand at once are enough.
        for _ in 0..many.min(1_000_usize.saturating_sub(self.calls.len())) {
            let (source, clock) = (self.source.clone(), self.clock.clone());
            let started = self.clock.running();
            let wait = self.callers.spawn(async move {
                let outcome = source.token().await;
                (clock.running() - started, outcome)
            });
            if self.random.u8(0..16) == 0 {
                // Before its first poll; others in the midst of their wait.
                wait.abort();
            } else {
                self.calls.push(Call { started, wait });
            }
            self.tally.calls += 1;
        }
        if self.calls.len() > 1 && self.random.u8(0..8) == 0 {
            let i = self.random.usize(0..self.calls.len());
            self.calls.swap_remove(i).wait.abort();
        }
    }

    /// Runs what can run, until nobody does anything any more.
    fn settle(&mut self) -> Verdict {
        for _ in 0..MOST_ROUNDS {
            let readings = self.clock.readings();
            if let Some(home) = self.home.as_ref().filter(|_| !self.rules.frozen) {
                idle(home);
            }
            idle(&self.callers);
            self.read_log()?;
            if self.clock.readings() == readings {
                return Ok(());
            }
        }
        Err("it does not come to rest".into())
    }

    fn read_log(&mut self) -> Verdict {
        let log = std::mem::take(&mut self.server.lock().log);
        for entry in log {
            let number = match &entry {
                Entry::Asked { at, .. } | Entry::Answered { at, .. } => at.as_nanos() as u64,
                Entry::Dropped { request } => *request,
            };
            self.note(|| format!("{entry:?}"), number);
            self.rules.note(&entry, &self.server.lock())?;
        }
        Ok(())
    }

    /// Looks at everything that can be seen from outside.
    fn look(&mut self) -> Verdict {
        let (now, running) = (self.clock.truth(), self.clock.running());
        let token = {
            let _entered = self.callers.enter();
            self.source.current_token()
        };
        self.rules.observe(now, running, token.as_ref().map(AccessToken::as_str), &self.server.lock())?;
        if let Some(token) = token.filter(|_| self.random.u8(0..16) == 0) {
            self.older = Some(token);
        }
        let mut i = 0;
        while i < self.calls.len() {
            if !self.calls[i].wait.is_finished() {
                let waited = running - self.calls[i].started;
                if waited > self.patience {
                    return Err(format!(
                        "a caller waits for {waited:?}, and its patience is {:?}",
                        self.patience
                    ));
                }
                i += 1;
                continue;
            }
            let call = self.calls.swap_remove(i);
            let (waited, outcome) =
                self.callers.block_on(call.wait).map_err(|error| format!("a caller panicked: {error}"))?;
            match outcome {
                Ok(token) => {
                    let server = self.server.lock();
                    let issued = server.tokens.get(token.as_str()).ok_or("a token that nobody issued")?;
                    if now - (running - call.started).saturating_sub(waited) >= issued.expires
                        && !self.rules.blind
                    {
                        return Err(format!("a caller got {}, which has expired", token.as_str()));
                    }
                }
                Err(error) => {
                    self.note(|| format!("a call failed after {waited:?}: {error}"), 7);
                    self.tally.failed += 1;
                    self.rules.failed(now, waited, self.patience, &error, &self.server.lock())?;
                }
            }
        }
        Ok(())
    }

    /// The last handle goes, in whatever state it is, and nothing is left.
    fn end(mut self) -> Result<Tally, String> {
        self.rules.frozen = false;
        for call in self.calls.drain(..) {
            call.wait.abort();
        }
        if self.random.bool() {
            let source = self.source.clone();
            let closing = self.callers.spawn(async move { source.shutdown().await });
            while !closing.is_finished() {
                idle(&self.callers);
                if let Some(home) = &self.home {
                    idle(home);
                }
                self.clock.pass(self.clock.next().unwrap_or_default());
            }
        }
        drop(self.source);
        let mut tasks = 0;
        for runtime in [Some(&self.callers), self.home.as_ref()].into_iter().flatten() {
            idle(runtime);
            idle(runtime);
            tasks += runtime.metrics().num_alive_tasks();
        }
        let (sleepers, requests) = (self.clock.sleepers(), self.server.lock().all_in_flight());
        let owners = Arc::strong_count(&self.server);
        if (tasks, sleepers, requests, owners) != (0, 0, 0, 1) {
            return Err(format!(
                "left behind: {tasks} tasks, {sleepers} sleepers, {requests} requests, {owners} owners of the transport"
            ));
        }
        self.tally.requests = self.rules.requests;
        self.tally.tokens = self.rules.tokens;
        self.tally.ages = self.rules.ages;
        self.tally.pauses = self.rules.pauses;
        Ok(self.tally)
    }
}
