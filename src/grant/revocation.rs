//! The end of a token before its time (RFC 7009).

use bytes::Bytes;
use http::{Response, StatusCode};
use url::Url;

use super::discovery::Metadata;
use super::document::Document;
use super::quote::Quoter;
use super::response::Asked;
use super::{TokenEndpoint, refusal};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;

impl TokenEndpoint {
    /// One attempt to revoke `token`, at `endpoint` or where the issuer's metadata say. The client authenticates as for
    /// its tokens, and with the very same audience where it does so by an assertion (RFC 7009 2.1).
    pub(crate) async fn revoke(
        &self,
        clock: &Clock,
        credentials: &Credentials,
        token: &str,
        endpoint: Option<&Url>,
    ) -> Result<()> {
        let find = |metadata: Option<&Metadata>| {
            let alias = metadata.and_then(|metadata| metadata.mtls_revocation_endpoint.clone());
            endpoint
                .cloned()
                .or_else(|| alias.filter(|_| self.has_certificate))
                .or_else(|| metadata.and_then(|metadata| metadata.revocation_endpoint.clone()))
                .ok_or_else(|| {
                    Error::configuration("the authorization server announces no usable revocation endpoint")
                        .advice("set `revocation_url`, or do without `revoke_on_shutdown`")
                })
        };
        self.ask_about(clock, credentials, token, find, |answer, asked| judged(answer, asked, token)).await
    }
}

/// Any 2xx says that the token is void, be it since long (RFC 7009 2.2).
fn judged(answer: &Response<Bytes>, asked: &Asked<'_>, token: &str) -> Result<()> {
    let status = answer.status();
    let document = Document::parse(answer.body()).ok();
    let quoter = Quoter {
        credentials: asked.credentials,
        token: Some(token),
        assertion: asked.assertion,
        proof: None,
    };
    if !refusal::is_one(answer, document.as_ref()) {
        return Ok(());
    }
    let error = refusal::classify(answer, document.as_ref(), asked, &quoter);
    let error = match error.kind() {
        // These speak of token requests.
        ErrorKind::RequestRefused | ErrorKind::InvalidResponse => refused(status, &error),
        _ => error,
    };
    Err(error.with_server(origin::shown(asked.endpoint)).with_status(status.as_u16()))
}

fn refused(status: StatusCode, error: &Error) -> Error {
    let code = error.oauth_error();
    let this = match code {
        Some("unsupported_token_type") => Error::new(
            ErrorKind::RequestRefused,
            "the authorization server cannot revoke tokens of this kind",
        )
        .advice("its tokens end by themselves only: do without `revoke_on_shutdown`"),
        Some(_) => Error::new(ErrorKind::RequestRefused, "the authorization server refused the revocation")
            .advice("check the client's settings at the server"),
        None => Error::new(
            error.kind(),
            format!("the revocation endpoint answered {status} without an OAuth error code"),
        )
        .advice("check `revocation_url` or `issuer`, and what stands in front of the server"),
    };
    this.with_oauth(code.map(str::to_owned), error.description().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Credentials;

    fn judge(status: u16, body: &'static str) -> Result<()> {
        judge_for("s3cret", status, body)
    }

    fn judge_for(secret: &str, status: u16, body: &'static str) -> Result<()> {
        let credentials = Credentials { app_id: "app".into(), app_secret: secret.into(), generation: 0 };
        let endpoint = Url::parse("https://as.example/revoke").unwrap();
        let now = Clock::System.now();
        let asked = Asked {
            endpoint: &endpoint,
            scopes: &[],
            credentials: &credentials,
            assertion: None,
            proof: None,
            sent: now,
            answered: now,
        };
        let answer = Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap();
        judged(&answer, &asked, "t0ken")
    }

    #[test]
    fn a_success_needs_no_body_and_a_refusal_speaks_of_revocation() {
        for (status, body) in [(200, ""), (200, "{}"), (200, "<html>ok</html>"), (204, "")] {
            judge(status, body).unwrap();
        }
        use ErrorKind::{
            AuthServerUnavailable, CredentialsRejected, InvalidResponse, RequestRefused, Throttled,
        };
        for (status, body, kind, said) in [
            (
                400,
                r#"{"error":"unsupported_token_type"}"#,
                RequestRefused,
                "cannot revoke tokens of this kind",
            ),
            (400, r#"{"error":"invalid_request"}"#, RequestRefused, "refused the revocation"),
            (401, r#"{"error":"invalid_client"}"#, CredentialsRejected, "refused the credential"),
            (403, "", RequestRefused, "the revocation endpoint answered 403"),
            (404, "", InvalidResponse, "the revocation endpoint answered 404"),
            (307, "", InvalidResponse, "the revocation endpoint answered 307"),
            (429, "", Throttled, "fewer requests"),
            (503, "", AuthServerUnavailable, "failed"),
            (200, r#"{"error":"invalid_request"}"#, RequestRefused, "refused the revocation"),
        ] {
            let error = judge(status, body).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.status(), Some(status));
            assert!(error.to_string().contains(said) && error.to_string().contains("/revoke]"), "{error}");
        }
    }

    #[test]
    fn no_secret_changes_what_a_refusal_means() {
        for secret in ["token", "unsupported_token_type", "e"] {
            let error = judge_for(secret, 400, r#"{"error":"unsupported_token_type"}"#).unwrap_err();
            assert_eq!(error.oauth_error(), Some("unsupported_token_type"), "{secret}");
            assert!(error.to_string().contains("cannot revoke tokens of this kind"), "{secret}: {error}");
            let error = judge_for(secret, 401, r#"{"error":"invalid_client"}"#).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CredentialsRejected, "{secret}");
        }
    }

    #[test]
    fn an_echo_of_the_token_or_the_secret_is_cut_out() {
        let error =
            judge(400, r#"{"error":"invalid_request","error_description":"t0ken of s3cret"}"#).unwrap_err();
        assert_eq!(error.description(), Some("[redacted] of [redacted]"));
    }
}
