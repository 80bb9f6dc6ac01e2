//! Who we are: app id and app secret, and the one place where they can change.

mod api_key;
mod base62;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::secret::SecretString;

pub use api_key::ApiKey;

/// An app id and its secret: OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1).
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) app_id: String,
    pub(crate) app_secret: SecretString,
    /// Counts the changes, so that an outcome can be told to belong to what has been replaced.
    pub(crate) generation: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

pub(crate) fn checked_app_id(app_id: String) -> Result<String> {
    if app_id.is_empty() { Err(Error::configuration("the app id is empty")) } else { Ok(app_id) }
}

/// The current credentials of a family of sources, and the news of their change.
#[derive(Debug)]
pub(crate) struct CredentialCell {
    current: watch::Sender<Arc<Credentials>>,
    changing: Mutex<()>,
}

/// What a change of credentials came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Secret,
    AppId,
}

impl CredentialCell {
    pub(crate) fn new(app_id: String, app_secret: SecretString) -> Self {
        let first = Credentials { app_id, app_secret, generation: 0 };
        Self { current: watch::Sender::new(Arc::new(first)), changing: Mutex::new(()) }
    }

    pub(crate) fn get(&self) -> Arc<Credentials> {
        self.current.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Credentials>> {
        self.current.subscribe()
    }

    pub(crate) fn set(&self, app_id: String, app_secret: SecretString) -> Change {
        use crate::secret::ExposeSecret;

        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.get();
        let change = if old.app_id != app_id {
            Change::AppId
        } else if old.app_secret.expose_secret() != app_secret.expose_secret() {
            Change::Secret
        } else {
            return Change::None;
        };
        self.current.send_replace(Arc::new(Credentials {
            app_id,
            app_secret,
            generation: old.generation + 1,
        }));
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_apart_and_counted() {
        let cell = CredentialCell::new("id".into(), "one".into());
        assert_eq!(cell.set("id".into(), "one".into()), Change::None);
        assert_eq!(cell.get().generation, 0);
        assert_eq!(cell.set("id".into(), "two".into()), Change::Secret);
        assert_eq!(cell.set("other".into(), "two".into()), Change::AppId);
        assert_eq!(cell.get().generation, 2);
        assert_eq!(format!("{:?}", cell.get()), "Credentials { app_id: \"other\", .. }");
    }
}
