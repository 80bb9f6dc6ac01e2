use std::time::Duration;

use tokio::sync::broadcast;

use crate::error::Error;
use crate::grant::Quota;

/// What happened to a token; [`Events::next`] gives them. None carries a token or a secret.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A token was received.
    #[non_exhaustive]
    Renewed {
        /// Its lifetime by the authorization server's word.
        lifetime: Duration,
        /// What was asked for but not granted (RFC 6749 5.1); empty as a rule.
        missing_scopes: Vec<String>,
    },
    /// An attempt failed; what is held is served on.
    #[non_exhaustive]
    RenewalFailed {
        /// Why.
        error: Error,
        /// The time to the next attempt.
        next_attempt: Duration,
    },
    /// The authorization server refuses the credential (`invalid_client`).
    #[non_exhaustive]
    CredentialsRejected {
        /// In its own words.
        error: Error,
    },
    /// The credential in use has changed: `set_credentials` was called, its [`CredentialSource`](crate::CredentialSource)
    /// gave another, or the next secret was promoted, because the server took that one and refused the other.
    CredentialsRotated,
    /// The server has few tokens left to grant, and no more before the renewal would be due; that is put off within the
    /// token's life. Told once, until there is enough again.
    #[non_exhaustive]
    QuotaLow {
        /// What is left, and till when.
        quota: Quota,
    },
    /// The API refused the token; it is being renewed.
    Invalidated,
    /// The source was shut down: the last event.
    Closed,
    /// So many events were lost, because the reader was slow.
    Missed(u64),
}

/// The events of a token source, from the moment it was asked for. Bounded: a reader who falls more than 64 events
/// behind gets [`Event::Missed`]. It keeps nothing alive and ends with the source.
#[derive(Debug)]
pub struct Events(Option<broadcast::Receiver<Event>>);

const CAPACITY: usize = 64;

impl Events {
    /// The next event; `None` once the source is shut down or gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.0.as_mut()?.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(_) => None,
        }
    }
}

/// The sending side; empty after shutdown.
pub(crate) struct EventSender(Option<broadcast::Sender<Event>>);

impl EventSender {
    pub(crate) fn new() -> Self {
        Self(Some(broadcast::Sender::new(CAPACITY)))
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.as_ref().map(broadcast::Sender::subscribe))
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // Nobody listening is no error.
            let _ = sender.send(event);
        }
    }

    pub(crate) fn close(&mut self) {
        self.send(Event::Closed);
        self.0 = None;
    }
}
