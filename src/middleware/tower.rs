use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::AUTHORIZATION;
use http::{Request, Response, Uri};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::require_origins;
use crate::error::Result;
use crate::renewal::AccessToken;
use crate::source::{Target, TokenSource};

type BoxError = Box<dyn StdError + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A tower layer that gives each request a valid token, and sends it once more with a newer one if the API answers
/// 401 (RFC 6750 3). Under DPoP each sending has its proof, and a challenge for a nonce (RFC 9449 9) is answered once.
///
/// It wraps HTTP clients: services of `http::Request<B>` whose URI is absolute. A request that has an `Authorization`
/// header keeps it. One to an origin that the source does not trust fails with
/// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) before anything is sent. Put it below a layer that follows
/// redirects, so that it sees each step's origin, and below one that retries.
///
/// To be sent twice, a request is cloned, so its body must be [`Clone`], as `Full<Bytes>` and `String` are. Where it is
/// not, as with streams, use [`without_replay`](Self::without_replay).
///
/// ```no_run
/// # fn run<S>(source: evertoken::TokenSource, http: S) -> Result<(), Box<dyn std::error::Error>> {
/// let api = tower::ServiceBuilder::new().layer(evertoken::TokenLayer::new(source)?).service(http);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenLayer<const REPLAY: bool = true>(TokenSource);

/// The service that [`TokenLayer`] makes.
///
/// Its errors are boxed: those of the service within, and [`Error`](crate::Error) where there is no token or the
/// origin is not trusted.
#[derive(Clone)]
pub struct TokenService<S, const REPLAY: bool = true> {
    source: TokenSource,
    inner: S,
}

impl TokenLayer {
    /// A layer that takes its tokens from `source`.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) where the source has neither `base_url` nor
    /// `trusted_origin`.
    pub fn new(source: TokenSource) -> Result<Self> {
        require_origins(&source)?;
        Ok(Self(source))
    }

    /// The same for bodies that cannot be cloned: a 401 is handed on, and the next request has the newer token.
    pub fn without_replay(self) -> TokenLayer<false> {
        TokenLayer(self.0)
    }
}

impl<S, const REPLAY: bool> Layer<S> for TokenLayer<REPLAY> {
    type Service = TokenService<S, REPLAY>;

    fn layer(&self, inner: S) -> Self::Service {
        TokenService { source: self.0.clone(), inner }
    }
}

impl<S, B, R> Service<Request<B>> for TokenService<S, true>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = TokenFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        TokenFuture::new(self.source.clone(), take_ready(&mut self.inner), request, Some(Request::clone))
    }
}

impl<S, B, R> Service<Request<B>> for TokenService<S, false>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = TokenFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        TokenFuture::new(self.source.clone(), take_ready(&mut self.inner), request, None)
    }
}

/// How a request is copied for a replay.
type Copying<B> = fn(&Request<B>) -> Request<B>;

/// The very service that was polled ready goes into the call; its clone may not be ready.
fn take_ready<S: Clone>(inner: &mut S) -> S {
    let clone = inner.clone();
    mem::replace(inner, clone)
}

pin_project! {
    /// The answer of a [`TokenService`] on its way. Where a fresh token is held and the API takes it, it is no more than
    /// that of the service within.
    pub struct TokenFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        way: Way<S, B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Way<S, B>
    where
        S: Service<Request<B>>,
    {
        /// Sent, and what comes after it; nothing where the caller authorizes it.
        Sent { #[pin] answer: S::Future, then: Option<Sent<S, B>> },
        /// Without a token at hand, or after an answer that leads on.
        Long { outcome: BoxFuture<Result<S::Response, BoxError>> },
    }
}

/// What a call that was sent may need again.
struct Sent<S, B> {
    source: TokenSource,
    token: AccessToken,
    inner: S,
    uri: Uri,
    replay: Option<Request<B>>,
    copy: Option<Copying<B>>,
}

impl<S, B, R> TokenFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    fn new(source: TokenSource, mut inner: S, request: Request<B>, copy: Option<Copying<B>>) -> Self {
        let way = if let Err(error) = source.origins().index_of(request.uri().origin()) {
            Way::Long { outcome: Box::pin(ready(Err(error.into()))) }
        } else if request.headers().contains_key(AUTHORIZATION) {
            Way::Sent { answer: inner.call(request), then: None }
        } else if let Some(token) = source.fresh_token() {
            match Sent::send(source, token, inner, request, copy) {
                Ok((answer, sent)) => Way::Sent { answer, then: Some(sent) },
                Err(error) => Way::Long { outcome: Box::pin(ready(Err(error))) },
            }
        } else {
            let outcome = async move {
                let token = source.token().await?;
                let (answer, sent) = Sent::send(source, token, inner, request, copy)?;
                let response = answer.await.map_err(Into::into)?;
                sent.follow(response).await
            };
            Way::Long { outcome: Box::pin(outcome) }
        };
        Self { way }
    }
}

impl<S, B, R> Sent<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
{
    fn send(
        source: TokenSource,
        token: AccessToken,
        mut inner: S,
        mut request: Request<B>,
        copy: Option<Copying<B>>,
    ) -> Result<(S::Future, Self), BoxError> {
        let replay = copy.map(|copy| copy(&request));
        let signed = source.sign(&token, request.method(), request.uri())?;
        signed.put_into(request.headers_mut());
        let uri = request.uri().clone();
        let answer = inner.call(request);
        Ok((answer, Self { source, token, inner, uri, replay, copy }))
    }

    /// Sends it again for as long as the answers say so.
    async fn follow(self, mut response: Response<R>) -> Result<Response<R>, BoxError> {
        let Self { source, token, mut inner, uri, mut replay, copy } = self;
        let mut pass = source.pass_with(token);
        loop {
            let (status, headers) = (response.status(), response.headers());
            let repeats = pass.repeats_within(&uri, status, headers, replay.is_some(), None).await;
            let Some(mut request) = replay.filter(|_| repeats) else { return Ok(response) };
            // A service that allows so many requests at a time may count one until its answer is dropped.
            drop(response);
            poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
            replay = copy.filter(|_| pass.may_repeat()).map(|copy| copy(&request));
            let signed = pass.sign(request.method(), request.uri())?;
            signed.put_into(request.headers_mut());
            response = inner.call(request).await.map_err(Into::into)?;
        }
    }
}

impl<S, B, R> Future for TokenFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut way = self.project().way;
        loop {
            match way.as_mut().project() {
                Projected::Sent { answer, then } => {
                    let response = ready!(answer.poll(cx)).map_err(Into::into)?;
                    match then.take() {
                        Some(sent) if sent.source.heeds(response.status(), response.headers()) => {
                            way.set(Way::Long { outcome: Box::pin(sent.follow(response)) });
                        }
                        _ => return Poll::Ready(Ok(response)),
                    }
                }
                Projected::Long { outcome } => return outcome.as_mut().poll(cx),
            }
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for TokenFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFuture").finish_non_exhaustive()
    }
}

impl<const REPLAY: bool> fmt::Debug for TokenLayer<REPLAY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, const REPLAY: bool> fmt::Debug for TokenService<S, REPLAY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
