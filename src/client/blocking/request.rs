use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Request};
use serde::Serialize;

use super::Response;
use super::worker::Worker;
use crate::error::Result;

/// A request being put together; see [`crate::RequestBuilder`].
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    inner: crate::RequestBuilder,
    worker: Arc<Worker>,
}

impl RequestBuilder {
    pub(super) fn new(inner: crate::RequestBuilder, worker: Arc<Worker>) -> Self {
        Self { inner, worker }
    }

    fn with(self, change: impl FnOnce(crate::RequestBuilder) -> crate::RequestBuilder) -> Self {
        Self { inner: change(self.inner), worker: self.worker }
    }

    /// Adds a header. An `Authorization` of your own stands; see [`crate::RequestBuilder::header`].
    pub fn header<K, V>(self, key: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.with(|inner| inner.header(key, value))
    }

    /// Sets headers, in the place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|inner| inner.headers(headers))
    }

    /// Appends to the query: `&[("page", "2")]`, or a struct.
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> Self {
        self.with(|inner| inner.query(query))
    }

    /// Sets the body to JSON, and the content type unless it is set.
    pub fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        self.with(|inner| inner.json(json))
    }

    /// Sets the body to an `application/x-www-form-urlencoded` form, and the content type unless it is set.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> Self {
        self.with(|inner| inner.form(form))
    }

    /// Sets the body: text or bytes.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|inner| inner.body(body))
    }

    /// How long the whole call may take, in the place of the client's timeout; see
    /// [`crate::RequestBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|inner| inner.timeout(timeout))
    }

    /// The request as it stands, without a token: [`Client::execute`](super::Client::execute) adds it.
    ///
    /// # Errors
    ///
    /// Those of [`crate::RequestBuilder::build`].
    pub fn build(self) -> Result<Request> {
        self.inner.build()
    }

    /// Sends the request and waits for the answer's head; see [`crate::RequestBuilder::send`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::RequestBuilder::send`], and [`Configuration`](crate::ErrorKind::Configuration) where it is
    /// called on the background thread itself.
    pub fn send(self) -> Result<Response> {
        let Self { inner, worker } = self;
        let response = worker.run(inner.send())??;
        Ok(Response::new(response, worker))
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
