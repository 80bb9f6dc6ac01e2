use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use url::Url;

use super::document::Document;
use super::quota::{self, Quota};
use super::quote::Quoter;
use super::refusal;
use crate::clock::Moment;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;
use crate::secret::{Scheme, TokenText};

/// The lifetime of a token whose server does not say it.
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The longest lifetime that is believed: a year.
pub(crate) const LONGEST_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// A token, and what the server says of it (RFC 6749 5.1).
#[derive(Debug, Clone)]
pub(crate) struct TokenResponse {
    pub(crate) text: TokenText,
    /// When the request was sent, from which the lifetime counts.
    pub(crate) sent: Moment,
    pub(crate) round_trip: Duration,
    pub(crate) lifetime: Duration,
    /// After how long the server would have it renewed, where it says so.
    pub(crate) refresh_in: Option<Duration>,
    /// What was granted, as the server says it; `None` where that is what was asked for.
    pub(crate) scope: Option<String>,
    /// What was asked for but not granted.
    pub(crate) missing_scopes: Vec<String>,
    /// What is left of the server's quotas, as far as it says so, the scarcest first.
    pub(crate) quotas: Vec<Quota>,
}

/// The request that an answer belongs to.
pub(super) struct Asked<'a> {
    pub(super) endpoint: &'a Url,
    pub(super) scopes: &'a [String],
    pub(super) credentials: &'a Credentials,
    /// The client assertion that was sent.
    pub(super) assertion: Option<&'a str>,
    /// The DPoP proof that was sent: the token is to be bound to its key.
    pub(super) proof: Option<&'a str>,
    pub(super) sent: Moment,
    pub(super) answered: Moment,
}

/// The token in an answer, or what kind of error the answer is.
pub(super) fn parse(answer: &Response<Bytes>, asked: &Asked<'_>) -> Result<TokenResponse> {
    let (document, not_one) = match Document::parse(answer.body()) {
        Ok(document) => (Some(document), String::new()),
        Err(what) => (None, what),
    };
    let document = document.as_ref();
    let token = document.and_then(|document| document.text("access_token"));
    let quoter =
        Quoter { credentials: asked.credentials, token, assertion: asked.assertion, proof: asked.proof };
    let outcome = match document {
        _ if refusal::is_one(answer, document) => Err(refusal::classify(answer, document, asked, &quoter)),
        Some(found) => accept(found, asked, &quoter).map(|token| TokenResponse {
            quotas: quota::told(answer.headers(), asked.answered.wall),
            ..token
        }),
        None => Err(invalid(format!("the answer of the token endpoint {not_one}"))),
    };
    outcome.map_err(|error| {
        error.with_server(origin::shown(asked.endpoint)).with_status(answer.status().as_u16())
    })
}

fn accept(document: &Document, asked: &Asked<'_>, quoter: &Quoter<'_>) -> Result<TokenResponse> {
    let Some(token) = document.text("access_token") else {
        let description = refusal::description(document, StatusCode::OK, None, quoter);
        let error = invalid("the answer of the token endpoint has no access_token");
        return Err(error.with_oauth(None, description));
    };
    let scheme = if asked.proof.is_some() { Scheme::Dpop } else { Scheme::Bearer };
    check_type(document.text("token_type"), scheme, quoter)?;
    let Some(text) = TokenText::new(scheme, token) else {
        return Err(invalid("the token has characters that none may have (RFC 6749 A.12)"));
    };
    let lifetime = match document.number("expires_in") {
        None => DEFAULT_LIFETIME,
        Some(seconds) => duration(seconds)
            .ok_or_else(|| invalid("the token had expired on arrival (expires_in is not above 0)"))?,
    };
    let scope = document.any_text("scope").map(str::to_owned);
    let missing_scopes = match &scope {
        Some(granted) => {
            let is_missing = |asked: &&String| !granted.split_ascii_whitespace().any(|scope| scope == *asked);
            asked.scopes.iter().filter(is_missing).cloned().collect()
        }
        None => Vec::new(),
    };
    Ok(TokenResponse {
        text,
        sent: asked.sent,
        round_trip: asked.answered.since(&asked.sent),
        lifetime,
        refresh_in: document.number("refresh_in").and_then(duration),
        scope,
        missing_scopes,
        quotas: Vec::new(),
    })
}

/// A Bearer token may come without its type. One that was to be bound may not: it would be sent for all to use.
fn check_type(given: Option<&str>, wanted: Scheme, quoter: &Quoter<'_>) -> Result<()> {
    let name = wanted.name();
    let given = match given {
        Some(given) if given.eq_ignore_ascii_case(name) => return Ok(()),
        None if wanted == Scheme::Bearer => return Ok(()),
        Some(given) => format!("{:?}", quoter.text(given, 64)),
        None => "unknown".to_owned(),
    };
    let error = invalid(format!("the token is of the type {given}, and only {name} can be used"));
    Err(error.advice(match wanted {
        Scheme::Bearer => "for tokens of the type DPoP set `dpop`",
        Scheme::Dpop => "have the server bind this client's tokens by DPoP, or leave `dpop` out",
    }))
}

/// Up to a year; `None` for what is not above zero.
fn duration(seconds: f64) -> Option<Duration> {
    let longest = LONGEST_LIFETIME.as_secs_f64();
    // `f64::min` would take the other side of a NaN.
    let seconds = if seconds > longest { longest } else { seconds };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidResponse, message)
}

#[cfg(test)]
pub(super) mod tests;
