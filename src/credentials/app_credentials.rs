use std::fmt;
use std::str::FromStr;

use super::{ApiKey, text};
use crate::error::{Error, Result};
use crate::secret::{ExposeSecret, SecretString};

/// An app id and its app secret (OAuth's `client_id` and `client_secret`, RFC 6749 2.3.1), and where a rotation is under
/// way the secret that comes next: what a [`CredentialSource`](crate::CredentialSource) gives.
///
/// It can be read from text, which is what secret stores hold and what
/// [`CredentialSource::file`](crate::CredentialSource::file) reads. Either JSON, in which other fields are ignored:
///
/// ```
/// use evertoken::AppCredentials;
///
/// # fn main() -> evertoken::Result<()> {
/// let both: AppCredentials =
///     r#"{"app_id": "app-7", "app_secret": "s3cr3t", "next_app_secret": "n3xt"}"#.parse()?;
///
/// // Or lines, as in a dotenv file, with or without `EVERTOKEN_` in front:
/// let same: AppCredentials = "
/// ## comments and other names are ignored
/// APP_ID=app-7
/// export APP_SECRET='s3cr3t'
/// APP_SECRET_NEXT=n3xt
/// ".parse()?;
/// # let _ = (both, same); Ok(()) }
/// ```
///
/// The next secret goes by either name, `app_secret_next` or `next_app_secret`, in both forms. In the place of id and secret
/// there can be an [`ApiKey`]: `api_key`, `API_KEY`. In lines, a value goes to the end of the
/// line; quotes around it are taken off, and nothing in it is an escape or a comment. An empty value counts as none. The
/// text has 64 KiB at most.
///
/// `Debug` does not show the secrets; they are wiped when dropped.
#[derive(Clone)]
pub struct AppCredentials {
    pub(super) app_id: String,
    pub(super) app_secret: SecretString,
    pub(super) next_secret: Option<SecretString>,
}

impl AppCredentials {
    /// With no next secret.
    pub fn new(app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> Self {
        Self { app_id: app_id.into(), app_secret: app_secret.into(), next_secret: None }
    }

    /// The secret to try, at once, where the authorization server refuses the other. The first success promotes it; an
    /// empty one is none.
    pub fn next_secret(mut self, secret: impl Into<SecretString>) -> Self {
        self.next_secret = Some(secret.into()).filter(|secret| !secret.expose_secret().is_empty());
        self
    }
}

/// For telling whether a source gave something new; not in constant time, since both sides are ours.
impl PartialEq for AppCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.app_id == other.app_id
            && self.app_secret.expose_secret() == other.app_secret.expose_secret()
            && self.next_secret.as_ref().map(ExposeSecret::expose_secret)
                == other.next_secret.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl From<ApiKey> for AppCredentials {
    fn from(key: ApiKey) -> Self {
        let (app_id, app_secret) = key.into_parts();
        Self::new(app_id, app_secret)
    }
}

impl FromStr for AppCredentials {
    type Err = Error;

    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where it is neither, or has no app id; without a word of what it
    /// holds.
    fn from_str(text: &str) -> Result<Self> {
        text::parse(text, None)
    }
}

impl fmt::Debug for AppCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppCredentials")
            .field("app_id", &self.app_id)
            .field("has_next_secret", &self.next_secret.is_some())
            .finish_non_exhaustive()
    }
}
