use crate::credentials::{ApiKey, CredentialSource};
use crate::error::{Error, Result};
use crate::secret::SecretString;
use crate::source::{Builder, Defaults};

use super::{Client, ClientBuilder};

/// All that an API's provider knows and its customers need not: one constant, from which their clients are made.
///
/// ```
/// use evertoken::{Client, Preset};
///
/// pub const ACME: Preset = Preset::new()
///     .issuer("https://acme.eu.auth0.com/")
///     .audience("https://api.acme.com")
///     .base_url("https://api.acme.com/v1/")
///     .key_prefix("acme_live")
///     .env_prefix("ACME")
///     .user_agent(concat!("acme-sdk/", env!("CARGO_PKG_VERSION")));
///
/// # fn main() -> evertoken::Result<()> {
/// // What a customer writes:
/// let api: Client = ACME.client("app-7", "s3cr3t")?;
/// # drop(api); Ok(()) }
/// ```
///
/// It holds for all that the customer does not set by hand or, with [`from_env`](Self::from_env), in the environment. An
/// `issuer` or `token_url` of theirs takes the place of both here, their scopes the place of these. Mistakes in it are told
/// when a client is built, as if they were the customer's: build one in a test. The guide [`sdk`](crate::guide::sdk)
/// tells more.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Preset {
    defaults: Defaults,
    key_prefix: Option<&'static str>,
    env_prefix: &'static str,
    configure: Option<fn(ClientBuilder) -> ClientBuilder>,
}

impl Preset {
    /// One that presets nothing.
    pub const fn new() -> Self {
        Self { defaults: Defaults::NONE, key_prefix: None, env_prefix: "EVERTOKEN", configure: None }
    }

    /// As [`Builder::issuer`].
    pub const fn issuer(mut self, issuer: &'static str) -> Self {
        self.defaults.issuer = Some(issuer);
        self
    }

    /// As [`Builder::token_url`].
    pub const fn token_url(mut self, url: &'static str) -> Self {
        self.defaults.token_url = Some(url);
        self
    }

    /// As [`Builder::audience`].
    pub const fn audience(mut self, audience: &'static str) -> Self {
        self.defaults.audience = Some(audience);
        self
    }

    /// As [`Builder::resource`] (RFC 8707), for one resource.
    pub const fn resource(mut self, resource: &'static str) -> Self {
        self.defaults.resource = Some(resource);
        self
    }

    /// As [`Builder::scope`]: all scopes, separated by spaces (RFC 6749 3.3).
    pub const fn scope(mut self, scope: &'static str) -> Self {
        self.defaults.scope = Some(scope);
        self
    }

    /// As [`Builder::base_url`].
    pub const fn base_url(mut self, url: &'static str) -> Self {
        self.defaults.base_url = Some(url);
        self
    }

    /// As [`Builder::user_agent`].
    pub const fn user_agent(mut self, user_agent: &'static str) -> Self {
        self.defaults.user_agent = Some(user_agent);
        self
    }

    /// The prefix with which the [`ApiKey`]s are issued: a key of any other is refused. By default every key is taken.
    pub const fn key_prefix(mut self, prefix: &'static str) -> Self {
        self.key_prefix = Some(prefix);
        self
    }

    /// The word with which environment variables begin, without the underscore: `ACME` for `ACME_APP_ID`. By default it
    /// is `EVERTOKEN`.
    pub const fn env_prefix(mut self, prefix: &'static str) -> Self {
        self.env_prefix = prefix;
        self
    }

    /// For the builder's other options. It comes after the environment and before what the customer sets.
    ///
    /// ```
    /// use evertoken::{ClientAuth, Preset};
    ///
    /// const ACME: Preset = Preset::new()
    ///     .token_url("https://login.acme.com/token")
    ///     .configure(|builder| builder.client_auth(ClientAuth::ClientSecretPost).token_param("tenant", "acme"));
    /// # assert!(ACME.client("id", "secret").is_ok());
    /// ```
    pub const fn configure(mut self, configure: fn(ClientBuilder) -> ClientBuilder) -> Self {
        self.configure = Some(configure);
        self
    }

    /// A client for these credentials, ready to use. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`ClientBuilder::build`](Builder::build).
    pub fn client(&self, app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> Result<Client> {
        self.builder(app_id, app_secret).build()
    }

    /// Begins a client for these credentials, for whoever wants more options.
    pub fn builder(&self, app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> ClientBuilder {
        self.preset(Client::builder(app_id, app_secret))
    }

    /// Begins a client for an API key, given as text or as [`ApiKey`]. A typo in it, or another prefix than
    /// [`key_prefix`](Self::key_prefix), is told by `build`.
    pub fn from_key<K: TryInto<ApiKey, Error: Into<Error>>>(&self, key: K) -> ClientBuilder {
        let key = key.try_into().map_err(Into::into);
        self.preset(Builder::new_from_read(key.and_then(|key| key.of_prefix(self.key_prefix))))
    }

    /// Begins a client for a source of credentials, as [`Client::builder_with`].
    pub fn builder_with(&self, source: impl Into<CredentialSource>) -> ClientBuilder {
        self.preset(Client::builder_with(source))
    }

    /// Begins a client by the environment: `ACME_APP_ID` and `ACME_APP_SECRET`, `ACME_API_KEY`, or the file
    /// `ACME_CREDENTIALS_FILE`, as [`CredentialSource::env_prefix`] has it. `ACME_ISSUER` or
    /// `ACME_TOKEN_URL`, `ACME_AUDIENCE`, `ACME_SCOPE` and `ACME_BASE_URL` take the place of what is preset. What is
    /// missing or is not Unicode is told by `build`.
    pub fn from_env(&self) -> ClientBuilder {
        self.preset(Builder::from_env_of(self.env_prefix, self.key_prefix))
    }

    fn preset(&self, mut builder: ClientBuilder) -> ClientBuilder {
        builder.config.defaults = self.defaults;
        match self.configure {
            Some(configure) => configure(builder),
            None => builder,
        }
    }
}

impl Default for Preset {
    fn default() -> Self {
        Self::new()
    }
}
