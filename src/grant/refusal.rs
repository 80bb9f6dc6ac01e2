use bytes::Bytes;
use http::{Response, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::code;
use super::document::Document;
use super::pacing;
use super::quota;
use super::quote::{LONGEST_TEXT, Quoter};
use super::response::Asked;
use super::transport::{HandedOnBy, TransportError, TransportErrorKind};
use crate::error::{Error, ErrorKind};
use crate::origin;

/// What an answer without a token means: whose fault, whether it mends, and when to come again.
///
/// It judges by the status first where that says more than the body (5xx, 429, 3xx), else by the OAuth code. A 2xx comes
/// here only with a code, and counts as a 400.
pub(super) fn classify(
    answer: &Response<Bytes>,
    document: Option<&Document>,
    asked: &Asked<'_>,
    quoter: &Quoter<'_>,
) -> Error {
    let status = answer.status();
    let code = oauth_code(answer, document);
    let wall = asked.answered.wall;
    let wait = if status.is_success() { None } else { pacing::retry_after(answer.headers(), wall) };
    let error = if status.is_server_error() {
        let message = format!("the authorization server failed{}", handed_on(answer));
        Error::new(ErrorKind::AuthServerUnavailable, message).with_retry_after(wait)
    } else if status.is_redirection() {
        redirection(answer, asked, quoter)
    } else if status == StatusCode::TOO_MANY_REQUESTS || code == Some("slow_down") {
        let wait = if status.is_success() { None } else { pacing::throttled(answer.headers(), wall) };
        Error::new(ErrorKind::Throttled, "the authorization server asks for fewer requests")
            .with_retry_after(wait)
            .of_client(quota::is_client_exhausted(answer.headers()))
    } else {
        match code {
            Some("temporarily_unavailable" | "server_error") => {
                unavailable("the authorization server is unavailable").with_retry_after(wait)
            }
            Some("invalid_client") => {
                Error::new(ErrorKind::CredentialsRejected, "the authorization server refused the credential")
                    .advice("check app id and app secret, and how they are sent (`client_auth`)")
            }
            // A 401 speaks of authentication (RFC 6749 5.2), whatever the code beside it: so do Auth0 and Keycloak.
            Some(code)
                if status == StatusCode::UNAUTHORIZED
                    && (code::may_be_about_client(code) || code == "access_denied") =>
            {
                Error::new(ErrorKind::CredentialsRejected, "the authorization server refused the credential")
                    .advice("check app id and app secret, and what the client may do at the server")
            }
            // With a proof it comes here only when that had a nonce, which may have been replaced just then.
            Some(code) => refused(code).retryable(code == "use_dpop_nonce" && asked.proof.is_some()),
            None => uncoded(status, &handed_on(answer)),
        }
    };
    let error = error.wanting_body(wants_body(answer, code));
    let description = document.and_then(|document| description(document, status, code, quoter));
    error.with_oauth(code.map(|code| quoter.code(code)), description)
}

/// What the transport met instead of an answer.
pub(super) fn unanswered(error: TransportError) -> Error {
    let what = match error.kind() {
        TransportErrorKind::Connect => "could not connect to the authorization server",
        TransportErrorKind::Timeout => "the authorization server did not answer in time",
        TransportErrorKind::Interrupted => "the authorization server broke off its answer",
        TransportErrorKind::TooLarge => "the answer of the authorization server is longer than 1 MiB",
        TransportErrorKind::Other => "the request to the authorization server could not be sent",
    };
    let kind = match error.kind() {
        TransportErrorKind::TooLarge => ErrorKind::InvalidResponse,
        _ => ErrorKind::AuthServerUnavailable,
    };
    let cause = error.cause().cloned();
    let unanswered = Error::new(kind, format!("{what}{}", through(error.proxy()))).with_source(error);
    match cause {
        Some(cause) => cause.explain(unanswered),
        None => unanswered,
    }
}

/// Names the proxy in a message, if there is one: it may be the one at fault.
fn through(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"))
}

/// The same for an answer that a proxy handed on.
pub(super) fn handed_on(answer: &Response<Bytes>) -> String {
    through(answer.extensions().get::<HandedOnBy>().map(|HandedOnBy(proxy)| proxy.as_str()))
}

/// Whether an answer is a refusal: any but a 2xx, and a 2xx with an OAuth error code.
pub(super) fn is_one(answer: &Response<Bytes>, document: Option<&Document>) -> bool {
    !answer.status().is_success() || oauth_code(answer, document).is_some()
}

/// The OAuth error code (RFC 6749 5.2) in the body, or `invalid_client` in a challenge, as the server gave it: what is shown
/// of it is for the [`Quoter`] to say, after it has been classified.
fn oauth_code<'a>(answer: &Response<Bytes>, document: Option<&'a Document>) -> Option<&'a str> {
    document
        .and_then(|document| document.text("error"))
        .and_then(|error| code::of(error, answer.status()))
        .or_else(|| challenged_code(answer))
}

/// Whether a server that did not understand the request names the client's id or secret, as one does that looks for them in
/// the form body only. It is looked for in all that was answered, since servers put it into fields of their own.
fn wants_body(answer: &Response<Bytes>, code: Option<&str>) -> bool {
    let is_malformed = matches!(answer.status().as_u16(), 200..=299 | 400 | 401 | 403 | 422)
        && code.is_none_or(|code| code == "invalid_request");
    let body = String::from_utf8_lossy(answer.body()).to_ascii_lowercase();
    let names = [
        "client_id",
        "client_secret",
        "clientid",
        "client id",
        "client credentials",
        "client authentication",
    ];
    is_malformed && names.iter().any(|name| body.contains(name))
}

fn names(error: &str, status: StatusCode) -> bool {
    status.canonical_reason().is_some_and(|reason| reason.eq_ignore_ascii_case(error))
}

/// `error="invalid_client"` in a `WWW-Authenticate` header, be the scheme what it will. Other codes there may come from a
/// gateway in front, and speak of a token that we did not send.
fn challenged_code(answer: &Response<Bytes>) -> Option<&'static str> {
    if answer.status().is_success() {
        return None;
    }
    let challenges = answer.headers().get_all(header::WWW_AUTHENTICATE);
    let mut parts = challenges
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ' ', '\t']).filter_map(|part| part.split_once('=')));
    parts
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("error") && value.trim_matches('"') == "invalid_client"
        })
        .then_some("invalid_client")
}

/// Returns the server's own words, by the names that servers give them (RFC 6749 5.2, RFC 9457 3.1). `error` is one of them
/// if it holds no code.
pub(super) fn description(
    document: &Document,
    status: StatusCode,
    code: Option<&str>,
    quoter: &Quoter<'_>,
) -> Option<String> {
    ["error_description", "message", "detail", "title", "error"]
        .iter()
        .filter(|name| **name != "error" || code.is_none())
        .filter_map(|name| document.text(name))
        .find(|text| !names(text, status))
        .map(|text| quoter.text(text, LONGEST_TEXT))
}

fn refused(code: &str) -> Error {
    let advice = match code {
        "invalid_scope" | "scope_invalid" => {
            "check `scope`: the server does not know it or does not grant it"
        }
        "invalid_target" => "check `resource` and `audience`: the server does not know them",
        "unauthorized_client" => {
            "the client may not use the client-credentials grant: allow it at the server"
        }
        "access_denied" => {
            "the client is not authorized for this audience (at Auth0: authorize it for the API)"
        }
        "unsupported_grant_type" | "authorization_type_invalid" => {
            "the server does not offer the client-credentials grant: enable it, or check `token_url`"
        }
        "invalid_request" => {
            "the server misses or dislikes a parameter: see `audience`, `scope`, `token_param`"
        }
        "invalid_dpop_proof" => {
            "compare this machine's clock with the server's, and see which keys it takes for DPoP (ES256?); where `dpop` \
             is not set, the server wants it"
        }
        "use_dpop_nonce" => "the server wants a DPoP nonce: set `dpop` where it is not set",
        "invalid_grant" => {
            "check app id, app secret and the client's settings at the server; it may want `dpop`"
        }
        _ => "check the client's settings at the server",
    };
    Error::new(ErrorKind::RequestRefused, "the authorization server refused the token request").advice(advice)
}

/// A 4xx without an OAuth code: as likely from something in between as from the token endpoint.
fn uncoded(status: StatusCode, through: &str) -> Error {
    match status.as_u16() {
        401 | 403 | 407 => Error::new(
            ErrorKind::RequestRefused,
            format!("the token request was refused with {status} and no OAuth error code{through}"),
        )
        .retryable(true)
        .advice("a firewall or proxy may have sent this; or the credential is wrong"),
        404 | 405 | 410 => Error::new(
            ErrorKind::InvalidResponse,
            format!("no token endpoint answered, but {status}{through}"),
        )
        .advice("check `token_url` or `issuer`; a server that is starting may answer like this, too"),
        _ => Error::new(
            ErrorKind::InvalidResponse,
            format!("the token endpoint answered {status} without an OAuth error code{through}"),
        )
        .advice("check `token_url`, and what the server wants in the request"),
    }
}

fn redirection(answer: &Response<Bytes>, asked: &Asked<'_>, quoter: &Quoter<'_>) -> Error {
    let target = answer
        .headers()
        .get(header::LOCATION)
        // Before it is parsed, which encodes a part of it; and decoded, whoever encoded it.
        .and_then(|location| asked.endpoint.join(&quoter.text(location.to_str().ok()?, usize::MAX)).ok())
        .map_or_else(String::new, |url| {
            let target = origin::shown(&url);
            let target = percent_decode_str(&target).decode_utf8_lossy();
            format!(" to {}", quoter.text(&target, LONGEST_TEXT))
        });
    let status = answer.status();
    let moved = matches!(status.as_u16(), 301 | 308);
    Error::new(
        ErrorKind::InvalidResponse,
        format!("the token endpoint redirects{target} ({status}); the secret does not follow"),
    )
    .advice(if moved {
        "set `token_url` to it"
    } else {
        "check `token_url`, and what stands in front of it"
    })
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::AuthServerUnavailable, message)
}

#[cfg(test)]
mod tests;
