//! The schedule of a token that no refresher looks after, as the exchange holds it. What is decided by it lies there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::schedule::Schedule;
use crate::clock::{Clock, Moment};

/// A schedule and what has come of it, for a token that no refresher looks after: whoever reads it sees to it.
///
/// It lies beside the token, so that a read of one in a million is one object, and small, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Term {
    /// When the token was asked for: all that follows counts from here.
    monotonic: u64,
    wall: u64,
    boot: u64,
    /// None of it once it was seen to have ended, which is over though the wall clock be set back.
    renew_after: AtomicU64,
    serve_for: AtomicU64,
    /// Up to when it is served while renewals fail.
    last_resort: AtomicU64,
    /// When a renewal may be tried, by the monotonic clock; [`NEVER`] while one runs.
    renewable: AtomicU64,
    /// Whose token it is by the issuer's own word, as a hash; 0 if that is not known.
    owner: AtomicU64,
}

const NEVER: u64 = u64::MAX;
const NO_BOOT: u64 = u64::MAX;

impl Term {
    /// It has ended before it began.
    pub(crate) fn none() -> Self {
        Self {
            monotonic: 0,
            wall: 0,
            boot: NO_BOOT,
            renew_after: AtomicU64::new(0),
            serve_for: AtomicU64::new(0),
            last_resort: AtomicU64::new(0),
            renewable: AtomicU64::new(NEVER),
            owner: AtomicU64::new(0),
        }
    }

    pub(crate) fn new(anchor: &Moment, schedule: &Schedule) -> Self {
        Self {
            monotonic: nanos(anchor.monotonic),
            wall: nanos(anchor.wall),
            boot: anchor.boot.map_or(NO_BOOT, nanos),
            renew_after: AtomicU64::new(nanos(schedule.renew_after)),
            serve_for: AtomicU64::new(nanos(schedule.serve_for)),
            last_resort: AtomicU64::new(nanos(schedule.last_resort)),
            renewable: AtomicU64::new(0),
            owner: AtomicU64::new(0),
        }
    }

    fn anchor(&self) -> Moment {
        Moment {
            monotonic: Duration::from_nanos(self.monotonic),
            wall: Duration::from_nanos(self.wall),
            boot: (self.boot != NO_BOOT).then(|| Duration::from_nanos(self.boot)),
        }
    }

    /// Returns when the token was asked for, by the wall clock.
    pub(crate) fn asked(&self) -> Duration {
        Duration::from_nanos(self.wall)
    }

    /// The first look, by two cheap clocks: whether nothing is to be done for this token.
    pub(crate) fn is_fresh(&self, clock: &Clock) -> bool {
        let (monotonic, wall) = clock.coarse();
        let renew_after = self.renew_after.load(Ordering::Relaxed);
        nanos(monotonic) < self.monotonic.saturating_add(renew_after)
            && nanos(wall) < self.wall.saturating_add(renew_after)
    }

    /// How long it may be handed out yet.
    pub(crate) fn remaining(&self, now: &Moment) -> Duration {
        // The lesser of the two, so that `end` wins over an `extend` of the same moment.
        let serve_for = self.serve_for.load(Ordering::Relaxed).min(self.last_resort.load(Ordering::Relaxed));
        Duration::from_nanos(serve_for).saturating_sub(self.age(now))
    }

    pub(crate) fn age(&self, now: &Moment) -> Duration {
        now.since(&self.anchor())
    }

    /// Ends it for good.
    pub(crate) fn end(&self) {
        self.lapse();
        self.last_resort.store(0, Ordering::Relaxed);
    }

    /// Notes that serve-until was seen to have passed, which holds though the wall clock is set back: only its leeway is
    /// left, if anything.
    pub(crate) fn lapse(&self) {
        self.renew_after.store(0, Ordering::Relaxed);
        self.serve_for.store(0, Ordering::Relaxed);
    }

    /// Has it served through its leeway, since it could not be renewed. Returns whether it may be served yet; a token that
    /// was ended may not.
    pub(crate) fn extend(&self, now: &Moment) -> bool {
        let serves = !self.is_over(now);
        if serves {
            self.serve_for.store(self.last_resort.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        serves
    }

    /// Returns whether its leeway has passed, too.
    pub(crate) fn is_over(&self, now: &Moment) -> bool {
        self.age(now) >= Duration::from_nanos(self.last_resort.load(Ordering::Relaxed))
    }

    /// Takes on the renewal: true for one caller, where it is due and no pause after a failure is left.
    pub(crate) fn claim_renewal(&self, now: &Moment) -> bool {
        let renew_after = self.renew_after.load(Ordering::Relaxed);
        let due = self.age(now) >= Duration::from_nanos(renew_after);
        let since = self.renewable.load(Ordering::Relaxed);
        due && since <= nanos(now.monotonic)
            && self.renewable.compare_exchange(since, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Returns the hash of whose token it is by the issuer's own word, if that was noted.
    pub(crate) fn owner(&self) -> Option<u64> {
        Some(self.owner.load(Ordering::Acquire)).filter(|owner| *owner != 0)
    }

    pub(crate) fn note_owner(&self, owner: u64) {
        self.owner.store(owner, Ordering::Release);
    }

    /// The renewal came to nothing, and is not tried again for so long.
    pub(crate) fn renewal_failed(&self, now: &Moment, pause: Duration) {
        self.renewable.store(nanos(now.monotonic.saturating_add(pause)).min(NEVER - 1), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
