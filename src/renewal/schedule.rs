//! When a token is renewed and until when it is served: pure arithmetic, no clock.

use std::time::Duration;

use super::policy::RenewalPolicy;
use crate::clock::COARSE_LAG;

/// When a token is renewed and until when it is handed out, counted from when it was asked for. A pure function of
/// what is known of the token, so that every schedule can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Renew-at.
    pub(crate) renew_after: Duration,
    /// Serve-until.
    pub(crate) serve_for: Duration,
    /// Serve-until while renewals fail: through the default leeway, up to expiry less the lag of the read path's clocks.
    /// The same as `serve_for` if the user set the leeway.
    pub(crate) last_resort: Duration,
    /// From here on a read looks whether the refresher is alive: renew-at plus a tenth of the life.
    pub(crate) fresh_for: Duration,
    /// The least time between the beginnings of two attempts.
    pub(crate) floor: Duration,
}

const FLOOR: Duration = Duration::from_secs(1);
const LEAST_LEEWAY: Duration = Duration::from_millis(20);
const MOST_LEEWAY: Duration = Duration::from_secs(30);
const FIRST_TIMEOUT: Duration = Duration::from_secs(4);

impl Schedule {
    /// `draw` lies between 0 and 1 and is drawn once per token. `None` where so short a life leaves nothing.
    pub(crate) fn new(
        policy: &RenewalPolicy,
        life: Duration,
        round_trip: Duration,
        refresh_in: Option<Duration>,
        draw: f64,
    ) -> Option<Self> {
        let serve_for = life.saturating_sub(leeway(policy, life));
        if serve_for.is_zero() {
            return None;
        }
        let last_resort = match policy.leeway {
            Some(_) => serve_for,
            None => life.saturating_sub(COARSE_LAG).max(serve_for),
        };
        let floor = floor(life);
        let jitter = life.mul_f64(policy.jitter * draw.clamp(0.0, 1.0));
        let latest = life.mul_f64(policy.renew_at);
        let planned = match refresh_in.filter(|after| !after.is_zero() && *after < life) {
            Some(after) => (after + jitter).min(latest),
            None => latest.saturating_sub(jitter),
        };
        let renew_after =
            planned.min(serve_for.saturating_sub(margin(floor, round_trip))).max(floor).min(serve_for);
        let fresh_for = (renew_after + life / 10).min(serve_for);
        Some(Self { renew_after, serve_for, last_resort, fresh_for, floor })
    }

    /// The same with the renewal put off to some time after `until`, as far as the life allows. `draw` spreads out those
    /// who wait for the same moment, over the last twentieth of the life at least.
    pub(crate) fn postponed(self, until: Duration, life: Duration, round_trip: Duration, draw: f64) -> Self {
        let latest = self.serve_for.saturating_sub(margin(self.floor, round_trip));
        let from = until.min(latest.saturating_sub(life / 20)).max(self.renew_after).min(latest);
        let renew_after = self.renew_after.max(from + (latest - from).mul_f64(draw.clamp(0.0, 1.0)));
        Self { renew_after, fresh_for: (renew_after + life / 10).min(self.serve_for), ..self }
    }

    /// The same once `age` was seen to be past serve-until: nothing is left to serve, unless renewals fail and `age` is
    /// not past the last resort either.
    pub(crate) fn over(self, age: Duration) -> Self {
        let last_resort = if age < self.last_resort { self.last_resort } else { Duration::ZERO };
        Self { serve_for: Duration::ZERO, fresh_for: Duration::ZERO, last_resort, ..self }
    }

    /// The same while renewals fail: served up to the last resort.
    pub(crate) fn extended(self) -> Self {
        Self { serve_for: self.last_resort, ..self }
    }

    /// The same for a token that the server gave before: its life has not begun anew, so that the floor must not
    /// shrink with what is left of it.
    pub(crate) fn given_again(self, before: &Self) -> Self {
        let floor = self.floor.max(before.floor);
        let renew_after = self.renew_after.max(floor).min(self.serve_for);
        Self { renew_after, fresh_for: self.fresh_for.max(renew_after), floor, ..self }
    }
}

/// Room for a second attempt after a failed one.
fn margin(floor: Duration, round_trip: Duration) -> Duration {
    floor + floor / 2 + round_trip.saturating_mul(2)
}

/// The least time between the beginnings of two attempts, for tokens of this life.
pub(crate) fn floor(life: Duration) -> Duration {
    FLOOR.min(life / 10)
}

fn leeway(policy: &RenewalPolicy, life: Duration) -> Duration {
    match policy.leeway {
        Some(leeway) => leeway.min(life / 2),
        // A JWT's `exp` has whole seconds: the end may come a second before `expires_in` says.
        None => (life / 20).clamp(FLOOR + COARSE_LAG, MOST_LEEWAY).min(life.mul_f64(0.35)),
    }
    .max(LEAST_LEEWAY)
}

/// Returns how long one attempt may take, by what is left of the held token's life.
pub(crate) fn attempt_timeout(policy: &RenewalPolicy, remaining: Option<Duration>) -> Duration {
    match remaining {
        Some(remaining) => policy.request_timeout.min((remaining / 2).max(Duration::from_secs(1))),
        None => policy.request_timeout,
    }
}

/// Returns how long the first attempt of a client without a token may take. Callers wait for 10 s by default: a request
/// that hangs leaves them the time for a second one.
pub(crate) fn first_timeout(policy: &RenewalPolicy) -> Duration {
    policy.request_timeout.min(FIRST_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn schedule(life: Duration, draw: f64) -> Schedule {
        Schedule::new(&RenewalPolicy::default(), life, Duration::ZERO, None, draw).unwrap()
    }

    #[test]
    fn the_documented_numbers() {
        let hour = schedule(s(3600), 0.0);
        assert_eq!(schedule(s(10), 0.0).renew_after, Duration::from_millis(7490));
        assert_eq!((hour.renew_after, hour.serve_for, hour.floor), (s(3240), s(3570), s(1)));
        assert_eq!(schedule(s(3600), 1.0).renew_after, s(2412));
        assert_eq!(schedule(s(10), 0.0).serve_for, Duration::from_millis(8990));
        assert_eq!(schedule(s(3), 0.0).serve_for, Duration::from_millis(1990));
        assert_eq!(schedule(s(1), 0.0).serve_for, Duration::from_millis(650));
        assert_eq!(schedule(s(1), 0.0).floor, Duration::from_millis(100));
        assert_eq!(schedule(Duration::from_millis(100), 0.0).serve_for, Duration::from_millis(65));
        assert!(
            Schedule::new(&RenewalPolicy::default(), Duration::from_millis(20), s(0), None, 0.0).is_none()
        );
    }

    #[test]
    fn serves_through_the_default_leeway_as_a_last_resort_but_not_through_a_set_one() {
        for life in [s(1), s(10), s(3600)] {
            let plan = schedule(life, 0.5);
            assert_eq!(plan.extended().serve_for, life - COARSE_LAG);
            let set = RenewalPolicy::default().leeway(Duration::from_millis(400));
            let plan = Schedule::new(&set, life, s(0), None, 0.5).unwrap();
            assert_eq!(plan.extended(), plan);
        }
        let plan = schedule(s(10), 0.5);
        assert_eq!(plan.over(s(9)).extended().serve_for, s(10) - COARSE_LAG);
        assert_eq!(plan.over(s(10)).extended().serve_for, s(0), "over for good");
    }

    #[test]
    fn a_second_attempt_fits_before_the_end() {
        let slow =
            Schedule::new(&RenewalPolicy::default(), s(3), Duration::from_millis(400), None, 0.0).unwrap();
        assert_eq!(slow.renew_after, slow.serve_for - Duration::from_millis(800 + 450));
    }

    #[test]
    fn a_scarce_quota_is_waited_for_as_long_as_the_token_lives() {
        let hour = schedule(s(3600), 1.0);
        let put_off = |until, draw| hour.postponed(until, s(3600), s(2), draw);
        assert_eq!(put_off(s(3000), 0.0).renew_after, s(3000));
        assert_eq!(put_off(s(3000), 0.0).fresh_for, s(3360));
        let latest = Duration::from_millis(3_570_000 - 1_500 - 4_000);
        for (until, draw, early) in
            [(s(3000), 1.0, s(0)), (s(5000), 1.0, s(0)), (s(5000), 0.5, s(90)), (Duration::MAX, 0.0, s(180))]
        {
            assert_eq!(put_off(until, draw).renew_after, latest - early);
        }
        assert_eq!(put_off(s(100), 0.0), hour, "never earlier");
    }

    #[test]
    fn refresh_in_is_honoured() {
        let at = |draw| {
            Schedule::new(&RenewalPolicy::default(), s(3600), s(0), Some(s(1800)), draw).unwrap().renew_after
        };
        assert_eq!(at(0.0), s(1800));
        assert_eq!(at(1.0), s(2628));
    }

    #[test]
    fn attempts_end_before_the_token_does() {
        let policy = RenewalPolicy::default();
        assert_eq!(attempt_timeout(&policy, None), s(10));
        assert_eq!(attempt_timeout(&policy, Some(s(100))), s(10));
        assert_eq!(attempt_timeout(&policy, Some(s(6))), s(3));
        assert_eq!(attempt_timeout(&policy, Some(Duration::ZERO)), s(1));
        assert_eq!(first_timeout(&policy), s(4));
        assert_eq!(first_timeout(&policy.request_timeout(s(3))), s(3));
    }

    proptest! {
        #[test]
        fn order_holds_for_every_life(
            life_ms in 50u64..31_536_000_000,
            trip_ms in 0u64..60_000,
            refresh in proptest::option::of(0u64..31_536_000),
            draw in 0.0f64..=1.0,
            leeway in proptest::option::of(0u64..100),
        ) {
            let mut policy = RenewalPolicy::default();
            if let Some(leeway) = leeway {
                policy = policy.leeway(s(leeway));
            }
            let life = Duration::from_millis(life_ms);
            let plan = Schedule::new(&policy, life, Duration::from_millis(trip_ms), refresh.map(s), draw).unwrap();
            prop_assert!(plan.renew_after <= plan.fresh_for);
            prop_assert!(plan.fresh_for <= plan.serve_for);
            prop_assert!(plan.serve_for + COARSE_LAG < life);
            prop_assert!(plan.serve_for <= plan.last_resort && plan.last_resort + COARSE_LAG <= life);
            prop_assert!(plan.renew_after >= plan.floor.min(plan.serve_for));
            prop_assert!(plan.floor <= s(1));
            let until = refresh.map_or(Duration::MAX, s);
            let later = plan.postponed(until, life, Duration::from_millis(trip_ms), draw);
            prop_assert!(plan.renew_after <= later.renew_after && later.renew_after <= later.fresh_for);
            prop_assert!(later.fresh_for <= later.serve_for && later.serve_for == plan.serve_for);
            let margin = margin(plan.floor, Duration::from_millis(trip_ms));
            prop_assert!(later == plan || later.renew_after + margin <= later.serve_for);
        }

        #[test]
        fn more_draw_is_never_later(life in 1u64..31_536_000, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(schedule(s(life), high).renew_after <= schedule(s(life), low).renew_after);
        }
    }
}
