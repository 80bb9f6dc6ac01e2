use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use crate::secret::SecretString;

/// What a [`KeyAdmin`] gives back.
pub type Managed<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// The part of an authorization server by which clients are made and taken away: [`Auth0Keys`](super::Auth0Keys),
/// [`RegisteredKeys`](super::RegisteredKeys) for dynamic client registration (RFC 7591, RFC 7592), or one of your own.
///
/// What an implementation says of a failure goes into an error, cut to one line: it must hold no secret.
pub trait KeyAdmin: Send + Sync + 'static {
    /// Makes a client that may use the client-credentials grant (RFC 6749 4.4). Where it fails, nothing is left behind.
    fn create<'a>(&'a self, wanted: &'a NewKey) -> Managed<'a, CreatedKey>;

    /// All clients that were made here, and no others.
    fn list(&self) -> Managed<'_, Vec<KeyInfo>>;

    /// Gives a client another secret; the old one is refused from then on. Where a server cannot do that, the client is
    /// replaced by another one, which has another app id.
    fn reset<'a>(&'a self, app_id: &'a str) -> Managed<'a, CreatedKey>;

    /// Has the server grant this client tokens, or none.
    fn set_enabled<'a>(&'a self, app_id: &'a str, enabled: bool) -> Managed<'a, ()>;

    /// Takes a client away.
    fn delete<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()>;
}

/// What a key is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewKey {
    /// For people, such as `Acme's nightly import`.
    pub name: String,
    /// To whom the bill for it goes.
    pub customer: Option<String>,
    /// What it may do (RFC 6749 3.3).
    pub scopes: Vec<String>,
}

impl NewKey {
    /// A key of this name, for nobody in particular and without scopes.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// To whom the bill for it goes.
    pub fn customer(mut self, customer: impl Into<String>) -> Self {
        self.customer = Some(customer.into());
        self
    }

    /// What it may do, separated by spaces. Given again, it adds to it.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scopes.extend(scope.as_ref().split_ascii_whitespace().map(str::to_owned));
        self
    }
}

/// What is known of a key. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// OAuth's `client_id`.
    pub app_id: String,
    /// For people.
    pub name: String,
    /// To whom the bill for it goes.
    pub customer: Option<String>,
    /// When it was issued.
    pub created: Option<SystemTime>,
    /// When it was last used here, as far as [`Usage`](crate::server::Usage) of this process has seen it.
    pub last_used: Option<SystemTime>,
    /// Whether the authorization server grants it tokens.
    pub enabled: bool,
}

impl KeyInfo {
    /// An enabled key of which no more is known.
    pub fn new(app_id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
            name: name.into(),
            customer: None,
            created: None,
            last_used: None,
            enabled: true,
        }
    }
}

/// A client as it was made, with its secret.
pub struct CreatedKey {
    /// Which it is.
    pub info: KeyInfo,
    /// OAuth's `client_secret`.
    pub app_secret: SecretString,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("info", &self.info).finish_non_exhaustive()
    }
}
