use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::doorman::Doorman;
use super::scope::Judged;
use crate::server::caller::Caller;
use crate::server::refusal::{Refusal, RefusalKind};
use crate::server::usage::CallOutcome;

/// The service that [`CallerLayer`](super::CallerLayer) makes.
#[derive(Clone)]
pub struct CallerService<S> {
    pub(super) doorman: Arc<Doorman>,
    pub(super) inner: S,
}

impl<S, B, R> Service<Request<B>> for CallerService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let doorman = self.doorman.clone();
        // The very service that was polled ready goes into the call; its clone may not be ready.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let caller = match doorman.admit(&mut parts).await {
                Ok(caller) => caller,
                Err((app_id, refusal)) => {
                    tracing::debug!(target: "evertoken", app_id, status = refusal.status().as_u16(), why = refusal.reason(), "a request is refused");
                    doorman.count(app_id.as_deref(), outcome(&refusal), refusal.scope());
                    return Ok(doorman.challenges.answer(&refusal));
                }
            };
            parts.extensions.insert(doorman.challenges.clone());
            if let Some(caller) = &caller {
                parts.extensions.insert(caller.clone());
            }
            let mut admitted = Admitted { doorman, caller, status: None, judged: None };
            let outcome = inner.call(Request::from_parts(parts, body)).await;
            admitted.status = Some(match &outcome {
                Ok(response) => response.status(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
            });
            admitted.judged = outcome.as_ref().ok().and_then(|response| response.extensions().get()).cloned();
            outcome
        })
    }
}

/// A call that was let through. It is counted when it ends, also where its caller goes away before, or it fails.
struct Admitted {
    doorman: Arc<Doorman>,
    caller: Option<Caller>,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    judged: Option<Judged>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(usage) = &self.doorman.usage else { return };
        let app_id = self.caller.as_ref().map(Caller::app_id);
        let scope = self.judged.as_ref().map(|judged| &*judged.scope);
        match self.judged.as_ref().and_then(|judged| judged.refused) {
            Some(outcome) => usage.call(app_id, outcome, scope),
            // A handler that panics gives no answer; the server in front of it makes that a failure.
            None if std::thread::panicking() => {
                usage.answered(app_id, Some(StatusCode::INTERNAL_SERVER_ERROR), scope);
            }
            None => usage.answered(app_id, self.status, scope),
        }
    }
}

pub(super) fn outcome(refusal: &Refusal) -> CallOutcome {
    match refusal.kind() {
        RefusalKind::InvalidRequest => CallOutcome::Malformed,
        RefusalKind::InsufficientScope => CallOutcome::Forbidden,
        RefusalKind::Throttled => CallOutcome::Throttled,
        RefusalKind::Unavailable => CallOutcome::Unavailable,
        RefusalKind::NoCredentials
        | RefusalKind::InvalidToken
        | RefusalKind::InvalidProof
        | RefusalKind::InvalidClient => CallOutcome::Unauthorized,
    }
}

impl<S: fmt::Debug> fmt::Debug for CallerService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerService").field("doorman", &self.doorman).field("inner", &self.inner).finish()
    }
}
