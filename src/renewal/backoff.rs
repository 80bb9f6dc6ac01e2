//! How long the refresher pauses after a failed attempt: the draws, and none of the decisions.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::policy::RenewalPolicy;

/// While a token is held, and in a long outage, there is no hurry: ten times the cap.
const LONG_FACTOR: u32 = 10;

/// After its first and its second refusal a credential is checked again this soon: servers replicate, and a secret that
/// is seconds old may not be known everywhere yet.
const CHECKS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
const PROBE_LEAST: Duration = Duration::from_secs(60);
const PROBE_MOST: Duration = Duration::from_secs(300);

const DOUBTFUL_LEAST: Duration = Duration::from_secs(40);
const DOUBTFUL_MOST: Duration = Duration::from_secs(60);

/// The longest pause while a server may be starting.
const STARTING_LEAST: Duration = Duration::from_secs(1);
const STARTING_MOST: Duration = Duration::from_secs(3);

/// The pause while a caller without a token waits. It ends before that caller's default deadline of 10 s.
const BRISK_LEAST: Duration = Duration::from_secs(4);
const BRISK_MOST: Duration = Duration::from_secs(8);

/// How far beyond a `Retry-After` clients spread out: half of it, within these bounds.
const SPREAD_LEAST: Duration = Duration::from_millis(500);
const SPREAD_MOST: Duration = Duration::from_secs(30);

/// The pauses between failed attempts: `backon`'s exponential ladder, and a jitter draw of our own from a
/// seeded generator.
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    ladder: ExponentialBackoff,
    cap: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(policy: &RenewalPolicy, seed: Option<u64>) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(policy.backoff_base)
            .with_max_delay(policy.backoff_cap.saturating_mul(LONG_FACTOR))
            .with_factor(2.0)
            .without_max_times();
        Self {
            ladder: builder.build(),
            builder,
            cap: policy.backoff_cap,
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        }
    }

    /// Starts the ladder at its foot again, after a success or with a new credential.
    pub(crate) fn reset(&mut self) {
        self.ladder = self.builder.build();
    }

    /// Returns the pause after a failure, by what is left of the held token's life and for how long attempts have failed.
    ///
    /// A quarter of the step, plus a draw over the rest; at the cap, where a fleet waits for the end of a long outage,
    /// half of it plus a draw, so that fewer come in its first minute. With the default steps of 0.8, 1.6, 3.2 and 6.4 s
    /// the quarters add up to 3 s: no client makes more than four attempts in 3 s, whatever it draws.
    ///
    /// `floor` is the least time between two renewals that succeed. It scales the least pause: that of a token that lives
    /// for 1 s is a tenth of the usual one.
    pub(crate) fn pause(
        &mut self,
        remaining: Option<Duration>,
        failing: Duration,
        floor: Duration,
    ) -> Duration {
        let most = self.cap.saturating_mul(LONG_FACTOR);
        let cap = match remaining {
            Some(remaining) => most.min(remaining.mul_f64(0.9)),
            None => (failing / 3).clamp(self.cap, most),
        };
        let rung = self.ladder.next().unwrap_or(most);
        let step = rung.min(cap);
        let share = if step == cap { 0.5 } else { 0.25 };
        // Near the end of a held token the cap shrinks; the rate of attempts stays bounded.
        let least = (rung / 4).clamp(floor / 5, floor * 8 / 5);
        self.between(step.mul_f64(share), step).max(least)
    }

    /// Returns the pause of [`pause`](Self::pause) for a client at which somebody waits for a token.
    pub(crate) fn brisk(&mut self) -> Duration {
        self.between(BRISK_LEAST, BRISK_MOST)
    }

    /// Returns the pause before a refused credential or request is checked again, after `nth` checks in vain.
    pub(crate) fn check(&mut self, nth: u32) -> Duration {
        match CHECKS.get(nth as usize) {
            Some(about) => self.between(about.mul_f64(0.8), about.mul_f64(1.2)),
            None => self.between(PROBE_LEAST, PROBE_MOST),
        }
    }

    /// Returns the least pause before a credential that may have been refused is shown again, after the two early checks:
    /// with them it makes three in the first minute.
    pub(crate) fn doubtful(&mut self) -> Duration {
        self.between(DOUBTFUL_LEAST, DOUBTFUL_MOST)
    }

    /// Returns the longest pause before a server that may be starting is asked again.
    pub(crate) fn starting(&mut self) -> Duration {
        self.between(STARTING_LEAST, STARTING_MOST)
    }

    /// Spreads out clients that a server asked to come back after the same `wait`: never earlier, some later.
    pub(crate) fn spread(&mut self, wait: Duration) -> Duration {
        if wait.is_zero() {
            return wait;
        }
        self.between(wait, wait + (wait / 2).clamp(SPREAD_LEAST, SPREAD_MOST))
    }

    /// Uniform between the two.
    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most - least).mul_f64(self.draw())
    }

    /// Uniform between 0 and 1.
    pub(crate) fn draw(&mut self) -> f64 {
        self.random.f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_secs(1);

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(&RenewalPolicy::default(), Some(seed))
    }

    fn cold(backoff: &mut Backoff) -> Duration {
        backoff.pause(None, Duration::ZERO, FLOOR)
    }

    #[test]
    fn draws_over_three_quarters_of_each_step_and_over_half_at_the_cap() {
        let mut longest = [Duration::ZERO; 12];
        let mut shortest = [Duration::MAX; 12];
        for seed in 0..2_000 {
            let mut backoff = backoff(seed);
            for (most, least) in longest.iter_mut().zip(&mut shortest) {
                let pause = cold(&mut backoff);
                *most = pause.max(*most);
                *least = pause.min(*least);
            }
        }
        for (n, (most, least)) in longest.iter().zip(&shortest).enumerate() {
            let step = (0.8 * f64::powi(2.0, i32::try_from(n).unwrap())).min(30.0);
            assert!(
                most.as_secs_f64() <= step && most.as_secs_f64() > 0.98 * step,
                "{n}: {most:?} of {step}"
            );
            let lowest = if step < 30.0 { step / 4.0 } else { step / 2.0 };
            let above = least.as_secs_f64() - lowest;
            assert!((0.0..0.02 * step).contains(&above), "{n}: {least:?} of {step}");
        }
    }

    #[test]
    fn one_failure_costs_half_a_second_and_four_pauses_take_three_at_least() {
        let mut first = Duration::ZERO;
        for seed in 0..2_000 {
            let mut backoff = backoff(seed);
            let pauses: Vec<_> = (0..4).map(|_| cold(&mut backoff)).collect();
            first += pauses[0] / 2_000;
            assert!(pauses.iter().sum::<Duration>() >= Duration::from_secs(3), "{pauses:?}");
        }
        assert!(first < Duration::from_millis(520), "{first:?}");
    }

    #[test]
    fn a_held_token_leaves_time_but_less_than_is_left() {
        let mut backoff = backoff(1);
        for _ in 0..100 {
            for (left, most) in [(100_000, 300), (400, 300), (40, 36)] {
                let pause = backoff.pause(Some(Duration::from_secs(left)), Duration::ZERO, FLOOR);
                assert!(pause <= Duration::from_secs(most), "{left}: {pause:?}");
            }
        }
    }

    #[test]
    fn near_the_end_of_a_token_attempts_stay_apart() {
        let mut backoff = backoff(4);
        let remaining = Some(Duration::from_millis(1));
        let pauses: Vec<_> = (0..6).map(|_| backoff.pause(remaining, Duration::ZERO, FLOOR)).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [200, 400, 800, 1_600, 1_600, 1_600]);
        backoff.reset();
        let short = Duration::from_millis(100);
        assert_eq!(backoff.pause(remaining, Duration::ZERO, short), Duration::from_millis(160));
    }

    #[test]
    fn without_a_token_the_pause_grows_with_the_outage() {
        let mut backoff = backoff(2);
        for _ in 0..12 {
            cold(&mut backoff);
        }
        for (failing, cap) in [(60, 30), (90, 30), (600, 200), (9_000, 300)] {
            for _ in 0..100 {
                let pause = backoff.pause(None, Duration::from_secs(failing), FLOOR).as_secs();
                assert!((cap / 2..=cap).contains(&pause), "{failing}: {pause}");
            }
        }
    }

    #[test]
    fn a_seed_replays() {
        let draws = |seed| {
            let mut backoff = backoff(seed);
            (0..50).map(|_| cold(&mut backoff)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn checks_a_refused_credential_soon_and_then_slowly() {
        let mut backoff = backoff(3);
        for _ in 0..1_000 {
            for (nth, least, most) in [(0, 4, 6), (1, 16, 24), (2, 60, 300), (u32::MAX, 60, 300)] {
                let pause = backoff.check(nth);
                let bounds = Duration::from_secs(least)..=Duration::from_secs(most);
                assert!(bounds.contains(&pause), "{nth}: {pause:?}");
            }
        }
    }

    #[test]
    fn spreads_upwards_what_a_server_told_many() {
        let mut backoff = backoff(5);
        for (wait, most) in [(0, 0.0), (1, 1.5), (2, 3.0), (60, 90.0), (300, 330.0)] {
            let wait = Duration::from_secs(wait);
            let draws: Vec<_> = (0..1_000).map(|_| backoff.spread(wait)).collect();
            assert!(draws.iter().all(|draw| *draw >= wait && draw.as_secs_f64() <= most), "{wait:?}");
            let longest = draws.iter().max().unwrap();
            assert!(longest.as_secs_f64() >= 0.98 * most, "{wait:?}: {longest:?}");
        }
    }
}
