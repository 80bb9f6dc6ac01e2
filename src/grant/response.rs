//! What an answer of the token endpoint with a token in it says. Answers without one are judged in `refusal`; when the token is
//! renewed is decided in `renewal`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use url::Url;

use super::document::Document;
use super::oddities::Oddities;
use super::quota::{self, Quota};
use super::quote::Quoter;
use super::server_clock;
use super::{refusal, token_type};
use crate::clock::Moment;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;
use crate::padding::trimmed_token;
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

/// The members in which servers say when a token expires, instead of `expires_in`: Entra ID v1 and its managed identities, and
/// several others.
const EXPIRIES: [&str; 3] = ["expires_on", "expires_at", "expiresAt"];

/// A number below this is no point in time since the epoch that a token could expire at.
const LEAST_EPOCH: f64 = 1e9;

/// A number above this counts milliseconds since the epoch: as seconds it would be the year 5138.
const LEAST_MILLIS: f64 = 1e11;

/// Returns the token in an answer, or what kind of error the answer is. What is taken though no standard allows it is
/// reported to `oddities`.
pub(super) fn parse(
    answer: &Response<Bytes>,
    asked: &Asked<'_>,
    oddities: &Oddities,
) -> Result<TokenResponse> {
    let (document, not_one) = match Document::parse(answer.body()) {
        Ok(document) => (Some(document), String::new()),
        Err(what) => (None, what),
    };
    let document = document.as_ref();
    let token = document.and_then(access_token);
    let quoter =
        Quoter { credentials: asked.credentials, token, assertion: asked.assertion, proof: asked.proof };
    let outcome = match document {
        _ if refusal::is_one(answer, document) => Err(refusal::classify(answer, document, asked, &quoter)),
        Some(found) => accept(found, answer.headers(), asked, &quoter, oddities),
        None => Err(invalid(format!("the answer of the token endpoint {not_one}"))),
    };
    outcome.map_err(|error| {
        error.with_server(origin::shown(asked.endpoint)).with_status(answer.status().as_u16())
    })
}

/// The token, without what clings to its ends.
fn access_token(document: &Document) -> Option<&str> {
    document.text("access_token").map(trimmed_token).filter(|token| !token.is_empty())
}

fn accept(
    document: &Document,
    headers: &HeaderMap,
    asked: &Asked<'_>,
    quoter: &Quoter<'_>,
    oddities: &Oddities,
) -> Result<TokenResponse> {
    let Some(token) = access_token(document) else {
        let description = refusal::description(document, StatusCode::OK, None, quoter);
        let error = invalid("the answer of the token endpoint has no access_token");
        return Err(error.with_oauth(None, description));
    };
    let scheme = if asked.proof.is_some() { Scheme::Dpop } else { Scheme::Bearer };
    let odd_type = token_type::check(document.text("token_type"), scheme, quoter)?;
    let Some(text) = TokenText::new(scheme, token) else {
        return Err(invalid("the token has characters that none may have (RFC 6749 A.12)"));
    };
    let lifetime = lifetime(document, headers, asked)?.unwrap_or(DEFAULT_LIFETIME);
    let scope = document.any_text("scope").map(str::to_owned);
    let missing_scopes = match &scope {
        Some(granted) => {
            let is_missing = |asked: &&String| !granted.split_ascii_whitespace().any(|scope| scope == *asked);
            asked.scopes.iter().filter(is_missing).cloned().collect()
        }
        None => Vec::new(),
    };
    // Only for tokens that are taken.
    if let Some(odd_type) = odd_type {
        oddities.token_type(asked.endpoint, &odd_type);
    }
    if document.text("access_token") != Some(token) {
        oddities.padded_token(asked.endpoint);
    }
    Ok(TokenResponse {
        text,
        sent: asked.sent,
        round_trip: asked.answered.since(&asked.sent),
        lifetime,
        refresh_in: document.number("refresh_in").and_then(duration),
        scope,
        missing_scopes,
        quotas: quota::told(headers, asked.answered.wall),
    })
}

/// Returns whether the server says how long its token lives.
pub(super) fn has_lifetime(document: &Document) -> bool {
    document.number("expires_in").is_some() || expiry(document).is_some()
}

/// Returns the lifetime by `expires_in`, else by a point in time at which the token expires, else `None`.
///
/// That point is on the server's clock. If the answer has no `Date` it is compared with this machine's, and one in the past
/// is ignored: whose clock is wrong cannot be known.
fn lifetime(document: &Document, headers: &HeaderMap, asked: &Asked<'_>) -> Result<Option<Duration>> {
    let expired = |by: &str| invalid(format!("the token had expired on arrival ({by})"));
    if let Some(seconds) = document.number("expires_in") {
        return duration(seconds).map(Some).ok_or_else(|| expired("expires_in is not above 0"));
    }
    let Some((name, expiry)) = expiry(document) else { return Ok(None) };
    let date = server_clock::date(headers);
    let now = date.unwrap_or(asked.answered.wall);
    match duration(expiry - now.as_secs_f64()) {
        None if date.is_some() => Err(expired(&format!("{name} is not later than the answer's Date"))),
        lifetime => Ok(lifetime),
    }
}

/// Returns when the token expires, in seconds since the epoch, and the member that says so.
fn expiry(document: &Document) -> Option<(&'static str, f64)> {
    EXPIRIES.iter().find_map(|name| {
        let number = document.number(name).filter(|number| number.is_finite() && *number >= LEAST_EPOCH)?;
        Some((*name, if number >= LEAST_MILLIS { number / 1000.0 } else { number }))
    })
}

/// Up to a year; `None` for what is not above zero.
fn duration(seconds: f64) -> Option<Duration> {
    let longest = LONGEST_LIFETIME.as_secs_f64();
    // `f64::min` would take the other side of a NaN.
    let seconds = if seconds > longest { longest } else { seconds };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidResponse, message)
}

#[cfg(test)]
pub(super) mod tests;
