//! What of a request's headers goes on, and what the upstream is told of the caller.

use axum::http::HeaderMap;
use evertoken::http::header::{self, HeaderName, HeaderValue};
use evertoken::server::Caller;

/// Headers that concern one connection only (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub const APP_ID: HeaderName = HeaderName::from_static("x-app-id");
pub const SCOPES: HeaderName = HeaderName::from_static("x-scopes");
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Removes the headers that concern one connection only, and those that `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // By now this one is ours.
        .filter(|name| *name != header::AUTHORIZATION)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Removes what only a proxy may say, in every spelling.
pub fn remove_claims(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_forged(name.as_str())).cloned().collect();
    for name in &forged {
        headers.remove(name);
    }
}

/// CGI, WSGI and Rack read `X_App_Id` as `X-App-Id`, and `Proxy` as the variable `HTTP_PROXY`. Like nginx, the gateway
/// passes on no name with other characters than letters, digits and hyphens.
fn is_forged(name: &str) -> bool {
    let is_odd = name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-');
    let exact = ["forwarded", "proxy", "x-app-id", "x-real-ip", "x-scopes"];
    let prefixes = ["x-forwarded-", "x-original-", "x-rewrite-"];
    is_odd || exact.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Tells the upstream who calls. Returns `false` if headers cannot say that exactly: a space around an app id, which
/// readers of headers drop, would make it the name of another one.
#[must_use]
pub fn introduce(caller: Option<&Caller>, headers: &mut HeaderMap) -> bool {
    headers.remove(APP_ID);
    headers.remove(SCOPES);
    let Some(caller) = caller else { return true };
    let app_id = caller.app_id();
    let is_printable = app_id.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if app_id.is_empty() || !is_printable || app_id != app_id.trim() {
        return false;
    }
    let scopes: Vec<&str> = caller.scopes().collect();
    if !scopes.iter().all(|scope| scope.bytes().all(|byte| byte.is_ascii_graphic())) {
        return false;
    }
    let [app_id, scopes] = [app_id, &scopes.join(" ")].map(HeaderValue::from_str);
    let (Ok(app_id), Ok(scopes)) = (app_id, scopes) else { return false };
    headers.insert(APP_ID, app_id);
    headers.insert(SCOPES, scopes);
    true
}
