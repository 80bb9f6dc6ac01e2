//! How many token requests are made at once, and whether any is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};

/// Where the server does not say for how long it wants to be left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Everybody goes through it; newcomers, whose secret may be wrong, through a narrower one before, so that a part is
/// always left for those whose secret was right.
pub(super) struct Gate {
    all: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    paused: Mutex<Option<(Moment, Duration)>>,
}

/// Permits, given back when dropped.
pub(super) struct Pass {
    _permits: [Option<OwnedSemaphorePermit>; 3],
}

impl Gate {
    pub(super) fn new(concurrent: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let own = (concurrent / 4).max(1);
        Self { all: semaphore(concurrent), newcomers: semaphore(concurrent - own), paused: Mutex::default() }
    }

    /// Waits for its turn: first come, first served. A newcomer has the permits of its app id.
    pub(super) async fn enter(&self, newcomer: Option<&Arc<Semaphore>>) -> Result<Pass> {
        let (app, newcomers) = match newcomer {
            Some(app) => (Some(permit(app).await?), Some(permit(&self.newcomers).await?)),
            None => (None, None),
        };
        Ok(Pass { _permits: [app, newcomers, Some(permit(&self.all).await?)] })
    }

    /// The server asks for fewer requests. Of several pauses the last to end counts.
    pub(super) fn pause(&self, now: Moment, length: Option<Duration>) {
        let length = length.unwrap_or(PAUSE);
        let mut paused = self.lock();
        if left(&paused, &now) < length {
            *paused = Some((now, length));
        }
    }

    pub(super) fn paused_for(&self, now: &Moment) -> Option<Duration> {
        Some(left(&self.lock(), now)).filter(|left| !left.is_zero())
    }

    /// An error while there is a pause.
    pub(super) fn check(&self, now: &Moment) -> Result<()> {
        match self.paused_for(now) {
            None => Ok(()),
            left => Err(paused().with_retry_after(left)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Moment, Duration)>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is not the caller's fault: hence not [`ErrorKind::Throttled`].
pub(super) fn paused() -> Error {
    Error::new(
        ErrorKind::AuthServerUnavailable,
        "the authorization server takes no token requests for now (429)",
    )
}

fn left(paused: &Option<(Moment, Duration)>, now: &Moment) -> Duration {
    paused.map_or(Duration::ZERO, |(since, length)| length.saturating_sub(now.since(&since)))
}

async fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    of.clone().acquire_owned().await.map_err(|_| Error::closed())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[test]
    fn newcomers_leave_a_quarter_to_the_others() {
        let gate = Gate::new(8);
        let apps: Vec<_> = (0..8).map(|_| Arc::new(Semaphore::new(2))).collect();
        let passes: Vec<_> = apps.iter().map_while(|app| at_once(gate.enter(Some(app)))).collect();
        assert_eq!(passes.len(), 6);
        let others: Vec<_> = (0..8).map_while(|_| at_once(gate.enter(None))).collect();
        assert_eq!(others.len(), 2);
        drop(passes);
        assert!(at_once(gate.enter(Some(&apps[0]))).is_some());
    }

    #[test]
    fn one_app_has_no_more_than_its_own() {
        let gate = Gate::new(8);
        let (bad, good) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(2)));
        let bad: Vec<_> = (0..8).map_while(|_| at_once(gate.enter(Some(&bad)))).collect();
        assert_eq!(bad.len(), 2);
        assert!(at_once(gate.enter(Some(&good))).is_some());
    }

    #[test]
    fn the_longest_pause_counts() {
        let at = |seconds| {
            let time = Duration::from_secs(seconds);
            Moment::new(time, time, Some(time))
        };
        let gate = Gate::new(2);
        assert!(gate.check(&at(1)).is_ok());
        gate.pause(at(10), Some(Duration::from_secs(60)));
        gate.pause(at(20), Some(Duration::from_secs(7)));
        assert_eq!(gate.check(&at(69)).unwrap_err().retry_after(), Some(Duration::from_secs(1)));
        assert!(gate.check(&at(70)).is_ok());
        gate.pause(at(70), None);
        assert_eq!(gate.paused_for(&at(70)), Some(PAUSE));
    }
}
