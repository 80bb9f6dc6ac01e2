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

/// And one address for all app ids, as a share of all seats: it may be that of a whole company.
const PEERS_SHARE: usize = 8;

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
    /// Those whose app id was to be forgotten under way: nobody joins them, and what comes of them is not kept.
    purged: HashMap<u64, Flying>,
    apps: HashMap<Tag, App, AsItIs>,
    /// Newcomers by address.
    peers: HashMap<Tag, usize, AsItIs>,
    newcomers: usize,
    begun: u64,
}

/// A request under way, as whoever lands it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) key: Key,
    number: u64,
}

/// What a beginning gives: where its outcome will be, and to a newcomer the permits of its app id.
pub(super) struct Begun {
    pub(super) ticket: Ticket,
    pub(super) outcome: watch::Receiver<Outcome>,
    pub(super) permits: Option<Arc<Semaphore>>,
}

struct Flying {
    number: u64,
    outcome: watch::Sender<Outcome>,
    app: Tag,
    newcomer: Option<Newcomer>,
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
        let table = self.lock();
        table.flying.len() + table.purged.len()
    }

    /// Has those under way come to nothing that is kept, for nobody but those who wait already.
    pub(super) fn purge(&self, app: Tag) {
        let Table { flying, purged, .. } = &mut *self.lock();
        let gone = flying.extract_if(|_, flying| flying.app == app);
        purged.extend(gone.map(|(_, flying)| (flying.number, flying)));
    }

    /// The end of a request. `settle` is told whether to keep what came of it, and gives what the waiting get; until it
    /// returns nobody starts another.
    pub(super) fn land<T>(&self, ticket: Ticket, settle: impl FnOnce(bool) -> (Outcome, T)) -> Option<T> {
        let mut table = self.lock();
        let (flying, keep) = table.remove(ticket)?;
        let (outcome, told) = settle(keep);
        drop(table);
        flying.outcome.send_replace(outcome);
        Some(told)
    }
}

impl Table {
    pub(super) fn join(&self, key: &Key) -> Option<watch::Receiver<Outcome>> {
        self.flying.get(key).map(|flying| flying.outcome.subscribe())
    }

    /// Begins one, where there is none. A newcomer gets the permits of its app id, of which the request must have one.
    pub(super) fn begin(
        &mut self,
        key: Key,
        app: Tag,
        newcomer: Option<Newcomer>,
        room: Room,
    ) -> Result<Begun> {
        if self.flying.contains_key(&key) {
            return Err(full());
        }
        let permits = match newcomer {
            None if self.flying.len() + self.purged.len() >= 2 * room.waiting => return Err(full()),
            None => None,
            Some(_) if self.newcomers >= room.waiting => return Err(full()),
            Some(newcomer) => Some(self.seat(newcomer, room)?),
        };
        let (sender, outcome) = watch::channel(None);
        self.begun += 1;
        let number = self.begun;
        self.flying.insert(key, Flying { number, outcome: sender, app, newcomer });
        Ok(Begun { ticket: Ticket { key, number }, outcome, permits })
    }

    fn seat(&mut self, newcomer: Newcomer, room: Room) -> Result<Arc<Semaphore>> {
        let app = self.apps.entry(newcomer.app).or_insert_with(|| App {
            permits: Arc::new(Semaphore::new(room.per_app)),
            waiting: 0,
            peers: HashMap::default(),
        });
        let of = |peers: &HashMap<Tag, usize, AsItIs>| {
            newcomer.peer.and_then(|peer| peers.get(&peer).copied()).unwrap_or(0)
        };
        let crowd = if app.waiting >= PER_APP || of(&app.peers) >= PER_APP_AND_PEER {
            Some("too many credentials for one app id at once")
        } else if of(&self.peers) >= room.waiting.div_ceil(PEERS_SHARE) {
            Some("too many credentials from one address at once")
        } else {
            None
        };
        if let Some(crowd) = crowd {
            if app.waiting == 0 {
                self.apps.remove(&newcomer.app);
            }
            return Err(Error::new(ErrorKind::Throttled, crowd)
                .with_retry_after(Some(std::time::Duration::from_secs(1))));
        }
        app.waiting += 1;
        if let Some(peer) = newcomer.peer {
            *app.peers.entry(peer).or_insert(0) += 1;
            *self.peers.entry(peer).or_insert(0) += 1;
        }
        self.newcomers += 1;
        Ok(app.permits.clone())
    }

    /// And whether what comes of it may be kept.
    fn remove(&mut self, ticket: Ticket) -> Option<(Flying, bool)> {
        let is_it = self.flying.get(&ticket.key).is_some_and(|flying| flying.number == ticket.number);
        let flying =
            if is_it { self.flying.remove(&ticket.key) } else { self.purged.remove(&ticket.number) }?;
        if let Some(newcomer) = flying.newcomer {
            self.newcomers -= 1;
            newcomer.peer.into_iter().for_each(|peer| one_less(&mut self.peers, peer));
            if let Some(app) = self.apps.get_mut(&newcomer.app) {
                app.waiting -= 1;
                newcomer.peer.into_iter().for_each(|peer| one_less(&mut app.peers, peer));
                if app.waiting == 0 {
                    self.apps.remove(&newcomer.app);
                }
            }
        }
        Some((flying, is_it))
    }
}

fn one_less(counts: &mut HashMap<Tag, usize, AsItIs>, tag: Tag) {
    if let Some(count) = counts.get_mut(&tag) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&tag);
        }
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
            let begun = table.begin(key, app, newcomer, ROOM).map_err(|error| error.kind())?;
            taken.push(begun.ticket);
            Ok(())
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
        for ticket in taken {
            flights.land(ticket, |_| (None, ()));
        }
        let table = flights.lock();
        assert!(table.flying.is_empty() && table.apps.is_empty() && table.peers.is_empty());
        assert_eq!(table.newcomers, 0);
    }

    #[test]
    fn an_address_has_an_eighth_of_all_seats_whatever_app_ids_it_makes_up() {
        let flights = Flights::new(ROOM);
        let mut keys = keys();
        let mut table = flights.lock();
        let mut begin = |app, peer| {
            let newcomer = Some(Newcomer { app, peer: Some(peer) });
            table.begin(keys.next().unwrap(), app, newcomer, ROOM).map(drop).map_err(|error| error.kind())
        };
        for app in 0..13 {
            assert_eq!(begin(app, 1), Ok(()));
        }
        assert_eq!(begin(13, 1), Err(ErrorKind::Throttled));
        assert_eq!(begin(13, 2), Ok(()));
        assert_eq!(table.apps.len(), 14, "none is left of one that was refused");
    }

    #[test]
    fn what_is_purged_under_way_is_not_kept_and_not_joined() {
        let flights = Flights::new(ROOM);
        let mut keys = keys();
        let [one, other] = [keys.next().unwrap(), keys.next().unwrap()];
        let begin = |key, app| flights.lock().begin(key, app, None, ROOM);
        let mut first = begin(one, 1).unwrap();
        let second = begin(other, 2).unwrap();
        assert!(begin(one, 1).is_err(), "it is under way");
        flights.purge(1);
        assert!(flights.lock().join(&one).is_none());
        assert!(flights.lock().join(&other).is_some());
        let anew = begin(one, 1).unwrap();
        assert_eq!(flights.len(), 3);
        let land = |begun: &Begun| flights.land(begun.ticket, |keep| (Some(Err(Error::closed())), keep));
        assert_eq!(land(&first), Some(false));
        assert!(first.outcome.borrow_and_update().is_some(), "those who waited are told");
        assert!(flights.lock().join(&one).is_some(), "and the one begun since flies on");
        assert_eq!((land(&anew), land(&second), land(&anew)), (Some(true), Some(true), None));
        assert_eq!(flights.len(), 0);
    }
}
