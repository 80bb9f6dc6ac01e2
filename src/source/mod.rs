//! The handle that every call reads.

mod builder;
mod challenge;
mod check;
mod defaults;
mod ending;
mod family;
mod from_env;
mod network;
mod pass;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use crate::clock::Clock;
use crate::credentials::{ApiKey, CredentialSource};
use crate::error::{Error, Result};
use crate::grant::NonceOf;
use crate::origin::TrustedOrigins;
use crate::renewal::{AccessToken, Events, GRACE, Held, Invalidation, Look, Refresher, Refused, Status};
use crate::secret::{Scheme, SecretString};

pub use builder::Builder;
pub(crate) use builder::Config;
pub use check::{Diagnosis, Finding, Level};
pub(crate) use defaults::Defaults;
use family::{Family, Member};
pub use pass::Pass;
#[cfg(feature = "middleware")]
pub(crate) use pass::Target;
pub(crate) use pass::outlives_redirects;

/// A valid access token, always at hand: what every call reads, and nothing of HTTP.
///
/// A clone is two reference counts. Nothing is asked of the authorization server before the first read or
/// [`prefetch`](Self::prefetch); from then on a task on the tokio runtime keeps the token fresh until the last clone
/// is dropped or [`shutdown`](Self::shutdown) is called. Reads with a fresh token take no lock, allocate nothing and
/// never wait.
///
/// ```no_run
/// # async fn run() -> evertoken::Result<()> {
/// let source = evertoken::TokenSource::builder("my-app", "my-secret")
///     .issuer("https://acme.eu.auth0.com/")
///     .audience("https://api.acme.com")
///     .build()?;
/// let header = source.authorization().await?;
/// # drop(header); Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenSource {
    member: Arc<Member>,
    family: Arc<Family>,
}

impl TokenSource {
    /// Starts with the app id and app secret: OAuth's `client_id` and `client_secret` (RFC 6749 2.3.1).
    pub fn builder(app_id: impl Into<String>, app_secret: impl Into<SecretString>) -> Builder<TokenSource> {
        Builder::new(app_id.into(), app_secret.into())
    }

    /// Starts with an API key, given as text or as [`ApiKey`]. A typo in it is told by `build`.
    pub fn builder_from<K: TryInto<ApiKey, Error: Into<Error>>>(key: K) -> Builder<TokenSource> {
        Builder::new_from(key)
    }

    /// Starts with a source of credentials: given ones, the environment, a file, or code of your own, and in each of them
    /// the next secret of a rotation.
    pub fn builder_with(source: impl Into<CredentialSource>) -> Builder<TokenSource> {
        Builder::new_with(source.into())
    }

    #[inline]
    fn refresher(&self) -> &Arc<Refresher> {
        self.member.refresher()
    }

    /// The access token: at once where a fresh one is held, else as soon as the refresher has one.
    ///
    /// A caller who waits, waits for at most the `token_timeout` (10 s by default). Dropping the future cancels
    /// nothing but this caller's wait.
    ///
    /// # Errors
    /// With the last failure where the time is up or no attempt is due before, at once where the credential or the
    /// request is known to be refused, [`Closed`](crate::ErrorKind::Closed) after shutdown, and
    /// [`Configuration`](crate::ErrorKind::Configuration) outside of a tokio runtime where none was given.
    pub async fn token(&self) -> Result<AccessToken> {
        self.token_within(None).await
    }

    /// The `Authorization` header for a call, prebuilt and marked sensitive (RFC 6750 2.1).
    ///
    /// # Errors
    /// As [`token`](Self::token); and [`Configuration`](crate::ErrorKind::Configuration) under DPoP, where a header that
    /// serves for all calls is not enough: use [`headers`](Self::headers).
    #[inline]
    pub fn authorization(&self) -> impl Future<Output = Result<HeaderValue>> + Send + '_ {
        Authorization { source: self, wait: None }
    }

    /// All headers that authorize one call of `method` to `url`: `Authorization`, and under DPoP a proof (RFC 9449 7.1)
    /// that is good for this one sending. The call must follow no redirects then, and its answer goes to
    /// [`note_nonce`](Self::note_nonce).
    ///
    /// # Errors
    /// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) where the token may not go there, else as
    /// [`token`](Self::token).
    pub async fn headers(&self, method: &Method, url: &Url) -> Result<HeaderMap> {
        self.origins().check(url)?;
        let mut headers = HeaderMap::new();
        self.sign(&self.token().await?, method, url)?.put_into(&mut headers);
        Ok(headers)
    }

    /// Whether the token may go to `url`, for adapters that look at that before anything else.
    ///
    /// # Errors
    /// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) where it may not.
    pub fn check_origin(&self, url: &Url) -> Result<()> {
        self.origins().check(url).map(drop)
    }

    /// Keeps the `DPoP-Nonce` (RFC 9449 9) of the API's answer to a call with [`headers`](Self::headers), for the next
    /// one. True where there was one: after a 401 with `error="use_dpop_nonce"` the call is worth another sending, once.
    /// It does nothing without DPoP, and for origins that are not trusted.
    pub fn note_nonce(&self, url: &Url, answer: &HeaderMap) -> bool {
        let origin = self.origins().index_of(pass::Target::origin(url)).ok();
        let dpop = self.family.dpop.as_ref().zip(origin);
        dpop.is_some_and(|(key, origin)| key.note(NonceOf::Api(origin), answer))
    }

    /// The held token without waiting; `None` where there is no valid one. It wakes the refresher where needed.
    #[inline]
    pub fn current_token(&self) -> Option<AccessToken> {
        self.fresh_token().or_else(|| self.token_by_second_look())
    }

    #[cold]
    fn token_by_second_look(&self) -> Option<AccessToken> {
        match self.second_look() {
            Look::Token(token) | Look::Overdue(token, _) => Some(token),
            Look::Withheld(_) => None,
            Look::Nothing => {
                // Without a runtime at hand nothing can be started; the answer is the same.
                let _ = self.refresher().ensure_running();
                None
            }
        }
    }

    /// What a read gives that finds nothing to do.
    #[inline]
    pub(crate) fn fresh_token(&self) -> Option<AccessToken> {
        let held = self.refresher().slot.load();
        held.as_deref().filter(|held| held.is_fresh(self.clock())).map(|held| held.token.clone())
    }

    /// Whether a read would give just this token, without waiting. It looks at nothing that a lock guards, so that a child of
    /// a fork may ask its parent's source. For bindings only.
    #[doc(hidden)]
    #[inline]
    pub fn serves(&self, token: &AccessToken) -> bool {
        let held = self.refresher().slot.load();
        held.as_deref().is_some_and(|held| held.is_fresh(self.clock()) && held.token == *token)
    }

    fn second_look(&self) -> Look {
        let look = self.refresher().look();
        if let Look::Overdue(_, true) = look {
            let _ = self.refresher().ensure_running();
        }
        look
    }

    /// Waits for the source's own `token_timeout`, or for less.
    pub(crate) async fn token_within(&self, wait: Option<Duration>) -> Result<AccessToken> {
        match self.fresh_token() {
            Some(token) => Ok(token),
            // Boxed, so that the future of a call that need not wait stays small.
            None => Box::pin(self.wait(self.patience(wait))).await,
        }
    }

    fn patience(&self, wait: Option<Duration>) -> Duration {
        wait.map_or(self.family.token_timeout, |wait| wait.min(self.family.token_timeout))
    }

    async fn wait(&self, patience: Duration) -> Result<AccessToken> {
        let started = self.clock().now();
        let waited = || self.clock().now().monotonic.saturating_sub(started.monotonic);
        let outcome = self.wait_until(patience, &waited, |look| match look {
            Look::Token(token) | Look::Overdue(token, _) => Some(Some(token)),
            Look::Withheld(_) | Look::Nothing => None,
        });
        let outcome = outcome.await;
        let length = waited();
        if !length.is_zero() {
            self.refresher().waited(length, outcome.is_ok());
        }
        match outcome {
            Ok(Some(token)) => Ok(token),
            Ok(None) => Err(self.refresher().timed_out(length)),
            // A token that is only withheld is still valid: better than none at all.
            Err(error) => match self.refresher().look() {
                Look::Token(token) | Look::Overdue(token, _) | Look::Withheld(token) => Ok(token),
                Look::Nothing => Err(error),
            },
        }
    }

    /// Looks at the slot after each of the refresher's outcomes until `done` says what the wait came to.
    async fn wait_until<T>(
        &self,
        patience: Duration,
        waited: &(dyn Fn() -> Duration + Send + Sync),
        done: impl Fn(Look) -> Option<T>,
    ) -> Result<T> {
        let refresher = self.refresher();
        let mut progress = refresher.progress();
        let mut seen = None;
        let mut strikes = 0;
        loop {
            progress.borrow_and_update();
            if let Some(outcome) = done(self.second_look()) {
                return Ok(outcome);
            }
            // Also for those who do not wait, or need not: without a task nothing would ever change for them.
            let revived = refresher.revive();
            let left = patience.saturating_sub(waited());
            if left.is_zero() {
                return Err(refresher.timed_out(waited()));
            }
            if let Some(error) = refresher.hopeless(left) {
                return Err(error);
            }
            revived?;
            // Woken and given two graces in which this very caller ran, it showed no sign of life.
            let pulse = refresher.pulse();
            strikes = if seen == Some(pulse) { strikes + 1 } else { 0 };
            if strikes >= 2 {
                refresher.take_over(pulse)?;
                seen = None;
                strikes = 0;
            } else {
                refresher.ensure_running()?;
                seen = Some(pulse);
            }
            let pause = self.family.sleep(left.min(GRACE))?;
            tokio::select! {
                biased;
                _ = progress.changed() => seen = None,
                () = pause => {}
            }
        }
    }

    /// Says that the API refused `token` (401). Where it is still the current one, it is renewed, and withheld
    /// while the renewal runs; a cooldown of 10 s, doubling to 5 min while every new token is refused again, bounds
    /// what this costs. Where the source has moved on, nothing happens.
    pub fn invalidate(&self, token: &AccessToken) {
        self.refuse(token, Refused::Token);
    }

    pub(crate) fn refuse(&self, token: &AccessToken, how: Refused) {
        self.refresher().invalidate(token, how);
    }

    pub(crate) fn previous_to(&self, token: &AccessToken) -> Option<AccessToken> {
        self.refresher().previous_to(token)
    }

    /// After a 401: the newer token to replay the call with; `None` where the 401 is to be handed on.
    pub(crate) async fn recover(
        &self,
        refused: &AccessToken,
        how: Refused,
        wait: Option<Duration>,
    ) -> Option<AccessToken> {
        if self.refresher().invalidate(refused, how) == Invalidation::Kept {
            return None;
        }
        let started = self.clock().now();
        let waited = || self.clock().now().monotonic.saturating_sub(started.monotonic);
        let patience = self.patience(wait);
        let newer = self.wait_until(patience, &waited, |look| match look {
            Look::Token(token) | Look::Overdue(token, _) if token != *refused => Some(Some(token)),
            // Handed out again: the renewal failed, or gave the same token.
            Look::Token(_) | Look::Overdue(..) => Some(None),
            Look::Withheld(_) | Look::Nothing => None,
        });
        Box::pin(newer).await.ok().flatten()
    }

    /// Has a token fetched ahead of the first call. It starts at once, also where the answer is not awaited; who
    /// awaits it knows that the service is ready.
    ///
    /// ```no_run
    /// # async fn run(source: evertoken::TokenSource) -> evertoken::Result<()> {
    /// source.prefetch();        // in passing
    /// source.prefetch().await?; // or to be sure
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When awaited, as [`token`](Self::token).
    pub fn prefetch(&self) -> Prefetch {
        let started = self.refresher().ensure_running();
        Prefetch { source: self.clone(), started }
    }

    /// A source of tokens for another audience and other scopes, for the same credential and with the same
    /// settings. The same arguments give the same source, so it can be asked for at every call; a family keeps the
    /// 64 most recently used. An empty audience means none.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where a scope has a character that none may have.
    pub fn with(
        &self,
        audience: impl AsRef<str>,
        scopes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<TokenSource> {
        let mut request = self.refresher().grant_request().clone();
        request.audience = Some(audience.as_ref().to_owned()).filter(|audience| !audience.is_empty());
        request.scopes = scopes.into_iter().map(|scope| scope.as_ref().to_owned()).collect();
        let request = request.checked()?;
        Ok(Self { member: self.family.member(request), family: self.family.clone() })
    }

    /// Replaces the credential for the whole family. A held token serves on where only the secret changes, and is
    /// dropped where the app id does. A refused credential's successor is tried at once.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where the app id, or a secret that is needed, is empty; the
    /// old credential stays. [`Closed`](crate::ErrorKind::Closed) after shutdown.
    pub fn set_credentials(
        &self,
        app_id: impl Into<String>,
        app_secret: impl Into<SecretString>,
    ) -> Result<()> {
        self.family.set_credentials(app_id.into(), app_secret.into())
    }

    /// How it stands: state, expiry, next attempt, last failure.
    pub fn status(&self) -> Status {
        self.refresher().status()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.refresher().events()
    }

    /// Ends the renewal for the whole family and forgets the tokens; every read is a
    /// [`Closed`](crate::ErrorKind::Closed) error from now on. Returns when the tasks have ended; waits no longer
    /// than 1 s for those whose runtime stands still. With [`revoke_on_shutdown`](Builder::revoke_on_shutdown) it then
    /// revokes the tokens, 8 at once, for which the `token_timeout` (10 s) is the limit in all; dropping the future
    /// gives up what is not done by then. Dropping the last clone ends everything too, but neither waits nor revokes.
    ///
    /// # Errors
    /// Only where a token was to be revoked and was not, with the first reason; everything has ended all the same.
    /// [`Configuration`](crate::ErrorKind::Configuration) where the server announces no revocation endpoint,
    /// [`RequestRefused`](crate::ErrorKind::RequestRefused) where it revokes no such tokens
    /// (`unsupported_token_type`, RFC 7009 2.2.1), else as the token endpoint's.
    pub async fn shutdown(&self) -> Result<()> {
        self.family.shutdown().await
    }

    /// Puts a token into the slot that nobody asked for.
    #[cfg(feature = "testing")]
    pub(crate) fn hold(&self, response: crate::grant::TokenResponse) {
        self.refresher().hold(response);
    }

    /// Read without a lock, as it must be after a fork.
    fn held(&self) -> Option<Arc<Held>> {
        self.refresher().slot.held()
    }

    fn inherit(&self, held: &Held) {
        self.refresher().inherit(held);
    }

    /// How its tokens are shown to APIs.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.family.dpop.is_some() { Scheme::Dpop } else { Scheme::Bearer }
    }

    pub(crate) fn origins(&self) -> &TrustedOrigins {
        &self.family.origins
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.refresher().clock
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A header, read by hand where a token is held: inlined whole, so that its 40 bytes are written where the caller wants
/// them instead of being moved there step by step.
struct Authorization<'a> {
    source: &'a TokenSource,
    wait: Option<Pin<Box<dyn Future<Output = Result<AccessToken>> + Send + 'a>>>,
}

impl Future for Authorization<'_> {
    type Output = Result<HeaderValue>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let source = self.source;
        let plain = self.wait.is_none() && source.family.dpop.is_none();
        let held = source.refresher().slot.load();
        // One place where a header is cloned: from two, it would be moved about in memory until they meet.
        let waited;
        let header = match held.as_deref().filter(|held| plain && held.is_fresh(source.clock())) {
            Some(held) => held.header(),
            None => match self.wait(context) {
                Poll::Ready(Ok(token)) => {
                    waited = token;
                    waited.authorization()
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(header.clone()))
    }
}

impl Authorization<'_> {
    #[cold]
    fn wait(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<AccessToken>> {
        let source = self.source;
        if source.family.dpop.is_some() {
            return Poll::Ready(Err(Error::configuration("under DPoP every call needs a proof of its own")
                .advice("use `headers(method, url)` for it")));
        }
        self.wait.get_or_insert_with(|| Box::pin(source.token())).as_mut().poll(context)
    }
}

/// A token on its way; made by [`TokenSource::prefetch`]. Awaiting it is a choice.
#[derive(Debug)]
pub struct Prefetch {
    source: TokenSource,
    started: Result<()>,
}

impl IntoFuture for Prefetch {
    type Output = Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            self.started?;
            self.source.token().await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_reader_takes_over_and_only_from_a_task_that_does_not_show_itself() {
        let source =
            TokenSource::builder("app", "secret").token_url("http://127.0.0.1:9/token").build().unwrap();
        let refresher = source.refresher();
        let before = refresher.pulse();
        refresher.take_over(before).unwrap();
        let started = refresher.pulse();
        assert_ne!(started, before);
        refresher.take_over(before).unwrap();
        assert_eq!(refresher.pulse(), started, "another reader was faster");

        tokio::task::yield_now().await;
        let alive = refresher.pulse();
        assert_ne!(alive, started);
        refresher.take_over(started).unwrap();
        assert_eq!(refresher.pulse(), alive, "the task was faster");
    }
}
