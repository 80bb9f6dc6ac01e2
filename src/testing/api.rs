use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::listen::Connection;
use super::state::State;
use super::token::delay;

const INVALID_TOKEN: &str = r#"Bearer realm="evertoken", error="invalid_token""#;
/// Without an error code where there was no token (RFC 6750 3.1).
const NO_TOKEN: &str = r#"Bearer realm="evertoken""#;

/// The protected API: whatever the path under `/v1/`.
pub(super) async fn answer(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let entry = state.log.arrived(format!("{method} {}", uri.path()), &headers);
    state.log.count(|counts| counts.api_calls += 1);
    let (fault, late) = state.api_faults.next();
    let late = state.settings().api_latency + late;
    let response = match fault {
        Some(fault) => {
            delay(late).await;
            fault.play(&connection, INVALID_TOKEN, ()).await
        }
        None => {
            let client = bearer(&headers).and_then(|token| state.check(token));
            let response = route(&method, &uri, &headers, &body, client.as_deref());
            state.log.add(entry, |entry| entry.client_id = client);
            delay(late).await;
            response
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        state.log.count(|counts| counts.api_refused += 1);
    }
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

fn route(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8], client: Option<&str>) -> Response {
    let Some(path) = uri.path().strip_prefix("/v1/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if path == "public" {
        let came = headers.contains_key(AUTHORIZATION);
        return Json(json!({ "path": uri.path(), "method": method.as_str(), "authorization": came }))
            .into_response();
    }
    let Some(client) = client.filter(|_| path != "always-401") else {
        let challenge = if headers.contains_key(AUTHORIZATION) { INVALID_TOKEN } else { NO_TOKEN };
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    };
    match path {
        "forbidden" => (
            StatusCode::FORBIDDEN,
            [(WWW_AUTHENTICATE, r#"Bearer realm="evertoken", error="insufficient_scope""#)],
        )
            .into_response(),
        "redirect" => {
            let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
            let to = query.filter(|(name, _)| name == "to").map(|(_, to)| to.into_owned()).next();
            match to.and_then(|to| HeaderValue::try_from(to).ok()) {
                Some(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
                None => (StatusCode::BAD_REQUEST, "where to? say /v1/redirect?to=URL").into_response(),
            }
        }
        _ => Json(json!({
            "path": uri.path(),
            "query": uri.query(),
            "method": method.as_str(),
            "client_id": client,
            "headers": shown(headers),
            "body": String::from_utf8_lossy(body),
        }))
        .into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// All headers but the token's, several values of one name joined by commas (RFC 9110 5.3).
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let names = headers.keys().filter(|name| **name != AUTHORIZATION);
    names
        .map(|name| {
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (name.as_str().to_owned(), values.join(", ").into())
        })
        .collect()
}
