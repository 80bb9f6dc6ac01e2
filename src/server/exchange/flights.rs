//! The token requests that are waiting or under way: one for each customer at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::key::{Key, Tag};
use crate::error::{Error, ErrorKind, Result};
use crate::renewal::AccessToken;
use crate::server::digest::AsItIs;

/// What a request came to, for all who wait for it; `None` until then.
pub(super) type Outcome = Option<Result<AccessToken>>;

/// Newcomers that one app id, and one address for one app id, may have waiting.
const PER_APP: usize = 64;
const PER_APP_AND_PEER: usize = 4;

/// How many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Newcomers in all, and as many again of the others.
    pub(super) waiting: usize,
    /// Of one app id's newcomers, how many are under way at once.
    pub(super) per_app: usize,
}

/// Whose secret is not known to be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newcomer {
    pub(super) app: Tag,
    pub(super) peer: Option<Tag>,
}

pub(super) struct Flights {
    room: Room,
    table: Mutex<Table>,
}

#[derive(Default)]
pub(super) struct Table {
    flying: HashMap<Key, Flying, AsItIs>,
    apps: HashMap<Tag, App, AsItIs>,
    newcomers: usize,
}

struct Flying {
    outcome: watch::Sender<Outcome>,
    app: Tag,
    newcomer: Option<Newcomer>,
    /// Its app id is to be forgotten: what comes of it is not kept.
    purged: bool,
}

/// The newcomers of one app id.
struct App {
    permits: Arc<Semaphore>,
    waiting: usize,
    peers: HashMap<Tag, usize, AsItIs>,
}

impl Flights {
    pub(super) fn new(room: Room) -> Self {
        Self { room, table: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn room(&self) -> Room {
        self.room
    }

    pub(super) fn len(&self) -> usize {
        self.lock().flying.len()
    }

    /// Has those under way come to nothing that is kept.
    pub(super) fn purge(&self, app: Tag) {
        self.lock()
            .flying
            .values_mut()
            .filter(|flying| flying.app == app)
            .for_each(|flying| flying.purged = true);
    }

    /// The end of a request. `settle` is told whether to keep what came of it, and gives what the waiting get; until it
    /// returns nobody starts another.
    pub(super) fn land<T>(&self, key: &Key, settle: impl FnOnce(bool) -> (Outcome, T)) -> Option<T> {
        let mut table = self.lock();
        let flying = table.remove(key)?;
        let (outcome, told) = settle(!flying.purged);
        drop(table);
        flying.outcome.send_replace(outcome);
        Some(told)
    }
}

impl Table {
    pub(super) fn join(&self, key: &Key) -> Option<watch::Receiver<Outcome>> {
        self.flying.get(key).map(|flying| flying.outcome.subscribe())
    }

    /// Begins one. A newcomer gets the permits of its app id, of which the request must have one.
    pub(super) fn begin(
        &mut self,
        key: Key,
        app: Tag,
        newcomer: Option<Newcomer>,
        room: Room,
    ) -> Result<(watch::Receiver<Outcome>, Option<Arc<Semaphore>>)> {
        let permits = match newcomer {
            None if self.flying.len() >= 2 * room.waiting => return Err(full()),
            None => None,
            Some(_) if self.newcomers >= room.waiting => return Err(full()),
            Some(newcomer) => Some(self.seat(newcomer, room)?),
        };
        let (outcome, waiting) = watch::channel(None);
        self.flying.insert(key, Flying { outcome, app, newcomer, purged: false });
        Ok((waiting, permits))
    }

    fn seat(&mut self, newcomer: Newcomer, room: Room) -> Result<Arc<Semaphore>> {
        let app = self.apps.entry(newcomer.app).or_insert_with(|| App {
            permits: Arc::new(Semaphore::new(room.per_app)),
            waiting: 0,
            peers: HashMap::default(),
        });
        let of_peer = newcomer.peer.map_or(0, |peer| app.peers.get(&peer).copied().unwrap_or(0));
        if app.waiting >= PER_APP || of_peer >= PER_APP_AND_PEER {
            return Err(Error::new(ErrorKind::Throttled, "too many credentials for one app id at once")
                .with_retry_after(Some(std::time::Duration::from_secs(1))));
        }
        app.waiting += 1;
        if let Some(peer) = newcomer.peer {
            *app.peers.entry(peer).or_insert(0) += 1;
        }
        self.newcomers += 1;
        Ok(app.permits.clone())
    }

    fn remove(&mut self, key: &Key) -> Option<Flying> {
        let flying = self.flying.remove(key)?;
        if let Some(newcomer) = flying.newcomer {
            self.newcomers -= 1;
            if let Some(app) = self.apps.get_mut(&newcomer.app) {
                app.waiting -= 1;
                if let Some(peer) = newcomer.peer
                    && let Some(count) = app.peers.get_mut(&peer)
                {
                    *count -= 1;
                    if *count == 0 {
                        app.peers.remove(&peer);
                    }
                }
                if app.waiting == 0 {
                    self.apps.remove(&newcomer.app);
                }
            }
        }
        Some(flying)
    }
}

fn full() -> Error {
    Error::new(
        ErrorKind::AuthServerUnavailable,
        "too many token requests are waiting for the authorization server",
    )
    .with_retry_after(Some(std::time::Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GrantRequest;
    use crate::server::exchange::key::Hashing;

    const ROOM: Room = Room { waiting: 100, per_app: 2 };

    fn keys() -> impl Iterator<Item = Key> {
        let hashing = Hashing::new().unwrap().of_request(&GrantRequest::default());
        (0..).map(move |number: u64| hashing.key("app", &number.to_string().into()))
    }

    #[test]
    fn an_address_and_an_app_id_have_so_many_seats_and_leave_no_trace() {
        let flights = Flights::new(ROOM);
        let mut keys = keys();
        let mut taken = Vec::new();
        let mut table = flights.lock();
        let mut begin = |app, peer, newcomer: bool| {
            let key = keys.next().unwrap();
            let newcomer = newcomer.then_some(Newcomer { app, peer });
            let outcome = table.begin(key, app, newcomer, ROOM).map(drop);
            outcome.is_ok().then(|| taken.push(key));
            outcome.map_err(|error| error.kind())
        };
        for _ in 0..PER_APP_AND_PEER {
            assert!(begin(1, Some(1), true).is_ok());
        }
        assert_eq!(begin(1, Some(1), true), Err(ErrorKind::Throttled));
        assert!(begin(1, Some(2), true).is_ok(), "another address");
        assert!(begin(2, Some(1), true).is_ok(), "another app id");
        for _ in PER_APP_AND_PEER + 1..PER_APP {
            assert!(begin(1, None, true).is_ok());
        }
        assert_eq!(begin(1, None, true), Err(ErrorKind::Throttled));
        assert!(begin(1, None, false).is_ok(), "no newcomer");
        for app in 10..10 + 100 - PER_APP as u64 - 1 {
            assert!(begin(app, None, true).is_ok());
        }
        assert_eq!(begin(999, None, true), Err(ErrorKind::AuthServerUnavailable));
        drop(table);
        for key in &taken {
            flights.land(key, |_| (None, ()));
        }
        let table = flights.lock();
        assert!(table.flying.is_empty() && table.apps.is_empty() && table.newcomers == 0);
    }

    #[test]
    fn what_is_purged_under_way_is_not_kept() {
        let flights = Flights::new(ROOM);
        let [one, other] = [keys().next().unwrap(), keys().next().unwrap()];
        let (mut waiting, _) = flights.lock().begin(one, 1, None, ROOM).unwrap();
        flights.lock().begin(other, 2, None, ROOM).unwrap();
        assert!(flights.lock().join(&one).is_some());
        flights.purge(1);
        let mut kept = Vec::new();
        flights.land(&one, |keep| {
            kept.push(keep);
            (Some(Err(Error::closed())), ())
        });
        flights.land(&other, |keep| {
            kept.push(keep);
            (None, ())
        });
        assert_eq!(kept, [false, true]);
        assert!(waiting.borrow_and_update().is_some());
        assert!(flights.lock().join(&one).is_none());
    }
}
