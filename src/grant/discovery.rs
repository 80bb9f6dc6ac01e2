use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::quote::{LONGEST_TEXT, Quoter};
use super::transport::Transport;
use super::{pacing, refusal};
use crate::clock::{Clock, Moment};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;

/// How long metadata serve before they are read again.
const MAX_AGE: Duration = Duration::from_secs(86_400);

/// After a failed re-reading, how long the old ones serve on before the next.
const RETRY: Duration = Duration::from_secs(300);

/// What an issuer's metadata say that matters here (RFC 8414 2).
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Where they lie, as `origin::shown` has it.
    pub(crate) read_from: String,
    pub(crate) issuer: String,
    pub(crate) token_endpoint: Url,
    /// Where clients with a certificate go instead (RFC 8705 5).
    pub(super) mtls_token_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 7009), and the same for clients with a certificate.
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) mtls_revocation_endpoint: Option<Url>,
    /// Where tokens are introspected (RFC 7662), and where the server's public keys lie (RFC 7517).
    #[cfg(feature = "server")]
    pub(crate) introspection_endpoint: Option<Url>,
    #[cfg(feature = "server")]
    pub(crate) jwks_uri: Option<Url>,
    pub(crate) auth_methods: Vec<String>,
    /// How assertions may be signed.
    pub(super) auth_algorithms: Vec<String>,
}

/// The metadata of an issuer, read when first needed and shared by a family of sources.
#[derive(Debug, Default)]
pub(crate) struct Discovery(Mutex<Option<Cached>>);

#[derive(Debug)]
struct Cached {
    metadata: Arc<Metadata>,
    looked: Moment,
    /// How long after `looked` they are read again.
    serves: Duration,
}

impl Discovery {
    /// The metadata of `issuer`: those at hand, or read now. A failed re-reading keeps the old ones.
    pub(crate) async fn metadata(
        &self,
        issuer: &str,
        allow_insecure: bool,
        transport: &dyn Transport,
        clock: &Clock,
        credentials: &Credentials,
    ) -> Result<Arc<Metadata>> {
        let old = self.at_hand(issuer, clock.now());
        if let Some((metadata, false)) = old {
            return Ok(metadata);
        }
        match (read(issuer, allow_insecure, transport, clock, credentials).await, old) {
            (Ok(metadata), _) => {
                let metadata = Arc::new(metadata);
                *self.lock() =
                    Some(Cached { metadata: metadata.clone(), looked: clock.now(), serves: MAX_AGE });
                Ok(metadata)
            }
            (Err(error), Some((metadata, _))) => {
                tracing::debug!(target: "evertoken", %error, "metadata could not be read again, the old ones serve on");
                Ok(metadata)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Has them read again with the next attempt: what they say of the token endpoint was wrong.
    pub(crate) fn doubt(&self) {
        if let Some(cached) = &mut *self.lock() {
            cached.serves = Duration::ZERO;
        }
    }

    /// What is at hand, and whether it is due for a re-reading. That counts as begun, so that one that hangs until
    /// the attempt is given up does not stand in the way of the next attempt.
    pub(super) fn at_hand(&self, issuer: &str, now: Moment) -> Option<(Arc<Metadata>, bool)> {
        let mut cached = self.lock();
        let cached = cached.as_mut().filter(|cached| cached.metadata.issuer == issuer)?;
        let due = now.since(&cached.looked) >= cached.serves;
        if due {
            (cached.looked, cached.serves) = (now, RETRY);
        }
        Some((cached.metadata.clone(), due))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An issuer is an http(s) URL without query or fragment (RFC 8414 2).
pub(super) fn parse_issuer(issuer: &str, allow_insecure: bool) -> Result<Url> {
    let url = origin::parse_secure("`issuer`", issuer, allow_insecure)?;
    if url.query().is_some() {
        return Err(Error::configuration("`issuer` has a query").with_server(origin::shown(&url)));
    }
    Ok(url)
}

async fn read(
    issuer: &str,
    allow_insecure: bool,
    transport: &dyn Transport,
    clock: &Clock,
    credentials: &Credentials,
) -> Result<Metadata> {
    let base = parse_issuer(issuer, allow_insecure)?;
    let mut answers = Vec::new();
    let mut wait = None;
    let mut through = String::new();
    for url in locations(&base) {
        let answer = transport
            .send(request(&url)?)
            .await
            .map_err(|error| refusal::unanswered(error).with_server(origin::shown(&url)))?;
        let status = answer.status();
        if status == StatusCode::OK
            && let Some(found) = understand(answer.body())
        {
            let read_from = origin::shown(&url);
            let quoter = Quoter { credentials, token: None, assertion: None, proof: None };
            return check(found, issuer, allow_insecure, read_from.clone(), &quoter)
                .map_err(|error| error.with_server(read_from));
        }
        wait = wait.max(pacing::retry_after(answer.headers(), clock.now().wall));
        through = refusal::handed_on(&answer);
        answers.push((url, status));
    }
    let said: Vec<String> =
        answers.iter().map(|(url, status)| format!("{} answered {status}", origin::shown(url))).collect();
    let any = |of: fn(&StatusCode) -> bool| answers.iter().any(|(_, status)| of(status));
    let error = |kind| Error::new(kind, format!("the issuer has no metadata: {}{through}", said.join(", ")));
    let error = if any(StatusCode::is_server_error) {
        error(ErrorKind::AuthServerUnavailable).with_retry_after(wait)
    } else if any(|status| *status == StatusCode::TOO_MANY_REQUESTS) {
        error(ErrorKind::Throttled).with_retry_after(wait)
    } else {
        let error = error(ErrorKind::InvalidResponse).advice(
            "check `issuer`, or set `token_url`; a server that is starting may answer like this, too",
        );
        let missing = answers
            .iter()
            .map(|(_, status)| status.as_u16())
            .find(|status| matches!(status, 404 | 405 | 410));
        missing.into_iter().fold(error, Error::with_status)
    };
    Err(error.with_server(issuer))
}

/// Where metadata may lie: RFC 8414 3.1, with the well-known part in front of the path, then OpenID discovery, with it
/// behind.
fn locations(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    [
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("{path}/.well-known/openid-configuration"),
    ]
    .map(|path| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    })
}

pub(super) fn request(url: &Url) -> Result<Request<Bytes>> {
    Request::builder()
        .method(Method::GET)
        .uri(url.as_str())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .body(Bytes::new())
        .map_err(|error| {
            Error::configuration("the address is not usable as a URL")
                .with_server(origin::shown(url))
                .with_source(error)
        })
}

struct Found {
    issuer: String,
    token_endpoint: String,
    mtls_token_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    mtls_revocation_endpoint: Option<String>,
    #[cfg(feature = "server")]
    introspection_endpoint: Option<String>,
    #[cfg(feature = "server")]
    jwks_uri: Option<String>,
    auth_methods: Vec<String>,
    auth_algorithms: Vec<String>,
}

/// `None` for what is no metadata, whatever else it is: some servers answer every URL with a page and 200.
fn understand(body: &[u8]) -> Option<Found> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let text = |name| document.get(name)?.as_str().map(str::to_owned);
    let alias = |name| Some(document.get("mtls_endpoint_aliases")?.get(name)?.as_str()?.to_owned());
    let list = |name| {
        let items = document.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Some(Found {
        issuer: text("issuer")?,
        token_endpoint: text("token_endpoint")?,
        mtls_token_endpoint: alias("token_endpoint"),
        revocation_endpoint: text("revocation_endpoint"),
        mtls_revocation_endpoint: alias("revocation_endpoint"),
        #[cfg(feature = "server")]
        introspection_endpoint: text("introspection_endpoint"),
        #[cfg(feature = "server")]
        jwks_uri: text("jwks_uri"),
        auth_methods: list("token_endpoint_auth_methods_supported"),
        auth_algorithms: list("token_endpoint_auth_signing_alg_values_supported"),
    })
}

fn check(
    found: Found,
    issuer: &str,
    allow_insecure: bool,
    read_from: String,
    quoter: &Quoter<'_>,
) -> Result<Metadata> {
    if found.issuer != issuer {
        let slash = found.issuer.trim_end_matches('/') == issuer.trim_end_matches('/');
        let theirs = quoter.text(&found.issuer, LONGEST_TEXT);
        return Err(Error::new(
            ErrorKind::InvalidResponse,
            format!("the metadata are those of another issuer: {theirs:?}, not {issuer:?} (RFC 8414 3.3)"),
        )
        .advice(if slash {
            "only the slash at the end differs: set `issuer` exactly as the server has it"
        } else {
            "set `issuer` exactly as the server has it, or set `token_url`"
        }));
    }
    // What is not needed for a token must not stand in its way.
    let usable = |url: Option<String>| {
        url.and_then(|url| origin::parse_secure("the metadata's endpoint", &url, allow_insecure).ok())
    };
    Ok(Metadata {
        read_from,
        issuer: found.issuer,
        token_endpoint: origin::parse_secure(
            "the metadata's token_endpoint",
            &found.token_endpoint,
            allow_insecure,
        )
        .map_err(Error::given_by_server)?,
        mtls_token_endpoint: usable(found.mtls_token_endpoint),
        revocation_endpoint: usable(found.revocation_endpoint),
        mtls_revocation_endpoint: usable(found.mtls_revocation_endpoint),
        #[cfg(feature = "server")]
        introspection_endpoint: usable(found.introspection_endpoint),
        #[cfg(feature = "server")]
        jwks_uri: usable(found.jwks_uri),
        auth_methods: found.auth_methods,
        auth_algorithms: found.auth_algorithms,
    })
}

#[cfg(test)]
mod tests;
