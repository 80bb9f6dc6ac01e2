//! Who we are: app id and app secret, where they come from, and the one place where they can change.

mod api_key;
mod app_credentials;
mod base62;
mod cell;
mod file;
mod source;
mod text;

use std::fmt;

use crate::error::{Error, Result};
use crate::padding;
use crate::secret::{ExposeSecret, SecretString};

pub use api_key::ApiKey;
#[cfg(feature = "server")]
pub(crate) use api_key::{CHECKSUM, LONGEST_PART};
pub use app_credentials::AppCredentials;
pub(crate) use cell::{Change, CredentialCell, Good, Known};
pub use source::CredentialSource;

/// An app id and its secret: OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1).
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) app_id: String,
    pub(crate) app_secret: SecretString,
    /// Another for each pair, so that an outcome can be told to belong to what has been replaced.
    pub(crate) generation: u64,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("app_id", &self.app_id).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Describes what looks wrong with id and secret, without showing the secret, or returns `None`.
    pub(crate) fn oddity(&self) -> Option<String> {
        let named = [("app id", self.app_id.as_str()), ("app secret", self.app_secret.expose_secret())];
        let found: Vec<_> = named
            .into_iter()
            .filter_map(|(name, text)| Some(format!("the {name} {}", padding::oddity(text)?)))
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    }
}

fn checked_app_id(app_id: &str) -> Result<()> {
    if app_id.is_empty() { Err(Error::configuration("the app id is empty")) } else { Ok(()) }
}
