//! What is remembered of requests that failed, so that they are not asked again at once.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::key::{Key, Tag};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::renewal::RenewalPolicy;
use crate::server::digest::AsItIs;

/// How many are remembered; more push out the old ones.
const CAPACITY: usize = 10_000;

/// A refusal is remembered for so long at first, then for twice as long each time.
const REFUSED: Duration = Duration::from_secs(10);
const REFUSED_MOST: Duration = Duration::from_secs(60);

struct Failure {
    error: Error,
    app: Tag,
    at: Moment,
    pause: Duration,
    /// How many in a row.
    count: u32,
    /// How many of the last ones were verdicts, and when the first of these came.
    verdicts: u32,
    since: Moment,
}

pub(super) struct Failures(
    Quick<Key, Arc<Failure>, UnitWeighter, AsItIs, DefaultLifecycle<Key, Arc<Failure>>>,
);

impl Failures {
    pub(super) fn new() -> Result<Self> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(CAPACITY)
            .weight_capacity(CAPACITY as u64)
            .ghost_allocation(0.0)
            .build()
            .map_err(|error| Error::configuration(error.to_string()))?;
        Ok(Self(Quick::with_options(options, UnitWeighter, AsItIs::default(), DefaultLifecycle::default())))
    }

    /// The answer to whoever comes again before it is time.
    pub(super) fn recent(&self, key: &Key, now: &Moment) -> Option<Error> {
        let failure = self.0.get(key)?;
        let left = failure.pause.saturating_sub(now.since(&failure.at));
        (!left.is_zero()).then(|| failure.error.clone().with_retry_after(Some(left)))
    }

    /// Keeps a failure, and gives it back with the time for which it stands. `draw` lies between 0 and 1.
    pub(super) fn note(
        &self,
        key: Key,
        app: Tag,
        now: Moment,
        error: Error,
        policy: &RenewalPolicy,
        draw: f64,
    ) -> Error {
        let before = self.0.peek(&key);
        let count = before.as_ref().map_or(0, |before| before.count).saturating_add(1);
        let (verdicts, since) = match before {
            _ if !is_verdict(&error) => (0, now),
            Some(before) if before.verdicts > 0 => (before.verdicts.saturating_add(1), before.since),
            _ => (1, now),
        };
        let doubled = |base: Duration, most: Duration| {
            base.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1))).min(most)
        };
        let pause = if is_verdict(&error) {
            doubled(REFUSED, REFUSED_MOST)
        } else {
            doubled(policy.backoff_base, policy.backoff_cap).mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
        };
        let pause = pause.max(error.retry_after().unwrap_or_default());
        let error = error.with_retry_after(Some(pause));
        let failure = Failure { error: error.clone(), app, at: now, pause, count, verdicts, since };
        self.0.insert(key, Arc::new(failure));
        error
    }

    /// Returns how often in a row the server has refused this, and since when; `None` if the last
    /// failure was no refusal.
    pub(super) fn refusals(&self, key: &Key) -> Option<(u32, Moment)> {
        let last = self.0.peek(key)?;
        (last.verdicts > 0).then_some((last.verdicts, last.since))
    }

    pub(super) fn forget(&self, key: &Key) {
        self.0.remove(key);
    }

    pub(super) fn purge(&self, app: Tag) {
        self.0.retain(|_, failure| failure.app != app);
    }
}

/// Whether the authorization server has said no, and not just failed to say yes.
pub(super) fn is_verdict(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::CredentialsRejected | ErrorKind::RequestRefused)
        && !error.is_retryable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GrantRequest;
    use crate::server::exchange::key::Hashing;

    fn at(seconds: u64) -> Moment {
        let time = Duration::from_secs(seconds);
        Moment::new(time, time, Some(time))
    }

    fn key(secret: &str) -> Key {
        Hashing::new().unwrap().of_request(&GrantRequest::default()).key("app", &secret.into())
    }

    fn note(failures: &Failures, key: Key, seconds: u64, kind: ErrorKind) -> Duration {
        let policy = RenewalPolicy::default();
        failures.note(key, 1, at(seconds), Error::new(kind, "no"), &policy, 1.0).retry_after().unwrap()
    }

    #[test]
    fn a_refusal_stands_for_longer_each_time_but_never_long() {
        let failures = Failures::new().unwrap();
        let key = key("a");
        let pauses: Vec<u64> = (0..5)
            .map(|n| note(&failures, key, 1_000 + n, ErrorKind::CredentialsRejected).as_secs())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 60, 60]);
        let again = failures.recent(&key, &at(1_063)).unwrap();
        assert_eq!(
            (again.kind(), again.retry_after()),
            (ErrorKind::CredentialsRejected, Some(Duration::from_secs(1)))
        );
        assert!(failures.recent(&key, &at(1_064)).is_none());
        failures.forget(&key);
        assert_eq!(note(&failures, key, 2_000, ErrorKind::CredentialsRejected).as_secs(), 10);
    }

    #[test]
    fn a_server_that_fails_is_asked_sooner() {
        let failures = Failures::new().unwrap();
        let key = key("a");
        let pauses: Vec<u128> = (0..9)
            .map(|n| note(&failures, key, 1_000 + n, ErrorKind::AuthServerUnavailable).as_millis())
            .collect();
        assert_eq!(pauses, [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        let policy = RenewalPolicy::default();
        let late = Error::new(ErrorKind::AuthServerUnavailable, "no")
            .with_retry_after(Some(Duration::from_secs(99)));
        let late = failures.note(key, 1, at(2_000), late, &policy, 0.0);
        assert_eq!(late.retry_after(), Some(Duration::from_secs(99)));
    }

    #[test]
    fn they_are_bounded_and_purged_by_app() {
        let failures = Failures::new().unwrap();
        let policy = RenewalPolicy::default();
        let hashing = Hashing::new().unwrap().of_request(&GrantRequest::default());
        for number in 0..3 * CAPACITY {
            let key = hashing.key("app", &number.to_string().into());
            let error = Error::new(ErrorKind::CredentialsRejected, "no");
            failures.note(key, (number % 2) as u64, at(1), error, &policy, 0.0);
        }
        assert!(failures.0.len() <= CAPACITY + 1_000, "{}", failures.0.len());
        failures.purge(0);
        assert!(!failures.0.is_empty() && failures.0.iter().all(|(_, failure)| failure.app == 1));
    }
}
