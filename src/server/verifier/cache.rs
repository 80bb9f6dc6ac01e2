use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use siphasher::sip128::SipHasher24;

use super::profile::Binding;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::server::caller::Identity;

/// The tokens that were verified and have not ended, found by a keyed hash: neither the tokens are held, nor can anybody
/// make two that meet.
pub(super) struct Verified {
    cache: Cache<u128, Arc<Entry>, UnitWeighter, BuildHasherDefault<AsItIs>>,
    hasher: SipHasher24,
    clock: Clock,
    purges: AtomicU64,
}

pub(super) struct Entry {
    pub(super) identity: Arc<Identity>,
    pub(super) binding: Binding,
    /// By the monotonic and by the wall clock: whichever comes first ends it.
    until: (Duration, Duration),
}

/// A token's place, and what had been purged by then.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) key: u128,
    purges: u64,
}

impl Verified {
    pub(super) fn new(capacity: usize, clock: Clock) -> Result<Self> {
        let mut key = [0; 16];
        rand::fill(&mut key).map_err(|_| {
            Error::new(ErrorKind::CredentialsUnavailable, "the operating system gave no random numbers")
        })?;
        let capacity = capacity.max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .map_err(|error| Error::configuration("the cache of verified tokens").with_source(error))?;
        let cache =
            Cache::with_options(options, UnitWeighter, Default::default(), DefaultLifecycle::default());
        Ok(Self { cache, hasher: SipHasher24::new_with_key(&key), clock, purges: AtomicU64::new(0) })
    }

    pub(super) fn place(&self, token: &str) -> Place {
        let purges = self.purges.load(Ordering::Acquire);
        Place { key: self.hasher.hash(token.as_bytes()).as_u128(), purges }
    }

    pub(super) fn get(&self, place: Place) -> Option<Arc<Entry>> {
        let entry = self.cache.get(&place.key)?;
        let (monotonic, wall) = self.clock.coarse();
        if monotonic < entry.until.0 && wall < entry.until.1 {
            return Some(entry);
        }
        self.cache.remove(&place.key);
        None
    }

    /// Keeps what was verified until then, by the wall clock; not where something was purged meanwhile, which it might
    /// have been part of.
    pub(super) fn put(
        &self,
        place: Place,
        identity: Arc<Identity>,
        binding: Binding,
        until: Duration,
    ) -> Arc<Entry> {
        let (monotonic, wall) = self.clock.coarse();
        let left = until.saturating_sub(wall);
        let entry = Arc::new(Entry { identity, binding, until: (monotonic.saturating_add(left), until) });
        if !left.is_zero() {
            self.cache.insert(place.key, entry.clone());
            if self.purges.load(Ordering::Acquire) != place.purges {
                self.cache.remove(&place.key);
            }
        }
        entry
    }

    pub(super) fn purge(&self, app_id: &str) {
        self.purges.fetch_add(1, Ordering::AcqRel);
        self.cache.retain(|_, entry| entry.identity.app_id != app_id);
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("tokens", &self.cache.len()).finish_non_exhaustive()
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
