//! How much one attempt may try, and how many requests it has sent. What is tried lies with the token endpoint and the
//! refresher.

use std::sync::atomic::{AtomicU32, Ordering};

/// The most token requests of one attempt, answers to DPoP challenges included. Some servers lock a client that is
/// refused too often.
const MOST: u32 = 5;

/// The requests of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// How often the credential has been refused before.
    refusals: u32,
    sent: AtomicU32,
}

impl Tries {
    /// An attempt after so many refusals of the same credential.
    pub(crate) fn after(refusals: u32) -> Self {
        Self { refusals, sent: AtomicU32::new(0) }
    }

    /// Returns whether the credential has not been refused yet, so that fallbacks are tried if it is.
    pub(crate) fn is_first(&self) -> bool {
        self.refusals == 0
    }

    /// Returns whether a check begins with the next secret, if there is one: every other does.
    pub(crate) fn wants_next_secret(&self) -> bool {
        self.refusals % 2 == 1
    }

    /// Returns whether a check sends the credential in its other form, if it has one. Together with the next secret, four
    /// checks in a row try all four combinations.
    pub(super) fn wants_other_form(&self) -> bool {
        self.refusals / 2 % 2 == 1
    }

    /// Counts a request that is about to be sent.
    pub(super) fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the attempt may send one more.
    pub(super) fn has_one_more(&self) -> bool {
        self.sent() < MOST
    }

    /// Returns how many requests were sent.
    pub(crate) fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }
}
