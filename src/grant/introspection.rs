//! What the authorization server knows of a token (RFC 7662).

use bytes::Bytes;
use serde_json::{Map, Value};
use url::Url;

use super::assertion::Recipient;
use super::quote::Quoter;
use super::request::form;
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
        let (token_endpoint, announced) = self.find(clock, credentials).await?;
        let metadata = announced.as_deref();
        let url = endpoint
            .or_else(|| metadata.and_then(|metadata| metadata.introspection_endpoint.as_ref()))
            .ok_or_else(|| {
                Error::configuration("the authorization server announces no usable introspection endpoint")
                    .with_server(self.server())
                    .advice("set `introspection_url`, or take JWT access tokens only")
            })?;
        let auth = self.proven_auth(metadata, credentials)?;
        let to = Recipient { metadata, token_endpoint: &token_endpoint };
        let assertion = auth.assertion(to, credentials, clock).await;
        let assertion = assertion.map_err(|error| error.with_server(self.server()))?;
        let assertion = assertion.as_ref().map(|assertion| assertion.as_str());

        let mut fields = vec![("token", token), ("token_type_hint", "access_token")];
        fields.extend(auth.fields(credentials, assertion));
        let request = Self::http_request(url, &auth, credentials, form(&fields))?;
        let sent = clock.now();
        let answer = self
            .transport
            .send(request)
            .await
            .map_err(|error| refusal::unanswered(error).with_server(origin::shown(url)))?;
        let asked = Asked {
            endpoint: url,
            scopes: &[],
            credentials,
            assertion,
            proof: None,
            sent,
            answered: clock.now(),
        };
        judged(&answer, &asked, token)
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
