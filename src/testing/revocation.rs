use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode, Uri};

use super::listen::Connection;
use super::state::State;
use super::token::{CHALLENGE, Form, Refusal, authenticated, delay};

/// The revocation endpoint (RFC 7009 2).
pub(super) async fn answer(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let entry = state.log.arrived(format!("POST {}", uri.path()), &headers);
    state.log.count(|counts| counts.revocations += 1);
    let (fault, late) = state.revocation_faults.next();
    delay(late).await;
    let response = match fault {
        Some(fault) => fault.play(&connection, CHALLENGE, ()).await,
        None => match revoke(&state, &headers, &body, entry) {
            Ok(()) => (StatusCode::OK, [(CACHE_CONTROL, "no-store")]).into_response(),
            Err(refusal) => refusal.into_response(),
        },
    };
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

/// A token that is unknown, or void already, is no error (RFC 7009 2.2); the hint is not needed to find one.
fn revoke(state: &State, headers: &HeaderMap, body: &[u8], entry: u64) -> Result<(), Refusal> {
    let form = Form::parse(headers, body)?;
    let client_id = authenticated(state, &state.settings(), headers, &form, entry)?;
    let token = form.one("token").ok_or(Refusal::request("token is missing"))?;
    match state.issued.owner(token) {
        Some(owner) if owner != client_id => Err(Refusal(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "the token was issued to another client",
        )),
        _ => {
            state.issued.revoke(token);
            Ok(())
        }
    }
}
