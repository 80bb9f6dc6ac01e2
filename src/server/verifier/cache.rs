//! The verified tokens that are remembered, and what makes them leave. How a token is verified is not here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::held::AppPurges;
use super::key_set::KeyId;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::secret;
use crate::server::caller::Identity;
use crate::server::digest::{AsItIs, Digest};
use crate::server::refusal::Refusal;

/// The tokens that were verified and have not ended, found by a keyed hash: neither the tokens are held, nor can anybody
/// make two that meet.
pub(super) struct Verified {
    cache: Cache<Digest, Entry, UnitWeighter, AsItIs>,
    hash: Hash,
    clock: Clock,
    purges: AtomicU64,
    pub(super) by_app: AppPurges,
    /// Another one for each verifier of the process.
    pub(super) id: u64,
}

#[derive(Clone)]
struct Entry {
    identity: Arc<Identity>,
    /// By the monotonic and by the wall clock: whichever comes first ends it.
    until: (Duration, Duration),
    /// The key that signed the token; `None` if the issuer was asked about it.
    signer: Option<KeyId>,
}

/// A token's place, and what had been purged by then.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) key: Digest,
    pub(super) purges: u64,
}

/// The tag that GCM (NIST SP 800-38D) gives a text as its additional data, under a key that each verifier draws: the fastest
/// of the keyed hashes that the TLS library has.
///
/// The nonce is always the same, which GCM allows nobody whose tags can be seen. These stay in memory, where they are
/// compared with each other and found by their first half. To whoever does not know the key, two tokens of 16 KiB meet with a
/// chance of 2^-118 (1 in 2^128 for each of their blocks); and one of the two would have to be signed by the issuer, since no
/// other is remembered.
struct Hash(LessSafeKey);

impl Hash {
    fn new() -> Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, &secret::random()?);
        let key = key.map_err(|_| Error::configuration("the TLS library has no AES-128-GCM"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn of(&self, text: &str) -> Option<Digest> {
        let (nonce, text) = (Nonce::assume_unique_for_key([0; 12]), Aad::from(text));
        let tag = self.0.seal_in_place_separate_tag(nonce, text, &mut []).ok()?;
        let (halves, _) = tag.as_ref().as_chunks();
        halves.try_into().ok().map(|halves: [[u8; 8]; 2]| Digest(halves.map(u64::from_ne_bytes)))
    }
}

impl Verified {
    pub(super) fn new(capacity: usize, clock: Clock) -> Result<Self> {
        let capacity = capacity.max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .map_err(|error| Error::configuration("the cache of verified tokens").with_source(error))?;
        let cache =
            Cache::with_options(options, UnitWeighter, AsItIs::default(), DefaultLifecycle::default());
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (purges, by_app) = (AtomicU64::new(0), AppPurges::new());
        Ok(Self { cache, hash: Hash::new()?, clock, purges, by_app, id })
    }

    /// It fails only where the library does, which then has nothing to verify a signature by either.
    pub(super) fn place(&self, token: &str) -> Result<Place, Refusal> {
        let purges = self.purges.load(Ordering::Acquire);
        let key = self.hash.of(token).ok_or_else(|| Refusal::unavailable(None))?;
        Ok(Place { key, purges })
    }

    pub(super) fn get(&self, place: Place) -> Option<Arc<Identity>> {
        let Entry { identity, until, .. } = self.cache.get(&place.key)?;
        let (monotonic, wall) = self.clock.coarse();
        if monotonic < until.0 && wall < until.1 {
            return Some(identity);
        }
        if has_ended(&identity, wall) {
            self.cache.remove(&place.key);
        }
        None
    }

    /// What a token was verified as, though it is to be asked about again; not past its own end.
    pub(super) fn last(&self, place: Place) -> Option<Arc<Identity>> {
        let (_, wall) = self.clock.coarse();
        let identity = self.cache.get(&place.key)?.identity;
        (!has_ended(&identity, wall)).then_some(identity)
    }

    /// Keeps what was verified until then, by the wall clock, unless something was purged since `place` was taken: this
    /// might have been part of it.
    pub(super) fn put(
        &self,
        place: Place,
        identity: Identity,
        until: Duration,
        signer: Option<KeyId>,
    ) -> Arc<Identity> {
        let (monotonic, wall) = self.clock.coarse();
        let until = (monotonic.saturating_add(until.saturating_sub(wall)), until);
        let identity = Arc::new(identity);
        if !has_ended(&identity, wall) {
            self.cache.insert(place.key, Entry { identity: identity.clone(), until, signer });
            if self.purges.load(Ordering::Acquire) != place.purges {
                self.cache.remove(&place.key);
            }
        }
        identity
    }

    pub(super) fn forget(&self, place: Place) {
        self.cache.remove(&place.key);
    }

    pub(super) fn purge(&self, app_id: &str) {
        self.retain(Some(app_id), |entry| entry.identity.app_id != app_id);
    }

    /// Forgets the tokens that these keys signed.
    pub(super) fn purge_signed_by(&self, keys: &[KeyId]) {
        self.retain(None, |entry| entry.signer.is_none_or(|signer| !keys.contains(&signer)));
    }

    pub(super) fn purge_all(&self) {
        self.retain(None, |_| false);
    }

    /// A verification under way puts nothing in that this would have taken out: it sees the new count.
    fn retain(&self, app: Option<&str>, keeps: impl Fn(&Entry) -> bool) {
        self.purges.fetch_add(1, Ordering::AcqRel);
        if let Some(app_id) = app {
            self.by_app.note(app_id);
        }
        self.cache.retain(|_, entry| keeps(entry));
    }

    pub(super) fn purges(&self) -> u64 {
        self.purges.load(Ordering::Acquire)
    }

    /// Returns until when a token that was verified is not looked at again.
    pub(super) fn until(&self, place: Place) -> Option<(Duration, Duration)> {
        self.cache.peek(&place.key).map(|entry| entry.until)
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }
}

pub(super) fn has_ended(identity: &Identity, wall: Duration) -> bool {
    identity.expires.is_some_and(|expires| wall >= expires)
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("tokens", &self.cache.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_whole_text_and_of_one_verifier() {
        let (one, other) = (Hash::new().unwrap(), Hash::new().unwrap());
        let of = |text: &str| one.of(text).unwrap();
        assert_eq!(of("token"), of("token"));
        assert_ne!(of("token"), other.of("token").unwrap());
        // As long as several blocks, of which each counts; and an end of zeros is no padding.
        let long = "x".repeat(100);
        for at in 0..long.len() {
            let changed = format!("{}y{}", &long[..at], &long[at + 1..]);
            assert_ne!(of(&long), of(&changed), "{at}");
        }
        let ends: std::collections::HashSet<_> = (0..40).map(|zeros| of(&"\0".repeat(zeros))).collect();
        assert_eq!(ends.len(), 40);
    }
}
