use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{AUTHORIZATION, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::listen::Connection;
use super::state::{Settings, State};
use super::token::{delay, offer};
use crate::grant::PROOF;
use crate::grant::proof::{Expected, Unproven};

const INVALID_TOKEN: &str = r#"Bearer realm="evertoken", error="invalid_token""#;
/// Without an error code where there was no token (RFC 6750 3.1).
const NO_TOKEN: &str = r#"Bearer realm="evertoken""#;
/// RFC 9449 7.1.
const NO_BOUND_TOKEN: &str = r#"DPoP algs="ES256 EdDSA""#;
const INVALID_BOUND_TOKEN: &str = r#"DPoP error="invalid_token", algs="ES256 EdDSA""#;
const INVALID_PROOF: &str = r#"DPoP error="invalid_dpop_proof", algs="ES256 EdDSA""#;
const USE_NONCE: &str = r#"DPoP error="use_dpop_nonce", algs="ES256 EdDSA""#;

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
            let settings = state.settings();
            let client = authorized(&state, &settings, &method, &uri, &headers);
            let mut response =
                route(&method, &uri, &headers, &body, client.as_deref().map_err(|challenge| *challenge));
            offer(&mut response, settings.api_nonce.as_deref());
            state.log.add(entry, |entry| entry.client_id = client.ok());
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

/// The client whose token came, or the challenge for the lack of one.
fn authorized(
    state: &State,
    settings: &Settings,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<String, &'static str> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        return Err(if settings.dpop_required { NO_BOUND_TOKEN } else { NO_TOKEN });
    };
    let (scheme, token) =
        authorization.to_str().ok().and_then(|line| line.split_once(' ')).ok_or(NO_TOKEN)?;
    if !scheme.eq_ignore_ascii_case("dpop") {
        let known = state.check(token).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
        return match known {
            Some((client, None)) if !settings.dpop_required => Ok(client),
            // Whoever has found a bound token may not use it as if it were not (RFC 9449 7.2).
            Some(_) => Err(INVALID_BOUND_TOKEN),
            None => Err(INVALID_TOKEN),
        };
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let expected = Expected {
        method,
        url: &format!("http://{host}{}", uri.path()),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        nonce: settings.api_nonce.as_deref(),
        token: Some(token),
    };
    let jkt = match state.proofs.verify(headers, &expected) {
        Ok(jkt) => jkt,
        Err(Unproven::Nonce) => return Err(USE_NONCE),
        Err(Unproven::Missing | Unproven::Invalid(_) | Unproven::NoRoom) => return Err(INVALID_PROOF),
    };
    match state.check(token) {
        Some((client, Some(bound))) if bound == jkt => Ok(client),
        Some((_, Some(_))) => Err(INVALID_PROOF),
        Some((_, None)) | None => Err(INVALID_BOUND_TOKEN),
    }
}

fn route(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    client: Result<&str, &'static str>,
) -> Response {
    let Some(path) = uri.path().strip_prefix("/v1/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if path == "public" {
        let came = headers.contains_key(AUTHORIZATION);
        return Json(json!({ "path": uri.path(), "method": method.as_str(), "authorization": came }))
            .into_response();
    }
    let client = match client {
        Ok(client) if path != "always-401" => client,
        Ok(_) => {
            return unauthorized(if headers.contains_key(PROOF) {
                INVALID_BOUND_TOKEN
            } else {
                INVALID_TOKEN
            });
        }
        Err(challenge) => return unauthorized(challenge),
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

fn unauthorized(challenge: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response()
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
