//! What `shutdown` leaves at the authorization server: with `revoke_on_shutdown`, nothing.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::Builder;
use super::family::Family;
use crate::error::{Error, Result};
use crate::origin::parse_secure;
use crate::renewal::{AccessToken, Refresher};

/// How many tokens are revoked at once: a family may hold 64.
const AT_ONCE: usize = 8;

impl<T> Builder<T> {
    /// With `true`, `shutdown` revokes the tokens that are held (RFC 7009), so that a copy that leaked is of no use any
    /// more; [`check`](Self::check) does the same with its own. `false` by default: a token then lives on until it expires.
    ///
    /// The endpoint is the `revocation_endpoint` of the issuer's metadata (or their alias for mutual TLS), or that of
    /// [`revocation_url`](Self::revocation_url); the client authenticates there as at the token endpoint. Only
    /// they revoke: dropping the last clone cannot wait for a server. Not revoked is a token that a renewal has
    /// replaced, for calls on their way may carry it; nor one whose request was broken off by `shutdown`.
    pub fn revoke_on_shutdown(mut self, revoke: bool) -> Self {
        self.config.revoke_on_shutdown = revoke;
        self
    }

    /// The revocation endpoint (RFC 7009 2), for servers without discovery, or in the place of what discovery says. It
    /// is used with [`revoke_on_shutdown`](Self::revoke_on_shutdown) only.
    pub fn revocation_url(mut self, url: impl Into<String>) -> Self {
        self.config.revocation_url = Some(url.into());
        self
    }
}

/// Where tokens are revoked: here, else where the metadata say.
pub(super) struct Revocation(pub(super) Option<Url>);

impl Revocation {
    /// What was asked for, where it was and can be done.
    pub(super) fn checked(
        wanted: bool,
        url: Option<&str>,
        has_metadata: bool,
        insecure: bool,
    ) -> Result<Option<Self>> {
        let url = url.map(|url| parse_secure("`revocation_url`", url, insecure)).transpose()?;
        if wanted && url.is_none() && !has_metadata {
            return Err(Error::configuration(
                "`revoke_on_shutdown` with `token_url` needs a `revocation_url`",
            )
            .advice("set it, or `issuer` in the place of `token_url`"));
        }
        Ok(wanted.then_some(Self(url)))
    }
}

impl Family {
    /// All of them, within one `token_timeout`. Ends with the first failure, and how many tokens it concerns.
    pub(super) async fn revoke(
        &self,
        Revocation(endpoint): &Revocation,
        tokens: Vec<(Arc<Refresher>, AccessToken)>,
    ) -> Result<()> {
        let number = tokens.len();
        if number == 0 {
            return Ok(());
        }
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.clone()).ok_or_else(|| {
            Error::configuration("the tokens cannot be revoked outside of a tokio runtime")
                .advice("await `shutdown` within one, or give one with `runtime`")
        })?;
        let (began, patience) = (self.clock.now(), self.token_timeout);
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut revocations = JoinSet::new();
        for (refresher, token) in tokens {
            let (gate, endpoint) = (gate.clone(), endpoint.clone());
            let revocation = async move {
                let _turn = gate.acquire().await;
                refresher.revoke(&token, endpoint.as_ref(), began, patience).await
            };
            revocations.spawn_on(revocation, &runtime);
        }
        let mut failures = Vec::new();
        while let Some(outcome) = revocations.join_next().await {
            let outcome = outcome.unwrap_or_else(|error| {
                Err(Error::configuration("the revocation panicked, or its runtime was shut down")
                    .with_source(error))
            });
            failures.extend(outcome.err());
        }
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            // Nobody holds the tokens any more, so nobody tries again.
            Some(error) => Err(error.retryable(false).with_retry_after(None).prefixed(format!(
                "{failed} of {number} tokens could not be revoked and last until they expire"
            ))),
        }
    }
}
