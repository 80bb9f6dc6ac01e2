//! The HTTP client over a token source.

#[cfg(feature = "blocking")]
pub mod blocking;
mod builder;
mod call;
mod connecting;
mod preset;
mod request;
mod response;
mod transport;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Request;

pub use self::builder::ClientBuilder;
use self::call::Call;
pub use self::preset::Preset;
pub use self::request::RequestBuilder;
pub use self::response::Response;
pub use self::transport::redirect_policy;
use self::url::BaseUrl;
#[doc(hidden)]
pub use self::url::resolve_url;
use crate::credentials::{ApiKey, CredentialSource};
use crate::error::{Error, Result};
use crate::renewal::{AccessToken, Events, Status};
use crate::secret::SecretString;
use crate::source::{Builder, Prefetch, TokenSource};

/// An HTTP client whose requests carry a valid access token.
///
/// It is made once and cloned freely: clones share the token, the connections and the one task that renews the
/// token. Nothing is asked of any server before the first call, [`token`](Self::token) or
/// [`prefetch`](Self::prefetch).
///
/// ```no_run
/// # #[derive(serde::Deserialize)] struct Order {}
/// # async fn run(app_id: &str, app_secret: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let api = evertoken::Client::builder(app_id, app_secret)
///     .issuer("https://acme.eu.auth0.com/")
///     .audience("https://api.acme.com")
///     .base_url("https://api.acme.com/v1/")
///     .build()?;
/// let orders: Vec<Order> = api.get("orders").send().await?.json().await?;
/// # Ok(()) }
/// ```
///
/// The token goes to the origins of `base_url` and `trusted_origin` only; a call to another one is an error before
/// anything is sent. A request that the API answers with 401 (RFC 6750 3) is sent once more with a newer token,
/// where its body can be sent twice.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    source: TokenSource,
    http: Arc<reqwest::Client>,
    base: Option<BaseUrl>,
    timeout: Option<Duration>,
    /// What the transport does not say by itself.
    user_agent: Option<HeaderValue>,
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

    /// Begins a `GET` of `path`; see [`request`](Self::request).
    pub fn get(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// Begins a `POST` to `path`; see [`request`](Self::request).
    pub fn post(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, path)
    }

    /// Begins a `PUT` to `path`; see [`request`](Self::request).
    pub fn put(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, path)
    }

    /// Begins a `PATCH` of `path`; see [`request`](Self::request).
    pub fn patch(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, path)
    }

    /// Begins a `DELETE` of `path`; see [`request`](Self::request).
    pub fn delete(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, path)
    }

    /// Begins a `HEAD` of `path`; see [`request`](Self::request).
    pub fn head(&self, path: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, path)
    }

    /// Begins a request.
    ///
    /// `path` is appended to the path of `base_url`: below `https://api.acme.com/v1/`, both `orders` and `/orders`
    /// are `/v1/orders`. A query in it is kept. What could lead elsewhere (`//host`, a `..` segment, a backslash, a
    /// control character) is a [`Configuration`](crate::ErrorKind::Configuration) error from
    /// [`send`](RequestBuilder::send). An absolute `http(s)://` URL is called as it stands, if its origin is trusted.
    pub fn request(&self, method: Method, path: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, path.as_ref())
    }

    /// Sends a request that was made elsewhere, as [`RequestBuilder::send`] would.
    ///
    /// # Errors
    ///
    /// Those of [`RequestBuilder::send`].
    pub fn execute(&self, request: Request) -> impl Future<Output = Result<Response>> + Send + use<> {
        Call::new(self.clone(), Ok(request))
    }

    /// The source of this client's tokens.
    pub fn token_source(&self) -> &TokenSource {
        &self.0.source
    }

    /// A valid token: at once where one is held; see [`TokenSource::token`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::token`].
    pub async fn token(&self) -> Result<AccessToken> {
        self.0.source.token().await
    }

    /// The held token, if there is a valid one; asks no server.
    pub fn current_token(&self) -> Option<AccessToken> {
        self.0.source.current_token()
    }

    /// The value of an `Authorization` header; see [`TokenSource::authorization`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::authorization`].
    #[inline]
    pub fn authorization(&self) -> impl Future<Output = Result<HeaderValue>> + Send + '_ {
        self.0.source.authorization()
    }

    /// All headers that authorize a request of `method` to `url` sent by other means.
    ///
    /// # Errors
    ///
    /// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) where the token may not go to `url`, and those of
    /// [`TokenSource::token`].
    pub async fn headers(&self, method: &Method, url: &Url) -> Result<HeaderMap> {
        self.0.source.headers(method, url).await
    }

    /// Says that an API refused `token`; see [`TokenSource::invalidate`]. Calls of this client do it by themselves.
    pub fn invalidate(&self, token: &AccessToken) {
        self.0.source.invalidate(token);
    }

    /// Begins to fetch the token now, and may be awaited until it is there; see [`TokenSource::prefetch`].
    pub fn prefetch(&self) -> Prefetch {
        self.0.source.prefetch()
    }

    /// How the token is doing; see [`TokenSource::status`].
    pub fn status(&self) -> Status {
        self.0.source.status()
    }

    /// What happens to the token from now on; see [`TokenSource::events`].
    pub fn events(&self) -> Events {
        self.0.source.events()
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
        let source = self.0.source.with(audience, scopes)?;
        Ok(Self(Arc::new(Inner { source, ..Inner::clone(&self.0) })))
    }

    /// Replaces the credentials, of this client and of all that share its source; see
    /// [`TokenSource::set_credentials`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::set_credentials`].
    pub fn set_credentials(
        &self,
        app_id: impl Into<String>,
        app_secret: impl Into<SecretString>,
    ) -> Result<()> {
        self.0.source.set_credentials(app_id, app_secret)
    }

    /// Ends the renewal for all clones; calls fail with [`Closed`](crate::ErrorKind::Closed) from then on. With
    /// `revoke_on_shutdown` the tokens are revoked; see [`TokenSource::shutdown`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenSource::shutdown`]: only where a token was to be revoked and was not.
    pub async fn shutdown(&self) -> Result<()> {
        self.0.source.shutdown().await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.0.base.as_ref().map(BaseUrl::to_string))
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}
