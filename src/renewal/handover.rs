//! From one token to the next: which of them serves while APIs learn of the newer one. It is part of what the refresher's lock
//! guards; what calls do with it is in `source::pass`.

use std::sync::Arc;
use std::time::Duration;

use super::slot::{Held, Slot};
use crate::clock::Moment;

/// For how long after its arrival the API may not know a token yet: servers replicate within a second or two.
const YOUNG: Duration = Duration::from_secs(5);

/// Two tokens of the same credential and request, neither of which was refused.
#[derive(Default)]
pub(super) enum Handover {
    #[default]
    None,
    /// The newer one is in the slot.
    Done { previous: Arc<Held>, since: Moment },
    /// The newer one settles, and the previous one is in the slot.
    Settling { newer: Arc<Held>, since: Moment },
}

impl Handover {
    /// Puts a new token into the slot, or holds it back for as long as `settle` says while `previous` serves.
    pub(super) fn begin(
        slot: &Slot,
        newer: Held,
        previous: Option<Arc<Held>>,
        settle: Duration,
        now: &Moment,
    ) -> Self {
        let newer = Arc::new(newer);
        match previous.filter(|previous| previous.may_serve_beside(&newer, now)) {
            Some(_) if !settle.is_zero() => Self::Settling { newer, since: *now },
            Some(previous) => {
                slot.put(newer);
                Self::Done { previous, since: *now }
            }
            None => {
                slot.put(newer);
                Self::None
            }
        }
    }

    /// The newest token.
    pub(super) fn newest(&self, slot: &Slot) -> Option<Arc<Held>> {
        match self {
            Self::Settling { newer, .. } => Some(newer.clone()),
            Self::None | Self::Done { .. } => slot.held(),
        }
    }

    /// Puts the newer token into the slot now. Returns false if it is there.
    pub(super) fn finish(&mut self, slot: &Slot) -> bool {
        match std::mem::take(self) {
            Self::Settling { newer, since } => {
                let previous = slot.held();
                slot.put(newer);
                if let Some(previous) = previous {
                    *self = Self::Done { previous, since };
                }
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// Finishes what is due, and lets go of a token that is of no use any more. Returns how long the next step takes yet.
    pub(super) fn step(&mut self, slot: &Slot, settle: Duration, now: &Moment) -> Option<Duration> {
        match self {
            Self::Settling { since, .. } => {
                let ends = slot.held().map_or(Duration::ZERO, |previous| previous.remaining(now));
                let left = settle.saturating_sub(now.since(since)).min(ends);
                if left.is_zero() {
                    self.finish(slot);
                    return None;
                }
                Some(left)
            }
            Self::Done { since, .. } if now.since(since) > YOUNG => {
                *self = Self::None;
                None
            }
            Self::None | Self::Done { .. } => None,
        }
    }

    /// The token before `held`, which is so young that the API may not know it yet.
    pub(super) fn previous_to(&self, held: &Held, now: &Moment) -> Option<Arc<Held>> {
        match self {
            Self::Done { previous, since } if now.since(since) <= YOUNG => {
                Some(previous.clone()).filter(|previous| previous.may_serve_beside(held, now))
            }
            _ => None,
        }
    }

    /// Forgets the previous token if it is this one: the API has refused it.
    pub(super) fn forget(&mut self, token: &super::token::AccessToken) {
        if matches!(self, Self::Done { previous, .. } if previous.token == *token) {
            *self = Self::None;
        }
    }

    /// The token that is not in the slot and has yet to serve.
    pub(super) fn held_back(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Settling { newer, .. } => Some(newer),
            Self::None | Self::Done { .. } => None,
        }
    }
}

impl Held {
    fn may_serve_beside(&self, newer: &Held, now: &Moment) -> bool {
        let is_good = !self.withheld && !self.refused && !self.remaining(now).is_zero();
        is_good && self.generation == newer.generation && self.token != newer.token
    }
}
