use std::io::{self, Read};
use std::sync::Arc;
use std::{fmt, mem};

use ::url::Url;
use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::worker::Worker;
use crate::api_error::{Effect, call_failed, not_json, refused};
use crate::error::Result;
use crate::origin::shown;

/// The API's answer: its head at once, its body when it is read, whole or through [`Read`].
pub struct Response {
    status: StatusCode,
    url: Url,
    headers: HeaderMap,
    chunk: Bytes,
    /// `None` once the body has come to its end or failed.
    body: Option<reqwest::Response>,
    effect: Effect,
    // Last, so that the thread outlives the body.
    worker: Arc<Worker>,
}

impl Response {
    pub(super) fn new(response: crate::Response, worker: Arc<Worker>) -> Self {
        let effect = response.effect();
        let mut response = response.into_inner();
        Self {
            status: response.status(),
            url: response.url().clone(),
            headers: mem::take(response.headers_mut()),
            chunk: Bytes::new(),
            body: Some(response),
            effect,
            worker,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The URL that answered, after redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Makes a 4xx or 5xx an error.
    ///
    /// # Errors
    ///
    /// [`Api`](crate::ErrorKind::Api) with the status and the answer's `Retry-After`.
    pub fn error_for_status(self) -> Result<Self> {
        if self.status.is_client_error() || self.status.is_server_error() {
            return Err(refused(&self.url, self.status, &self.headers, self.effect));
        }
        Ok(self)
    }

    /// What is left of the body.
    ///
    /// # Errors
    ///
    /// [`Api`](crate::ErrorKind::Api) where it breaks off or takes too long.
    pub fn bytes(mut self) -> Result<Bytes> {
        let Some(body) = self.body.take() else {
            return Ok(self.chunk);
        };
        let rest = self.worker.run(body.bytes())?.map_err(|error| call_failed(error, self.effect))?;
        if self.chunk.is_empty() { Ok(rest) } else { Ok([self.chunk, rest].concat().into()) }
    }

    /// What is left of the body, as UTF-8; what is none is replaced by U+FFFD.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes).
    pub fn text(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// Those of [`bytes`](Self::bytes), and [`Api`](crate::ErrorKind::Api) if it is not JSON, or not that of a `T`; see
    /// [`crate::Response::json`].
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T> {
        let (url, status, effect) = (self.url.clone(), self.status, self.effect);
        let headers = mem::take(&mut self.headers);
        serde_json::from_slice(&self.bytes()?)
            .map_err(|error| not_json(&url, status, &headers, effect, &error))
    }

    fn next_chunk(&mut self) -> Result<()> {
        if let Some(mut body) = self.body.take() {
            let (body, chunk) = self.worker.run(async move {
                let chunk = body.chunk().await;
                (body, chunk)
            })?;
            if let Some(chunk) = chunk.map_err(|error| call_failed(error, self.effect))? {
                self.chunk = chunk;
                self.body = Some(body);
            }
        }
        Ok(())
    }
}

impl Read for Response {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // An empty chunk is not the end.
        while self.chunk.is_empty() && self.body.is_some() {
            self.next_chunk().map_err(io::Error::other)?;
        }
        let length = self.chunk.len().min(into.len());
        self.chunk.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("url", &shown(&self.url))
            .finish_non_exhaustive()
    }
}
