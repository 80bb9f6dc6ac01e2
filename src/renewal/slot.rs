//! The held token, and the slot that every read loads it from. What is decided about it lies in the plan and the refresher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;

use super::schedule::Schedule;
use super::stripes::Stripes;
use super::token::AccessToken;
use crate::clock::{Clock, Moment};

/// A token and until when it may be handed out. What changes is replaced whole, so that a read is one load.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) token: AccessToken,
    pub(crate) schedule: Schedule,
    /// When it was asked for: all of `schedule` counts from here.
    pub(crate) anchor: Moment,
    /// It was got because its predecessor had been refused.
    pub(crate) after_refusal: bool,
    /// Refused by the API, and its renewal runs: not handed out, not given up.
    pub(crate) withheld: bool,
    /// The API has refused it: its leeway is no resort any more.
    pub(crate) refused: bool,
    /// That of the credential that it was asked for with.
    pub(crate) generation: Option<u64>,
    /// The process that this one was forked from holds it too, so it is not for this one to revoke.
    pub(crate) inherited: bool,
    /// Up to here, by both clocks, a read asks nothing further.
    fresh_until: (Duration, Duration),
    headers: Stripes,
    used: AtomicBool,
    nudged: AtomicBool,
}

impl Held {
    pub(crate) fn new(token: AccessToken, schedule: Schedule, anchor: Moment, after_refusal: bool) -> Self {
        Self {
            headers: Stripes::new(&token),
            token,
            schedule,
            anchor,
            after_refusal,
            withheld: false,
            refused: false,
            generation: None,
            inherited: false,
            fresh_until: fresh_until(&schedule, &anchor),
            used: AtomicBool::new(false),
            nudged: AtomicBool::new(false),
        }
    }

    /// The same token, withheld or handed out again.
    pub(crate) fn withholding(&self, withheld: bool) -> Self {
        let mut this = self.with(self.schedule, self.anchor);
        this.withheld = withheld;
        if withheld {
            this.refused = true;
            this.fresh_until = (Duration::ZERO, Duration::ZERO);
        }
        this
    }

    fn with(&self, schedule: Schedule, anchor: Moment) -> Self {
        Self {
            token: self.token.clone(),
            headers: self.headers.clone(),
            schedule,
            anchor,
            after_refusal: self.after_refusal,
            withheld: false,
            refused: self.refused,
            generation: self.generation,
            inherited: self.inherited,
            fresh_until: fresh_until(&schedule, &anchor),
            used: AtomicBool::new(self.was_used()),
            nudged: AtomicBool::new(self.nudged.load(Ordering::Relaxed)),
        }
    }

    /// The same token, where its anchor's clocks do not agree any more, because the machine was suspended or its wall clock
    /// set: both are moved to where the time that has passed is told by each. `None` where there is nothing to mend.
    pub(crate) fn reanchored(&self, now: &Moment) -> Option<Self> {
        let passed = now.since(&self.anchor);
        let (monotonic, wall) = (now.monotonic.saturating_sub(passed), now.wall.saturating_sub(passed));
        let off = monotonic.abs_diff(self.anchor.monotonic).max(wall.abs_diff(self.anchor.wall));
        if off < REANCHOR || self.withheld {
            return None;
        }
        Some(self.with(self.schedule, Moment { monotonic, wall, ..self.anchor }))
    }

    /// Ends the token if its time is up, even if the wall clock is set back to before later. Returns `None` if nothing
    /// changes.
    pub(crate) fn ended(&self, now: &Moment) -> Option<Self> {
        if !self.remaining(now).is_zero() {
            return None;
        }
        let over = self.schedule.over(now.since(&self.anchor));
        (over != self.schedule).then(|| self.with(over, self.anchor))
    }

    /// Has the token served through its leeway, since renewals fail. Returns `None` if that is no longer than before, or if
    /// the API has refused the token.
    pub(crate) fn extended(&self, now: &Moment) -> Option<Self> {
        let longer = self.schedule.extended();
        let serves = now.since(&self.anchor) < longer.serve_for;
        if self.refused || longer == self.schedule || !serves {
            return None;
        }
        Some(self.with(longer, self.anchor))
    }

    /// Notes that the API has refused the token, which serves on.
    pub(crate) fn refused(&self) -> Self {
        let mut this = self.with(self.schedule, self.anchor);
        this.refused = true;
        this
    }

    /// How much longer the token may be handed out, by the clock that says least.
    pub(crate) fn remaining(&self, now: &Moment) -> Duration {
        self.schedule.serve_for.saturating_sub(now.since(&self.anchor))
    }

    /// The first look, at two coarse clocks: whether a read may hand it out and ask nothing further.
    #[inline(always)]
    pub(crate) fn is_fresh(&self, clock: &Clock) -> bool {
        let (monotonic, wall) = clock.coarse();
        let fresh = monotonic < self.fresh_until.0 && wall < self.fresh_until.1;
        if fresh {
            self.mark_used();
        }
        fresh
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &HeaderValue {
        self.headers.of_this_thread()
    }

    #[inline]
    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    #[inline]
    fn mark_used(&self) {
        if !self.was_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

fn fresh_until(schedule: &Schedule, anchor: &Moment) -> (Duration, Duration) {
    (anchor.monotonic + schedule.fresh_for, anchor.wall + schedule.fresh_for)
}

/// A wall clock that is steered by NTP drifts by less than this from the boot clock within one slice of sleep.
const REANCHOR: Duration = Duration::from_millis(20);

/// What the second look at the slot found.
#[derive(Debug)]
pub(crate) enum Look {
    Token(AccessToken),
    /// A token, and for the first reader to see it the duty to look after the refresher.
    Overdue(AccessToken, bool),
    Withheld(AccessToken),
    Nothing,
}

/// The one place where the token is.
#[derive(Debug, Default)]
pub(crate) struct Slot(ArcSwapOption<Held>);

impl Slot {
    /// The read path (rule: no lock, no allocation, no await): this, and [`Held::is_fresh`].
    #[inline(always)]
    pub(crate) fn load(&self) -> Guard<Option<Arc<Held>>> {
        self.0.load()
    }

    /// The second look, by the exact clocks.
    #[cold]
    pub(crate) fn look(&self, clock: &Clock) -> Look {
        let Some(held) = self.0.load_full() else { return Look::Nothing };
        let now = clock.now();
        if held.remaining(&now).is_zero() {
            if let Some(ended) = held.ended(&now) {
                self.0.compare_and_swap(&held, Some(Arc::new(ended)));
            }
            return Look::Nothing;
        }
        held.mark_used();
        if held.withheld {
            return Look::Withheld(held.token.clone());
        }
        if let Some(mended) = held.reanchored(&now) {
            // Lost to a newer token where the slot has moved on meanwhile, as it should be.
            self.0.compare_and_swap(&held, Some(Arc::new(mended)));
        }
        if now.since(&held.anchor) < held.schedule.fresh_for {
            return Look::Token(held.token.clone());
        }
        Look::Overdue(held.token.clone(), !held.nudged.swap(true, Ordering::Relaxed))
    }

    /// What is held, live or not. For the refresher, which decides under its lock.
    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, held: Option<Held>) {
        self.0.store(held.map(Arc::new));
    }

    pub(super) fn put(&self, held: Arc<Held>) {
        self.0.store(Some(held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renewal::policy::RenewalPolicy;
    use crate::secret::{Scheme, TokenText};
    use std::sync::Mutex;

    struct Hands(Mutex<Moment>);

    impl crate::clock::TimeSource for Hands {
        fn coarse(&self) -> (Duration, Duration) {
            let now = self.now();
            (now.monotonic, now.wall)
        }
        fn now(&self) -> Moment {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A slot with a token of 1000 s (renew-at 900, serve-until 970) asked for at (100, 5000, 100).
    fn slot(boot: bool) -> (Arc<Hands>, Clock, Slot) {
        let start = Moment::new(s(100), s(5_000), boot.then_some(s(100)));
        let hands = Arc::new(Hands(Mutex::new(start)));
        let schedule = Schedule::new(&RenewalPolicy::default(), s(1_000), s(0), None, 0.0).unwrap();
        let token = AccessToken::new(
            TokenText::new(Scheme::Bearer, "t").unwrap(),
            crate::clock::system_time(s(6_000)),
            None,
        );
        let slot = Slot::default();
        slot.store(Some(Held::new(token, schedule, start, false)));
        (hands.clone(), Clock::Injected(hands), slot)
    }

    fn set(hands: &Hands, monotonic: u64, wall: u64, boot: Option<u64>) {
        *hands.0.lock().unwrap() = Moment::new(s(monotonic), s(wall), boot.map(s));
    }

    fn fast(slot: &Slot, clock: &Clock) -> bool {
        slot.load().as_deref().is_some_and(|held| held.is_fresh(clock))
    }

    #[test]
    fn served_until_the_leeway_and_overdue_before() {
        let (hands, clock, slot) = slot(true);
        assert!(fast(&slot, &clock));
        set(&hands, 1_069, 5_969, Some(1_069));
        assert!(fast(&slot, &clock));
        set(&hands, 1_070, 5_970, Some(1_070));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn the_first_overdue_reader_is_told_once() {
        let (hands, clock, slot) = slot(true);
        let early = Schedule::new(&RenewalPolicy::default(), s(1_000), s(0), None, 1.0).unwrap();
        let held = slot.held().unwrap();
        slot.store(Some(Held::new(held.token.clone(), early, held.anchor, false)));
        set(&hands, 900, 5_800, Some(900));
        assert!(matches!(slot.look(&clock), Look::Overdue(_, true)));
        assert!(matches!(slot.look(&clock), Look::Overdue(_, false)));
    }

    #[test]
    fn a_wall_clock_set_forward_keeps_the_token() {
        let (hands, clock, slot) = slot(true);
        set(&hands, 110, 5_010 + 3_600, Some(110));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Token(_)));
        assert!(fast(&slot, &clock), "anchored anew");
        set(&hands, 1_070, 5_970 + 3_600, Some(1_070));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn without_a_boot_clock_the_earlier_end_wins() {
        let (hands, clock, slot) = slot(false);
        set(&hands, 110, 5_010 + 3_600, None);
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn a_wall_clock_set_back_prolongs_nothing() {
        let (hands, clock, slot) = slot(true);
        set(&hands, 1_071, 5_971 - 3_600, Some(1_071));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn a_suspend_is_seen_by_the_next_read() {
        let (hands, clock, slot) = slot(true);
        set(&hands, 101, 5_001 + 7_200, Some(101 + 7_200));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn what_was_once_seen_to_have_ended_is_over() {
        let (hands, clock, slot) = slot(true);
        set(&hands, 101, 5_001 + 7_200, Some(101 + 7_200));
        assert!(matches!(slot.look(&clock), Look::Nothing));
        // Set back by more than the suspend was long; the monotonic clock has stood still.
        set(&hands, 102, 5_002, Some(102 + 7_200));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Nothing));
    }

    #[test]
    fn while_renewals_fail_the_leeway_is_served_up_to_the_clocks_lag() {
        let (hands, clock, slot) = slot(true);
        set(&hands, 1_075, 5_975, Some(1_075));
        assert!(matches!(slot.look(&clock), Look::Nothing), "no renewal has failed yet");
        slot.store(Some(slot.held().unwrap().extended(&clock.now()).unwrap()));
        assert!(matches!(slot.look(&clock), Look::Overdue(..)));
        assert!(slot.held().unwrap().extended(&clock.now()).is_none(), "once is enough");
        set(&hands, 1_100, 6_000, Some(1_100));
        assert!(matches!(slot.look(&clock), Look::Nothing));
        set(&hands, 1_099, 5_900, Some(1_099));
        assert!(matches!(slot.look(&clock), Look::Nothing));
        assert!(slot.held().unwrap().extended(&clock.now()).is_none(), "over for good");
    }

    #[test]
    fn the_leeway_of_a_refused_token_is_no_resort() {
        let (_, clock, slot) = slot(true);
        let held = slot.held().unwrap();
        assert!(held.extended(&clock.now()).is_some());
        assert!(held.refused().extended(&clock.now()).is_none());
        assert!(held.withholding(true).withholding(false).extended(&clock.now()).is_none());
    }

    #[test]
    fn a_withheld_token_is_not_read_and_not_lost() {
        let (_, clock, slot) = slot(true);
        slot.store(slot.held().map(|held| held.withholding(true)));
        assert!(!fast(&slot, &clock));
        assert!(matches!(slot.look(&clock), Look::Withheld(_)));
        slot.store(slot.held().map(|held| held.withholding(false)));
        assert!(fast(&slot, &clock));
    }
}
