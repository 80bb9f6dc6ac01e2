//! Customers' keys over their lives.

mod admin;
mod answer;
mod auth0;
mod registration;
mod revocations;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::credentials::ApiKey;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::one_line;
use crate::server::{Exchange, Usage, Verifier};

pub use admin::{CreatedKey, KeyAdmin, KeyInfo, Managed, NewKey};
pub use auth0::Auth0Keys;
pub use registration::{RegisteredKeys, Registration, RegistrationFile, RegistrationStore};
pub(crate) use revocations::TOLERANCE;
pub use revocations::{Revocation, RevocationChannel, Revocations};

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// Issues, lists, resets, disables and deletes the keys that an API gives to its customers, each of them a client of the
/// authorization server, through that server's own management interface.
///
/// ```no_run
/// # async fn run(exchange: evertoken::server::Exchange) -> evertoken::Result<()> {
/// use evertoken::Client;
/// use evertoken::server::{Auth0Keys, Keys, NewKey};
///
/// let management = Client::builder("management-app", "management-secret")
///     .issuer("https://acme.eu.auth0.com/")
///     .audience("https://acme.eu.auth0.com/api/v2/")
///     .base_url("https://acme.eu.auth0.com/api/v2/")
///     .build()?;
/// let keys = Keys::builder(Auth0Keys::new(management, "https://api.acme.com"), "acme_live")?
///     .exchange(&exchange)
///     .build();
///
/// let issued = keys.issue(NewKey::named("nightly import").customer("Initech").scope("read:orders")).await?;
/// println!("shown once: {}", issued.key.expose());
/// keys.delete(&issued.info.app_id).await?;
/// # Ok(()) }
/// ```
///
/// # What of a key lives on
///
/// After a reset, a delete and a disable this process forgets at once what it holds for that app id: the
/// [`exchange`](KeysBuilder::exchange)'s tokens, what the [`verifier`](KeysBuilder::verifier) remembers, and whatever [`forget`](KeysBuilder::forget) names. Other processes learn of it when
/// their token ends, or by the exchange's `max_age`. A JWT that was handed out stays valid till its `exp`: where that
/// is too late, [`revoke`](Self::revoke).
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    admin: Box<dyn KeyAdmin>,
    prefix: String,
    usage: Option<Usage>,
    revocations: Option<Revocations>,
    forget: Vec<Hook>,
}

/// A key that has just been made.
#[non_exhaustive]
pub struct IssuedKey {
    /// App id and secret in one string. It cannot be had again.
    pub key: ApiKey,
    /// What is known of it.
    pub info: KeyInfo,
}

impl fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedKey").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Has an app id forgotten at the end of whatever changes it, be it that nobody waits for that end any more.
struct Forgetting<'a>(&'a Keys, &'a str);

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        let Self(keys, app_id) = self;
        keys.0.forget.iter().for_each(|forget| forget(app_id));
    }
}

/// [`Keys`] in the making: each of these tells it of a part of this process.
pub struct KeysBuilder(Inner);

impl Keys {
    /// Keys of this prefix, such as `acme_live` (see [`ApiKey`]), made through this management interface.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a prefix that keys cannot have.
    pub fn builder(admin: impl KeyAdmin, prefix: impl Into<String>) -> Result<KeysBuilder> {
        let prefix = prefix.into();
        ApiKey::pattern(&prefix)?;
        Ok(KeysBuilder(Inner {
            admin: Box::new(admin),
            prefix,
            usage: None,
            revocations: None,
            forget: Vec::new(),
        }))
    }

    /// Makes a key. Its string is in the answer, and nowhere else.
    ///
    /// # Errors
    /// What the authorization server's management interface says; then there is no key.
    pub async fn issue(&self, wanted: NewKey) -> Result<IssuedKey> {
        if wanted.name.trim().is_empty() {
            return Err(Error::configuration("a key needs a name"));
        }
        let created =
            self.0.admin.create(&wanted).await.map_err(|error| said("no key was issued", &*error))?;
        tracing::info!(target: "evertoken", app_id = ?created.info.app_id, "key issued");
        self.note_customer(&created.info);
        self.shown(created)
    }

    /// All keys that were issued here, without their secrets.
    ///
    /// # Errors
    /// What the authorization server's management interface says.
    pub async fn list(&self) -> Result<Vec<KeyInfo>> {
        let mut keys =
            self.0.admin.list().await.map_err(|error| said("the keys could not be listed", &*error))?;
        if let Some(usage) = &self.0.usage {
            for key in &mut keys {
                key.last_used = usage.last_used(&key.app_id);
                self.note_customer(key);
            }
        }
        Ok(keys)
    }

    /// Gives a key another secret, or where the server cannot do that, another app id as well. The old one is void.
    ///
    /// # Errors
    /// What the authorization server's management interface says. It may have done it before it failed: this process
    /// forgets the app id in any case.
    pub async fn reset(&self, app_id: &str) -> Result<IssuedKey> {
        let _forgetting = Forgetting(self, app_id);
        let outcome = self.0.admin.reset(app_id).await;
        let created = outcome.map_err(|error| said("the key was not reset", &*error))?;
        tracing::info!(target: "evertoken", ?app_id, now = ?created.info.app_id, "key reset");
        self.note_customer(&created.info);
        self.shown(created)
    }

    /// Takes a key away for good.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub async fn delete(&self, app_id: &str) -> Result<()> {
        let _forgetting = Forgetting(self, app_id);
        let outcome = self.0.admin.delete(app_id).await;
        outcome.map_err(|error| said("the key was not deleted", &*error))?;
        tracing::info!(target: "evertoken", ?app_id, "key deleted");
        Ok(())
    }

    /// Has the authorization server grant this key no more tokens, until it is enabled again.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub async fn disable(&self, app_id: &str) -> Result<()> {
        self.set_enabled(app_id, false).await
    }

    /// Takes a [`disable`](Self::disable) back.
    ///
    /// # Errors
    /// As [`reset`](Self::reset).
    pub async fn enable(&self, app_id: &str) -> Result<()> {
        self.set_enabled(app_id, true).await
    }

    async fn set_enabled(&self, app_id: &str, enabled: bool) -> Result<()> {
        let _forgetting = Forgetting(self, app_id);
        let outcome = self.0.admin.set_enabled(app_id, enabled).await;
        let what = if enabled { "the key was not enabled" } else { "the key was not disabled" };
        outcome.map_err(|error| said(what, &*error))?;
        tracing::info!(target: "evertoken", ?app_id, enabled, "key switched");
        Ok(())
    }

    /// Refuses the tokens of this app that were issued up to now: see [`Revocations`].
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) without [`revocations`](KeysBuilder::revocations); else what
    /// [`Revocations::revoke`] says.
    pub async fn revoke(&self, app_id: &str) -> Result<()> {
        let Some(revocations) = &self.0.revocations else {
            return Err(Error::configuration("tokens cannot be revoked: `revocations` was not set"));
        };
        let _forgetting = Forgetting(self, app_id);
        revocations.revoke(app_id).await
    }

    /// Usage is to name the customer on the bill.
    fn note_customer(&self, key: &KeyInfo) {
        if let (Some(usage), Some(customer)) = (&self.0.usage, &key.customer) {
            usage.note_customer(&key.app_id, customer);
        }
    }

    fn shown(&self, created: CreatedKey) -> Result<IssuedKey> {
        let key = ApiKey::issue(&self.0.prefix, &created.info.app_id, created.app_secret)?;
        Ok(IssuedKey { key, info: created.info })
    }
}

impl KeysBuilder {
    /// An exchange that forgets an app id whose key has changed.
    pub fn exchange(self, exchange: &Exchange) -> Self {
        let exchange = exchange.clone();
        self.forget(move |app_id| exchange.purge(app_id))
    }

    /// A verifier that does the same.
    pub fn verifier(self, verifier: &Verifier) -> Self {
        let verifier = verifier.clone();
        self.forget(move |app_id| verifier.purge(app_id))
    }

    /// Something else that does: called with the app id whose key has changed.
    pub fn forget(mut self, forget: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.0.forget.push(Box::new(forget));
        self
    }

    /// Where [`KeyInfo::last_used`] comes from, and which learns the customer of each key that is issued, reset or listed:
    /// call [`Keys::list`] once at the start, so that it knows those of earlier keys.
    pub fn usage(mut self, usage: &Usage) -> Self {
        self.0.usage = Some(usage.clone());
        self
    }

    /// Where [`Keys::revoke`] puts it.
    pub fn revocations(mut self, revocations: &Revocations) -> Self {
        self.0.revocations = Some(revocations.clone());
        self
    }

    /// The keys.
    pub fn build(self) -> Keys {
        Keys(Arc::new(self.0))
    }
}

/// What a management interface says, as one of our errors.
fn said(what: &str, error: &(dyn StdError + Send + Sync + 'static)) -> Error {
    match error.downcast_ref::<Error>() {
        Some(error) => error.clone().prefixed(what),
        None => Error::new(ErrorKind::Api, format!("{what}: {}", one_line(&error.to_string(), &[], 200))),
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeysBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysBuilder").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}
