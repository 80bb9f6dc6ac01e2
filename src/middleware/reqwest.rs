use std::fmt;

use async_trait::async_trait;
use http::Extensions;
use http::header::AUTHORIZATION;
use reqwest::{Request, Response};
use reqwest_middleware::{Error as ChainError, Middleware, Next};

use super::require_origins;
use crate::error::Result;
use crate::source::{TokenSource, outlives_redirects};

/// A middleware for `reqwest-middleware` that gives each request a valid token, and sends it once more with a newer
/// one if the API answers 401 (RFC 6750 3) and the body is not a stream. Under DPoP each sending has its proof, and a
/// challenge for a nonce (RFC 9449 9) is answered once.
///
/// Put it after a retry middleware, so that each attempt has the token of its time. A request that has an
/// `Authorization` header keeps it. One to an origin that the source does not trust fails with
/// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) before anything is sent. Give the reqwest client below the
/// [`redirect_policy`](crate::redirect_policy), or one that follows no redirects, which DPoP needs: a proof is good for
/// one URL only. Its errors come as
/// `reqwest_middleware::Error::Middleware`, from which `downcast_ref::<evertoken::Error>()` gives [`crate::Error`].
///
/// ```no_run
/// # fn run(source: evertoken::TokenSource) -> Result<(), Box<dyn std::error::Error>> {
/// use evertoken::{TokenMiddleware, redirect_policy, reqwest};
/// let http = reqwest::Client::builder().redirect(redirect_policy()).build()?;
/// let api = reqwest_middleware::ClientBuilder::new(http).with(TokenMiddleware::new(source)?).build();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenMiddleware(TokenSource);

impl TokenMiddleware {
    /// A middleware that takes its tokens from `source`.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) where the source has neither `base_url` nor
    /// `trusted_origin`.
    pub fn new(source: TokenSource) -> Result<Self> {
        require_origins(&source)?;
        Ok(Self(source))
    }
}

#[async_trait]
impl Middleware for TokenMiddleware {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let Self(source) = self;
        let origin = source.origins().check(request.url()).map_err(ChainError::middleware)?;
        if request.headers().contains_key(AUTHORIZATION) {
            return next.run(request, extensions).await;
        }
        let mut pass = source.pass().await.map_err(ChainError::middleware)?.sent_to(origin);
        loop {
            let replay = if pass.may_repeat() { request.try_clone() } else { None };
            let signed = pass.sign(request.method(), request.url()).map_err(ChainError::middleware)?;
            signed.put_into(request.headers_mut());
            let response = next.clone().run(request, extensions).await?;
            let (from, status, headers) = (response.url(), response.status(), response.headers());
            let replay = replay.filter(|replay| outlives_redirects(replay.method(), replay.url(), from));
            let repeats = pass.repeats(from, status, headers, replay.is_some()).await;
            match replay {
                Some(replay) if repeats => request = replay,
                _ => return Ok(response),
            }
        }
    }
}

impl fmt::Debug for TokenMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenMiddleware").finish_non_exhaustive()
    }
}
