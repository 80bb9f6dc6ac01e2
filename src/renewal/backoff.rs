use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::policy::RenewalPolicy;

/// While a token is held, an outage is no hurry: ten times the cap.
const HELD_FACTOR: u32 = 10;
const PROBE_LEAST: Duration = Duration::from_secs(60);
const PROBE_MOST: Duration = Duration::from_secs(300);

/// The pauses between failed attempts: `backon`'s exponential ladder, and a full-jitter draw of our own from a
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
            .with_max_delay(policy.backoff_cap.saturating_mul(HELD_FACTOR))
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

    /// The pause after a failure, by what is left of the held token's life.
    pub(crate) fn pause(&mut self, remaining: Option<Duration>) -> Duration {
        let cap = match remaining {
            Some(remaining) => self.cap.saturating_mul(HELD_FACTOR).min(remaining / 4),
            None => self.cap,
        };
        let step = self.ladder.next().unwrap_or(cap).min(cap);
        step.mul_f64(self.draw())
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
    fn steps_double_up_to_the_cap_and_the_draw_is_full() {
        let mut longest = [Duration::ZERO; 12];
        let mut shortest = [Duration::MAX; 12];
        for seed in 0..2_000 {
            let mut backoff = backoff(seed);
            for (most, least) in longest.iter_mut().zip(&mut shortest) {
                let pause = backoff.pause(None);
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
            assert!(least.as_secs_f64() < 0.02 * step, "{n}: {least:?} of {step}");
        }
    }

    #[test]
    fn a_held_token_leaves_time_but_never_more_than_a_quarter_of_it() {
        let mut backoff = backoff(1);
        for _ in 0..100 {
            assert!(backoff.pause(Some(Duration::from_secs(100_000))) <= Duration::from_secs(300));
            assert!(backoff.pause(Some(Duration::from_secs(400))) <= Duration::from_secs(100));
        }
    }

    #[test]
    fn a_seed_replays() {
        let draws = |seed| {
            let mut backoff = backoff(seed);
            (0..50).map(|_| backoff.pause(None)).collect::<Vec<_>>()
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
