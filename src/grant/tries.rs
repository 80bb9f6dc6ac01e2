//! How much one attempt may try, and how many requests it has sent. What is tried lies with the token endpoint and the
//! refresher.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The most token requests of one attempt, answers to DPoP challenges included. Some servers lock a client that is
/// refused too often.
const MOST: u32 = 5;

/// The requests of one attempt.
///
/// The first time that a credential is refused, everything that could have been meant is tried: its other form, the next
/// secret. From then on every other check is one request, for the credential as it was sent first. Those in between begin with
/// the next secret and the other form in turn, and end with the credential as it was sent first. So a server that failed for
/// a moment is found well by any check, and one that learns of a new secret late by the second.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// How often the credential has been refused before.
    refusals: u32,
    has_next: AtomicBool,
    sent: AtomicU32,
}

impl Tries {
    /// An attempt after so many refusals of the same credential.
    pub(crate) fn after(refusals: u32) -> Self {
        Self { refusals, ..Self::default() }
    }

    /// Returns whether the credential has not been refused yet, so that fallbacks are tried if it is.
    pub(crate) fn is_first(&self) -> bool {
        self.refusals == 0
    }

    /// Returns whether a check begins with the next secret. `has_next` says whether there is one.
    pub(crate) fn begins_with_next_secret(&self, has_next: bool) -> bool {
        self.has_next.store(has_next, Ordering::Relaxed);
        has_next && self.refusals % 4 == 2
    }

    /// Returns whether a check sends the credential in its other form, if it has one.
    pub(super) fn begins_with_other_form(&self) -> bool {
        let every = if self.has_next.load(Ordering::Relaxed) { 4 } else { 2 };
        !self.is_first() && self.refusals.is_multiple_of(every)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_check_is_for_the_credential_as_it_was_sent_first() {
        let turns = |has_next| {
            (1..=8)
                .map(|refusals| {
                    let tries = Tries::after(refusals);
                    match (tries.begins_with_next_secret(has_next), tries.begins_with_other_form()) {
                        (false, false) => "same",
                        (true, false) => "next",
                        (false, true) => "form",
                        (true, true) => "both",
                    }
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(turns(true), ["same", "next", "same", "form", "same", "next", "same", "form"]);
        assert_eq!(turns(false), ["same", "form", "same", "form", "same", "form", "same", "form"]);
        let first = Tries::default();
        assert!(!first.begins_with_next_secret(true) && !first.begins_with_other_form());
    }
}
