//! What readers and the task share: the handle that callers ask, wait at and wake. The task itself, and what becomes of its
//! attempts, lie in `task` and `outcome`.
//!
//! `inner` guards the plan and all that is known of the task. The slot is written under it (but for what a reader corrects by
//! compare-and-swap) and read without it. The credentials' own locks may be taken under it, and never the other way round.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};
use url::Url;

use super::events::{Event, EventSender, Events};
use super::handover::Handover;
use super::plan::Plan;
use super::policy::RenewalPolicy;
use super::slot::{Held, Look, Slot};
use super::status::{State, Status};
use super::task;
use super::telemetry::Report;
use super::token::AccessToken;
use crate::clock::{Clock, Moment, system_time};
use crate::credentials::{Change, CredentialCell, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{GrantRequest, Quota, TokenEndpoint};

/// A refresher that has not shown itself for this long after it should have is taken for frozen.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// Between two attempts to revoke a token, whatever the server says.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// What the task that renews and the readers share. There is one task at a time; it is the only caller of `grant`.
pub(crate) struct Refresher {
    pub(crate) slot: Slot,
    pub(crate) clock: Clock,
    pub(super) endpoint: TokenEndpoint,
    pub(super) credentials: Arc<CredentialCell>,
    /// What logs and metrics call the client, if it was given a name.
    pub(super) name: Option<Arc<str>>,
    pub(super) wake: Notify,
    runtime: Option<Handle>,
    /// Counts what waiters may want to know: outcomes, changes, deaths.
    progress: watch::Sender<u64>,
    inner: Mutex<Inner>,
    closed: AtomicBool,
    /// A token was renewed for a 401 with challenges for other schemes only, and no call has succeeded since.
    foreign: AtomicBool,
}

pub(super) struct Inner {
    pub(super) plan: Plan,
    pub(super) handover: Handover,
    pub(super) events: EventSender,
    pub(super) last_renewal: Option<Moment>,
    /// The credentials that this one goes by; a change of the family's is taken note of once.
    pub(super) known: Option<Known>,
    pub(super) quota: Option<Quota>,
    /// Subscribers know that little is left of it.
    pub(super) quota_low: bool,
    pub(super) task: Task,
}

/// The running task, as far as the readers know.
#[derive(Default)]
pub(super) struct Task {
    pub(super) pulse: Pulse,
    pub(super) alive: bool,
    pub(super) attempting: bool,
    /// By the monotonic clock, when the task will wake by itself.
    pub(super) due: Duration,
    abort: Option<AbortHandle>,
    join: Option<JoinHandle<()>>,
}

/// Who is the task, and how often it has shown itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pulse {
    /// Raised by every start: a task of an older epoch starts nothing more.
    pub(super) epoch: u64,
    pub(super) beats: u64,
}

/// How the API refused a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It says so, or nothing else.
    Token,
    /// Its challenges are for other schemes only, which may mean anything: one renewal until a call succeeds.
    Foreign,
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

/// What is left where all is ended.
#[derive(Default)]
pub(crate) struct Remains {
    pub(crate) task: Option<JoinHandle<()>>,
    pub(crate) tokens: Vec<AccessToken>,
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
        let known = credentials.known();
        Self {
            slot: Slot::default(),
            clock,
            endpoint,
            credentials,
            name: None,
            wake: Notify::new(),
            runtime,
            progress: watch::Sender::new(0),
            inner: Mutex::new(Inner {
                plan: Plan::new(policy, seed),
                handover: Handover::default(),
                events: EventSender::new(),
                last_renewal: None,
                known,
                quota: None,
                quota_low: false,
                task: Task::default(),
            }),
            closed: AtomicBool::new(false),
            foreign: AtomicBool::new(false),
        }
    }

    /// The same under a name for logs and metrics, whose series begin here.
    pub(crate) fn named(mut self, name: Option<Arc<str>>) -> Self {
        self.name = name;
        #[cfg(feature = "metrics")]
        self.register();
        self
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    pub(super) fn bump(&self) {
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
        match self.lost() {
            Some(pulse) => self.take_over(pulse),
            None => {
                self.wake.notify_one();
                Ok(())
            }
        }
    }

    /// The same, and leaves a task alone that is well.
    pub(crate) fn revive(self: &Arc<Self>) -> Result<()> {
        self.lost().map_or(Ok(()), |pulse| self.take_over(pulse))
    }

    /// For one who reads: the last pulse of a task that has ended, or has not looked at the clock when it should have.
    fn lost(&self) -> Option<Pulse> {
        let now = self.clock.now();
        let mut inner = self.lock();
        if self.is_closed() {
            return None;
        }
        if inner.plan.want() {
            // A caller that need not wait, since the attempt comes too late for it, has the task look again all the same.
            self.wake.notify_one();
        }
        let task = &inner.task;
        let overslept = !task.attempting && now.monotonic > task.due + GRACE;
        (!task.alive || overslept).then_some(task.pulse)
    }

    /// A reader who sees no new one for long takes over.
    pub(crate) fn pulse(&self) -> Pulse {
        self.lock().task.pulse
    }

    /// Starts a task in the place of the one whose last pulse this is, and which starts nothing more if it ever
    /// wakes. Of many readers who find the same task dead or frozen, one does it; and none if it shows itself first.
    pub(crate) fn take_over(self: &Arc<Self>, mut last: Pulse) -> Result<()> {
        let current = Handle::try_current().ok();
        let (one, other) =
            if last.epoch == 0 { (self.runtime.clone(), current) } else { (current, self.runtime.clone()) };
        let mut any = false;
        for runtime in [one, other].into_iter().flatten() {
            any = true;
            if self.start_on(&runtime, last) {
                return Ok(());
            }
            last.epoch += 1;
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
    fn start_on(self: &Arc<Self>, runtime: &Handle, last: Pulse) -> bool {
        let epoch = {
            let mut inner = self.lock();
            let task = &mut inner.task;
            if task.pulse != last {
                return true;
            }
            if let Some(old) = task.abort.take() {
                old.abort();
            }
            task.join = None;
            task.pulse.epoch += 1;
            task.alive = true;
            task.attempting = false;
            task.due = self.clock.now().monotonic;
            task.pulse.epoch
        };
        // The recorder may have come after the client, and the app id after both.
        #[cfg(feature = "metrics")]
        self.register();
        // Not under the lock: a runtime that is gone drops the task, which takes the lock, right here.
        let join = runtime.spawn(task::run(self.clone(), epoch));
        let mut inner = self.lock();
        let task = &mut inner.task;
        if task.pulse.epoch != epoch || self.is_closed() {
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
        // Where it is looked at again, or should be by now, that outcome is worth waiting for.
        if inner.task.attempting || inner.plan.due_in(&now, None).is_none_or(|due| due.is_zero()) {
            return None;
        }
        if let Some(error) = &inner.plan.refused {
            return Some(inner.plan.outlook(&now, error));
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

    /// Notes that a call succeeded.
    #[inline]
    pub(crate) fn note_success(&self) {
        if self.foreign.load(Ordering::Relaxed) {
            self.forget_foreign();
        }
    }

    pub(super) fn forget_foreign(&self) {
        self.foreign.store(false, Ordering::Relaxed);
    }

    /// Returns the token to try once more with, if the API refused `token` so soon after its arrival that it may not know it yet.
    pub(crate) fn previous_to(&self, token: &AccessToken) -> Option<AccessToken> {
        let inner = self.lock();
        let held = self.slot.held().filter(|held| held.token == *token && !held.withheld)?;
        let current = inner.known.as_ref().map(|known| known.current.generation);
        let previous = inner.handover.previous_to(&held, &self.clock.now())?;
        (previous.generation == current).then(|| previous.token.clone())
    }

    /// The API refused `token`.
    pub(crate) fn invalidate(self: &Arc<Self>, token: &AccessToken, how: Refused) -> Invalidation {
        let now = self.clock.now();
        {
            let mut inner = self.lock();
            let Some(held) = self.slot.held() else { return Invalidation::Moved };
            if held.token != *token {
                inner.handover.forget(token);
                return Invalidation::Moved;
            }
            if held.withheld {
                return Invalidation::Renewing;
            }
            if self.is_closed() {
                return Invalidation::Kept;
            }
            if inner.handover.finish(&self.slot) {
                inner.handover = Handover::None;
                drop(inner);
                self.bump();
                return Invalidation::Moved;
            }
            inner.handover = Handover::None;
            if how == Refused::Foreign && self.foreign.load(Ordering::Relaxed) {
                return Invalidation::Kept;
            }
            if !inner.plan.may_invalidate(&now, &held) {
                if !held.refused {
                    self.slot.store(Some(held.refused()));
                }
                return Invalidation::Kept;
            }
            self.slot.store(Some(held.withholding(true)));
            self.foreign.fetch_or(how == Refused::Foreign, Ordering::Relaxed);
            inner.events.send(Event::Invalidated);
        }
        self.report(&Report::Invalidated);
        self.bump();
        if self.ensure_running().is_err() {
            self.hand_out_again();
            return Invalidation::Kept;
        }
        Invalidation::Renewing
    }

    pub(super) fn hand_out_again(&self) {
        let _inner = self.lock();
        if let Some(held) = self.slot.held().filter(|held| held.withheld) {
            self.slot.store(Some(held.withholding(false)));
        }
    }

    /// The family's credential was set by hand.
    pub(crate) fn credential_changed(&self) {
        if self.is_closed() {
            return;
        }
        let change = {
            let mut inner = self.lock();
            let change = self.take_note(&mut inner);
            // Also if the task has taken note first: what it knows of the backoff is of the old credential.
            inner.plan.credential_changed();
            change
        };
        self.tell_change(change);
        self.wake.notify_one();
    }

    /// Goes by the family's credentials as they are now.
    pub(super) fn take_note(&self, inner: &mut Inner) -> Change {
        let now = self.credentials.known();
        let change = Change::between(inner.known.as_ref(), now.as_ref());
        inner.known = now;
        if change == Change::AppId {
            self.slot.store(None);
            inner.handover = Handover::None;
        }
        if matches!(change, Change::Secret | Change::AppId) {
            inner.events.send(Event::CredentialsRotated);
        }
        change
    }

    /// Not under the lock.
    pub(super) fn tell_change(&self, change: Change) {
        if change != Change::None {
            self.bump();
            #[cfg(feature = "metrics")]
            self.register();
        }
        if matches!(change, Change::Secret | Change::AppId) {
            self.report(&Report::Rotated);
        }
    }

    /// How often the server has refused the credential that is in use, since it was first used, and how many token requests an
    /// attempt may send now.
    pub(super) fn credential_refusals(&self) -> (u32, u32) {
        self.lock().plan.credential_refusals(&self.clock.now())
    }

    /// Whether the server refuses the credential, as far as is known.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().plan.is_rejected()
    }

    pub(crate) fn status(&self) -> Status {
        let now = self.clock.now();
        let inner = self.lock();
        let held = inner.handover.newest(&self.slot);
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
            quota: inner.quota,
            next_attempt: due.filter(|_| inner.task.pulse.epoch > 0 && !self.is_closed()),
            consecutive_failures: inner.plan.failures,
            last_error: inner.plan.last_error.clone(),
        }
    }

    /// Ends everything: the task is told to stop, the slot is empty, the events are over.
    pub(crate) fn close(&self) -> Remains {
        let remains = {
            let mut inner = self.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return Remains::default();
            }
            let held = self.slot.held();
            let tokens =
                held.iter().chain(inner.handover.held_back()).filter_map(|held| self.revocable(held));
            let tokens = tokens.collect();
            self.slot.store(None);
            inner.handover = Handover::None;
            inner.events.close();
            if let Some(task) = inner.task.abort.take() {
                task.abort();
            }
            Remains { task: inner.task.join.take(), tokens }
        };
        self.bump();
        remains
    }

    /// What the authorization server may still take for valid, if only in its leeway, and no parent holds.
    fn revocable(&self, held: &Held) -> Option<AccessToken> {
        let now = self.clock.now();
        let live = !held.remaining(&now).is_zero() || system_time(now.wall) < held.token.expires_at();
        (live && !held.inherited).then(|| held.token.clone())
    }

    /// Revokes a token that it held. It tries once more where the server says when (RFC 7009 2.2.1), but for no longer
    /// than until `patience` has passed since `began`.
    pub(crate) async fn revoke(
        &self,
        token: &AccessToken,
        endpoint: Option<&Url>,
        began: Moment,
        patience: Duration,
    ) -> Result<()> {
        let left = || patience.saturating_sub(self.clock.now().since(&began));
        let attempts = async {
            loop {
                let Some(credentials) = self.credentials.get() else { return Ok(()) };
                let outcome = self.endpoint.revoke(&self.clock, &credentials, token.as_str(), endpoint).await;
                let again = outcome.as_ref().err().and_then(Error::retry_after);
                match again.map(|after| after.max(LEAST_PAUSE)) {
                    Some(pause) if pause < left() => self.clock.wait(pause).await,
                    _ => return outcome,
                }
            }
        };
        tokio::select! {
            biased;
            () = self.clock.wait(left()) => Err(self.endpoint.silent(patience)),
            outcome = attempts => outcome,
        }
    }

    /// What a second look at the slot shows.
    pub(crate) fn look(&self) -> Look {
        match self.slot.look(&self.clock) {
            // The task would see only in a moment that the previous token has ended.
            Look::Nothing if self.lock().handover.finish(&self.slot) => self.slot.look(&self.clock),
            look => look,
        }
    }
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresher").field("server", &self.endpoint.server()).finish_non_exhaustive()
    }
}
