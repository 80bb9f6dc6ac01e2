//! What the refresher does next, as a pure function of what it is told: no clock, no lock, no I/O.

use std::time::Duration;

use super::backoff::Backoff;
use super::policy::RenewalPolicy;
use super::schedule::{self, Schedule};
use super::slot::Held;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::grant::{MOST, is_endpoint_missing};

/// Before the first token, an endpoint that is not there is taken for one of a server that is starting, for so long.
const STARTING: Duration = Duration::from_secs(120);
/// After a first refusal, in which no more than `MOST` requests are sent.
const FIRST_MINUTE: Duration = Duration::from_secs(60);
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
    last_timeout: Duration,
    /// After a failure: the pause, counted from its end.
    pause: Option<Pause>,
    /// The same if a caller waits meanwhile; `None` if that makes no difference.
    brisk: Option<Pause>,
    /// A caller has waited for a token since the last outcome.
    demanded: bool,
    /// An attempt took so long that the next one is given all the time that the policy allows.
    slow: bool,
    /// Since the first failure without a success.
    failing_since: Option<Moment>,
    /// Since when every answer has been that there is no such endpoint, without a token from it ever.
    missing_since: Option<Moment>,
    /// A token has come before: the endpoint is the right one.
    has_succeeded: bool,
    /// What a server asked for with Retry-After; it outlives a change of credential.
    hold_off: Option<Pause>,
    floor: Duration,
    /// Renew now, whatever the schedule says: the API refused the token.
    forced: bool,
    cooldown: Option<Pause>,
    /// Since a source of credentials last had an attempt come earlier.
    woken: Option<Pause>,
    /// It has done so more than once since the last success.
    restless: bool,
    /// Somebody waits for a token or noticed that it is overdue; ends an idle rest.
    wanted: bool,
    unused: u32,
    /// How often the server has refused the credential or the request, counted from the first time in this generation of
    /// the credentials, and how many requests that took.
    refusals: u32,
    spent: u32,
    refused_since: Option<Moment>,
    /// How many of them were for the credential.
    credential_refusals: u32,
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

/// An attempt that came to no token.
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// How many token requests it took.
    pub(crate) requests: u32,
    /// One of them was refused, or may have been, for who sent it.
    pub(crate) refused: bool,
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
            last_timeout: Duration::ZERO,
            pause: None,
            brisk: None,
            demanded: false,
            slow: false,
            failing_since: None,
            missing_since: None,
            has_succeeded: false,
            hold_off: None,
            floor: schedule::floor(Duration::MAX),
            forced: false,
            cooldown: None,
            woken: None,
            restless: false,
            wanted: false,
            unused: 0,
            refusals: 0,
            spent: 0,
            refused_since: None,
            credential_refusals: 0,
            failures: 0,
            last_error: None,
            refused: None,
        }
    }

    /// For how long a new token is held back while the previous one serves.
    pub(crate) fn settle(&self) -> Duration {
        self.policy.settle
    }

    /// The time to the next attempt; `None` while resting.
    pub(crate) fn due_in(&self, now: &Moment, held: Option<&Held>) -> Option<Duration> {
        let live = held.filter(|held| !held.remaining(now).is_zero());
        let wish = match (&self.pause, live) {
            (Some(pause), None) if self.demanded => {
                self.brisk.map_or(Duration::MAX, |brisk| brisk.left(now)).min(pause.left(now))
            }
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
        // After a failure the pause alone says when; the floor is for renewals that succeed too often.
        let floor = if self.pause.is_some() { Duration::ZERO } else { self.floor_left(now) };
        let hold_off = self.hold_off.map_or(Duration::ZERO, |pause| pause.left(now));
        Some(wish.max(floor).max(hold_off))
    }

    fn floor_left(&self, now: &Moment) -> Duration {
        let since = self.last_attempt.map(|since| Pause { since, length: self.floor });
        since.map_or(Duration::ZERO, |pause| pause.left(now))
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
                let timeout = match remaining {
                    None if !self.slow => schedule::first_timeout(&self.policy),
                    remaining => schedule::attempt_timeout(&self.policy, remaining),
                };
                self.last_timeout = timeout;
                Next::Attempt { timeout }
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
        self.has_succeeded = true;
        self.clear_failures();
        self.hold_off = None;
        self.wanted = false;
        self.demanded = false;
        self.slow = false;
        (self.woken, self.restless) = (None, false);
        std::mem::take(&mut self.forced)
    }

    /// Notes an attempt that failed. Returns the error as callers see it, with the time to the next attempt.
    pub(crate) fn failed(&mut self, now: &Moment, failure: Failure, remaining: Option<Duration>) -> Error {
        let Failure { error, requests, refused } = failure;
        self.failures = self.failures.saturating_add(1);
        self.note_failure(now, remaining);
        if refused {
            self.credential_refusals = self.credential_refusals.saturating_add(1);
        }
        let is_missing = is_endpoint_missing(&error) && !self.has_succeeded;
        if !is_missing {
            self.missing_since = None;
        }
        if refused || !error.is_retryable() {
            self.note_refusal(now, &error, requests);
        } else if is_missing {
            self.note_missing(now);
        }
        self.hold_off =
            error.retry_after().map(|wait| Pause { since: *now, length: self.backoff.spread(wait) });
        let due = self.due_in(now, None);
        let error = error.with_retry_after(due);
        self.refused = (!error.is_retryable()).then(|| error.clone());
        self.last_error = Some(error.clone());
        error
    }

    /// Notes an attempt that came to no end, since the task that made it is gone.
    pub(crate) fn interrupted(&mut self, now: &Moment, remaining: Option<Duration>) {
        self.note_failure(now, remaining);
    }

    fn note_failure(&mut self, now: &Moment, remaining: Option<Duration>) {
        self.forced = false;
        let failing = now.since(self.failing_since.get_or_insert(*now));
        let took = self.last_attempt.map_or(Duration::ZERO, |began| now.since(&began));
        self.slow |= took >= self.last_timeout / 2;
        self.demanded = false;
        self.pause = Some(Pause { since: *now, length: self.backoff.pause(remaining, failing, self.floor) });
        self.brisk = Some(Pause { since: *now, length: self.backoff.brisk() });
    }

    /// Replaces the backoff's pause by that for a server that is starting, which is short enough for callers to wait for. Later
    /// the address is more likely wrong: it is tried as rarely as a credential that may have been refused. After a first
    /// success it is right, and the server is being deployed anew: an outage like any other.
    fn note_missing(&mut self, now: &Moment) {
        let missing = now.since(self.missing_since.get_or_insert(*now));
        if missing < STARTING {
            let length = self.backoff.starting();
            let shorter = |pause: Pause| Pause { length: pause.length.min(length), ..pause };
            (self.pause, self.brisk) = (self.pause.map(shorter), None);
        } else {
            self.pause = Some(Pause { since: *now, length: self.backoff.check(u32::MAX) });
            self.brisk = Some(Pause { since: *now, length: self.backoff.doubtful() });
        }
    }

    /// Replaces the backoff's pause by that before the next check. Two checks come soon, for servers that replicate, but
    /// only if that makes no more than five token requests in the first minute: some servers lock a client that is
    /// refused too often.
    fn note_refusal(&mut self, now: &Moment, error: &Error, requests: u32) {
        self.refused_since.get_or_insert(*now);
        self.spent = self.spent.saturating_add(requests);
        let affordable = match self.spent {
            0..=3 => 0,
            4 => 1,
            _ => 2,
        };
        let nth = self.refusals.max(affordable);
        self.refusals = nth.saturating_add(1);
        // Without an OAuth code it may be the word of a firewall, and that may change its mind.
        let is_doubtful = error.is_retryable() && nth >= 2;
        let backoff = self.pause.filter(|_| is_doubtful).map(|pause| pause.length);
        let (length, brisk) = match backoff {
            Some(pause) => {
                let spent = self.spent >= MOST;
                let minute = self.refused_since.filter(|_| spent);
                let minute =
                    minute.map_or(Duration::ZERO, |since| Pause { since, length: FIRST_MINUTE }.left(now));
                let least = self.backoff.doubtful().max(minute);
                (pause.max(least), Some(Pause { since: *now, length: least }))
            }
            None => (self.backoff.check(nth), None),
        };
        // What a source gives that has something new each time is tried no more often for it.
        let length = if self.restless { length.max(LEAST_BETWEEN_WAKINGS) } else { length };
        if self.restless {
            self.woken = Some(Pause { since: *now, length: LEAST_BETWEEN_WAKINGS });
        }
        self.pause = Some(Pause { since: *now, length });
        self.brisk = brisk;
    }

    /// How often the credential that is in use has been refused already, and how many token requests an attempt may send now:
    /// what is left of those for the first minute, and one at least.
    pub(crate) fn credential_refusals(&self, now: &Moment) -> (u32, u32) {
        let is_early = self.refused_since.is_some_and(|since| now.since(&since) < FIRST_MINUTE);
        let most = if is_early { MOST.saturating_sub(self.spent).max(1) } else { MOST };
        (self.credential_refusals, most)
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
        self.forget_refusals();
        let Some(pause) = self.pause else { return };
        let length = self.woken.map_or(Duration::ZERO, |woken| woken.left(now)).max(self.floor_left(now));
        if length < pause.left(now) {
            self.pause = Some(Pause { since: *now, length });
            self.restless = self.woken.is_some();
            self.woken = Some(Pause { since: *now, length: length + LEAST_BETWEEN_WAKINGS });
        }
    }

    fn forget_refusals(&mut self) {
        (self.refusals, self.spent, self.credential_refusals) = (0, 0, 0);
        self.refused_since = None;
    }

    fn clear_failures(&mut self) {
        self.pause = None;
        self.brisk = None;
        self.forget_refusals();
        self.failing_since = None;
        self.missing_since = None;
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

    /// A caller looks for a token. Returns whether that brings the next attempt forward.
    pub(crate) fn want(&mut self) -> bool {
        self.wanted = true;
        let news = !std::mem::replace(&mut self.demanded, true);
        let brisk = self.brisk.as_ref().map(|brisk| brisk.length);
        news && brisk.is_some() && brisk < self.pause.as_ref().map(|pause| pause.length)
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
    use crate::grant::may_be_refused;
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
        assert_eq!(plan.next(&at(0.0), None), Next::Attempt { timeout: s(4) });
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
        let wait = plan.failed(&at(0.0), failure(error, 1), None).retry_after().unwrap();
        assert!((s(60)..=s(90)).contains(&wait), "{wait:?}");
        plan.credential_changed();
        assert_eq!(plan.next(&at(1.0), None), Next::Sleep(wait - s(1)));
    }

    fn failure(error: Error, requests: u32) -> Failure {
        let refused = may_be_refused(&error);
        Failure { error, requests, refused }
    }

    fn rejected() -> Error {
        Error::new(ErrorKind::CredentialsRejected, "no")
    }

    /// When attempts begin, to the tenth of a second, if each fails with `error` after so many requests.
    fn attempts(plan: &mut Plan, seconds: u32, requests: u32, error: impl Fn() -> Error) -> Vec<f64> {
        let mut attempts = Vec::new();
        for tenth in 0..10 * seconds {
            let now = at(f64::from(tenth) / 10.0);
            if let Next::Attempt { .. } = plan.next(&now, None) {
                attempts.push(f64::from(tenth) / 10.0);
                let requests = if attempts.len() == 1 { requests } else { 1 };
                plan.failed(&now, failure(error(), requests), None);
            }
        }
        attempts
    }

    #[test]
    fn a_refused_credential_is_checked_soon_then_slowly_and_at_once_when_it_changes() {
        let mut plan = plan();
        let begun = attempts(&mut plan, 1_500, 1, rejected);
        assert!((4.0..=6.1).contains(&begun[1]) && (20.0..=30.2).contains(&begun[2]), "{begun:?}");
        assert!(begun[2..].windows(2).all(|pair| (60.0..=300.1).contains(&(pair[1] - pair[0]))), "{begun:?}");
        assert!(plan.is_rejected());
        plan.credential_changed();
        assert!(matches!(plan.next(&at(1_500.0), None), Next::Attempt { .. }) && !plan.is_rejected());
        plan.failed(&at(1_500.1), failure(rejected(), 1), None);
        assert!(plan.due_in(&at(1_500.1), None).unwrap() <= s(6), "it may be as new as the first one was");
    }

    #[test]
    fn fallbacks_and_checks_are_five_requests_in_the_first_minute_together() {
        for requests in 1..=5 {
            let begun = attempts(&mut plan(), 60, requests, rejected);
            let sent = begun.len() as u32 - 1 + requests;
            assert!(sent <= 5, "{requests} at first, {sent} in the first minute: {begun:?}");
            assert!(sent >= 3, "{requests} at first, {sent} in the first minute: {begun:?}");
        }
    }

    #[test]
    fn what_may_be_a_refusal_is_checked_as_rarely_but_never_so_slowly() {
        let forbidden = || Error::new(ErrorKind::RequestRefused, "403").with_status(403).retryable(true);
        let mut plan = plan();
        let begun = attempts(&mut plan, 600, 3, forbidden);
        assert!(begun.iter().filter(|begun| **begun < 60.0).count() + 2 <= 5, "{begun:?}");
        assert!(
            begun.windows(2).skip(2).all(|pair| (40.0..=200.1).contains(&(pair[1] - pair[0]))),
            "{begun:?}"
        );
        assert!(!plan.is_rejected());
    }

    #[test]
    fn a_missing_endpoint_is_tried_for_two_minutes_and_then_slowly() {
        let missing = || Error::new(ErrorKind::InvalidResponse, "404").with_status(404);
        for _ in 0..20 {
            let begun = attempts(&mut plan(), 1_500, 1, missing);
            let (early, late): (Vec<f64>, Vec<f64>) = begun.iter().partition(|begun| **begun < 120.0);
            assert!((40..=125).contains(&early.len()), "{begun:?}");
            assert!(early.windows(2).all(|pair| pair[1] - pair[0] <= 3.1), "{begun:?}");
            // The attempt at the end of the two minutes is the first that is followed by a long pause.
            assert!(
                late[1..].windows(2).all(|pair| (60.0..=300.1).contains(&(pair[1] - pair[0]))),
                "{begun:?}"
            );
        }
        // What was something else in between may still be starting.
        let mut plan = plan();
        attempts(&mut plan, 100, 1, missing);
        plan.failed(&at(110.0), failure(unavailable(), 1), None);
        let error = plan.failed(&at(150.0), failure(missing(), 1), None);
        assert!(error.retry_after().unwrap() <= s(3), "{error}");
        let mut plan = self::plan();
        attempts(&mut plan, 200, 1, missing);
        let due = plan.due_in(&at(200.0), None).unwrap();
        plan.next(&at(200.0 + due.as_secs_f64()), None);
        let error = plan.failed(&at(200.0 + due.as_secs_f64()), failure(missing(), 1), None);
        assert!(error.is_retryable() && !plan.is_rejected());
        assert!(plan.want() && plan.due_in(&at(200.0 + due.as_secs_f64()), None).unwrap() <= s(60));
    }

    #[test]
    fn an_endpoint_that_has_given_a_token_and_is_missing_is_an_outage() {
        let missing = || Error::new(ErrorKind::InvalidResponse, "404").with_status(404);
        let mut plan = plan();
        plan.next(&at(0.0), None);
        take(&mut plan, 0.0, 10, None);
        for second in 10..1_000 {
            if let Next::Attempt { .. } = plan.next(&at(f64::from(second)), None) {
                plan.failed(&at(f64::from(second)), failure(missing(), 1), None);
            }
        }
        plan.want();
        assert!(plan.due_in(&at(1_000.0), None).unwrap() <= s(8));
    }

    #[test]
    fn a_caller_without_a_token_brings_a_late_attempt_forward() {
        let mut plan = plan();
        let begun = attempts(&mut plan, 100, 1, unavailable);
        let now = at(100.0);
        let due = plan.due_in(&now, None).unwrap();
        plan.next(&at(100.0 + due.as_secs_f64()), None);
        let now = at(now.monotonic.as_secs_f64() - 1_000.0 + due.as_secs_f64());
        let late = plan.failed(&now, failure(unavailable(), 1), None).retry_after().unwrap();
        assert!(late >= s(15), "{late:?} after {begun:?}");
        assert!(plan.want() && !plan.want(), "news once");
        let due = plan.due_in(&now, None).unwrap();
        assert!((s(4)..=s(8)).contains(&due), "{due:?}");
        let error = Error::new(ErrorKind::Throttled, "429").with_retry_after(Some(s(60)));
        plan.failed(&now, failure(error, 1), None);
        assert!(plan.want());
        assert!(plan.due_in(&now, None).unwrap() >= s(60), "but not before the server wants it");
        plan.failed(&now, failure(rejected(), 1), None);
        plan.failed(&now, failure(rejected(), 1), None);
        plan.failed(&now, failure(rejected(), 1), None);
        assert!(!plan.want());
        assert!(plan.due_in(&now, None).unwrap() >= s(60), "nor a refused credential");
    }

    #[test]
    fn a_first_attempt_that_hangs_leaves_time_for_one_that_is_given_more() {
        let mut plan = plan();
        assert_eq!(plan.next(&at(0.0), None), Next::Attempt { timeout: s(4) });
        let due = plan.failed(&at(4.0), failure(unavailable(), 1), None).retry_after().unwrap();
        assert!(due <= s(1), "{due:?}");
        assert_eq!(plan.next(&at(5.0), None), Next::Attempt { timeout: s(10) });
        plan.failed(&at(5.1), failure(unavailable(), 1), None);
        assert_eq!(plan.next(&at(20.0), None), Next::Attempt { timeout: s(10) }, "also the one after it");
        let held = take(&mut plan, 28.0, 100, None);
        assert_eq!(plan.next(&at(228.0), Some(&held)), Next::Attempt { timeout: s(4) });
        plan.failed(&at(228.1), failure(unavailable(), 1), None);
        assert_eq!(plan.next(&at(248.0), None), Next::Attempt { timeout: s(4) }, "it failed, but quickly");
    }

    #[test]
    fn the_floor_is_for_renewals_that_succeed_and_not_for_retries() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        let due = plan.failed(&at(0.0), failure(unavailable(), 1), None).retry_after().unwrap();
        assert!((Duration::from_millis(200)..=Duration::from_millis(800)).contains(&due), "{due:?}");
    }

    #[test]
    fn what_a_source_gives_is_tried_at_once_but_not_time_and_again() {
        let mut plan = plan();
        plan.next(&at(0.0), None);
        plan.failed(&at(0.1), failure(rejected(), 1), None);
        plan.credential_given(&at(0.2));
        assert!(!plan.is_rejected() && plan.failures == 1);
        assert_eq!(plan.next(&at(0.2), None), Next::Sleep(Duration::from_millis(800)), "the floor holds");
        let mut attempts = Vec::new();
        for tenth in 10..400 {
            let now = at(f64::from(tenth) / 10.0);
            if let Next::Attempt { .. } = plan.next(&now, None) {
                attempts.push(tenth);
                plan.failed(&now, failure(rejected(), 1), None);
            }
            plan.credential_given(&now);
        }
        // The second is an early check, of what the source had given by then.
        assert!(attempts[0] == 10 && (50..=70).contains(&attempts[1]), "{attempts:?}");
        assert!(
            attempts[2..].windows(2).all(|pair| (100..=110).contains(&(pair[1] - pair[0]))),
            "{attempts:?}"
        );
        assert_eq!(attempts.len(), 5, "{attempts:?}");
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
        plan.failed(&at(90.0), failure(unavailable(), 1), Some(s(5)));
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
