use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::clock::{Moment, TimeSource, system_time};

/// Clocks that go only where a test moves them; for the builder's `clock`.
///
/// Time stands still between two calls of [`advance`](Self::advance), so whoever waits for time to pass waits until
/// the test lets it. No timer runs.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use evertoken::TokenSource;
/// use evertoken::testing::{AuthServer, ManualClock};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AuthServer::start().await?;
/// let clock = Arc::new(ManualClock::default());
/// let source = TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
///     .issuer(server.issuer())
///     .clock(clock.clone())
///     .build()?;
/// let first = source.token().await?;
/// clock.suspend(Duration::from_secs(8 * 3600));
/// assert_ne!(source.token().await?, first);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Moment>);

/// What the monotonic and the boot clock begin with, so that a moment before has a number, too.
const HEAD_START: Duration = Duration::from_secs(86_400);

impl ManualClock {
    /// Clocks whose wall clock shows `wall`; the epoch for what lies before it.
    pub fn new(wall: SystemTime) -> Self {
        Self(watch::Sender::new(Moment::new(HEAD_START, since_epoch(wall), Some(HEAD_START))))
    }

    /// The same without a boot clock, as on systems that have none: a suspend and a wall clock set forward then look
    /// alike.
    pub fn without_boot(self) -> Self {
        self.0.send_modify(|now| now.boot = None);
        self
    }

    /// Lets `duration` pass on all clocks, and wakes the sleepers whose time has come.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|now| {
            now.monotonic = now.monotonic.saturating_add(duration);
            pass_suspended(now, duration);
        });
    }

    /// Sets the wall clock by hand, forward or back, and no other.
    pub fn set_wall(&self, wall: SystemTime) {
        self.0.send_modify(|now| now.wall = since_epoch(wall));
    }

    /// What the wall clock shows.
    pub fn wall(&self) -> SystemTime {
        system_time(self.now().wall)
    }

    /// Suspends the machine for `duration`: wall and boot clock go on, the monotonic one stands still, and nobody is
    /// woken.
    pub fn suspend(&self, duration: Duration) {
        self.0.send_modify(|now| pass_suspended(now, duration));
    }
}

/// Clocks that show the present.
impl Default for ManualClock {
    fn default() -> Self {
        Self::new(SystemTime::now())
    }
}

fn pass_suspended(now: &mut Moment, duration: Duration) {
    now.wall = now.wall.saturating_add(duration);
    now.boot = now.boot.map(|boot| boot.saturating_add(duration));
}

fn since_epoch(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl TimeSource for ManualClock {
    fn coarse(&self) -> (Duration, Duration) {
        let now = self.now();
        (now.monotonic, now.wall)
    }

    fn now(&self) -> Moment {
        *self.0.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut time = self.0.subscribe();
        let end = self.now().monotonic.saturating_add(duration);
        Box::pin(async move {
            // It fails where the clock is gone, and then nobody can let time pass any more.
            if time.wait_for(|now| now.monotonic >= end).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    async fn is_over(sleep: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> bool {
        poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn sleepers_wake_when_monotonic_time_has_come_and_not_before() {
        let clock = ManualClock::default();
        let mut sleep = clock.sleep(s(10));
        let (sender, woken) = tokio::sync::oneshot::channel();
        let other = clock.sleep(s(10));
        tokio::spawn(async move {
            other.await;
            sender.send(()).unwrap();
        });
        clock.advance(s(9));
        clock.suspend(s(100));
        clock.set_wall(clock.wall() + s(100));
        assert!(!is_over(&mut sleep).await);
        clock.advance(s(1));
        assert!(is_over(&mut sleep).await);
        woken.await.unwrap();
        assert!(is_over(&mut clock.sleep(Duration::ZERO)).await);
        assert!(!is_over(&mut clock.sleep(Duration::MAX)).await);
    }

    #[test]
    fn each_clock_goes_where_it_is_moved() {
        let at = |clock: &ManualClock, monotonic, wall, boot: Option<u64>| {
            assert_eq!(
                clock.now(),
                Moment::new(HEAD_START + s(monotonic), s(wall), boot.map(|b| HEAD_START + s(b)))
            );
        };
        let clock = ManualClock::new(system_time(s(1_000)));
        at(&clock, 0, 1_000, Some(0));
        clock.advance(s(5));
        at(&clock, 5, 1_005, Some(5));
        clock.suspend(s(10));
        at(&clock, 5, 1_015, Some(15));
        clock.set_wall(system_time(s(3)));
        at(&clock, 5, 3, Some(15));
        assert_eq!(clock.wall(), system_time(s(3)));
        let clock = ManualClock::new(UNIX_EPOCH - s(1)).without_boot();
        clock.suspend(s(10));
        at(&clock, 0, 10, None);
    }
}
