//! How much one attempt may try, and how many requests it has sent. What is tried lies with the token endpoint and the
//! refresher.

use std::sync::atomic::{AtomicU32, Ordering};

/// The most token requests of one attempt, answers to DPoP challenges included, and of the first minute after a refusal. Some
/// servers lock a client that is refused too often.
pub(crate) const MOST: u32 = 5;

/// The requests of one attempt.
///
/// The first time that a credential is refused, everything that could have been meant is tried, the likeliest first: the next
/// secret, the other ways to send the first one, those of the next. From then on every other check is one request, for the
/// credential as it was sent first. Those in between begin with the next secret and with another way in turn, and end with the
/// credential as it was sent first; if only one request is left for the first minute, it is for that credential alone. So a
/// server that failed for a moment is found well by any check, and so is one that learns of a new secret late.
#[derive(Debug)]
pub(crate) struct Tries {
    /// How often the credential has been refused before.
    refusals: u32,
    /// The most requests that the attempt may send.
    most: u32,
    of_many: bool,
    sent: AtomicU32,
}

/// What a check begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The credential as it was sent first.
    Same,
    /// The next secret, in one way after the other.
    Next(u32),
    /// The credential in another way, one after the other.
    OtherWay(u32),
}

impl Default for Tries {
    fn default() -> Self {
        Self::after(0, MOST)
    }
}

impl Tries {
    /// An attempt after so many refusals of the same credential, which may send so many requests.
    pub(crate) fn after(refusals: u32, most: u32) -> Self {
        Self { refusals, most: most.clamp(1, MOST), of_many: false, sent: AtomicU32::new(0) }
    }

    /// An attempt with the credential of one of many clients.
    #[cfg(feature = "server")]
    pub(crate) fn of_many() -> Self {
        Self { of_many: true, ..Self::default() }
    }

    /// Returns whether the credential is that of one of many clients, so that a way that has worked for another is right for it.
    pub(super) fn is_of_many(&self) -> bool {
        self.of_many
    }

    /// Returns whether the credential has not been refused yet, so that fallbacks are tried if it is.
    pub(crate) fn is_first(&self) -> bool {
        self.refusals == 0
    }

    /// Returns what a check begins with. `has_next` says whether there is a next secret.
    pub(crate) fn turn(&self, has_next: bool) -> Turn {
        let nth = self.refusals / 4;
        match self.refusals {
            0 => Turn::Same,
            _ if self.most < 2 => Turn::Same,
            n if has_next && n % 4 == 2 => Turn::Next(nth),
            n if has_next && n.is_multiple_of(4) => Turn::OtherWay(nth - 1),
            n if !has_next && n.is_multiple_of(2) => Turn::OtherWay(n / 2 - 1),
            _ => Turn::Same,
        }
    }

    /// Counts a request that is about to be sent.
    pub(super) fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the attempt may send one more.
    pub(crate) fn has_one_more(&self) -> bool {
        self.sent() < self.most
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
        use Turn::{Next, OtherWay, Same};
        let turns = |has_next| {
            (1..=8).map(|refusals| Tries::after(refusals, MOST).turn(has_next)).collect::<Vec<_>>()
        };
        assert_eq!(turns(true), [Same, Next(0), Same, OtherWay(0), Same, Next(1), Same, OtherWay(1)]);
        assert_eq!(
            turns(false),
            [Same, OtherWay(0), Same, OtherWay(1), Same, OtherWay(2), Same, OtherWay(3)]
        );
        assert_eq!(Tries::default().turn(true), Same);
        assert_eq!(Tries::after(2, 1).turn(true), Same);
    }

    #[test]
    fn an_attempt_sends_at_least_one_request_and_five_at_most() {
        for (allowed, most) in [(0, 1), (1, 1), (3, 3), (5, 5), (9, 5)] {
            let tries = Tries::after(2, allowed);
            while tries.has_one_more() {
                tries.count();
            }
            assert_eq!(tries.sent(), most);
        }
    }
}
