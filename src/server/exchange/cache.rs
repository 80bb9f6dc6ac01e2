//! The tokens that are held.

use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::key::{Key, Tag};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::renewal::AccessToken;
use crate::server::digest::AsItIs;

/// A token with a term, and whose it is.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) token: AccessToken,
    pub(super) app: Tag,
}

/// What is held for a customer.
pub(super) enum Look {
    Token(AccessToken),
    /// A token, and the duty to renew it.
    Due(Held),
    /// A token has ended: whoever this is, the authorization server knew the secret.
    Ended,
    Nothing,
}

type Tokens = Quick<Key, Held, UnitWeighter, AsItIs, DefaultLifecycle<Key, Held>>;

/// By customers, bounded. Which goes when it is full, S3-FIFO says: those who come once do not drive out those who come
/// often.
pub(super) struct Cache(Tokens, Aliases);

/// Whether any token belongs to another app id than it was asked for with: only then is each looked at
/// for its owner.
type Aliases = AtomicBool;

impl Cache {
    pub(super) fn new(capacity: usize) -> Result<Self> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .build()
            .map_err(|error| Error::configuration(format!("`capacity` cannot be: {error}")))?;
        let tokens =
            Quick::with_options(options, UnitWeighter, AsItIs::default(), DefaultLifecycle::default());
        Ok(Self(tokens, Aliases::new(false)))
    }

    pub(super) fn look(&self, key: &Key, clock: &Clock) -> Look {
        let Some(Held { token, app }) = self.0.get(key) else { return Look::Nothing };
        let term = token.term();
        if term.is_fresh(clock) {
            return Look::Token(token);
        }
        let now = clock.now();
        if term.remaining(&now).is_zero() {
            if term.is_over(&now) {
                term.end();
            } else {
                term.lapse();
            }
            Look::Ended
        } else if term.claim_renewal(&now) {
            Look::Due(Held { token, app })
        } else {
            Look::Token(token)
        }
    }

    pub(super) fn insert(&self, key: Key, held: Held) {
        self.0.insert(key, held);
    }

    pub(super) fn held(&self, key: &Key) -> Option<Held> {
        self.0.peek(key)
    }

    pub(super) fn remove(&self, key: &Key) {
        self.0.remove(key);
    }

    /// Goes through all of them, one shard after the other.
    pub(super) fn purge(&self, app: Tag) {
        if self.1.load(Ordering::Acquire) {
            self.0.retain(|_, held| held.app != app && held.token.term().owner() != Some(app));
        } else {
            self.0.retain(|_, held| held.app != app);
        }
    }

    /// Notes that a token belongs to this app id, whatever it was asked for with.
    pub(super) fn note_owner(&self, token: &AccessToken, owner: Tag) {
        self.1.store(true, Ordering::Release);
        token.term().note_owner(owner);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
