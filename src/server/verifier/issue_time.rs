//! What the verifier believes of a token's times if apps can be revoked: how long it may live, and how far the issuer's
//! clock is ahead of ours. The revocations themselves are in `server::keys`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Moment, system_time};
use crate::server::caller::Identity;
use crate::server::keys::{Revocations, TOLERANCE};
use crate::server::refusal::Refusal;

/// How often a token that lives too long is worth a warning.
const WARN_EVERY: Duration = Duration::from_secs(60);

const TOO_LONG: &str = "it lives longer than tokens may here";

/// Revocations as one verifier applies them.
pub(super) struct Revoked {
    revocations: Revocations,
    leeway: Duration,
    /// Until when, by the monotonic clock in seconds, the issuer's clock counts as ahead by up to a second, and by more.
    ahead: [AtomicU64; 2],
    /// When a warning may come again, by the monotonic clock in seconds.
    next_warning: AtomicU64,
}

impl Revoked {
    pub(super) fn new(revocations: Revocations, leeway: Duration) -> Self {
        Self { revocations, leeway, ahead: Default::default(), next_warning: AtomicU64::new(0) }
    }

    /// Checks a token that was just verified and came at `now`.
    ///
    /// A revocation is forgotten once no token can be left that was issued before. So a token is refused if it may outlive
    /// that: if its `iat` and `exp`, as far as it has them, do not hold it to the longest lifetime.
    pub(super) fn check_life(&self, identity: &Identity, now: &Moment) -> Result<(), Refusal> {
        let &Moment { monotonic, wall, .. } = now;
        let longest = self.revocations.longest_lifetime();
        if let Some(issued) = identity.issued {
            self.note_lead(issued.saturating_sub(wall), monotonic);
        }
        let life = match (identity.issued, identity.expires) {
            (Some(issued), Some(expires)) => Some(expires.saturating_sub(issued)),
            (Some(issued), None) => Some(wall.saturating_sub(issued).saturating_sub(self.leeway)),
            (None, Some(expires)) => Some(expires.saturating_sub(wall).saturating_sub(self.leeway)),
            (None, None) => None,
        };
        if life.is_some_and(|life| life <= longest.saturating_add(TOLERANCE)) {
            return Ok(());
        }
        let at = monotonic.as_secs();
        let next = self.next_warning.load(Ordering::Relaxed);
        let after = at.saturating_add(WARN_EVERY.as_secs());
        if at >= next
            && self.next_warning.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::warn!(
                target: "evertoken", app_id = identity.app_id, lives_s = life.map(|life| life.as_secs()),
                longest_s = longest.as_secs(),
                "a token is refused because it outlives its revocation: give `Revocations::new` the longest lifetime that \
                 the authorization server gives to tokens, or shorten theirs; a token without `iat` and `exp` cannot be \
                 held to any"
            );
        }
        Err(Refusal::token(TOO_LONG))
    }

    /// Checks a token by the time that its issuer says it was issued at.
    pub(super) fn check(
        &self,
        identity: &Identity,
        monotonic: impl FnOnce() -> Duration,
    ) -> Result<(), Refusal> {
        let lead = || {
            let issued = identity.issued?;
            Some(system_time(issued.saturating_sub(self.lead(monotonic()))))
        };
        if self.revocations.is_revoked_at(&identity.app_id, lead) {
            return Err(Refusal::revoked());
        }
        Ok(())
    }

    /// Checks a token that this process has asked for itself: it is no older than that moment, whatever its issuer's clock
    /// says.
    pub(super) fn check_asked(&self, identity: &Identity, asked: Duration) -> Result<(), Refusal> {
        if self.revocations.is_revoked_before(&identity.app_id, system_time(asked)) {
            return Err(Refusal::revoked());
        }
        Ok(())
    }

    fn note_lead(&self, lead: Duration, monotonic: Duration) {
        // As long as a revocation may have to withstand such a token.
        let until = monotonic.saturating_add(self.revocations.kept_for()).as_secs().saturating_add(1);
        let [by_a_second, by_more] = &self.ahead;
        if !lead.is_zero() {
            by_a_second.fetch_max(until, Ordering::Relaxed);
        }
        if lead > Duration::from_secs(1) {
            by_more.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Returns by how much the issuer's clock may be ahead of ours, as far as its tokens show: not at all, by a second, or
    /// else by the whole leeway, since a token may have taken any part of it to come here.
    fn lead(&self, monotonic: Duration) -> Duration {
        let [by_a_second, by_more] = self.ahead.each_ref().map(|until| until.load(Ordering::Relaxed));
        let now = monotonic.as_secs();
        match (now < by_a_second, now < by_more) {
            (_, true) => self.leeway,
            (true, false) => Duration::from_secs(1).min(self.leeway),
            (false, false) => Duration::ZERO,
        }
    }
}
