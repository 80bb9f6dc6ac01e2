use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::policy::RenewalPolicy;

/// While a token is held, and in a long outage, there is no hurry: ten times the cap.
const LONG_FACTOR: u32 = 10;
const PROBE_LEAST: Duration = Duration::from_secs(60);
const PROBE_MOST: Duration = Duration::from_secs(300);

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

    /// After a success, or with a new credential, the ladder starts at its foot.
    pub(crate) fn reset(&mut self) {
        self.ladder = self.builder.build();
    }

    /// The pause after a failure, by what is left of the held token's life and for how long attempts have failed. On
    /// the ladder's way up it is drawn from zero; at the cap, where a fleet waits for the end of a long outage, from
    /// half of the cap, so that fewer come in its first minute.
    pub(crate) fn pause(&mut self, remaining: Option<Duration>, failing: Duration) -> Duration {
        let most = self.cap.saturating_mul(LONG_FACTOR);
        let cap = match remaining {
            Some(remaining) => most.min(remaining.mul_f64(0.9)),
            None => (failing / 3).clamp(self.cap, most),
        };
        let step = self.ladder.next().unwrap_or(cap).min(cap);
        let least = if step == cap { 0.5 } else { 0.0 };
        step.mul_f64(least + (1.0 - least) * self.draw())
    }

    /// The pause between looks at a credential or request that was refused.
    pub(crate) fn probe(&mut self) -> Duration {
        PROBE_LEAST + (PROBE_MOST - PROBE_LEAST).mul_f64(self.draw())
    }

    /// Uniform between 0 and 1.
    pub(crate) fn draw(&mut self) -> f64 {
        self.random.f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(seed: u64) -> Backoff {
        Backoff::new(&RenewalPolicy::default(), Some(seed))
    }

    #[test]
    fn steps_double_up_to_the_cap_and_the_draw_is_full_below_it() {
        let mut longest = [Duration::ZERO; 12];
        let mut shortest = [Duration::MAX; 12];
        for seed in 0..2_000 {
            let mut backoff = backoff(seed);
            for (most, least) in longest.iter_mut().zip(&mut shortest) {
                let pause = backoff.pause(None, Duration::ZERO);
                *most = pause.max(*most);
                *least = pause.min(*least);
            }
        }
        for (n, (most, least)) in longest.iter().zip(&shortest).enumerate() {
            let step = (0.5 * f64::powi(2.0, i32::try_from(n).unwrap())).min(30.0);
            assert!(
                most.as_secs_f64() <= step && most.as_secs_f64() > 0.98 * step,
                "{n}: {most:?} of {step}"
            );
            let lowest = if step < 30.0 { 0.0 } else { step / 2.0 };
            let above = least.as_secs_f64() - lowest;
            assert!((0.0..0.02 * step).contains(&above), "{n}: {least:?} of {step}");
        }
    }

    #[test]
    fn a_held_token_leaves_time_but_less_than_is_left() {
        let mut backoff = backoff(1);
        for _ in 0..100 {
            for (left, most) in [(100_000, 300), (400, 300), (40, 36)] {
                let pause = backoff.pause(Some(Duration::from_secs(left)), Duration::ZERO);
                assert!(pause <= Duration::from_secs(most), "{left}: {pause:?}");
            }
        }
    }

    #[test]
    fn without_a_token_the_pause_grows_with_the_outage() {
        let mut backoff = backoff(2);
        for _ in 0..12 {
            backoff.pause(None, Duration::ZERO);
        }
        for (failing, cap) in [(60, 30), (90, 30), (600, 200), (9_000, 300)] {
            for _ in 0..100 {
                let pause = backoff.pause(None, Duration::from_secs(failing)).as_secs();
                assert!((cap / 2..=cap).contains(&pause), "{failing}: {pause}");
            }
        }
    }

    #[test]
    fn a_seed_replays() {
        let draws = |seed| {
            let mut backoff = backoff(seed);
            (0..50).map(|_| backoff.pause(None, Duration::ZERO)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn probing_is_slow() {
        let mut backoff = backoff(3);
        for _ in 0..1_000 {
            let pause = backoff.probe();
            assert!(pause >= Duration::from_secs(60) && pause <= Duration::from_secs(300));
        }
    }
}
