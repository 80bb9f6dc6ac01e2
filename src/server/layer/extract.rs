use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::StatusCode;
use http::request::Parts;

use crate::server::caller::Caller;

/// The caller that a [`CallerLayer`](super::CallerLayer) has found, for axum's handlers. Where no such layer stands around
/// the route, or it is [`optional`](super::CallerLayer::optional) and nobody has said who calls, the answer is a 500: take
/// `Option<Caller>` there.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get().cloned().ok_or_else(|| {
            tracing::error!(target: "evertoken", path = parts.uri.path(), "a handler wants a caller, and no CallerLayer has found one");
            StatusCode::INTERNAL_SERVER_ERROR
        })
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}
