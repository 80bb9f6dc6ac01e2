use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// By how much the clocks of the read path may lag behind (a tick of the slowest usual kernel).
pub(crate) const COARSE_LAG: Duration = Duration::from_millis(10);

/// The longest that the refresher sleeps in one go, so that it notices a suspend by itself.
const SLEEP_SLICE: Duration = Duration::from_secs(30);

/// One reading of the clocks.
///
/// `monotonic` never goes back but may stand still while the machine is suspended; `wall` counts through a
/// suspend but can be set; `boot` does both right, where the system has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moment {
    /// Since an arbitrary point; may stop during suspend.
    pub monotonic: Duration,
    /// Since the Unix epoch; can be set by hand or by NTP.
    pub wall: Duration,
    /// Since an arbitrary point, suspend included (`CLOCK_BOOTTIME`), where there is one.
    pub boot: Option<Duration>,
}

impl Moment {
    /// A reading put together by hand, for a clock of one's own.
    #[cfg(any(test, feature = "testing"))]
    pub fn new(monotonic: Duration, wall: Duration, boot: Option<Duration>) -> Self {
        Self { monotonic, wall, boot }
    }

    /// The time since `earlier`, suspend included: by the boot clock, else by whichever of the other two says more.
    pub(crate) fn since(&self, earlier: &Moment) -> Duration {
        match (self.boot, earlier.boot) {
            (Some(now), Some(then)) => now.saturating_sub(then),
            _ => self.monotonic.saturating_sub(earlier.monotonic).max(self.wall.saturating_sub(earlier.wall)),
        }
    }
}

/// Where time comes from: the seam by which tests replace it.
#[cfg(any(test, feature = "testing"))]
pub trait TimeSource: Send + Sync + 'static {
    /// The cheap reading for the read path: monotonic and wall time, which may lag by up to 10 ms.
    fn coarse(&self) -> (Duration, Duration);

    /// The exact reading, with the boot clock where there is one.
    fn now(&self) -> Moment;

    /// Ends when `duration` has passed, or earlier: whoever sleeps looks at the clock again and sleeps on.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The system's clocks, or injected ones. An enum, so that the read path calls the system's directly.
#[derive(Clone)]
pub(crate) enum Clock {
    System,
    #[cfg(any(test, feature = "testing"))]
    Injected(std::sync::Arc<dyn TimeSource>),
}

impl Clock {
    #[inline]
    pub(crate) fn coarse(&self) -> (Duration, Duration) {
        match self {
            Clock::System => system::coarse(),
            #[cfg(any(test, feature = "testing"))]
            Clock::Injected(clock) => clock.coarse(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        match self {
            Clock::System => system::now(),
            #[cfg(any(test, feature = "testing"))]
            Clock::Injected(clock) => clock.now(),
        }
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Clock::System => Box::pin(tokio::time::sleep(duration.min(SLEEP_SLICE))),
            #[cfg(any(test, feature = "testing"))]
            Clock::Injected(clock) => clock.sleep(duration),
        }
    }

    /// Ends when `duration` has passed, and not earlier.
    pub(crate) async fn wait(&self, duration: Duration) {
        let began = self.now();
        loop {
            let left = duration.saturating_sub(self.now().since(&began));
            if left.is_zero() {
                return;
            }
            self.sleep(left).await;
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::System => "System",
            #[cfg(any(test, feature = "testing"))]
            Clock::Injected(_) => "Injected",
        })
    }
}

/// The point in wall time that lies `wall` after the Unix epoch.
pub(crate) fn system_time(wall: Duration) -> SystemTime {
    UNIX_EPOCH.checked_add(wall).unwrap_or(UNIX_EPOCH)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::{Duration, Moment};

    #[inline]
    pub(super) fn coarse() -> (Duration, Duration) {
        (read(ClockId::MonotonicCoarse), read(ClockId::RealtimeCoarse))
    }

    pub(super) fn now() -> Moment {
        Moment {
            monotonic: read(ClockId::Monotonic),
            wall: read(ClockId::Realtime),
            boot: Some(read(ClockId::Boottime)),
        }
    }

    #[inline]
    fn read(clock: ClockId) -> Duration {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::sync::LazyLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use super::{Duration, Moment};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn coarse() -> (Duration, Duration) {
        // A year of head start, so that a moment before the first reading still has a number.
        let monotonic = START.elapsed() + Duration::from_secs(31_536_000);
        (monotonic, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    pub(super) fn now() -> Moment {
        let (monotonic, wall) = coarse();
        Moment { monotonic, wall, boot: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_lags_by_no_more_than_said() {
        for _ in 0..1000 {
            let before = Clock::System.now();
            let (monotonic, wall) = Clock::System.coarse();
            assert!(monotonic + COARSE_LAG >= before.monotonic);
            assert!(wall + COARSE_LAG >= before.wall);
        }
    }

    #[test]
    fn the_boot_clock_decides_where_there_is_one() {
        let s = Duration::from_secs;
        let earlier = Moment::new(s(100), s(1_000), Some(s(100)));
        let wall_set_forward = Moment::new(s(101), s(5_000), Some(s(101)));
        assert_eq!(wall_set_forward.since(&earlier), s(1));
        let suspended = Moment::new(s(101), s(5_000), Some(s(4_100)));
        assert_eq!(suspended.since(&earlier), s(4_000));
        let without = Moment::new(s(101), s(5_000), None);
        assert_eq!(without.since(&Moment { boot: None, ..earlier }), s(4_000));
    }
}
