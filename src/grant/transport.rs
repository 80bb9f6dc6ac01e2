use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, Response, header};
use reqwest::{ClientBuilder, redirect, retry};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::cause::{self, Cause};
use crate::error::Result;
use crate::network::Network;
use crate::proxies::Proxies;
use crate::user_agent;

/// The longest body that is read, decompressed: 1 MiB. A token response has a few KiB.
const MAX_BODY: usize = 1 << 20;

/// How requests reach the authorization server: the seam below the parsing of what it answers, by which tests
/// replace the network.
///
/// An implementation sends the request once, follows no redirects and repeats nothing. It need not limit the
/// time: the caller drops the future when the attempt has lasted long enough.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// A [`TransportError`] where no whole answer came. An answer with an error status is no error here.
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>>;
}

/// Why no whole answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection: name resolution, refused, TLS.
    Connect,
    /// A time limit of the transport's own ran out.
    Timeout,
    /// The connection was closed or reset before the answer was complete.
    Interrupted,
    /// The body is longer than 1 MiB, after decompression.
    TooLarge,
    /// Anything else.
    Other,
}

/// Why no whole answer came, and what the HTTP stack says about it. It holds no URL.
pub struct TransportError {
    kind: TransportErrorKind,
    proxy: Option<String>,
    cause: Option<Cause>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransportError {
    /// An error of this kind.
    pub fn new(kind: TransportErrorKind) -> Self {
        Self { kind, proxy: None, cause: None, source: None }
    }

    /// The same with its cause, which must hold neither secrets nor tokens.
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The proxy that the request went through.
    pub(crate) fn proxy(&self) -> Option<&str> {
        self.proxy.as_deref()
    }

    /// Why there is no connection, if that is known.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Of what kind it is.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TransportErrorKind::Connect => "could not connect",
            TransportErrorKind::Timeout => "timed out",
            TransportErrorKind::Interrupted => "the connection broke off before the answer was complete",
            TransportErrorKind::TooLarge => "the answer is longer than 1 MiB",
            TransportErrorKind::Other => "the request could not be sent",
        })?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportError").field("kind", &self.kind).field("source", &self.source).finish()
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        let kind = if error.is_connect() {
            TransportErrorKind::Connect
        } else if error.is_timeout() {
            TransportErrorKind::Timeout
        } else if error.is_request() || error.is_body() || error.is_decode() {
            // reqwest calls a body that broke off a "decode" error; it says nothing about the JSON.
            TransportErrorKind::Interrupted
        } else {
            TransportErrorKind::Other
        };
        let cause = match kind {
            TransportErrorKind::Connect => Cause::of(&error),
            // With TLS 1.3 a server refuses a client's certificate behind the handshake.
            TransportErrorKind::Interrupted => Cause::of_alert(&error),
            _ => None,
        };
        Self { cause, ..Self::new(kind).with_source(error.without_url()) }
    }
}

/// The real transport, over reqwest.
///
/// It follows no redirects, since a 307 would send the secret on to another host, and keeps no idle connection,
/// since a pooled one may be found closed just when the token is needed.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    client: reqwest::Client,
    proxies: Arc<Proxies>,
}

/// An answer's extension: the proxy that handed it on, and may have made it up, since there is no TLS to the server.
#[derive(Debug, Clone)]
pub(crate) struct HandedOnBy(pub(crate) String);

impl HttpTransport {
    /// A transport with these settings (proxies, certificates, time to connect).
    pub(crate) fn new(network: &Network) -> Result<Self> {
        let set = |client: ClientBuilder| {
            client
                .user_agent(user_agent::OURS)
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .referer(false)
                .pool_max_idle_per_host(0)
                .http1_only()
                .gzip(true)
        };
        network.build(set).map(|(client, proxies)| Self { client, proxies })
    }

    /// The default one, which the whole process shares for as long as anybody holds it.
    pub(crate) fn shared() -> Result<Arc<dyn Transport>> {
        static SHARED: Mutex<Weak<HttpTransport>> = Mutex::new(Weak::new());
        Ok(Self::shared_in(&SHARED)?)
    }

    fn shared_in(slot: &Mutex<Weak<Self>>) -> Result<Arc<Self>> {
        let mut shared = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = shared.upgrade() {
            return Ok(transport);
        }
        let transport = Arc::new(Self::new(&Network::default())?);
        *shared = Arc::downgrade(&transport);
        Ok(transport)
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let mut request = reqwest::Request::try_from(request)?;
        if request.body().and_then(reqwest::Body::as_bytes).is_some_and(<[u8]>::is_empty) {
            *request.body_mut() = None;
        }
        let mut answer = self.client.execute(request).await?;
        let mut body = Zeroizing::new(Vec::new());
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) if is_end(&error, answer.headers()) && is_whole(&body) => break,
                Err(error) => return Err(error.into()),
            };
            if body.len() + chunk.len() > MAX_BODY {
                return Err(TransportError::new(TransportErrorKind::TooLarge));
            }
            append(&mut body, &chunk);
        }
        let mut response = Response::new(Bytes::from_owner(body));
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Returns whether the server closed a TLS connection without saying so (`close_notify`, RFC 8446 6.1) behind a body whose length
/// nothing tells.
fn is_end(error: &reqwest::Error, headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && cause::is_end_of_stream(error)
}

/// Returns whether a body is a complete JSON object. One that was cut off by somebody in between is not.
fn is_whole(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<&RawValue>(body).is_ok()
}

/// Grows by hand: a `Vec` that reallocates leaves what it held in freed memory, unwiped.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(body.capacity() * 2)));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

impl Transport for HttpTransport {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let server = request.uri().clone();
            let mut outcome = self.exchange(request).await;
            if outcome.is_err() || server.scheme() == Some(&Scheme::HTTP) {
                let proxy = self.proxies.shown_for(&server);
                match (&mut outcome, proxy) {
                    (Ok(answer), Some(proxy)) => drop(answer.extensions_mut().insert(HandedOnBy(proxy))),
                    (Err(error), proxy) => error.proxy = proxy,
                    (Ok(_), None) => {}
                }
            }
            outcome
        })
    }
}

#[cfg(test)]
mod tests;
