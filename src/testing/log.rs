use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;
use tokio::sync::watch;

use super::state::lock;

/// How many entries are kept: the newest.
const CAPACITY: usize = 10_000;

/// One request that the [`AuthServer`](super::AuthServer) or its API received. It holds no secret and no token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// When the request came, since the server was started.
    pub at: Duration,
    /// Method and path, such as `POST /token`; never the query.
    pub what: String,
    /// The status it was answered with; `None` while it is being handled, and where no answer was sent.
    pub status: Option<u16>,
    /// The client, as far as it is known.
    pub client_id: Option<String>,
    /// How the client authenticated: `client_secret_basic` or `client_secret_post`.
    pub client_auth: Option<&'static str>,
    /// The `User-Agent`, where there was one.
    pub user_agent: Option<String>,
}

/// The counters and the log.
pub(super) struct Log {
    start: Instant,
    inner: Mutex<Inner>,
    token_requests: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    entries: VecDeque<LogEntry>,
    /// The number of the first entry: numbers go on when entries are dropped.
    first: u64,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) discovery_requests: u64,
    pub(super) revocations: u64,
    pub(super) introspections: u64,
    pub(super) jwks_requests: u64,
    pub(super) api_calls: u64,
    pub(super) api_refused: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), inner: Mutex::default(), token_requests: watch::Sender::new(0) }
    }

    /// Notes a request, and gives the number under which its outcome can be added.
    pub(super) fn arrived(&self, what: String, headers: &HeaderMap) -> u64 {
        let mut inner = lock(&self.inner);
        if inner.entries.len() == CAPACITY {
            inner.entries.pop_front();
            inner.first += 1;
        }
        let user_agent =
            headers.get(USER_AGENT).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        inner.entries.push_back(LogEntry {
            at: self.start.elapsed(),
            what,
            status: None,
            client_id: None,
            client_auth: None,
            user_agent,
        });
        inner.first + inner.entries.len() as u64 - 1
    }

    pub(super) fn add(&self, number: u64, change: impl FnOnce(&mut LogEntry)) {
        let mut inner = lock(&self.inner);
        let index = number.checked_sub(inner.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| inner.entries.get_mut(index)) {
            change(entry);
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.inner).counts);
    }

    pub(super) fn count_token_request(&self) {
        self.token_requests.send_modify(|requests| *requests += 1);
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.inner).counts
    }

    pub(super) fn token_requests(&self) -> u64 {
        *self.token_requests.borrow()
    }

    pub(super) async fn wait_for_token_requests(&self, n: u64) {
        let mut requests = self.token_requests.subscribe();
        // It cannot end early: the sender lives as long as `self`.
        let _ = requests.wait_for(|requests| *requests >= n).await;
    }

    pub(super) fn entries(&self) -> Vec<LogEntry> {
        lock(&self.inner).entries.iter().cloned().collect()
    }

    pub(super) fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.first += inner.entries.len() as u64;
        inner.entries.clear();
        inner.counts = Counts::default();
        drop(inner);
        self.token_requests.send_replace(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_find_their_entry_after_others_were_dropped() {
        let log = Log::new();
        let before = log.arrived("before".into(), &HeaderMap::new());
        log.reset();
        let numbers: Vec<u64> =
            (0..=CAPACITY).map(|n| log.arrived(n.to_string(), &HeaderMap::new())).collect();
        log.add(before, |entry| entry.status = Some(500));
        log.add(numbers[0], |entry| entry.status = Some(501));
        log.add(numbers[CAPACITY], |entry| entry.status = Some(200));
        let entries = log.entries();
        assert_eq!(entries.len(), CAPACITY);
        let with_status: Vec<_> = entries.iter().filter(|entry| entry.status.is_some()).collect();
        assert_eq!(with_status.len(), 1);
        assert_eq!((with_status[0].what.as_str(), with_status[0].status), ("10000", Some(200)));
    }
}
