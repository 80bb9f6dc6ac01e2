//! The API's answer, whose errors are this crate's own. How it came about is in `call`.

use std::fmt;

use ::url::Url;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use serde::de::DeserializeOwned;

use crate::api_error::{Effect, call_failed, not_json, refused};
use crate::error::Result;
use crate::origin::shown;

/// The API's answer: its head is there, and its body is read on demand.
///
/// It is reqwest's response with the errors of this crate, which name the status or where the JSON is wrong, know whether
/// the call may be sent again, and hold the answer's `Retry-After`. [`into_inner`](Self::into_inner) gives reqwest's own, for
/// streams and all else.
///
/// ```no_run
/// # async fn run(api: evertoken::Client) -> evertoken::Result<()> {
/// # type Order = String;
/// let orders: Vec<Order> = match api.get("orders").send().await?.error_for_status() {
///     Ok(answer) => answer.json().await?,
///     Err(error) if error.status() == Some(404) => Vec::new(),
///     Err(error) => return Err(error),
/// };
/// # drop(orders); Ok(()) }
/// ```
pub struct Response {
    inner: reqwest::Response,
    effect: Effect,
}

impl Response {
    pub(super) fn new(inner: reqwest::Response, effect: Effect) -> Self {
        Self { inner, effect }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Returns the URL that answered, after redirects.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// Returns the version of HTTP.
    pub fn version(&self) -> Version {
        self.inner.version()
    }

    /// Returns the length of the body if it is known. It is unknown if the body is compressed.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// Makes a 4xx or 5xx an error.
    ///
    /// # Errors
    ///
    /// [`Api`](crate::ErrorKind::Api) with the status and the answer's `Retry-After`.
    pub fn error_for_status(self) -> Result<Self> {
        self.check_status()?;
        Ok(self)
    }

    /// Makes a 4xx or 5xx an error, without consuming the answer.
    ///
    /// # Errors
    ///
    /// Those of [`error_for_status`](Self::error_for_status).
    pub fn error_for_status_ref(&self) -> Result<&Self> {
        self.check_status()?;
        Ok(self)
    }

    fn check_status(&self) -> Result<()> {
        let status = self.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(refused(self.url(), status, self.headers(), self.effect));
        }
        Ok(())
    }

    /// Reads the body.
    ///
    /// # Errors
    ///
    /// [`Api`](crate::ErrorKind::Api) if it breaks off or takes too long.
    pub async fn bytes(self) -> Result<Bytes> {
        let effect = self.effect;
        self.inner.bytes().await.map_err(|error| call_failed(error, effect))
    }

    /// Reads the body as text: UTF-8, whose invalid parts become U+FFFD.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String> {
        let effect = self.effect;
        self.inner.text().await.map_err(|error| call_failed(error, effect))
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes), and [`Api`](crate::ErrorKind::Api) if it is not JSON, or not that of a `T`. The error
    /// tells line and column, and nothing of the content. For a 4xx or 5xx it is that of
    /// [`error_for_status`](Self::error_for_status).
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T> {
        let (url, status) = (self.url().clone(), self.status());
        let (headers, effect) = (std::mem::take(self.inner.headers_mut()), self.effect);
        let body = self.bytes().await?;
        serde_json::from_slice(&body).map_err(|error| not_json(&url, status, &headers, effect, &error))
    }

    /// Reads the next chunk of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.inner.chunk().await.map_err(|error| call_failed(error, self.effect))
    }

    /// Returns reqwest's response.
    pub fn into_inner(self) -> reqwest::Response {
        self.inner
    }

    #[cfg(feature = "blocking")]
    pub(super) fn effect(&self) -> Effect {
        self.effect
    }
}

impl From<Response> for reqwest::Response {
    fn from(response: Response) -> Self {
        response.into_inner()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("url", &shown(self.url()))
            .finish_non_exhaustive()
    }
}
