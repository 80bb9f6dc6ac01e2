//! `/auth` on the admin port: answers nginx's `auth_request` and Traefik's `forwardAuth`, which ask whether a request may
//! pass.

use std::net::IpAddr;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{OriginalUri, Request};
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use evertoken::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use evertoken::http::{Method, StatusCode, Uri};
use evertoken::server::{Caller, CallerLayer, PeerAddress};

use super::headers::introduce;
use super::target::{Odd, refusal};

/// For nginx, which passes on neither the body of a refusal nor a status other than 401 and 403: `examples/nginx.conf`
/// puts its answer together from these.
const REFUSAL: HeaderName = HeaderName::from_static("x-refusal");
const REFUSAL_STATUS: HeaderName = HeaderName::from_static("x-refusal-status");

pub fn router(callers: CallerLayer) -> Router {
    let allow = any(allow).layer(callers).layer(map_request(as_the_client_sent_it));
    Router::new().route("/auth", allow.layer(map_response(for_a_proxy)))
}

/// Answers with what the proxy is to put on the request.
async fn allow(caller: Caller, headers: HeaderMap) -> (StatusCode, HeaderMap) {
    let mut answer = HeaderMap::new();
    if !introduce(Some(&caller), &mut answer) {
        println!("refused: no header can name the app id or the scopes of {caller:?}");
        return (StatusCode::FORBIDDEN, HeaderMap::new());
    }
    answer.extend(headers.get(header::AUTHORIZATION).map(|token| (header::AUTHORIZATION, token.clone())));
    (StatusCode::OK, answer)
}

/// A proxy's question has the client's headers, and tells method, URL and address of the client's request in some of its
/// own: Traefik in `X-Forwarded-*`, nginx in what its configuration says. Only proxies reach the admin port.
async fn as_the_client_sent_it(mut request: Request) -> Result<Request, Odd> {
    let said = |name: &str| match request.headers().get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.to_owned())),
        Some(Err(_)) => Err(Odd::Question),
    };
    let [traefik, nginx] = ["forwarded", "original"].map(|who| {
        let [method, uri] = ["method", "uri"].map(|what| said(&format!("x-{who}-{what}")));
        Ok::<_, Odd>((method?, uri?))
    });
    let (traefik, nginx) = (traefik?, nginx?);
    // What one proxy says, a client may say to the other: with both, nobody knows what it asks for.
    let (method, uri) = match (traefik, nginx) {
        (said, (None, None)) | ((None, None), said) => said,
        _ => return Err(Odd::Question),
    };
    // What cannot be read is not judged as something else.
    let method: Option<Method> = method.map(|text| text.parse().map_err(|_| Odd::Question)).transpose()?;
    let uri: Option<Uri> = uri.map(|text| text.parse().map_err(|_| Odd::Question)).transpose()?;
    let peer = match said("x-real-ip")? {
        Some(peer) => Some(peer),
        None => said("x-forwarded-for")?,
    };
    let peer = peer.and_then(|text| text.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
    if let Some(method) = method {
        *request.method_mut() = method;
    }
    if let Some(odd) = refusal(request.method(), uri.as_ref().unwrap_or(request.uri())) {
        return Err(odd);
    }
    let extensions = request.extensions_mut();
    if let Some(uri) = uri {
        extensions.insert(OriginalUri(uri));
    }
    if let Some(peer) = peer {
        extensions.insert(PeerAddress(peer));
    }
    Ok(request)
}

/// nginx takes 2xx, 401 and 403 only, and older ones (before 1.23) the first challenge only: a malformed request is a 401
/// here, and all challenges are one line (RFC 9110 11.6.1).
async fn for_a_proxy(answer: Response) -> Response {
    if answer.status().is_success() {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let body = to_bytes(body, 4096).await.unwrap_or_default();
    let challenges: Vec<&str> = parts
        .headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let challenges = HeaderValue::try_from(challenges.join(", ")).ok().filter(|line| !line.is_empty());
    if let Some(challenges) = challenges {
        parts.headers.insert(header::WWW_AUTHENTICATE, challenges);
    }
    parts.headers.extend(HeaderValue::from_bytes(&body).ok().map(|body| (REFUSAL, body)));
    parts.headers.insert(REFUSAL_STATUS, parts.status.as_u16().into());
    if parts.status == StatusCode::BAD_REQUEST {
        parts.status = StatusCode::UNAUTHORIZED;
    }
    (parts, body).into_response()
}
