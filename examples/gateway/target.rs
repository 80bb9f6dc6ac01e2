//! Which requests are handed on at all: methods that have no business at an API, and paths that two servers may read
//! differently, are refused before anybody is asked who sends them.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use evertoken::http::header::{ALLOW, CACHE_CONTROL};
use evertoken::http::{Method, StatusCode, Uri};

/// How often a path is decoded before it is plain text.
const MOST_DECODINGS: usize = 4;

/// Passes a request on, or answers why it is refused.
pub async fn only_plain(request: Request) -> Result<Request, Odd> {
    match refusal(request.method(), request.uri()) {
        None => Ok(request),
        Some(refusal) => Err(refusal),
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Odd {
    Method,
    Path,
    /// A proxy's question about a request cannot be read.
    Question,
}

impl IntoResponse for Odd {
    fn into_response(self) -> Response {
        let no_store = (CACHE_CONTROL, "no-store");
        match self {
            Self::Method => {
                let allow = (ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                (StatusCode::METHOD_NOT_ALLOWED, [no_store, allow]).into_response()
            }
            Self::Question => (StatusCode::BAD_REQUEST, [no_store]).into_response(),
            Self::Path => (StatusCode::BAD_REQUEST, [no_store], "the path is ambiguous\n").into_response(),
        }
    }
}

pub fn refusal(method: &Method, uri: &Uri) -> Option<Odd> {
    // `CONNECT` asks for a tunnel; `TRACE` sends credentials back to whoever can read the answer.
    if ["CONNECT", "TRACE", "TRACK"].iter().any(|odd| method.as_str().eq_ignore_ascii_case(odd)) {
        return Some(Odd::Method);
    }
    let path = uri.path_and_query().map_or("/", |target| target.path());
    (!is_plain(path)).then_some(Odd::Path)
}

/// Whether every server takes the path for the same one, below its base. Servers differ in how often they decode a path,
/// whether `\` is a `/`, and whether `;` ends a segment's name (Tomcat).
pub fn is_plain(path: &str) -> bool {
    // A second `/` in front makes a host of what follows when the path is taken for a reference (RFC 3986 4.2).
    if !path.starts_with('/') || path.starts_with("//") {
        return false;
    }
    let mut path = path.as_bytes().to_vec();
    for round in 0..MOST_DECODINGS {
        let is_ambiguous = path.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control());
        if is_ambiguous || path.starts_with(b"//") || path.split(|byte| *byte == b'/').any(is_dots) {
            return false;
        }
        let Some(decoded) = decode(&path, round == 0) else { return false };
        if decoded.len() == path.len() {
            // An overlong `/` or `.` is no UTF-8.
            return std::str::from_utf8(&decoded).is_ok();
        }
        path = decoded;
    }
    // Nobody encodes a path that often in good faith, and to look through it takes long.
    false
}

/// Whether a segment is `.` or `..`, also with parameters, or with the spaces and further dots that Windows drops.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name.contains(&b'.') && name.iter().all(|byte| matches!(byte, b'.' | b' '))
}

/// Decodes what is percent-encoded, once. Returns `None` for a `%` without two digits, unless it may have come from a `%25`.
fn decode(path: &[u8], strict: bool) -> Option<Vec<u8>> {
    let digit = |at: usize| char::from(*path.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            (b'%', ..) if strict => return None,
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    Some(decoded)
}
