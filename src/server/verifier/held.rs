//! What the verifier has found out about a token that an exchange holds. It lies beside the token and
//! lives as long, so that it does not depend on how many tokens the verifier remembers. Tokens that
//! callers bring are in `cache`.
//!
//! Everything here is atomic: a call with a held token takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cache::{Place, has_ended};
use super::{Inner, Verifier, jws};
use crate::renewal::{AccessToken, Note};
use crate::server::caller::Identity;
use crate::server::peer::Sender;
use crate::server::refusal::{Refusal, RefusalKind};

/// Kept beside a token.
struct Kept {
    /// Several verifiers may look at the same token, each by its own rules.
    verifier: u64,
    identity: Arc<Identity>,
    /// By the monotonic and by the wall clock.
    until: (Duration, Duration),
    /// The purges, and the reading of the issuer's keys, before which it was verified.
    purges: u64,
    keys: Option<Duration>,
    purged: Mark,
}

impl Kept {
    /// Returns whether it says what verifying the token again would say.
    fn is_current(&self, verifier: &Inner) -> bool {
        let verified = &verifier.verified;
        let (monotonic, wall) = verifier.clock.coarse();
        self.verifier == verified.id
            && self.purges == verified.purges()
            && self.keys == verifier.jwks.since()
            && monotonic < self.until.0
            && wall < self.until.1
            && !has_ended(&self.identity, wall)
    }

    /// Returns whether it stands while nobody can be asked: to the token's own end, unless its app was
    /// purged. Only for opaque tokens, since keys at hand say more about a JWT.
    fn is_last_word(&self, verifier: &Inner, token: &str) -> bool {
        let verified = &verifier.verified;
        self.verifier == verified.id
            && verifier.introspector.is_some()
            && !jws::is_one(token)
            && !has_ended(&self.identity, verifier.clock.coarse().1)
            && self.purged == verified.by_app.mark(&self.identity.app_id, verified.purges())
    }
}

/// How often single apps were purged: by a hash of the app id, so that few purges concern a token.
pub(super) struct AppPurges {
    all: AtomicU64,
    some: Box<[AtomicU64]>,
}

/// The purges of all tokens, and those of an app, at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    of_all: u64,
    of_app: u64,
}

impl AppPurges {
    pub(super) fn new() -> Self {
        Self { all: AtomicU64::new(0), some: (0..1024).map(|_| AtomicU64::new(0)).collect() }
    }

    fn of(&self, app_id: &str) -> Option<&AtomicU64> {
        self.some.get(crc32fast::hash(app_id.as_bytes()) as usize % self.some.len().max(1))
    }

    /// Notes a purge of this app alone, after it was counted among all purges.
    pub(super) fn note(&self, app_id: &str) {
        self.all.fetch_add(1, Ordering::AcqRel);
        if let Some(count) = self.of(app_id) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn mark(&self, app_id: &str, purges: u64) -> Mark {
        Mark {
            of_all: purges.wrapping_sub(self.all.load(Ordering::Acquire)),
            of_app: self.of(app_id).map_or(0, |count| count.load(Ordering::Acquire)),
        }
    }
}

impl Verifier {
    /// Returns what is known of a token that an exchange holds, or verifies it. An opaque token serves on
    /// while nobody can be asked about it.
    pub(super) async fn identity_of_held(&self, token: &AccessToken) -> Result<Arc<Identity>, Refusal> {
        let inner = &*self.0;
        if let Some(identity) = recalled(token, |kept| kept.is_current(inner)) {
            return Ok(identity);
        }
        let place = inner.verified.place(token.as_str())?;
        let keys = inner.jwks.since();
        match self.identity(token.as_str(), || Sender::Exchange).await {
            Ok(identity) => {
                inner.keep(token, &identity, place, keys.or_else(|| inner.jwks.since()));
                Ok(identity)
            }
            Err(refusal) if refusal.kind() == RefusalKind::Unavailable => {
                let last = inner.verified.last(place);
                last.or_else(|| recalled(token, |kept| kept.is_last_word(inner, token.as_str())))
                    .ok_or(refusal)
            }
            Err(refusal) => Err(refusal),
        }
    }
}

impl Inner {
    fn keep(&self, token: &AccessToken, identity: &Arc<Identity>, place: Place, keys: Option<Duration>) {
        let verified = &self.verified;
        let kept = Kept {
            verifier: verified.id,
            identity: identity.clone(),
            // If the cache has no room for it, it serves only while nobody can be asked.
            until: verified.until(place).unwrap_or_default(),
            purges: place.purges,
            keys,
            purged: verified.by_app.mark(&identity.app_id, place.purges),
        };
        // A purge since then might have concerned it.
        if verified.purges() == place.purges {
            let note: Note = Box::new(kept);
            token.note().store(Some(Arc::new(note)));
        }
    }
}

fn recalled(token: &AccessToken, serves: impl FnOnce(&Kept) -> bool) -> Option<Arc<Identity>> {
    let note = token.note().load();
    let kept = note.as_ref()?.downcast_ref::<Kept>()?;
    serves(kept).then(|| kept.identity.clone())
}
