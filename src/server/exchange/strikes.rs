//! Who has sent refused credentials lately, by app id and by address.

use std::time::Duration;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

use super::key::Tag;
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::server::digest::AsItIs;

/// How many app ids, and how many addresses, are remembered.
const CAPACITY: usize = 10_000;

/// After so long without another one they are forgotten.
const MEMORY: Duration = Duration::from_secs(600);

/// How strict it is: so many are free, then pauses double from the first to the longest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) free: u32,
    pub(super) longest: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
struct Strike {
    count: u32,
    last: Moment,
}

/// Refusals in a row, each with the pause that it brings.
pub(super) struct Strikes {
    of: Quick<Tag, Strike, UnitWeighter, AsItIs, DefaultLifecycle<Tag, Strike>>,
    patience: Patience,
}

impl Strikes {
    pub(super) fn new(patience: Patience) -> Result<Self> {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(CAPACITY)
            .weight_capacity(CAPACITY as u64)
            .ghost_allocation(0.0)
            .build()
            .map_err(|error| Error::configuration(error.to_string()))?;
        let of = Quick::with_options(options, UnitWeighter, AsItIs::default(), DefaultLifecycle::default());
        Ok(Self { of, patience })
    }

    fn recent(&self, tag: Tag, now: &Moment) -> Option<Strike> {
        self.of.get(&tag).filter(|strike| now.since(&strike.last) < MEMORY)
    }

    pub(super) fn has_any(&self, tag: Tag, now: &Moment) -> bool {
        self.recent(tag, now).is_some()
    }

    /// How long it has to wait yet.
    pub(super) fn pause(&self, tag: Tag, now: &Moment) -> Duration {
        self.recent(tag, now).map_or(Duration::ZERO, |strike| {
            let over = strike.count.saturating_sub(self.patience.free);
            let Some(doublings) = over.checked_sub(1) else { return Duration::ZERO };
            let pause =
                FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(self.patience.longest);
            pause.saturating_sub(now.since(&strike.last))
        })
    }

    pub(super) fn add(&self, tag: Tag, now: Moment) {
        let count = self.recent(tag, &now).map_or(0, |strike| strike.count).saturating_add(1);
        self.of.insert(tag, Strike { count, last: now });
    }

    /// A success halves them: who knows one secret may still be guessing another.
    pub(super) fn ease(&self, tag: Tag) {
        if let Some((_, strike)) = self.of.remove(&tag).filter(|(_, strike)| strike.count > 1) {
            self.of.insert(tag, Strike { count: strike.count / 2, ..strike });
        }
    }

    pub(super) fn clear(&self, tag: Tag) {
        self.of.remove(&tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        let time = Duration::from_millis(1_000_000 + ms);
        Moment::new(time, time, Some(time))
    }

    fn strikes() -> Strikes {
        Strikes::new(Patience { free: 3, longest: Duration::from_secs(1) }).unwrap()
    }

    #[test]
    fn some_are_free_then_pauses_double_to_the_longest() {
        let strikes = strikes();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            strikes.add(7, at(0));
            pauses.push(strikes.pause(7, &at(0)).as_millis());
        }
        assert_eq!(pauses, [0, 0, 0, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(strikes.pause(7, &at(999)), Duration::from_millis(1));
        assert_eq!(strikes.pause(7, &at(1_000)), Duration::ZERO);
        assert!(strikes.has_any(7, &at(1_000)) && !strikes.has_any(8, &at(0)));
        assert_eq!(strikes.pause(8, &at(0)), Duration::ZERO);
    }

    #[test]
    fn they_are_eased_cleared_and_forgotten() {
        let strikes = strikes();
        (0..8).for_each(|_| strikes.add(7, at(0)));
        strikes.ease(7);
        assert_eq!(strikes.pause(7, &at(0)).as_millis(), 100);
        strikes.ease(7);
        strikes.ease(7);
        assert!(strikes.has_any(7, &at(0)));
        strikes.ease(7);
        assert!(!strikes.has_any(7, &at(0)));
        (0..8).for_each(|_| strikes.add(7, at(0)));
        assert!(strikes.has_any(7, &at(599_999)) && !strikes.has_any(7, &at(600_000)));
        strikes.add(7, at(600_000));
        assert_eq!(strikes.pause(7, &at(600_000)), Duration::ZERO);
        strikes.clear(7);
        assert!(!strikes.has_any(7, &at(600_000)));
    }

    #[test]
    fn they_are_bounded() {
        let strikes = strikes();
        (0..40_000_u64).for_each(|tag| strikes.add(tag.wrapping_mul(0x9e37_79b9_7f4a_7c15), at(0)));
        assert!(strikes.of.len() <= CAPACITY + 1_000, "{}", strikes.of.len());
    }
}
