use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Shared};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::state::{Settings, State};
use crate::grant::proof::ALGORITHMS;

/// Where the [`AuthServer`](super::AuthServer) publishes its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Discovery {
    /// At both well-known places: the default.
    #[default]
    Both,
    /// At `/.well-known/oauth-authorization-server` only (RFC 8414 3).
    OAuthOnly,
    /// At `/.well-known/openid-configuration` only (OpenID Connect Discovery 1.0, 4).
    OpenIdOnly,
    /// A 200 with an HTML page at the first place, the metadata at the second: LemonLDAP::NG does so.
    HtmlThenOpenId,
    /// Nowhere.
    None,
}

/// All that has no route of its own: discovery, and what is not found.
pub(super) async fn answer(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let path = request.uri().path();
    let entry = state.log.arrived(format!("{} {path}", request.method()), request.headers());
    if path.contains("/.well-known/") {
        state.log.count(|counts| counts.discovery_requests += 1);
    }
    let settings = state.settings();
    // RFC 8414 puts the well-known part in front of the issuer's path, OpenID behind it (RFC 8414 5 allows both).
    let oauth = path == format!("/.well-known/oauth-authorization-server{}", state.path);
    let openid = path == format!("{}/.well-known/openid-configuration", state.path)
        || path == format!("/.well-known/openid-configuration{}", state.path);
    let response = match settings.discovery {
        Discovery::Both | Discovery::OAuthOnly if oauth => Json(metadata(&state, settings)).into_response(),
        Discovery::HtmlThenOpenId if oauth => Html("<!DOCTYPE html><title>Sign in</title>").into_response(),
        Discovery::Both | Discovery::OpenIdOnly | Discovery::HtmlThenOpenId if openid => {
            Json(metadata(&state, settings)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

fn metadata(state: &State, settings: Settings) -> Value {
    let issuer = &state.issuer;
    let mut metadata = json!({
        "issuer": settings.announced_issuer.as_ref().unwrap_or(issuer),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "introspection_endpoint": format!("{issuer}/introspect"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "dpop_signing_alg_values_supported": ALGORITHMS,
    });
    if settings.announced_revocation {
        metadata["revocation_endpoint"] = format!("{issuer}/revoke").into();
    }
    if !settings.announced_auth_methods.is_empty() {
        metadata["token_endpoint_auth_methods_supported"] = settings.announced_auth_methods.into();
    }
    metadata
}
