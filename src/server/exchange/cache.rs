//! The tokens that are held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::key::{AsItIs, Key, Tag};
use crate::clock::{Clock, Moment};
use crate::error::{Error, Result};
use crate::renewal::{AccessToken, Schedule};

/// A token and until when it is handed out; small, since there may be millions.
pub(super) struct Entry {
    pub(super) token: AccessToken,
    pub(super) app: Tag,
    /// When it was asked for: all that follows counts from here, in nanoseconds.
    monotonic: u64,
    wall: u64,
    boot: u64,
    renew_after: u64,
    serve_for: u64,
    /// When a renewal may be tried, by the monotonic clock; [`NEVER`] while one runs.
    renewable: AtomicU64,
    /// What was once seen to have ended is over, though the wall clock be set back.
    ended: AtomicBool,
}

const NEVER: u64 = u64::MAX;
const NO_BOOT: u64 = u64::MAX;

impl Entry {
    pub(super) fn new(token: AccessToken, app: Tag, anchor: &Moment, schedule: &Schedule) -> Self {
        Self {
            token,
            app,
            monotonic: nanos(anchor.monotonic),
            wall: nanos(anchor.wall),
            boot: anchor.boot.map_or(NO_BOOT, nanos),
            renew_after: nanos(schedule.renew_after),
            serve_for: nanos(schedule.serve_for),
            renewable: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    fn anchor(&self) -> Moment {
        Moment {
            monotonic: Duration::from_nanos(self.monotonic),
            wall: Duration::from_nanos(self.wall),
            boot: (self.boot != NO_BOOT).then(|| Duration::from_nanos(self.boot)),
        }
    }

    /// The first look, by two cheap clocks: whether nothing is to be done for this token.
    fn is_fresh(&self, clock: &Clock) -> bool {
        let (monotonic, wall) = clock.coarse();
        nanos(monotonic) < self.monotonic.saturating_add(self.renew_after)
            && nanos(wall) < self.wall.saturating_add(self.renew_after)
            && !self.ended.load(Ordering::Relaxed)
    }

    /// How long it may be handed out yet.
    pub(super) fn remaining(&self, now: &Moment) -> Duration {
        if self.ended.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.serve_for).saturating_sub(now.since(&self.anchor()))
    }

    /// Takes on the renewal: true for one caller, where it is due and no pause after a failure is left.
    fn claim_renewal(&self, now: &Moment) -> bool {
        let due = now.since(&self.anchor()) >= Duration::from_nanos(self.renew_after);
        let since = self.renewable.load(Ordering::Relaxed);
        due && since <= nanos(now.monotonic)
            && self.renewable.compare_exchange(since, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The renewal came to nothing, and is not tried again for so long.
    pub(super) fn renewal_failed(&self, now: &Moment, pause: Duration) {
        self.renewable.store(nanos(now.monotonic.saturating_add(pause)).min(NEVER - 1), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is held for a customer.
pub(super) enum Look {
    Token(AccessToken),
    /// A token, and the duty to renew it.
    Due(Arc<Entry>),
    /// A token has ended: whoever this is, the authorization server knew the secret.
    Ended,
    Nothing,
}

type Tokens = Quick<Key, Arc<Entry>, UnitWeighter, AsItIs, DefaultLifecycle<Key, Arc<Entry>>>;

/// By customers, bounded. Which goes when it is full, S3-FIFO says: those who come once do not drive out those who come
/// often.
pub(super) struct Cache(Tokens);

impl Cache {
    pub(super) fn new(capacity: usize) -> Result<Self> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .map_err(|error| Error::configuration(format!("`capacity` cannot be: {error}")))?;
        Ok(Self(Quick::with_options(options, UnitWeighter, AsItIs::default(), DefaultLifecycle::default())))
    }

    pub(super) fn look(&self, key: &Key, clock: &Clock) -> Look {
        let Some(entry) = self.0.get(key) else { return Look::Nothing };
        if entry.is_fresh(clock) {
            return Look::Token(entry.token.clone());
        }
        let now = clock.now();
        if entry.remaining(&now).is_zero() {
            entry.ended.store(true, Ordering::Relaxed);
            Look::Ended
        } else if entry.claim_renewal(&now) {
            Look::Due(entry)
        } else {
            Look::Token(entry.token.clone())
        }
    }

    pub(super) fn insert(&self, key: Key, entry: Arc<Entry>) {
        self.0.insert(key, entry);
    }

    pub(super) fn held(&self, key: &Key) -> Option<Arc<Entry>> {
        self.0.peek(key)
    }

    pub(super) fn remove(&self, key: &Key) {
        self.0.remove(key);
    }

    /// Goes through all of them, one shard after the other.
    pub(super) fn purge(&self, app: Tag) {
        self.0.retain(|_, entry| entry.app != app);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
