use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::events::{Event, EventSender, Events};
use super::plan::{Next, Plan};
use super::policy::RenewalPolicy;
use super::slot::{Held, Look, Slot};
use super::status::{State, Status};
use super::task;
use super::telemetry::Report;
use super::token::AccessToken;
use crate::clock::{Clock, Moment, system_time};
use crate::credentials::{Change, CredentialCell, Credentials};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{GrantRequest, TokenEndpoint, TokenResponse};

/// A refresher that has not shown itself for this long after it should have is taken for frozen.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What the task that renews and the readers share. There is one task at a time; it is the only caller of `grant`.
pub(crate) struct Refresher {
    pub(crate) slot: Slot,
    pub(crate) clock: Clock,
    pub(super) endpoint: TokenEndpoint,
    pub(super) credentials: Arc<CredentialCell>,
    pub(super) wake: Notify,
    runtime: Option<Handle>,
    /// Counts what waiters may want to know: outcomes, changes, deaths.
    progress: watch::Sender<u64>,
    inner: Mutex<Inner>,
    closed: AtomicBool,
}

struct Inner {
    plan: Plan,
    events: EventSender,
    last_renewal: Option<Moment>,
    task: Task,
}

/// The running task, as far as the readers know.
#[derive(Default)]
struct Task {
    /// Raised by every start: a task of an older epoch starts nothing more.
    epoch: u64,
    alive: bool,
    attempting: bool,
    /// Counts the signs of life.
    beats: u64,
    /// By the monotonic clock, when the task will wake by itself.
    due: Duration,
    abort: Option<AbortHandle>,
    join: Option<JoinHandle<()>>,
}

/// What the task is to do.
pub(super) enum Step {
    Stop,
    Sleep(Option<Duration>),
    Attempt { credentials: Arc<Credentials>, timeout: Duration },
}

/// What became of a token that the API refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalidation {
    /// There is a newer one already.
    Moved,
    /// It is withheld while its renewal runs.
    Renewing,
    /// No renewal: the token serves on.
    Kept,
}

impl Refresher {
    pub(crate) fn new(
        endpoint: TokenEndpoint,
        credentials: Arc<CredentialCell>,
        clock: Clock,
        policy: RenewalPolicy,
        runtime: Option<Handle>,
        seed: Option<u64>,
    ) -> Self {
        Self {
            slot: Slot::default(),
            clock,
            endpoint,
            credentials,
            wake: Notify::new(),
            runtime,
            progress: watch::Sender::new(0),
            inner: Mutex::new(Inner {
                plan: Plan::new(policy, seed),
                events: EventSender::new(),
                last_renewal: None,
                task: Task::default(),
            }),
            closed: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn bump(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    pub(crate) fn grant_request(&self) -> &GrantRequest {
        self.endpoint.grant_request()
    }

    pub(crate) fn events(&self) -> Events {
        self.lock().events.subscribe()
    }

    /// Sees to it that a live task is at work: starts one, takes over from a frozen one, or wakes it.
    ///
    /// # Errors
    /// Where there is no tokio runtime to run it on.
    pub(crate) fn ensure_running(self: &Arc<Self>) -> Result<()> {
        let now = self.clock.now();
        let epoch = {
            let mut inner = self.lock();
            if self.is_closed() {
                return Ok(());
            }
            inner.plan.want();
            let task = &inner.task;
            let overslept = !task.attempting && now.monotonic > task.due + GRACE;
            if task.alive && !overslept {
                self.wake.notify_one();
                return Ok(());
            }
            task.epoch
        };
        self.take_over(epoch)
    }

    /// The running task's epoch and its signs of life so far; a reader who sees no new ones for long takes over.
    pub(crate) fn pulse(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.task.epoch, inner.task.beats)
    }

    /// Starts a task in the place of the one of this epoch, which starts nothing more if it ever wakes. Of many
    /// readers who find the same task dead or frozen, one does it.
    pub(crate) fn take_over(self: &Arc<Self>, mut epoch: u64) -> Result<()> {
        let current = Handle::try_current().ok();
        let (one, other) =
            if epoch == 0 { (self.runtime.clone(), current) } else { (current, self.runtime.clone()) };
        let mut any = false;
        for runtime in [one, other].into_iter().flatten() {
            any = true;
            if self.start_on(&runtime, epoch) {
                return Ok(());
            }
            epoch += 1;
        }
        Err(Error::configuration(if any {
            "the tokio runtime that was to renew the token has been shut down"
        } else {
            "there is no tokio runtime to renew the token on"
        })
        .advice(
            "read the token within a running runtime, give one with `runtime`, or use `evertoken::blocking`",
        ))
    }

    /// False where the runtime has been shut down.
    fn start_on(self: &Arc<Self>, runtime: &Handle, superseded: u64) -> bool {
        let epoch = {
            let mut inner = self.lock();
            let task = &mut inner.task;
            if task.epoch != superseded {
                return true;
            }
            if let Some(old) = task.abort.take() {
                old.abort();
            }
            task.join = None;
            task.epoch += 1;
            task.alive = true;
            task.attempting = false;
            task.due = self.clock.now().monotonic;
            task.epoch
        };
        // Not under the lock: a runtime that is gone drops the task, which takes the lock, right here.
        let join = runtime.spawn(task::run(self.clone(), epoch));
        let mut inner = self.lock();
        let task = &mut inner.task;
        if task.epoch != epoch || self.is_closed() {
            join.abort();
            return true;
        }
        task.abort = Some(join.abort_handle());
        task.join = Some(join);
        task.alive
    }

    /// The answer for a caller who can wait for `patience` and found no token; `None` means to wait on.
    pub(crate) fn hopeless(&self, patience: Duration) -> Option<Error> {
        if self.is_closed() {
            return Some(Error::closed());
        }
        let now = self.clock.now();
        let inner = self.lock();
        if let Some(error) = &inner.plan.refused {
            return Some(inner.plan.outlook(&now, error));
        }
        if inner.task.attempting {
            return None;
        }
        let error = inner.plan.last_error.as_ref()?;
        let error = inner.plan.outlook(&now, error);
        (error.retry_after()? > patience)
            .then(|| error.prefixed("no token, and no attempt due before the deadline"))
    }

    /// The answer for a caller whose time is up.
    pub(crate) fn timed_out(&self, waited: Duration) -> Error {
        let now = self.clock.now();
        let inner = self.lock();
        let what = format!("no token within {:.1} s", waited.as_secs_f64());
        match &inner.plan.last_error {
            Some(error) => inner.plan.outlook(&now, error).prefixed(what),
            None => Error::new(ErrorKind::Timeout, what).with_server(self.endpoint.server()),
        }
    }

    /// The API refused `token`.
    pub(crate) fn invalidate(self: &Arc<Self>, token: &AccessToken) -> Invalidation {
        let now = self.clock.now();
        {
            let mut inner = self.lock();
            let Some(held) = self.slot.held() else { return Invalidation::Moved };
            if held.token != *token {
                return Invalidation::Moved;
            }
            if held.withheld {
                return Invalidation::Renewing;
            }
            if self.is_closed() || !inner.plan.may_invalidate(&now, &held) {
                return Invalidation::Kept;
            }
            self.slot.store(Some(held.withholding(true)));
            inner.events.send(Event::Invalidated);
        }
        Report::Invalidated.tell(&self.endpoint);
        self.bump();
        if self.ensure_running().is_err() {
            self.hand_out_again();
            return Invalidation::Kept;
        }
        Invalidation::Renewing
    }

    fn hand_out_again(&self) {
        let _inner = self.lock();
        if let Some(held) = self.slot.held().filter(|held| held.withheld) {
            self.slot.store(Some(held.withholding(false)));
        }
    }

    /// The family's credential has changed.
    pub(crate) fn credential_changed(&self, change: Change) {
        if change == Change::None || self.is_closed() {
            return;
        }
        {
            let mut inner = self.lock();
            inner.plan.credential_changed();
            if change == Change::AppId {
                self.slot.store(None);
            }
            inner.events.send(Event::CredentialsRotated);
        }
        self.bump();
        self.wake.notify_one();
    }

    pub(crate) fn status(&self) -> Status {
        let now = self.clock.now();
        let inner = self.lock();
        let held = self.slot.held();
        let live = held.as_deref().filter(|held| !held.remaining(&now).is_zero());
        let due = inner.plan.due_in(&now, held.as_deref());
        let state = if self.is_closed() {
            State::Closed
        } else if inner.plan.is_rejected() {
            State::Rejected
        } else if inner.plan.failures > 0 {
            State::Degraded
        } else if live.is_some() && inner.task.attempting {
            State::Renewing
        } else if live.is_some() {
            State::Fresh
        } else if held.is_some() && due.is_none() {
            State::Idle
        } else {
            State::Starting
        };
        Status {
            state,
            expires_in: live.map(|held| held.remaining(&now)),
            age: live.map(|held| now.since(&held.anchor)),
            scope: live.and_then(|held| held.token.scope().map(str::to_owned)),
            last_renewal: inner.last_renewal.map(|moment| system_time(moment.wall)),
            next_attempt: due.filter(|_| inner.task.epoch > 0 && !self.is_closed()),
            consecutive_failures: inner.plan.failures,
            last_error: inner.plan.last_error.clone(),
        }
    }

    /// Ends everything: the task is told to stop, the slot is empty, the events are over.
    pub(crate) fn close(&self) -> Option<JoinHandle<()>> {
        let join = {
            let mut inner = self.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return None;
            }
            self.slot.store(None);
            inner.events.close();
            if let Some(task) = inner.task.abort.take() {
                task.abort();
            }
            inner.task.join.take()
        };
        self.bump();
        join
    }

    /// A sign of life, and the next step.
    pub(super) fn next_step(&self, epoch: u64) -> Step {
        self.observe();
        let mut inner = self.lock();
        if self.is_closed() || inner.task.epoch != epoch {
            return Step::Stop;
        }
        let now = self.clock.now();
        if let Some(mended) = self.slot.held().and_then(|held| held.reanchored(&now)) {
            self.slot.store(Some(mended));
        }
        let held = self.slot.held();
        let next = inner.plan.next(&now, held.as_deref());
        inner.task.beats += 1;
        inner.task.attempting = matches!(next, Next::Attempt { .. });
        inner.task.due = match next {
            Next::Sleep(left) => now.monotonic + left,
            Next::Attempt { .. } | Next::Rest => Duration::MAX - GRACE,
        };
        match next {
            Next::Attempt { timeout } => Step::Attempt { credentials: self.credentials.get(), timeout },
            Next::Sleep(left) => Step::Sleep(Some(left)),
            Next::Rest => Step::Sleep(None),
        }
    }

    fn observe(&self) {
        if let Some(held) = self.slot.held() {
            let now = self.clock.now();
            Report::Observed { age: now.since(&held.anchor), remaining: held.remaining(&now) }
                .tell(&self.endpoint);
        }
    }

    pub(super) fn beat(&self, epoch: u64) -> bool {
        let mut inner = self.lock();
        inner.task.beats += 1;
        !self.is_closed() && inner.task.epoch == epoch
    }

    /// What an attempt came to. A superseded task's outcome, and a stale credential's, change nothing.
    pub(super) fn settle(&self, epoch: u64, used: &Credentials, outcome: Result<TokenResponse>) {
        let report = {
            let mut inner = self.lock();
            if self.is_closed() || inner.task.epoch != epoch {
                return;
            }
            inner.task.attempting = false;
            let current = self.credentials.get();
            let now = self.clock.now();
            match outcome {
                Ok(_) if used.app_id != current.app_id => None,
                Ok(response) => Some(self.take(&mut inner, &now, used, response)),
                Err(_) if used.generation != current.generation => None,
                Err(error) => Some(self.fail(&mut inner, &now, error)),
            }
        };
        self.bump();
        // Not under the lock: a subscriber may well ask for the status.
        if let Some(report) = report {
            report.tell(&self.endpoint);
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn hold(&self, response: TokenResponse) {
        let used = self.credentials.get();
        let report = self.take(&mut self.lock(), &self.clock.now(), &used, response);
        report.tell(&self.endpoint);
    }

    fn take(&self, inner: &mut Inner, now: &Moment, used: &Credentials, response: TokenResponse) -> Report {
        let TokenResponse { text, sent, round_trip, lifetime, refresh_in, scope, missing_scopes } = response;
        let schedule = inner
            .plan
            .schedule(lifetime, round_trip, refresh_in)
            .filter(|schedule| now.since(&sent) < schedule.serve_for);
        let Some(schedule) = schedule else {
            return self.fail(inner, now, Error::expired_on_arrival().with_server(self.endpoint.server()));
        };
        let before = self.slot.held();
        let after_refusal = inner.plan.succeeded(&schedule, before.as_deref());
        let scope = scope.or_else(|| self.endpoint.grant_request().scope());
        let token = AccessToken::new(text, system_time(sent.wall + lifetime), scope);
        self.slot.store(Some(Held::new(token, schedule, sent, used.generation, after_refusal)));
        inner.last_renewal = Some(*now);
        inner.events.send(Event::Renewed { lifetime, missing_scopes: missing_scopes.clone() });
        Report::Renewed { lifetime, round_trip, missing_scopes }
    }

    fn fail(&self, inner: &mut Inner, now: &Moment, error: Error) -> Report {
        let held = self.slot.held();
        let remaining = held.as_deref().map(|held| held.remaining(now)).filter(|left| !left.is_zero());
        let error = inner.plan.failed(now, error, remaining);
        if let Some(held) = held.filter(|held| held.withheld) {
            self.slot.store(Some(held.withholding(false)));
        }
        if error.kind() == ErrorKind::CredentialsRejected {
            inner.events.send(Event::CredentialsRejected { error: error.clone() });
        }
        let next_attempt = error.retry_after().unwrap_or_default();
        inner.events.send(Event::RenewalFailed { error: error.clone(), next_attempt });
        Report::Failed { error, remaining }
    }

    /// The task of this epoch is gone, by a panic or with its runtime. The waiters start another.
    pub(super) fn died(&self, epoch: u64) {
        {
            let mut inner = self.lock();
            if inner.task.epoch != epoch {
                return;
            }
            inner.task.alive = false;
            inner.task.attempting = false;
        }
        self.hand_out_again();
        self.bump();
    }

    /// What a second look at the slot shows.
    pub(crate) fn look(&self) -> Look {
        self.slot.look(&self.clock)
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher").field("server", &self.endpoint.server()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{Discovery, HttpTransport, Server};
    use crate::secret::BearerText;

    fn refresher() -> Refresher {
        let endpoint = TokenEndpoint::new(
            Server::token_url("https://as.example/token", false).unwrap(),
            GrantRequest::default(),
            None,
            false,
            HttpTransport::shared().unwrap(),
            Arc::new(Discovery::default()),
        );
        let credentials = Arc::new(CredentialCell::new("id".into(), "one".into()));
        Refresher::new(endpoint, credentials, Clock::System, RenewalPolicy::default(), None, Some(1))
    }

    fn token(refresher: &Refresher) -> TokenResponse {
        TokenResponse {
            text: BearerText::new("t").unwrap(),
            sent: refresher.clock.now(),
            round_trip: Duration::ZERO,
            lifetime: Duration::from_secs(100),
            refresh_in: None,
            scope: None,
            missing_scopes: Vec::new(),
        }
    }

    #[test]
    fn the_failure_of_a_credential_that_was_replaced_is_ignored() {
        let refresher = refresher();
        let old = refresher.credentials.get();
        refresher.credential_changed(refresher.credentials.set("id".into(), "two".into()));
        refresher.settle(0, &old, Err(Error::new(ErrorKind::CredentialsRejected, "no")));
        assert_eq!(refresher.status().state, State::Starting);
        refresher.settle(0, &old, Ok(token(&refresher)));
        assert_eq!(refresher.status().state, State::Fresh, "a token of the same app id is as good as any");
    }

    #[test]
    fn the_token_of_another_app_id_is_discarded() {
        let refresher = refresher();
        let old = refresher.credentials.get();
        refresher.credential_changed(refresher.credentials.set("other".into(), "two".into()));
        refresher.settle(0, &old, Ok(token(&refresher)));
        assert!(matches!(refresher.look(), Look::Nothing));
    }

    #[test]
    fn a_superseded_task_changes_nothing() {
        let refresher = refresher();
        let credentials = refresher.credentials.get();
        refresher.settle(7, &credentials, Ok(token(&refresher)));
        assert!(matches!(refresher.look(), Look::Nothing));
        assert!(matches!(refresher.next_step(7), Step::Stop));
        assert!(!refresher.beat(7) && refresher.beat(0));
    }
}
