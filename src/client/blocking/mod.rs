//! The same client for programs without an async runtime (feature `blocking`).
//!
//! ```no_run
//! # fn run(app_id: &str, app_secret: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let api = evertoken::blocking::Client::builder(app_id, app_secret)
//!     .issuer("https://acme.eu.auth0.com/")
//!     .audience("https://api.acme.com")
//!     .base_url("https://api.acme.com/v1/")
//!     .build()?;
//! let orders: Vec<String> = api.get("orders").send()?.json()?;
//! # Ok(()) }
//! ```
//!
//! One background thread serves all blocking clients of the process; it ends when the last of them and of their
//! responses is dropped. They can be made, used and dropped anywhere, within an async runtime too, where they block the
//! calling thread as long as they take.

mod events;
mod request;
mod response;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Request;

pub use self::events::Events;
pub use self::request::RequestBuilder;
pub use self::response::Response;
use self::worker::Worker;
use crate::credentials::{ApiKey, CredentialSource};
use crate::error::{Error, Result};
use crate::renewal::{AccessToken, Status};
use crate::secret::SecretString;
use crate::source::{Builder, TokenSource};

/// An HTTP client whose requests carry a valid access token; see [`crate::Client`], whose every method it has in
/// blocking form.
#[derive(Clone)]
pub struct Client {
    inner: super::Client,
    // After the client, so that the thread outlives what runs on it.
    worker: Arc<Worker>,
}

/// Sets up a [`Client`]; [`Client::builder`] begins one.
pub type ClientBuilder = Builder<Client>;

impl Builder<Client> {
    /// The transport of API calls; see the async builder's `http_client`. By default all blocking clients share one.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.config.http_client = Some(client);
        self
    }

    /// How long a whole call may take, from the wait for a token to the last byte of the body. There is no such limit
    /// by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) where the settings are wrong or do not go together, or the
    /// background thread cannot be started.
    pub fn build(mut self) -> Result<Client> {
        let worker = Worker::shared()?;
        self.config.runtime = Some(worker.runtime().clone());
        let inner = super::Client::assemble(self, |redirects| worker.transport(redirects))?;
        Ok(Client { inner, worker })
    }
}

impl Builder<super::Client> {
    /// The same settings for a blocking client (feature `blocking`): for whoever hands out async builders, such as a
    /// [`Preset`](crate::Preset).
    ///
    /// ```no_run
    /// # fn run(acme: evertoken::Preset, key: &str) -> evertoken::Result<()> {
    /// let api: evertoken::blocking::Client = acme.from_key(key).blocking().build()?;
    /// # Ok(()) }
    /// ```
    pub fn blocking(self) -> ClientBuilder {
        self.retarget()
    }
}

impl Client {
    /// Begins a client for these credentials: OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1).
    pub fn builder(app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> ClientBuilder {
        Builder::new(app_id.into(), app_secret.into())
    }

    /// Begins a client for an API key, given as text or as [`ApiKey`]. A typo in it is told by `build`.
    pub fn builder_from<K: TryInto<ApiKey, Error: Into<Error>>>(key: K) -> ClientBuilder {
        Builder::new_from(key)
    }

    /// Begins a client for a source of credentials: given ones, the environment, a file, or code of your own, and in each
    /// of them the next secret of a rotation.
    pub fn builder_with(source: impl Into<CredentialSource>) -> ClientBuilder {
        Builder::new_with(source.into())
    }

    /// Begins a `GET` of `path`; see [`crate::Client::request`].
    pub fn get(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Begins a `POST` to `path`; see [`crate::Client::request`].
    pub fn post(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Begins a `PUT` to `path`; see [`crate::Client::request`].
    pub fn put(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Begins a `PATCH` of `path`; see [`crate::Client::request`].
    pub fn patch(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// Begins a `DELETE` of `path`; see [`crate::Client::request`].
    pub fn delete(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Begins a `HEAD` of `path`; see [`crate::Client::request`].
    pub fn head(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, path)
    }

    /// Begins a request; see [`crate::Client::request`].
    pub fn request(&self, method: Method, path: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.inner.request(method, path), self.worker.clone())
    }

    /// Sends a request that was made elsewhere, as [`RequestBuilder::send`] would.
    ///
    /// # Errors
    ///
    /// Those of [`crate::RequestBuilder::send`].
    pub fn execute(&self, request: Request) -> Result<Response> {
        let client = self.inner.clone();
        let response = self.worker.run(async move { client.execute(request).await })??;
        Ok(Response::new(response, self.worker.clone()))
    }

    /// The source of this client's tokens, for async code; it does not keep the background thread alive.
    pub fn token_source(&self) -> &TokenSource {
        self.inner.token_source()
    }

    /// A valid token; see [`TokenSource::token`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::token`].
    pub fn token(&self) -> Result<AccessToken> {
        if let Some(token) = self.inner.current_token() {
            return Ok(token);
        }
        let source = self.inner.token_source().clone();
        self.worker.run(async move { source.token().await })?
    }

    /// The held token, if there is a valid one; asks no server.
    pub fn current_token(&self) -> Option<AccessToken> {
        self.inner.current_token()
    }

    /// The value of an `Authorization` header; see [`TokenSource::authorization`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::authorization`].
    pub fn authorization(&self) -> Result<HeaderValue> {
        let source = self.inner.token_source().clone();
        self.worker.run(async move { source.authorization().await })?
    }

    /// All headers that authorize a request of `method` to `url` sent by other means.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Client::headers`].
    pub fn headers(&self, method: &Method, url: &Url) -> Result<HeaderMap> {
        let (client, method, url) = (self.inner.clone(), method.clone(), url.clone());
        self.worker.run(async move { client.headers(&method, &url).await })?
    }

    /// Says that an API refused `token`; see [`TokenSource::invalidate`]. Calls of this client do it by themselves.
    pub fn invalidate(&self, token: &AccessToken) {
        self.inner.invalidate(token);
    }

    /// Fetches the token now and waits until it is there; see [`TokenSource::prefetch`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::prefetch`].
    pub fn prefetch(&self) -> Result<()> {
        let source = self.inner.token_source().clone();
        self.worker.run(async move { source.prefetch().await })?
    }

    /// How the token is doing; see [`TokenSource::status`].
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// What happens to the token from now on, as an iterator that waits; see [`TokenSource::events`].
    pub fn events(&self) -> Events {
        Events::new(self.inner.events(), self.worker.clone())
    }

    /// A client for the same API with tokens for another audience and other scopes; see [`TokenSource::with`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::with`].
    pub fn with(
        &self,
        audience: impl AsRef<str>,
        scopes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self> {
        Ok(Self { inner: self.inner.with(audience, scopes)?, worker: self.worker.clone() })
    }

    /// Replaces the credentials; see [`TokenSource::set_credentials`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::set_credentials`].
    pub fn set_credentials(
        &self,
        app_id: impl Into<String>,
        app_secret: impl Into<SecretString>,
    ) -> Result<()> {
        self.inner.set_credentials(app_id, app_secret)
    }

    /// Ends the renewal for all clones; calls fail with [`Closed`](crate::ErrorKind::Closed) from then on. With
    /// `revoke_on_shutdown` the tokens are revoked; see [`TokenSource::shutdown`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::shutdown`], and [`Closed`](crate::ErrorKind::Closed) where the background thread is gone.
    pub fn shutdown(&self) -> Result<()> {
        let client = self.inner.clone();
        self.worker.run(async move { client.shutdown().await })?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
