use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::listen::Connection;
use super::state::State;
use super::token::{CHALLENGE, Form, Refusal, authenticated, delay};

/// The introspection endpoint (RFC 7662 2): every client may ask about every token.
pub(super) async fn answer(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let entry = state.log.arrived(format!("POST {}", uri.path()), &headers);
    state.log.count(|counts| counts.introspections += 1);
    let (fault, late) = state.introspection_faults.next();
    delay(late).await;
    let response = match fault {
        Some(fault) => fault.play(&connection, CHALLENGE, ()).await,
        None => match about(&state, &headers, &body, entry) {
            Ok(known) => ([(CACHE_CONTROL, "no-store")], Json(known)).into_response(),
            Err(refusal) => refusal.into_response(),
        },
    };
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

/// Of a token that is not active nothing more is said (RFC 7662 2.2).
fn about(state: &State, headers: &HeaderMap, body: &[u8], entry: u64) -> Result<Value, Refusal> {
    let form = Form::parse(headers, body)?;
    authenticated(state, &state.settings(), headers, &form, entry)?;
    let token = form.one("token").ok_or(Refusal::request("token is missing"))?;
    let Some(mut claims) = state.active(token) else { return Ok(json!({ "active": false })) };
    claims["active"] = true.into();
    claims["token_type"] = if claims["cnf"].is_null() { "Bearer" } else { "DPoP" }.into();
    Ok(claims)
}
