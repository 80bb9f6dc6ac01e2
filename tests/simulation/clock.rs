//! Clocks and sleepers of a machine that exists only here.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use evertoken::testing::{Moment, TimeSource};

pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Time moves only by `pass`, `suspend` and `step_wall`; whoever sleeps is woken there.
pub struct SimClock(Arc<Mutex<State>>);

struct State {
    monotonic: Duration,
    wall: Duration,
    boot: Duration,
    has_boot: bool,
    /// Raised where every sleep ends early, as a slice of sleep does on a real machine.
    nudges: u64,
    readings: u64,
    sleeps: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

impl SimClock {
    pub fn new(has_boot: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            monotonic: Duration::from_secs(86_400),
            wall: Duration::from_secs(1_800_000_000),
            boot: Duration::from_secs(86_400),
            has_boot,
            nudges: 0,
            readings: 0,
            sleeps: 0,
            sleepers: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The time that truly passed: the boot clock, whether or not the client has one.
    pub fn truth(&self) -> Duration {
        self.lock().boot
    }

    pub fn running(&self) -> Duration {
        self.lock().monotonic
    }

    /// How often the code under test looked: where nobody looks any more, nothing more will happen.
    pub fn readings(&self) -> u64 {
        self.lock().readings
    }

    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    /// The time to the first sleeper's end.
    pub fn next(&self) -> Option<Duration> {
        let state = self.lock();
        let ((end, _), _) = state.sleepers.first_key_value()?;
        Some(end.saturating_sub(state.monotonic))
    }

    pub fn pass(&self, length: Duration) {
        let woken = {
            let mut state = self.lock();
            state.monotonic += length;
            state.wall += length;
            state.boot += length;
            let later = (state.monotonic + Duration::from_nanos(1), 0);
            let later = state.sleepers.split_off(&later);
            std::mem::replace(&mut state.sleepers, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    pub fn suspend(&self, length: Duration) {
        let mut state = self.lock();
        state.wall += length;
        state.boot += length;
    }

    pub fn step_wall(&self, length: Duration, forward: bool) {
        let mut state = self.lock();
        state.wall = if forward { state.wall + length } else { state.wall.saturating_sub(length) };
    }

    /// Ends all sleeps.
    pub fn nudge(&self) {
        let woken = {
            let mut state = self.lock();
            state.nudges += 1;
            std::mem::take(&mut state.sleepers)
        };
        woken.into_values().for_each(Waker::wake);
    }
}

impl TimeSource for SimClock {
    fn coarse(&self) -> (Duration, Duration) {
        let state = self.lock();
        (state.monotonic, state.wall)
    }

    fn now(&self) -> Moment {
        let mut state = self.lock();
        state.readings += 1;
        Moment::new(state.monotonic, state.wall, state.has_boot.then_some(state.boot))
    }

    fn sleep(&self, length: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.lock();
        state.sleeps += 1;
        Box::pin(Sleep {
            clock: self.0.clone(),
            end: state.monotonic.saturating_add(length),
            id: state.sleeps,
            nudges: state.nudges,
        })
    }
}

struct Sleep {
    clock: Arc<Mutex<State>>,
    end: Duration,
    id: u64,
    nudges: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock().unwrap();
        if state.monotonic >= self.end || state.nudges != self.nudges {
            return Poll::Ready(());
        }
        state.sleepers.insert((self.end, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().unwrap().sleepers.remove(&(self.end, self.id));
    }
}
