//! The task's side of the refresher: its next step, and what becomes of an attempt.

use std::time::Duration;

use super::attempt::Attempted;
use super::events::Event;
use super::handover::Handover;
use super::plan::{Failure, Next};
use super::refresher::{GRACE, Inner, Refresher};
use super::slot::Held;
use super::telemetry::Report;
use super::token::AccessToken;
use crate::clock::{Moment, system_time};
use crate::credentials::Change;
use crate::error::{Error, ErrorKind};
use crate::grant::TokenResponse;

/// What the task is to do.
pub(super) enum Step {
    Stop,
    Sleep(Option<Duration>),
    Attempt(Duration),
}

impl Refresher {
    /// A sign of life, and the next step.
    pub(super) fn next_step(&self, epoch: u64) -> Step {
        self.observe();
        let (step, change) = self.decide(epoch);
        self.tell_change(change);
        step
    }

    fn decide(&self, epoch: u64) -> (Step, Change) {
        let mut inner = self.lock();
        if self.is_closed() || inner.task.pulse.epoch != epoch {
            return (Step::Stop, Change::None);
        }
        let now = self.clock.now();
        let change = self.take_note(&mut inner);
        if change != Change::None {
            inner.plan.credential_given(&now);
        }
        let mended = |held: &Held| held.ended(&now).or_else(|| held.reanchored(&now));
        if let Some(mended) = self.slot.held().as_deref().and_then(mended) {
            self.slot.store(Some(mended));
        }
        let Inner { plan, handover, .. } = &mut *inner;
        let handed_over_in = handover.step(&self.slot, plan.settle(), &now);
        let next = plan.next(&now, handover.newest(&self.slot).as_deref());
        let next = match (next, handed_over_in) {
            (Next::Sleep(left), Some(earlier)) => Next::Sleep(left.min(earlier)),
            (Next::Rest, Some(earlier)) => Next::Sleep(earlier),
            (next, _) => next,
        };
        inner.task.pulse.beats += 1;
        inner.task.attempting = matches!(next, Next::Attempt { .. });
        inner.task.due = match next {
            Next::Sleep(left) => now.monotonic + left,
            Next::Attempt { .. } | Next::Rest => Duration::MAX - GRACE,
        };
        let step = match next {
            Next::Attempt { timeout } => Step::Attempt(timeout),
            Next::Sleep(left) => Step::Sleep(Some(left)),
            Next::Rest => Step::Sleep(None),
        };
        (step, change)
    }

    fn observe(&self) {
        if let Some(held) = self.slot.held() {
            let now = self.clock.now();
            self.report(&Report::Observed {
                age: now.since(&held.anchor),
                remaining: held.remaining(&now),
                expires_at: held.token.expires_at(),
            });
        }
    }

    pub(super) fn beat(&self, epoch: u64) -> bool {
        let mut inner = self.lock();
        inner.task.pulse.beats += 1;
        !self.is_closed() && inner.task.pulse.epoch == epoch
    }

    /// In an attempt: goes by what its source has given by now.
    pub(super) fn note_credential(&self) {
        let change = self.take_note(&mut self.lock());
        self.tell_change(change);
    }

    /// What an attempt came to. A superseded task's outcome, and a stale credential's, change nothing.
    pub(super) fn settle(&self, epoch: u64, attempted: Attempted) {
        let Attempted { used, outcome, requests, refused } = attempted;
        let (report, change) = {
            let mut inner = self.lock();
            if self.is_closed() || inner.task.pulse.epoch != epoch {
                return;
            }
            inner.task.attempting = false;
            let change = self.take_note(&mut inner);
            let current = inner.known.as_ref().map(|known| &known.current);
            let same_app = used.as_ref().map(|used| &used.app_id) == current.map(|current| &current.app_id);
            let stale =
                used.as_ref().map(|used| used.generation) != current.map(|current| current.generation);
            let now = self.clock.now();
            let report = match outcome {
                Ok(_) if !same_app => None,
                Ok(response) => Some(self.take(&mut inner, &now, response, used.map(|used| used.generation))),
                Err(_) if stale => None,
                Err(error) => Some(self.fail(&mut inner, &now, Failure { error, requests, refused })),
            };
            // What came during the attempt was not what failed.
            if change != Change::None {
                inner.plan.credential_given(&now);
            }
            (report, change)
        };
        self.tell_change(change);
        self.bump();
        // Not under the lock: a subscriber may well ask for the status.
        if let Some(report) = report {
            self.report(&report);
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn hold(&self, response: TokenResponse) {
        let mut inner = self.lock();
        let generation = inner.known.as_ref().map(|known| known.current.generation);
        let report = self.take(&mut inner, &self.clock.now(), response, generation);
        drop(inner);
        self.report(&report);
    }

    /// Takes over what the process held that this one was forked from, to be renewed at a time drawn anew: all its children
    /// have the same token.
    pub(crate) fn inherit(&self, held: &Held) {
        let mut inner = self.lock();
        let age = self.clock.now().since(&held.anchor);
        let life = held.schedule.serve_for;
        let schedule = inner.plan.postponed(held.schedule, age, life, Duration::ZERO);
        inner.plan.succeeded(&schedule, None);
        let mut held = Held::new(held.token.clone(), schedule, held.anchor, held.after_refusal);
        held.inherited = true;
        self.slot.store(Some(held));
    }

    fn take(
        &self,
        inner: &mut Inner,
        now: &Moment,
        response: TokenResponse,
        generation: Option<u64>,
    ) -> Report {
        let TokenResponse { text, sent, round_trip, lifetime, refresh_in, scope, missing_scopes, quotas } =
            response;
        let schedule = inner
            .plan
            .schedule(lifetime, round_trip, refresh_in)
            .filter(|schedule| now.since(&sent) < schedule.serve_for);
        let Some(schedule) = schedule else {
            let error = Error::expired_on_arrival().with_server(self.endpoint.server());
            return self.fail(inner, now, Failure { error, requests: 1, refused: false });
        };
        // One that is there again before the renewal is no matter.
        let scarce = quotas
            .iter()
            .filter_map(|quota| Some((*quota, quota.scarce_for(system_time(sent.wall))?)))
            .filter(|(_, length)| *length > schedule.renew_after)
            .max_by_key(|(_, length)| *length);
        let quota = scarce.map(|(quota, _)| quota).or(quotas.first().copied());
        let schedule = match scarce {
            Some((_, length)) => inner.plan.postponed(schedule, length, lifetime, round_trip),
            None => schedule,
        };
        inner.handover.finish(&self.slot);
        let before = self.slot.held();
        let again = before.as_deref().filter(|held| held.token.as_str() == text.token());
        let schedule = again.map_or(schedule, |held| schedule.given_again(&held.schedule));
        let after_refusal = inner.plan.succeeded(&schedule, before.as_deref());
        let scope = scope.or_else(|| self.endpoint.grant_request().scope());
        let expires_at = system_time(sent.wall + lifetime);
        let token = AccessToken::new(text, expires_at, scope);
        let mut held = Held::new(token, schedule, sent, after_refusal);
        held.inherited = again.is_some_and(|held| held.inherited);
        held.refused = again.is_some_and(|held| held.refused);
        held.generation = generation;
        let previous = before.as_ref().filter(|_| again.is_none()).cloned();
        inner.handover = Handover::begin(&self.slot, held, previous, inner.plan.settle(), now);
        inner.last_renewal = Some(*now);
        inner.events.send(Event::Renewed { lifetime, missing_scopes: missing_scopes.clone() });
        let low = quota.filter(|_| scarce.is_some());
        if let Some(quota) = low.filter(|_| !inner.quota_low) {
            inner.events.send(Event::QuotaLow { quota });
        }
        inner.quota_low = low.is_some();
        inner.quota = quota;
        Report::Renewed { lifetime, round_trip, expires_at, missing_scopes, quota, low: low.is_some() }
    }

    fn fail(&self, inner: &mut Inner, now: &Moment, failure: Failure) -> Report {
        inner.handover.finish(&self.slot);
        let remaining = self.keep_serving(now);
        let error = inner.plan.failed(now, failure, remaining);
        if error.kind() == ErrorKind::CredentialsRejected {
            inner.events.send(Event::CredentialsRejected { error: error.clone() });
        }
        let next_attempt = error.retry_after().unwrap_or_default();
        inner.events.send(Event::RenewalFailed { error: error.clone(), next_attempt });
        Report::Failed { error, remaining }
    }

    /// Hands out what is held for as long as it may be served while renewals fail. Returns how long that is, `None` if
    /// there is nothing to serve.
    fn keep_serving(&self, now: &Moment) -> Option<Duration> {
        let held = self.slot.held()?;
        if held.withheld {
            self.forget_foreign();
        }
        let longer = if held.withheld { Some(held.withholding(false)) } else { held.extended(now) };
        let remaining = longer.as_ref().unwrap_or(&held).remaining(now);
        if longer.is_some() {
            self.slot.store(longer);
        }
        Some(remaining).filter(|left| !left.is_zero())
    }

    /// The task of this epoch is gone, by a panic or with its runtime. The waiters start another, which begins with the
    /// pause after a failure if an attempt was under way: what panics would do so again at once, in a whole fleet together.
    pub(super) fn died(&self, epoch: u64) {
        {
            let mut inner = self.lock();
            if inner.task.pulse.epoch != epoch {
                return;
            }
            inner.task.alive = false;
            if std::mem::take(&mut inner.task.attempting) && !self.is_closed() {
                let now = self.clock.now();
                inner.handover.finish(&self.slot);
                let remaining = self.keep_serving(&now);
                inner.plan.interrupted(&now, remaining);
            }
        }
        self.hand_out_again();
        self.bump();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::credentials::{AppCredentials, CredentialCell, Credentials};
    use crate::error::Result;
    use crate::grant::{Discovery, GrantRequest, HttpTransport, Server, TokenEndpoint};
    use crate::renewal::policy::RenewalPolicy;
    use crate::renewal::slot::Look;
    use crate::renewal::status::State;
    use crate::secret::{Scheme, TokenText};

    fn refresher() -> Refresher {
        let endpoint = TokenEndpoint::new(
            Server::token_url("https://as.example/token", false).unwrap(),
            GrantRequest::default(),
            None,
            false,
            HttpTransport::shared().unwrap(),
            Arc::new(Discovery::default()),
        );
        let source = AppCredentials::new("id", "one").into();
        let credentials = Arc::new(CredentialCell::open(source, true).unwrap());
        Refresher::new(endpoint, credentials, Clock::System, RenewalPolicy::default(), None, Some(1))
    }

    fn settle(
        refresher: &Refresher,
        epoch: u64,
        used: Option<Arc<Credentials>>,
        outcome: Result<TokenResponse>,
    ) {
        refresher.settle(epoch, Attempted { used, outcome, requests: 1, refused: false });
    }

    #[test]
    fn an_attempt_that_panics_is_followed_by_a_pause() {
        let refresher = refresher();
        refresher.lock().task.attempting = true;
        refresher.died(0);
        let due = refresher.status().next_attempt;
        assert_eq!(due, None, "no task is there");
        let due = refresher.lock().plan.due_in(&refresher.clock.now(), None).unwrap();
        assert!(due > Duration::from_millis(100), "{due:?}");
    }

    fn token(refresher: &Refresher) -> TokenResponse {
        TokenResponse {
            text: TokenText::new(Scheme::Bearer, "t").unwrap(),
            sent: refresher.clock.now(),
            round_trip: Duration::ZERO,
            lifetime: Duration::from_secs(100),
            refresh_in: None,
            scope: None,
            missing_scopes: Vec::new(),
            quotas: Vec::new(),
        }
    }

    #[test]
    fn the_failure_of_a_credential_that_was_replaced_is_ignored() {
        let refresher = refresher();
        let old = refresher.credentials.get();
        refresher.credentials.set("id".into(), "two".into()).unwrap();
        refresher.credential_changed();
        settle(&refresher, 0, old.clone(), Err(Error::new(ErrorKind::CredentialsRejected, "no")));
        assert_eq!(refresher.status().state, State::Starting);
        settle(&refresher, 0, old, Ok(token(&refresher)));
        assert_eq!(refresher.status().state, State::Fresh, "a token of the same app id is as good as any");
    }

    #[test]
    fn the_token_of_another_app_id_is_discarded() {
        let refresher = refresher();
        let old = refresher.credentials.get();
        refresher.credentials.set("other".into(), "two".into()).unwrap();
        refresher.credential_changed();
        settle(&refresher, 0, old, Ok(token(&refresher)));
        assert!(matches!(refresher.look(), Look::Nothing));
    }

    #[test]
    fn an_inherited_token_is_its_parents_to_revoke() {
        let (parent, child) = (refresher(), refresher());
        settle(&parent, 0, parent.credentials.get(), Ok(token(&parent)));
        child.inherit(&parent.slot.held().unwrap());
        settle(&child, 0, child.credentials.get(), Ok(token(&child)));
        assert!(child.close().tokens.is_empty(), "given again, it is still the same");
        let other = refresher();
        other.inherit(&parent.slot.held().unwrap());
        let own = TokenResponse { text: TokenText::new(Scheme::Bearer, "own").unwrap(), ..token(&other) };
        settle(&other, 0, other.credentials.get(), Ok(own));
        assert_eq!(other.close().tokens.len(), 1);
        assert_eq!(parent.close().tokens.len(), 1);
    }

    #[test]
    fn a_superseded_task_changes_nothing() {
        let refresher = refresher();
        settle(&refresher, 7, refresher.credentials.get(), Ok(token(&refresher)));
        assert!(matches!(refresher.look(), Look::Nothing));
        assert!(matches!(refresher.next_step(7), Step::Stop));
        assert!(!refresher.beat(7) && refresher.beat(0));
    }
}
