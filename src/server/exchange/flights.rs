//! The token requests that are waiting or under way: one for each customer at most, and the calls
//! that wait for them.
//!
//! One lock guards the table. While it is held, those of the caches, of the gate and of the random
//! numbers may be taken, never the other way round.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::key::{Key, Tag};
use crate::error::{Error, ErrorKind, Result};
use crate::renewal::AccessToken;
use crate::secret::{ExposeSecret, SecretString};
use crate::server::digest::AsItIs;

/// What a request came to, for all who wait for it; `None` until then.
pub(super) type Outcome = Option<Result<AccessToken>>;

/// Newcomers that one app id, and one address for one app id, may have waiting.
const PER_APP: usize = 64;
const PER_APP_AND_PEER: usize = 4;

/// And one address for all app ids, as a share of all seats: it may be that of a whole company.
const PEERS_SHARE: usize = 8;

/// How much memory there is for each seat. Credentials have 8 KiB at most and some 100 bytes as a rule.
const BYTES_PER_SEAT: usize = 8 << 10;

/// What a request or a call takes that waits, beside its credentials.
const BESIDE: usize = 2 << 10;

/// How many may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Newcomers in all, and as many again of the others.
    pub(super) waiting: usize,
    /// Of one app id's newcomers, how many are under way at once.
    pub(super) per_app: usize,
}

impl Room {
    /// The memory that newcomers may take while they wait, and as much again the others.
    fn bytes(&self) -> usize {
        self.waiting.saturating_mul(BYTES_PER_SEAT)
    }
}

/// What waits, requests and calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    requests: usize,
    bytes: usize,
}

/// Returns the memory that one request or one call holds while it waits.
pub(super) fn size(app_id: &str, app_secret: &SecretString) -> usize {
    app_id.len() + app_secret.expose_secret().len() + BESIDE
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
    peers: HashMap<Tag, Load, AsItIs>,
    newcomers: Load,
    /// Of all others.
    known: Load,
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
    size: usize,
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
    /// `size` is the memory that it takes.
    pub(super) fn begin(
        &mut self,
        key: Key,
        app: Tag,
        newcomer: Option<Newcomer>,
        size: usize,
        room: Room,
    ) -> Result<Begun> {
        if self.flying.contains_key(&key) {
            return Err(full());
        }
        let permits = match newcomer {
            None if self.flying.len() + self.purged.len() >= 2 * room.waiting => return Err(full()),
            Some(_) if self.newcomers.requests >= room.waiting => return Err(full()),
            _ => {
                self.check_memory(newcomer, size, room)?;
                newcomer.map(|newcomer| self.seat(newcomer, room)).transpose()?
            }
        };
        self.load(newcomer, 1, size);
        let (sender, outcome) = watch::channel(None);
        self.begun += 1;
        let number = self.begun;
        self.flying.insert(key, Flying { number, outcome: sender, app, newcomer, size });
        Ok(Begun { ticket: Ticket { key, number }, outcome, permits })
    }

    fn seat(&mut self, newcomer: Newcomer, room: Room) -> Result<Arc<Semaphore>> {
        let app = self.apps.entry(newcomer.app).or_insert_with(|| App {
            permits: Arc::new(Semaphore::new(room.per_app)),
            waiting: 0,
            peers: HashMap::default(),
        });
        let from_peer = newcomer.peer.and_then(|peer| self.peers.get(&peer)).map_or(0, |load| load.requests);
        let for_app = newcomer.peer.and_then(|peer| app.peers.get(&peer).copied()).unwrap_or(0);
        let crowd = if app.waiting >= PER_APP || for_app >= PER_APP_AND_PEER {
            Some("too many credentials for one app id at once")
        } else if from_peer >= room.waiting.div_ceil(PEERS_SHARE) {
            Some(CROWDED_PEER)
        } else {
            None
        };
        if let Some(crowd) = crowd {
            if app.waiting == 0 {
                self.apps.remove(&newcomer.app);
            }
            return Err(crowded(crowd));
        }
        app.waiting += 1;
        if let Some(peer) = newcomer.peer {
            *app.peers.entry(peer).or_insert(0) += 1;
        }
        Ok(app.permits.clone())
    }

    /// Takes the memory of a call that waits for a request. It is given back by
    /// [`leave`](Self::leave).
    pub(super) fn wait(&mut self, newcomer: Option<Newcomer>, size: usize, room: Room) -> Result<()> {
        self.check_memory(newcomer, size, room)?;
        self.load(newcomer, 0, size);
        Ok(())
    }

    pub(super) fn leave(&mut self, newcomer: Option<Newcomer>, size: usize) {
        self.unload(newcomer, 0, size);
    }

    fn check_memory(&self, newcomer: Option<Newcomer>, size: usize, room: Room) -> Result<()> {
        let load = if newcomer.is_some() { &self.newcomers } else { &self.known };
        if load.bytes.saturating_add(size) > room.bytes() {
            return Err(full());
        }
        let from_peer = newcomer.and_then(|newcomer| self.peers.get(&newcomer.peer?));
        match from_peer {
            Some(load) if load.bytes.saturating_add(size) > room.bytes().div_ceil(PEERS_SHARE) => {
                Err(crowded(CROWDED_PEER))
            }
            _ => Ok(()),
        }
    }

    fn load(&mut self, newcomer: Option<Newcomer>, requests: usize, bytes: usize) {
        let peer = newcomer.and_then(|newcomer| newcomer.peer);
        let all = if newcomer.is_some() { &mut self.newcomers } else { &mut self.known };
        for load in [Some(all), peer.map(|peer| self.peers.entry(peer).or_default())].into_iter().flatten() {
            load.requests += requests;
            load.bytes += bytes;
        }
    }

    fn unload(&mut self, newcomer: Option<Newcomer>, requests: usize, bytes: usize) {
        let all = if newcomer.is_some() { &mut self.newcomers } else { &mut self.known };
        let peer = newcomer.and_then(|newcomer| newcomer.peer);
        for load in [Some(all), peer.and_then(|peer| self.peers.get_mut(&peer))].into_iter().flatten() {
            load.requests -= requests;
            load.bytes -= bytes;
        }
        if let Some(peer) = peer
            && self.peers.get(&peer) == Some(&Load::default())
        {
            self.peers.remove(&peer);
        }
    }

    /// And whether what comes of it may be kept.
    fn remove(&mut self, ticket: Ticket) -> Option<(Flying, bool)> {
        let is_it = self.flying.get(&ticket.key).is_some_and(|flying| flying.number == ticket.number);
        let flying =
            if is_it { self.flying.remove(&ticket.key) } else { self.purged.remove(&ticket.number) }?;
        self.unload(flying.newcomer, 1, flying.size);
        if let Some(newcomer) = flying.newcomer
            && let Some(app) = self.apps.get_mut(&newcomer.app)
        {
            app.waiting -= 1;
            newcomer.peer.into_iter().for_each(|peer| one_less(&mut app.peers, peer));
            if app.waiting == 0 {
                self.apps.remove(&newcomer.app);
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

const CROWDED_PEER: &str = "too many credentials from one address at once";

fn crowded(what: &str) -> Error {
    Error::new(ErrorKind::Throttled, what).with_retry_after(Some(std::time::Duration::from_secs(1)))
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
            let begun = table.begin(key, app, newcomer, BESIDE, ROOM).map_err(|error| error.kind())?;
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
        assert_eq!((table.newcomers, table.known), (Load::default(), Load::default()));
    }

    #[test]
    fn an_address_has_an_eighth_of_all_seats_whatever_app_ids_it_makes_up() {
        let flights = Flights::new(ROOM);
        let mut keys = keys();
        let mut table = flights.lock();
        let mut begin = |app, peer| {
            let newcomer = Some(Newcomer { app, peer: Some(peer) });
            table
                .begin(keys.next().unwrap(), app, newcomer, BESIDE, ROOM)
                .map(drop)
                .map_err(|error| error.kind())
        };
        for app in 0..13 {
            assert_eq!(begin(app, 1), Ok(()));
        }
        assert_eq!(begin(13, 1), Err(ErrorKind::Throttled));
        assert_eq!(begin(13, 2), Ok(()));
        assert_eq!(table.apps.len(), 14, "none is left of one that was refused");
    }

    #[test]
    fn memory_is_bounded_for_all_and_for_each_address_and_given_back() {
        let flights = Flights::new(ROOM);
        let mut table = flights.lock();
        let newcomer = |peer| Some(Newcomer { app: 1, peer });
        let all = ROOM.bytes();
        let share = all.div_ceil(PEERS_SHARE);
        table.wait(newcomer(Some(1)), share, ROOM).unwrap();
        assert_eq!(table.wait(newcomer(Some(1)), 1, ROOM).unwrap_err().kind(), ErrorKind::Throttled);
        table.wait(newcomer(None), all - share, ROOM).unwrap();
        let full = table.wait(newcomer(Some(2)), 1, ROOM).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::AuthServerUnavailable);
        let key = keys().next().unwrap();
        assert!(table.begin(key, 1, newcomer(None), 1, ROOM).is_err());
        let known = table.begin(key, 1, None, all, ROOM).unwrap();
        assert!(table.wait(None, 1, ROOM).is_err(), "the others have their own");
        table.leave(newcomer(Some(1)), share);
        table.leave(newcomer(None), all - share);
        drop(table);
        flights.land(known.ticket, |_| (None, ()));
        let table = flights.lock();
        assert_eq!((table.newcomers, table.known), (Load::default(), Load::default()));
        assert!(table.peers.is_empty() && table.apps.is_empty());
    }

    #[test]
    fn what_is_purged_under_way_is_not_kept_and_not_joined() {
        let flights = Flights::new(ROOM);
        let mut keys = keys();
        let [one, other] = [keys.next().unwrap(), keys.next().unwrap()];
        let begin = |key, app| flights.lock().begin(key, app, None, BESIDE, ROOM);
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
