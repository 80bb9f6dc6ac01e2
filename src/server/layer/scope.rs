use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::answer::Challenges;
use super::service::outcome;
use crate::error::{Error, Result};
use crate::server::caller::Caller;
use crate::server::refusal::{Refusal, RefusalKind};
use crate::server::usage::CallOutcome;

/// A tower layer for the routes that want scopes: a caller without them gets a 403 (`insufficient_scope`, RFC 6750 3.1).
///
/// It stands behind a [`CallerLayer`](super::CallerLayer), and refuses all requests, loudly (500), where it does not.
///
/// ```no_run
/// use axum::{Router, routing::{delete, get}};
/// use evertoken::server::{CallerLayer, RequireScope};
///
/// # fn run(callers: CallerLayer) -> evertoken::Result<Router> {
/// let read = get(|| async { "orders" }).layer(RequireScope::new("orders:read")?);
/// let write = delete(|| async { "gone" }).layer(RequireScope::new("orders:read orders:write")?);
/// let app = Router::new().route("/orders", read.merge(write)).layer(callers);
/// # Ok(app) }
/// ```
#[derive(Clone)]
pub struct RequireScope {
    scopes: Arc<str>,
}

/// The service that [`RequireScope`] makes.
#[derive(Clone)]
pub struct ScopeService<S> {
    scopes: Arc<str>,
    inner: S,
}

/// What came of it, for whoever counts.
#[derive(Clone)]
pub(super) struct Judged {
    /// What it was refused as; `None` if it was let through.
    pub(super) refused: Option<CallOutcome>,
    pub(super) scope: Arc<str>,
}

impl RequireScope {
    /// All of these, with spaces between them.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where there is none, or one with a character that none may have
    /// (RFC 6749 3.3).
    pub fn new(scopes: &str) -> Result<Self> {
        let is_scope = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
        let scopes: Vec<&str> = scopes.split_ascii_whitespace().collect();
        if scopes.is_empty() || !scopes.iter().all(|scope| scope.bytes().all(is_scope)) {
            return Err(Error::configuration(
                "there is no scope to require, or it has a character that none may have",
            ));
        }
        Ok(Self { scopes: scopes.join(" ").into() })
    }
}

impl<S> Layer<S> for RequireScope {
    type Service = ScopeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ScopeService { scopes: self.scopes.clone(), inner }
    }
}

impl<S, B, R> Service<Request<B>> for ScopeService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let scope = self.scopes.clone();
        let extensions = request.extensions();
        let Some(challenges) = extensions.get::<Arc<Challenges>>().cloned() else {
            tracing::error!(target: "evertoken", scope = &*scope, "RequireScope stands without a CallerLayer around it");
            return Box::pin(async {
                let mut response = Response::new(R::from(Bytes::new()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                Ok(response)
            });
        };
        let caller = extensions.get::<Caller>();
        if caller.is_some_and(|caller| scope.split(' ').all(|scope| caller.has_scope(scope))) {
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let mut response = answer.await?;
                // One within this one may have refused it.
                if response.extensions().get::<Judged>().is_none() {
                    response.extensions_mut().insert(Judged { refused: None, scope });
                }
                Ok(response)
            });
        }
        let refusal = match caller {
            Some(_) => Refusal::new(RefusalKind::InsufficientScope, "the access token does not allow this"),
            None => Refusal::new(RefusalKind::NoCredentials, "there are no credentials"),
        };
        let refusal = refusal.of_scope(&scope);
        Box::pin(async move {
            let mut response = challenges.answer::<R>(&refusal);
            response.extensions_mut().insert(Judged { refused: Some(outcome(&refusal)), scope });
            Ok(response)
        })
    }
}

impl fmt::Debug for RequireScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequireScope").field(&self.scopes).finish()
    }
}

impl<S: fmt::Debug> fmt::Debug for ScopeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeService").field("scopes", &self.scopes).field("inner", &self.inner).finish()
    }
}
