//! What the authorization server knows of a token (RFC 7662).

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

use super::discovery::Metadata;
use super::quote::Quoter;
use super::response::Asked;
use super::{TokenEndpoint, refusal};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;

impl TokenEndpoint {
    /// Asks about `token`, at `endpoint` or where the issuer's metadata say; the client authenticates as for tokens.
    /// `None` for a token that is not active, of which nothing more is said (RFC 7662 2.2).
    pub(crate) async fn introspect(
        &self,
        clock: &Clock,
        credentials: &Credentials,
        token: &str,
        endpoint: Option<&Url>,
    ) -> Result<Option<Map<String, Value>>> {
        let find = |metadata: Option<&Metadata>| {
            endpoint
                .cloned()
                .or_else(|| metadata.and_then(|metadata| metadata.introspection_endpoint.clone()))
                .ok_or_else(|| {
                    Error::configuration(
                        "the authorization server announces no usable introspection endpoint",
                    )
                    .advice("set `introspection_url`, or take JWT access tokens only")
                })
        };
        self.ask_about(clock, credentials, token, find, |answer, asked| judged(answer, asked, token)).await
    }
}

fn judged(
    answer: &http::Response<Bytes>,
    asked: &Asked<'_>,
    token: &str,
) -> Result<Option<Map<String, Value>>> {
    let status = answer.status();
    if status.is_success() {
        // A serde_json error would quote what it met.
        let known: Option<Map<String, Value>> = serde_json::from_slice(answer.body()).ok();
        return match known.map(|known| (known.get("active").and_then(Value::as_bool), known)) {
            Some((Some(active), known)) => Ok(Some(known).filter(|_| active)),
            _ => Err(Error::new(
                ErrorKind::InvalidResponse,
                "the introspection endpoint did not say whether the token is active (RFC 7662 2.2)",
            )
            .with_server(origin::shown(asked.endpoint))
            .with_status(status.as_u16())),
        };
    }
    let document = super::document::Document::parse(answer.body()).ok();
    let quoter = Quoter {
        credentials: asked.credentials,
        token: document.as_ref().and_then(|document| document.text("access_token")),
        assertion: asked.assertion,
        // What else was in the request and must not come back.
        proof: Some(token),
    };
    // Some do not introspect their own JWTs (oidc-provider, better-auth).
    let code = document.as_ref().and_then(|document| document.text("error"));
    if code == Some("unsupported_token_type") {
        return Ok(None);
    }
    let error = refusal::classify(answer, document.as_ref(), asked, &quoter);
    let error = error.prefixed("tokens cannot be introspected");
    Err(error.with_server(origin::shown(asked.endpoint)).with_status(status.as_u16()))
}
