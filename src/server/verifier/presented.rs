use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Uri};

use crate::server::refusal::{Refusal, RefusalKind};

/// The certificate that the client has shown on its connection (mutual TLS), in DER. Whoever ends TLS puts it into the
/// request's extensions, so that tokens which are bound to it can be taken (RFC 8705 3).
#[derive(Debug, Clone)]
pub struct ClientCertificate(Bytes);

impl ClientCertificate {
    /// From DER: what rustls gives as the first of the peer's certificates.
    pub fn from_der(der: impl Into<Bytes>) -> Self {
        Self(der.into())
    }

    /// `x5t#S256` (RFC 8705 3.1).
    pub(super) fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.0))
    }
}

/// How an access token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenScheme {
    Bearer,
    Dpop,
}

/// The one `Authorization` header of a request, as scheme and the rest.
///
/// # Errors
/// [`InvalidRequest`](RefusalKind::InvalidRequest) where there are several, or it is none.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<Option<(&str, &str)>, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let invalid = |reason| Refusal::new(RefusalKind::InvalidRequest, reason);
    let line = match (all.next(), all.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => line,
        (Some(_), Some(_)) => return Err(invalid("there is more than one Authorization header")),
    };
    let malformed = invalid("the Authorization header is malformed");
    let line = line.to_str().map_err(|_| malformed.clone())?;
    let (scheme, rest) = line.split_once(' ').ok_or(malformed.clone())?;
    let rest = rest.trim_start_matches(' ').trim_end_matches([' ', '\t']);
    if rest.is_empty() { Err(malformed) } else { Ok(Some((scheme, rest))) }
}

/// The token after its scheme, if it is made as one (RFC 6750 2.1).
pub(crate) fn token<'a>(scheme: &str, rest: &'a str) -> Result<Option<(TokenScheme, &'a str)>, Refusal> {
    let scheme = if scheme.eq_ignore_ascii_case("bearer") {
        TokenScheme::Bearer
    } else if scheme.eq_ignore_ascii_case("dpop") {
        TokenScheme::Dpop
    } else {
        return Ok(None);
    };
    let body = rest.trim_end_matches('=');
    let is_token =
        !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    if is_token {
        Ok(Some((scheme, rest)))
    } else {
        Err(Refusal::new(RefusalKind::InvalidRequest, "the Authorization header is malformed"))
    }
}

/// The request's path as its client sent it: a router may have cut off what it was mounted at.
pub(super) fn original(parts: &Parts) -> &Uri {
    parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0)
}
