//! How many token requests are made at once, and who may make one while the server asks for patience.
//!
//! Its one lock guards the state of pauses and pace. It is held for a few instructions, never while
//! another lock is taken, and never by a call whose token is held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::key::Tag;
use super::pace::Pace;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Quota;

/// Where the server does not say for how long it wants to be left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// During a pause, when known customers ask again after a 429: the first of it, then each of their own
/// doubles it.
const TURN: Duration = Duration::from_millis(250);
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// How long a known customer waits for such a turn. If it is further off, the call fails at once and is
/// told when to come again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Who asks for a token, in the order in which they are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// The secret may be wrong.
    Newcomer,
    /// The customer still has a token to be served with.
    Renewal,
    /// The customer had a token, and has none now.
    Known,
}

/// Everybody goes through it; newcomers, whose secret may be wrong, through a narrower one before, so that a part is
/// always left for those whose secret was right.
pub(super) struct Gate {
    concurrent: usize,
    all: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    pause: Option<Paused>,
    pace: Pace,
}

/// The server has answered 429.
struct Paused {
    since: Moment,
    length: Duration,
    /// Known customers go through this: one at a time, and one more at once with each answer.
    turns: Arc<Semaphore>,
    open: usize,
    /// When the next of them may ask, and how many of them in a row got a 429.
    due: (Moment, Duration),
    refused: u32,
}

impl Paused {
    fn left(&self, now: &Moment) -> Duration {
        self.length.saturating_sub(now.since(&self.since))
    }

    fn due_in(&self, now: &Moment) -> Duration {
        self.due.1.saturating_sub(now.since(&self.due.0)).min(self.left(now))
    }

    /// Puts the next turn off. Those who wait for one line up anew.
    fn defer(&mut self, now: &Moment, draw: f64) {
        let turn = TURN.saturating_mul(2_u32.saturating_pow(self.refused)).min(LONGEST_TURN);
        self.due = (*now, turn.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0));
        self.turns.close();
        self.turns = Arc::new(Semaphore::new(1));
        self.open = 1;
    }

    /// Returns whether this is one of the turns that count: those from before the last 429 do not.
    fn has_given(&self, pass: &Pass) -> bool {
        pass.turn.as_ref().is_some_and(|turn| Arc::ptr_eq(turn.semaphore(), &self.turns))
    }
}

impl State {
    /// Returns the pause, if it is not over.
    fn current_pause(&mut self, now: &Moment) -> Option<&mut Paused> {
        if let Some(over) = self.pause.take_if(|pause| pause.left(now).is_zero()) {
            over.turns.close();
        }
        self.pause.as_mut()
    }
}

/// Permits, given back when dropped.
pub(super) struct Pass {
    rank: Rank,
    /// Of a known customer during a pause.
    turn: Option<OwnedSemaphorePermit>,
    _permits: [Option<OwnedSemaphorePermit>; 3],
}

impl Gate {
    pub(super) fn new(concurrent: usize, most_newcomers: Option<f64>) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let own = (concurrent / 4).max(1);
        let state = State { pause: None, pace: Pace::new(most_newcomers) };
        Self {
            concurrent,
            all: semaphore(concurrent),
            newcomers: semaphore(concurrent - own),
            state: Mutex::new(state),
        }
    }

    /// Waits for a newcomer's turn: first come, first served, with the permits of its app id. `may` is
    /// asked each time before it waits on, and before it goes.
    pub(super) async fn enter_newcomer(
        &self,
        app: &Arc<Semaphore>,
        clock: &Clock,
        may: impl Fn(&Moment) -> Result<()>,
    ) -> Result<Pass> {
        let (app, newcomers) = (permit(app).await?, permit(&self.newcomers).await?);
        loop {
            let now = clock.now();
            may(&now)?;
            let wait = self.lock().pace.take(&now);
            let Some(wait) = wait else { break };
            clock.wait(wait.min(PATIENCE)).await;
        }
        let all = permit(&self.all).await?;
        Ok(Pass { rank: Rank::Newcomer, turn: None, _permits: [Some(app), Some(newcomers), Some(all)] })
    }

    /// Waits for the turn of a customer whose secret was right.
    pub(super) async fn enter(&self, rank: Rank, clock: &Clock) -> Result<Pass> {
        let turn = loop {
            let now = clock.now();
            self.check(rank, &now)?;
            let paused = self.lock().current_pause(&now).map(|pause| (pause.turns.clone(), pause.left(&now)));
            let Some((turns, left)) = paused else { break None };
            // Closed: the pause is over, or there was another 429.
            let turn = tokio::select! {
                biased;
                turn = turns.acquire_owned() => turn,
                () = clock.wait(left) => continue,
            };
            let Ok(turn) = turn else { continue };
            let now = clock.now();
            self.check(rank, &now)?;
            match self.held_back_for(rank, &now).filter(|wait| !wait.is_zero()) {
                Some(wait) => clock.wait(wait).await,
                None => break Some(turn),
            }
            if !turn.semaphore().is_closed() {
                break Some(turn);
            }
        };
        let all = permit(&self.all).await?;
        self.lock().pace.took(&clock.now());
        Ok(Pass { rank, turn, _permits: [Some(all), None, None] })
    }

    /// Notes a 429 that is not about one client alone. Of several pauses the last to end counts.
    /// Returns whether it is the first of a pause. `draw` lies between 0 and 1.
    pub(super) fn pause(&self, now: Moment, length: Option<Duration>, pass: &Pass, draw: f64) -> bool {
        let length = length.unwrap_or(PAUSE);
        let mut state = self.lock();
        let begins = state.current_pause(&now).is_none();
        let pause = state.pause.get_or_insert_with(|| Paused {
            since: now,
            length: Duration::ZERO,
            turns: Arc::new(Semaphore::new(1)),
            open: 1,
            due: (now, Duration::ZERO),
            refused: 0,
        });
        if pause.left(&now) < length {
            (pause.since, pause.length) = (now, length);
        }
        if begins {
            pause.defer(&now, draw);
        } else if pause.has_given(pass) {
            pause.refused = pause.refused.saturating_add(1);
            pause.defer(&now, draw);
        }
        state.pace.throttled(&now, begins, length);
        begins
    }

    /// Notes any other answer of the server.
    pub(super) fn answered(&self, now: &Moment, pass: &Pass) {
        let mut state = self.lock();
        state.pace.answered(now, pass.rank == Rank::Newcomer);
        let most = self.concurrent;
        if let Some(pause) = state.current_pause(now).filter(|pause| pause.has_given(pass)) {
            (pause.refused, pause.due.1) = (0, Duration::ZERO);
            if pause.open < most {
                pause.open += 1;
                pause.turns.add_permits(1);
            }
        }
    }

    /// Notes the quota that a token came with.
    pub(super) fn told(&self, now: &Moment, app: Tag, quota: Quota) {
        self.lock().pace.told(now, app, quota);
    }

    /// Returns the time for which newcomers are held back.
    pub(super) fn paused_for(&self, now: &Moment) -> Option<Duration> {
        self.lock().current_pause(now).map(|pause| pause.left(now))
    }

    /// Returns when it is worth trying again during a pause; `None` without one.
    pub(super) fn held_back_for(&self, rank: Rank, now: &Moment) -> Option<Duration> {
        self.lock().current_pause(now).map(|pause| match rank {
            Rank::Newcomer | Rank::Renewal => pause.left(now),
            Rank::Known => pause.due_in(now),
        })
    }

    /// An error if there is a pause that one of this rank does not wait for.
    pub(super) fn check(&self, rank: Rank, now: &Moment) -> Result<()> {
        match self.held_back_for(rank, now) {
            None => Ok(()),
            Some(wait) if rank == Rank::Known && wait <= PATIENCE => Ok(()),
            left => Err(paused().with_retry_after(left)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is not the caller's fault: hence not [`ErrorKind::Throttled`].
pub(super) fn paused() -> Error {
    Error::new(
        ErrorKind::AuthServerUnavailable,
        "the authorization server takes no token requests for now (429)",
    )
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

    fn at(seconds: u64) -> Moment {
        let time = Duration::from_secs(seconds);
        Moment::new(time, time, Some(time))
    }

    fn enter(gate: &Gate, app: Option<&Arc<Semaphore>>) -> Option<Result<Pass>> {
        match app {
            Some(app) => at_once(gate.enter_newcomer(app, &Clock::System, |_| Ok(()))),
            None => at_once(gate.enter(Rank::Known, &Clock::System)),
        }
    }

    #[test]
    fn newcomers_leave_a_quarter_to_the_others() {
        let gate = Gate::new(8, None);
        let apps: Vec<_> = (0..8).map(|_| Arc::new(Semaphore::new(2))).collect();
        let passes: Vec<_> = apps.iter().map_while(|app| enter(&gate, Some(app))).collect();
        assert_eq!(passes.len(), 6);
        let others: Vec<_> = (0..8).map_while(|_| enter(&gate, None)).collect();
        assert_eq!(others.len(), 2);
        drop(passes);
        assert!(enter(&gate, Some(&apps[0])).is_some());
    }

    #[test]
    fn one_app_has_no_more_than_its_own() {
        let gate = Gate::new(8, None);
        let (bad, good) = (Arc::new(Semaphore::new(2)), Arc::new(Semaphore::new(2)));
        let bad: Vec<_> = (0..8).map_while(|_| enter(&gate, Some(&bad))).collect();
        assert_eq!(bad.len(), 2);
        assert!(enter(&gate, Some(&good)).is_some());
    }

    #[test]
    fn the_longest_pause_counts() {
        let gate = Gate::new(2, None);
        let pass = enter(&gate, None).unwrap().unwrap();
        let check = |seconds| gate.check(Rank::Newcomer, &at(seconds));
        assert!(check(1).is_ok());
        assert!(gate.pause(at(10), Some(Duration::from_secs(60)), &pass, 0.0));
        assert!(!gate.pause(at(20), Some(Duration::from_secs(7)), &pass, 0.0));
        assert_eq!(check(69).unwrap_err().retry_after(), Some(Duration::from_secs(1)));
        assert!(check(70).is_ok());
        gate.pause(at(70), None, &pass, 0.0);
        assert_eq!(gate.paused_for(&at(70)), Some(PAUSE));
    }
}
