use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response};
use serde_json::json;

use crate::grant::proof::ALGORITHMS;
use crate::server::refusal::{Refusal, RefusalKind};

/// What the API says of itself when it refuses.
#[derive(Debug, Clone)]
pub(super) struct Challenges {
    pub(super) realm: String,
    pub(super) resource_metadata: Option<String>,
    pub(super) basic: bool,
    dpop: bool,
}

impl Challenges {
    pub(super) fn new(realm: &str, dpop: bool) -> Self {
        Self { realm: realm.to_owned(), resource_metadata: None, basic: false, dpop }
    }

    /// The answer to a request that is not let through.
    pub(super) fn answer<B: From<Bytes>>(&self, refusal: &Refusal) -> Response<B> {
        let body = match refusal.code() {
            Some(code) => json!({ "error": code, "error_description": refusal.to_string() }).to_string(),
            None => String::new(),
        };
        let mut response = Response::new(B::from(Bytes::from(body)));
        *response.status_mut() = refusal.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if refusal.code().is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for challenge in self.challenges(refusal) {
            // Its parts are made such that it is one.
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        if matches!(refusal.kind(), RefusalKind::Throttled | RefusalKind::Unavailable) {
            // Whole seconds, and not too early.
            let after = refusal.retry_after().unwrap_or_default();
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        response
    }

    /// One for each way that there is, the error with those that it concerns.
    fn challenges(&self, refusal: &Refusal) -> Vec<String> {
        let kind = refusal.kind();
        if matches!(kind, RefusalKind::Throttled | RefusalKind::Unavailable) {
            return Vec::new();
        }
        let error = match kind {
            RefusalKind::NoCredentials | RefusalKind::InvalidClient => None,
            _ => refusal.code(),
        };
        let line = |scheme: &str, has_error: bool, more: Option<(&str, &str)>| {
            let mut parameters = vec![("realm", self.realm.as_str())];
            let description = refusal.to_string();
            if let Some(error) = error.filter(|_| has_error) {
                parameters.extend([("error", error), ("error_description", &description)]);
                parameters.extend(refusal.scope().map(|scope| ("scope", scope)));
            }
            parameters.extend(more);
            parameters.extend(self.resource_metadata.as_deref().map(|url| ("resource_metadata", url)));
            let parameters: Vec<String> =
                parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", quotable(value))).collect();
            format!("{scheme} {}", parameters.join(", "))
        };
        let mut lines = vec![line("Bearer", kind != RefusalKind::InvalidProof, None)];
        if self.dpop {
            lines.push(line("DPoP", true, Some(("algs", &ALGORITHMS.join(" ")))));
        }
        if self.basic && refusal.status() == http::StatusCode::UNAUTHORIZED {
            lines.push(format!("Basic realm=\"{}\", charset=\"UTF-8\"", quotable(&self.realm)));
        }
        lines
    }
}

/// What may stand between quotation marks (RFC 6750 3).
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
