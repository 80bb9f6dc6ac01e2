use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::{Body, Request};
use serde::Serialize;

use super::call::Call;
use super::url::resolve;
use super::{Client, Response};
use crate::error::{Error, Result};

/// A request being put together. What goes wrong in that comes out of [`send`](Self::send).
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    client: Client,
    request: Result<reqwest::RequestBuilder>,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, path: &str) -> Self {
        let request = resolve(client.0.base.as_ref(), path).map(|url| {
            reqwest::RequestBuilder::from_parts((*client.0.http).clone(), Request::new(method, url))
        });
        Self { client, request }
    }

    fn with(mut self, change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        self.request = self.request.map(change);
        self
    }

    /// Adds a header. An `Authorization` of your own stands: no token is attached then, and a 401 is yours to handle;
    /// but the call still goes to trusted origins only.
    pub fn header<K, V>(self, key: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.with(|request| request.header(key, value))
    }

    /// Sets headers, in the place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|request| request.headers(headers))
    }

    /// Appends to the query: `&[("page", "2")]`, or a struct.
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> Self {
        self.with(|request| request.query(query))
    }

    /// Sets the body to JSON, and the content type unless it is set.
    pub fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        self.with(|request| request.json(json))
    }

    /// Sets the body to an `application/x-www-form-urlencoded` form, and the content type unless it is set.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> Self {
        self.with(|request| request.form(form))
    }

    /// Sets the body: text, bytes or a stream. A stream is sent only once: a 401 that meets it is handed on, and the
    /// next call has the newer token.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|request| request.body(body))
    }

    /// How long the whole call may take, in the place of the client's timeout: the wait for a token, sending, a second
    /// sending after a 401, and reading the body, together.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|request| request.timeout(timeout))
    }

    /// The request as it stands, without a token: [`Client::execute`] adds it.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) where the path, a header, the query or the body was wrong.
    pub fn build(self) -> Result<Request> {
        built(self.request)
    }

    /// Sends the request with a valid token, and once more with a newer one if the API answers 401 (RFC 6750 3). Any
    /// other answer is handed on as it is; a 401 too, where no newer token is to be had.
    ///
    /// If a kept-alive connection is closed before an answer begins, because the server closed it at the same moment, a request
    /// with an idempotent method and a body that is not a stream is sent once more (RFC 9110 9.2.2).
    ///
    /// # Errors
    ///
    /// - [`Configuration`](crate::ErrorKind::Configuration) where the request was put together wrongly,
    ///   [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) where it would go to an origin that is neither that of
    ///   `base_url` nor allowed by name: nothing was sent;
    /// - those of [`TokenSource::token`](crate::TokenSource::token) where there is no token: nothing was sent;
    /// - [`Api`](crate::ErrorKind::Api) if the API could not be reached, broke off, or took too long. It is
    ///   [retryable](Error::is_retryable) if the method is idempotent or the request was certainly not sent.
    pub fn send(self) -> impl Future<Output = Result<Response>> + Send {
        Call::new(self.client, built(self.request))
    }
}

fn built(request: Result<reqwest::RequestBuilder>) -> Result<Request> {
    request?.build().map_err(|error| {
        Error::configuration("the request cannot be built; nothing was sent").with_source(error.without_url())
    })
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RequestBuilder");
        if let Err(error) = &self.request {
            out.field("error", error);
        }
        out.finish_non_exhaustive()
    }
}
