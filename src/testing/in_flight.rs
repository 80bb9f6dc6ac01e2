use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::listen::Connection;
use super::state::lock;

/// Counts how many token requests are handled at once.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    max: u64,
    now: HashMap<u64, Connection>,
}

/// One request being handled, until this is dropped.
pub(super) struct Ticket {
    of: InFlight,
    number: u64,
}

impl InFlight {
    pub(super) fn enter(&self, connection: Connection) -> Ticket {
        let mut inner = lock(&self.0);
        // The socket knows at once that its client has gone, the task that serves it only when it is polled next:
        // a client that gave up one request and then sends another must not be counted twice.
        let others = inner.now.values().filter(|connection| connection.has_client()).count();
        inner.max = inner.max.max(others as u64 + 1);
        let number = inner.next;
        inner.next += 1;
        inner.now.insert(number, connection);
        Ticket { of: self.clone(), number }
    }

    pub(super) fn max(&self) -> u64 {
        lock(&self.0).max
    }

    pub(super) fn reset(&self) {
        lock(&self.0).max = 0;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.of.0).now.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn who_has_gone_does_not_count_even_before_its_task_has_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connect = async || {
            let client = TcpStream::connect(address).await.unwrap();
            (client, Arc::new(listener.accept().await.unwrap().0))
        };
        let in_flight = InFlight::default();
        let (client, served) = connect().await;
        let _first = in_flight.enter(Connection::new(&served));
        drop(client);
        let (_stays, served) = connect().await;
        let second = in_flight.enter(Connection::new(&served));
        assert_eq!(in_flight.max(), 1);
        let (_stays, served) = connect().await;
        let _third = in_flight.enter(Connection::new(&served));
        assert_eq!(in_flight.max(), 2);
        drop(second);
        in_flight.reset();
        let (_stays, served) = connect().await;
        let _fourth = in_flight.enter(Connection::new(&served));
        assert_eq!(in_flight.max(), 2);
    }
}
