use std::time::Duration;

use super::backoff::Backoff;
use super::policy::RenewalPolicy;
use super::schedule::{self, Schedule};
use super::slot::Held;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};

const COOLDOWN: Duration = Duration::from_secs(10);
const MOST_COOLDOWN: Duration = Duration::from_secs(300);
/// Between two wakings by a source of credentials: one that has something new each time must not make it a storm.
const LEAST_BETWEEN_WAKINGS: Duration = Duration::from_secs(10);

/// What is to come next and when: all that the refresher remembers between two attempts. It has no clock, no lock
/// and no I/O; every decision is a function of what it is told.
pub(crate) struct Plan {
    policy: RenewalPolicy,
    backoff: Backoff,
    /// When the last attempt began: the floor counts from here.
    last_attempt: Option<Moment>,
    /// After a failure: the pause, counted from its end.
    pause: Option<Pause>,
    /// Since the first failure without a success.
    failing_since: Option<Moment>,
    /// What a server asked for with Retry-After; it outlives a change of credential.
    hold_off: Option<Pause>,
    floor: Duration,
    /// Renew now, whatever the schedule says: the API refused the token.
    forced: bool,
    cooldown: Option<Pause>,
    /// Since a source of credentials last had an attempt come earlier.
    woken: Option<Pause>,
    /// Somebody waits for a token or noticed that it is overdue; ends an idle rest.
    wanted: bool,
    unused: u32,
    pub(crate) failures: u32,
    pub(crate) last_error: Option<Error>,
    /// The last answer does not mend by itself: it is every caller's answer until something changes.
    pub(crate) refused: Option<Error>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Moment,
    length: Duration,
}

impl Pause {
    fn left(&self, now: &Moment) -> Duration {
        self.length.saturating_sub(now.since(&self.since))
    }
}

/// What the refresher does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Attempt {
        timeout: Duration,
    },
    Sleep(Duration),
    /// Until somebody asks.
    Rest,
}

impl Plan {
    pub(crate) fn new(policy: RenewalPolicy, seed: Option<u64>) -> Self {
        Self {
            backoff: Backoff::new(&policy, seed),
            policy,
            last_attempt: None,
            pause: None,
            failing_since: None,
            hold_off: None,
            floor: schedule::floor(Duration::MAX),
            forced: false,
            cooldown: None,
            woken: None,
            wanted: false,
            unused: 0,
            failures: 0,
            last_error: None,
            refused: None,
        }
    }

    /// The time to the next attempt; `None` while resting.
    pub(crate) fn due_in(&self, now: &Moment, held: Option<&Held>) -> Option<Duration> {
        let live = held.filter(|held| !held.remaining(now).is_zero());
        let wish = match (&self.pause, live) {
            (Some(pause), _) => pause.left(now),
            (None, Some(held)) if !self.forced => {
                let left = held.schedule.renew_after.saturating_sub(now.since(&held.anchor));
                if left.is_zero() && self.rests(Some(held)) {
                    return None;
                }
                left
            }
            (None, None) if self.rests(held) => return None,
            _ => Duration::ZERO,
        };
        let floor = self
            .last_attempt
            .map_or(Duration::ZERO, |began| Pause { since: began, length: self.floor }.left(now));
        let hold_off = self.hold_off.map_or(Duration::ZERO, |pause| pause.left(now));
        Some(wish.max(floor).max(hold_off))
    }

    fn rests(&self, held: Option<&Held>) -> bool {
        match (self.policy.idle_lifetimes, held) {
            (Some(most), Some(held)) => !self.wanted && !held.was_used() && self.unused + 1 >= most,
            _ => false,
        }
    }

    pub(crate) fn next(&mut self, now: &Moment, held: Option<&Held>) -> Next {
        match self.due_in(now, held) {
            None => Next::Rest,
            Some(Duration::ZERO) => {
                self.last_attempt = Some(*now);
                let remaining = held.map(|held| held.remaining(now)).filter(|left| !left.is_zero());
                Next::Attempt { timeout: schedule::attempt_timeout(&self.policy, remaining) }
            }
            Some(left) => Next::Sleep(left),
        }
    }

    /// A token came. `None` where so short a life leaves nothing to serve, which is a failure.
    pub(crate) fn schedule(
        &mut self,
        life: Duration,
        round_trip: Duration,
        refresh_in: Option<Duration>,
    ) -> Option<Schedule> {
        Schedule::new(&self.policy, life, round_trip, refresh_in, self.backoff.draw())
    }

    /// The schedule for tokens of which few are left for so long.
    pub(crate) fn postponed(
        &mut self,
        schedule: Schedule,
        until: Duration,
        life: Duration,
        round_trip: Duration,
    ) -> Schedule {
        schedule.postponed(until, life, round_trip, self.backoff.draw())
    }

    /// The scheduled token is in the place of `before`. Tells whether it was asked for because that was refused.
    pub(crate) fn succeeded(&mut self, schedule: &Schedule, before: Option<&Held>) -> bool {
        self.unused = match before {
            Some(held) if !held.was_used() && !self.wanted => self.unused + 1,
            _ => 0,
        };
        self.floor = schedule.floor;
        self.clear_failures();
        self.hold_off = None;
        self.wanted = false;
        std::mem::take(&mut self.forced)
    }

    /// An attempt failed; gives the error as callers see it, with the time to the next attempt.
    pub(crate) fn failed(&mut self, now: &Moment, error: Error, remaining: Option<Duration>) -> Error {
        self.failures = self.failures.saturating_add(1);
        self.forced = false;
        let failing = now.since(self.failing_since.get_or_insert(*now));
        let length =
            if error.is_retryable() { self.backoff.pause(remaining, failing) } else { self.backoff.probe() };
        self.pause = Some(Pause { since: *now, length });
        self.hold_off = error.retry_after().map(|length| Pause { since: *now, length });
        let due = self.due_in(now, None);
        let error = error.with_retry_after(due);
        self.refused = (!error.is_retryable()).then(|| error.clone());
        self.last_error = Some(error.clone());
        error
    }

    /// A credential that was set by hand and not tried yet wakes everything but a server's Retry-After.
    pub(crate) fn credential_changed(&mut self) {
        self.forced |= self.failures > 0;
        self.clear_failures();
        self.last_attempt = None;
    }

    /// The source of the credentials has one that was not tried yet: after a failure it is tried at once, but neither the
    /// backoff's ladder nor the floor is forgotten.
    pub(crate) fn credential_given(&mut self, now: &Moment) {
        self.refused = None;
        let Some(pause) = self.pause else { return };
        let length = self.woken.map_or(Duration::ZERO, |woken| woken.left(now));
        if length < pause.left(now) {
            self.pause = Some(Pause { since: *now, length });
            self.woken = Some(Pause { since: *now, length: length + LEAST_BETWEEN_WAKINGS });
        }
    }

    fn clear_failures(&mut self) {
        self.pause = None;
        self.failing_since = None;
        self.failures = 0;
        self.last_error = None;
        self.refused = None;
        self.backoff.reset();
    }

    /// Whether the API's refusal of the held token may lead to a renewal now. While attempts fail, or in the
    /// cooldown, it may not: then the token serves on and the refusal reaches its caller.
    pub(crate) fn may_invalidate(&mut self, now: &Moment, held: &Held) -> bool {
        let busy = self.pause.is_some()
            || self.hold_off.is_some_and(|pause| !pause.left(now).is_zero())
            || self.cooldown.is_some_and(|pause| !pause.left(now).is_zero());
        if busy {
            return false;
        }
        let length = match &self.cooldown {
            Some(last) if held.after_refusal => (last.length * 2).min(MOST_COOLDOWN),
            _ => COOLDOWN,
        };
        self.cooldown = Some(Pause { since: *now, length });
        self.forced = true;
        true
    }

    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// The last answer as a caller gets it now, with the time to the next attempt as it is now.
    pub(crate) fn outlook(&self, now: &Moment, error: &Error) -> Error {
        error.clone().with_retry_after(self.due_in(now, None))
    }

    pub(crate) fn is_rejected(&self) -> bool {
        self.refused.as_ref().is_some_and(|error| {
            matches!(error.kind(), ErrorKind::CredentialsRejected | ErrorKind::RequestRefused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renewal::token::AccessToken;
    use crate::secret::{Scheme, TokenText};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: f64) -> Moment {
        let after = Duration::from_secs_f64(1_000.0 + seconds);
        Moment::new(after, after, Some(after))
    }

    fn plan() -> Plan {
        Plan::new(RenewalPolicy::default().jitter(0.0), Some(1))
    }

    fn take(plan: &mut Plan, now: f64, life: u64, before: Option<&Held>) -> Held {
        let schedule = plan.schedule(s(life), s(0), None).unwrap();
        let after_refusal = plan.succeeded(&schedule, before);
        let token = AccessToken::new(
            TokenText::new(Scheme::Bearer, "t").unwrap(),
            std::time::SystemTime::now(),
            None,
        );
        Held::new(token, schedule, at(now), after_refusal)
    }

    fn unavailable() -> Error {
        Error::new(ErrorKind::AuthServerUnavailable, "down")
    }

    #[test]
    fn cold_asks_at_once_then_sleeps_to_renew_at() {
        let mut plan = plan();
        assert_eq!(plan.next(&at(0.0), None), Next::Attempt { timeout: s(10) });
        let held = take(&mut plan, 0.0, 100, None);
        assert_eq!(plan.next(&at(1.0), Some(&held)), Next::Sleep(s(89)));
        assert_eq!(
            plan.next(&at(90.0), Some(&held)),
            Next::Attempt { timeout: Duration::from_millis(2_500) }
        );
    }

    #[test]
    fn the_floor_holds_whatever_else_is_due() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        let held = take(&mut plan, 0.0, 100, None);
        assert!(plan.may_invalidate(&at(0.1), &held));
        assert_eq!(plan.next(&at(0.1), Some(&held)), Next::Sleep(Duration::from_millis(900)));
        assert!(matches!(plan.next(&at(1.0), Some(&held)), Next::Attempt { .. }));
    }

    #[test]
    fn retry_after_bounds_from_below() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        let error = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(Some(s(60)));
        assert_eq!(plan.failed(&at(0.0), error, None).retry_after(), Some(s(60)));
        plan.credential_changed();
        assert_eq!(plan.next(&at(1.0), None), Next::Sleep(s(59)));
    }

    #[test]
    fn a_refused_credential_is_probed_slowly_and_wakes_when_it_changes() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        let error = plan.failed(&at(0.1), Error::new(ErrorKind::CredentialsRejected, "no"), None);
        assert!(error.retry_after().unwrap() >= s(60) && plan.is_rejected());
        assert!(matches!(plan.next(&at(59.0), None), Next::Sleep(_)));
        assert!(matches!(plan.next(&at(401.0), None), Next::Attempt { .. }));
        plan.failed(&at(401.0), Error::new(ErrorKind::CredentialsRejected, "no"), None);
        plan.credential_changed();
        assert!(matches!(plan.next(&at(401.1), None), Next::Attempt { .. }) && !plan.is_rejected());
    }

    #[test]
    fn what_a_source_gives_is_tried_at_once_but_not_time_and_again() {
        let rejected = || Error::new(ErrorKind::CredentialsRejected, "no");
        let mut plan = plan();
        plan.next(&at(0.0), None);
        plan.failed(&at(0.1), rejected(), None);
        plan.credential_given(&at(0.2));
        assert!(!plan.is_rejected() && plan.failures == 1);
        assert_eq!(plan.next(&at(0.2), None), Next::Sleep(Duration::from_millis(800)), "the floor holds");
        let mut attempts = Vec::new();
        for tenth in 10..400 {
            let now = at(f64::from(tenth) / 10.0);
            if let Next::Attempt { .. } = plan.next(&now, None) {
                attempts.push(tenth);
                plan.failed(&now, rejected(), None);
            }
            plan.credential_given(&now);
        }
        assert_eq!(attempts, [10, 102, 202, 302]);
    }

    #[test]
    fn the_cooldown_doubles_while_new_tokens_are_refused_too() {
        let mut plan = plan();
        let mut held = take(&mut plan, 0.0, 100_000, None);
        let mut renewals = Vec::new();
        for second in 0..1_500 {
            let now = f64::from(second);
            if plan.may_invalidate(&at(now), &held) {
                renewals.push(second);
                held = take(&mut plan, now, 100_000, None);
            }
        }
        assert_eq!(renewals, [0, 10, 30, 70, 150, 310, 610, 910, 1210]);
        // A token of the ordinary schedule that is refused starts at the foot again.
        let scheduled = take(&mut plan, 1_510.0, 100_000, None);
        assert!(plan.may_invalidate(&at(1_600.0), &scheduled));
        let held = take(&mut plan, 1_600.0, 100_000, None);
        assert!(!plan.may_invalidate(&at(1_609.0), &held) && plan.may_invalidate(&at(1_610.0), &held));
    }

    #[test]
    fn while_attempts_fail_a_refusal_by_the_api_changes_nothing() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        let held = take(&mut plan, 0.0, 100, None);
        plan.failed(&at(90.0), unavailable(), Some(s(5)));
        assert!(!plan.may_invalidate(&at(90.5), &held));
    }

    #[test]
    fn idle_rests_after_the_lifetimes_said_and_wakes_when_wanted() {
        let mut plan = Plan::new(RenewalPolicy::default().jitter(0.0).stop_after_unused(2), Some(1));
        plan.next(&at(0.0), None);
        let first = take(&mut plan, 0.0, 100, None);
        assert!(matches!(plan.next(&at(90.0), Some(&first)), Next::Attempt { .. }));
        let second = take(&mut plan, 90.0, 100, Some(&first));
        assert_eq!(plan.next(&at(180.0), Some(&second)), Next::Rest);
        assert_eq!(plan.next(&at(500.0), Some(&second)), Next::Rest);
        plan.want();
        assert!(matches!(plan.next(&at(500.0), Some(&second)), Next::Attempt { .. }));
    }
}
