use std::sync::{Arc, Once};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::AUTHORIZATION;
use http::request::Parts;
use zeroize::Zeroizing;

use super::answer::Challenges;
use crate::credentials::{ApiKey, CHECKSUM, LONGEST_PART};
use crate::error::{Error, ErrorKind};
use crate::secret::{ExposeSecret, SecretString};
use crate::server::caller::{Caller, How};
use crate::server::exchange::Exchange;
use crate::server::peer::peer;
use crate::server::refusal::{Refusal, RefusalKind};
use crate::server::usage::{CallOutcome, Usage};
use crate::server::verifier::{Verifier, authorization, token};

/// Looks at what a request brings, and says whose it is.
#[derive(Debug, Clone)]
pub(super) struct Doorman {
    pub(super) verifier: Verifier,
    pub(super) exchange: Option<Exchange>,
    pub(super) keys: Option<Keys>,
    pub(super) forward: bool,
    pub(super) optional: bool,
    pub(super) usage: Option<Usage>,
    pub(super) challenges: Arc<Challenges>,
}

/// How API keys come.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) header: HeaderName,
    pub(super) prefix: Option<String>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { header: HeaderName::from_static("x-api-key"), prefix: None }
    }
}

/// App id and secret, and how they came.
struct Pair {
    app_id: String,
    app_secret: SecretString,
    how: How,
}

impl Pair {
    /// The pair, if such a one can be known to anybody.
    fn checked(self) -> Result<Self, Refused> {
        let is_usable = |part: &str| (1..=LONGEST_PART).contains(&part.len());
        let usable = is_usable(&self.app_id) && is_usable(self.app_secret.expose_secret());
        if usable { Ok(self) } else { Err(unknown_client(None)) }
    }
}

/// A refusal, and whose call it was as far as the call said so.
pub(super) type Refused = (Option<String>, Refusal);

fn invalid(reason: &'static str) -> Refused {
    (None, Refusal::new(RefusalKind::InvalidRequest, reason))
}

/// A key that came bare, or by a scheme that is none here, such as `Token`.
fn misplaced_key() -> Refused {
    invalid(
        "an API key is sent as `Authorization: Bearer`, or in the header for API keys, and in no other way",
    )
}

/// The same words for an unknown app id, a wrong secret and a key that was made up.
fn unknown_client(app_id: Option<String>) -> Refused {
    (app_id, Refusal::new(RefusalKind::InvalidClient, "app id and secret are not known together"))
}

impl Doorman {
    /// The caller; what was secret is taken off the request, and the token put on where it is to be. `None` where there
    /// are no credentials and need not be any.
    pub(super) async fn admit(&self, parts: &mut Parts) -> Result<Option<Caller>, Refused> {
        let exchange = match self.pair(parts)? {
            Some(pair) => self.exchange.as_ref().map(|exchange| (exchange, pair)),
            None => None,
        };
        let Some((exchange, pair)) = exchange else {
            let outcome = self.verifier.verify_request(parts).await;
            return match outcome {
                Ok(caller) => Ok(Some(caller)),
                // What came and is not known here would go on as if it had been looked at.
                Err(refusal)
                    if self.optional
                        && refusal.kind() == RefusalKind::NoCredentials
                        && !parts.headers.contains_key(AUTHORIZATION) =>
                {
                    Ok(None)
                }
                Err(refusal) => Err((None, refusal)),
            };
        };
        parts.headers.remove(AUTHORIZATION);
        if let Some(keys) = &self.keys {
            parts.headers.remove(&keys.header);
        }
        let Pair { app_id, app_secret, how } = pair;
        let peer = peer(parts);
        if peer.is_none() {
            tell_of_unknown_peers();
        }
        let (token, vouched) = loop {
            let token = match exchange.token(&app_id, &app_secret, peer).await {
                Ok(token) => token,
                Err(error) => return Err(refused(app_id, &error)),
            };
            let vouched = self.verifier.vouch(&token, how).await;
            let is_refused =
                vouched.as_ref().is_err_and(|refusal| refusal.kind() != RefusalKind::Unavailable);
            // Its key may be gone, or its app's tokens revoked elsewhere: the next one may be better, which is too young to be
            // given up.
            let is_revoked = vouched.as_ref().is_err_and(Refusal::is_revoked);
            let gives_up = || if is_revoked { exchange.end(&token) } else { exchange.give_up(&token) };
            if is_refused && gives_up() {
                continue;
            }
            // The server may know the app under another name than the call gave.
            let other = vouched.as_ref().ok().map(Caller::app_id).filter(|known| *known != app_id);
            if other.is_none_or(|known| exchange.note_owner(&token, known)) {
                break (token, vouched);
            }
        };
        match vouched {
            Ok(caller) => {
                if self.forward {
                    parts.headers.insert(AUTHORIZATION, token.authorization().clone());
                }
                Ok(Some(caller))
            }
            Err(refusal) if refusal.kind() == RefusalKind::Unavailable => Err((Some(app_id), refusal)),
            Err(refusal) => {
                tracing::error!(
                    target: "evertoken", app_id, why = refusal.reason(),
                    "the exchange gets tokens that the verifier does not take: give both the same issuer and audience"
                );
                Err((Some(app_id), Refusal::unavailable(None)))
            }
        }
    }

    /// The one pair of app id and secret, if any came, or what is wrong with it.
    fn pair(&self, parts: &Parts) -> Result<Option<Pair>, Refused> {
        let shown = match authorization(&parts.headers) {
            Err(_) if self.has_bare_key(parts) => return Err(misplaced_key()),
            shown => shown.map_err(|refusal| (None, refusal))?,
        };
        if self.exchange.is_none() {
            return Ok(None);
        }
        let mut keys = self.keys.iter().flat_map(|keys| parts.headers.get_all(&keys.header));
        let key = match (keys.next(), keys.next()) {
            (None, _) => None,
            (Some(key), None) => Some(key),
            (Some(_), Some(_)) => return Err(invalid("there is more than one API key")),
        };
        match (shown, key) {
            (Some(_), Some(_)) => Err(invalid("there is an Authorization header and an API key as well")),
            (None, None) => Ok(None),
            (None, Some(key)) => {
                let key = key.to_str().map_err(|_| unknown_client(None))?;
                self.by_key(key).map(Some)
            }
            (Some((scheme, encoded)), None) if scheme.eq_ignore_ascii_case("basic") => {
                let pair = by_basic(encoded)?;
                // As Stripe and GitHub have it: the key is the user name, and the password counts for nothing.
                if self.is_key(&pair.app_id) {
                    self.by_key(&pair.app_id).map(Some)
                } else {
                    pair.checked().map(Some)
                }
            }
            // A DPoP token is never one, and a proof would say nothing about a key.
            (Some((scheme, rest)), None) if scheme.eq_ignore_ascii_case("bearer") && self.is_key(rest) => {
                self.by_key(rest).map(Some)
            }
            (Some((scheme, rest)), None) => {
                let shown = token(scheme, rest).map_err(|refusal| (None, refusal))?;
                if shown.is_none() && self.is_key(rest.trim()) { Err(misplaced_key()) } else { Ok(None) }
            }
        }
    }

    /// Returns whether a text is an API key and no token or app id: one of the configured prefix, even
    /// if it is mistyped, or one of any other that has the right checksum.
    fn is_key(&self, text: &str) -> bool {
        let Some((rest, _)) = text.rsplit_once('_').filter(|(_, sum)| sum.len() == CHECKSUM) else {
            return false;
        };
        let prefix = rest.rsplit_once('_').map(|(prefix, _)| prefix);
        let is_own =
            self.keys.as_ref().is_some_and(|keys| keys.prefix.is_some() && keys.prefix.as_deref() == prefix);
        is_own || ApiKey::parse(text).is_ok()
    }

    /// Returns whether an `Authorization` header brings an API key without a scheme.
    fn has_bare_key(&self, parts: &Parts) -> bool {
        let line = parts.headers.get(AUTHORIZATION).and_then(|line| line.to_str().ok());
        self.exchange.is_some() && line.is_some_and(|line| self.is_key(line.trim()))
    }

    fn by_key(&self, key: &str) -> Result<Pair, Refused> {
        let prefix = self.keys.as_ref().and_then(|keys| keys.prefix.as_deref());
        let key =
            ApiKey::parse(key).and_then(|key| key.of_prefix(prefix)).map_err(|_| unknown_client(None))?;
        let (app_id, app_secret) = key.into_parts();
        Ok(Pair { app_id, app_secret, how: How::ApiKey })
    }

    pub(super) fn count(&self, app_id: Option<&str>, outcome: CallOutcome, scope: Option<&str>) {
        if let Some(usage) = &self.usage {
            usage.call(app_id, outcome, scope);
        }
    }
}

/// The base64 of the longest app id, a colon and the longest app secret.
const LONGEST_BASIC: usize = (2 * LONGEST_PART + 1).div_ceil(3) * 4;

/// As RFC 7617 2 has it: not form-encoded, unlike at a token endpoint (RFC 6749 2.3.1).
fn by_basic(encoded: &str) -> Result<Pair, Refused> {
    let malformed = || invalid("the Authorization header is malformed");
    // Before anything is held of it: no longer pair is known anywhere.
    if encoded.len() > LONGEST_BASIC {
        return Err(unknown_client(None));
    }
    let mut decoded = Zeroizing::new(vec![0; encoded.len()]);
    let length = STANDARD.decode_slice(encoded, &mut decoded).map_err(|_| malformed())?;
    let pair = decoded.get(..length).and_then(|pair| std::str::from_utf8(pair).ok()).ok_or_else(malformed)?;
    let (app_id, app_secret) = pair.split_once(':').ok_or_else(malformed)?;
    if pair.chars().any(char::is_control) {
        return Err(malformed());
    }
    Ok(Pair { app_id: app_id.to_owned(), app_secret: app_secret.into(), how: How::Basic })
}

/// What the lack of a token means for whoever has sent app id and secret.
fn refused(app_id: String, error: &Error) -> Refused {
    // These say that the server knows the app, and what it may not have (RFC 6749 5.2, RFC 8707 2).
    let known = ["unauthorized_client", "invalid_scope", "access_denied", "invalid_target"];
    match error.kind() {
        ErrorKind::CredentialsRejected => unknown_client(Some(app_id)),
        ErrorKind::Throttled => {
            let refusal = Refusal::new(RefusalKind::Throttled, "there were too many requests: slow down");
            (Some(app_id), refusal.after(error.retry_after()))
        }
        ErrorKind::RequestRefused if error.oauth_error().is_some_and(|code| known.contains(&code)) => {
            (Some(app_id), Refusal::new(RefusalKind::InsufficientScope, "the app may not use this API"))
        }
        ErrorKind::AuthServerUnavailable | ErrorKind::Timeout => {
            (Some(app_id), Refusal::unavailable(error.retry_after()))
        }
        _ => {
            tracing::error!(target: "evertoken", %error, "app id and secret could not be exchanged");
            (Some(app_id), Refusal::unavailable(error.retry_after()))
        }
    }
}

/// Once in the life of the process.
#[cold]
fn tell_of_unknown_peers() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            target: "evertoken",
            "credentials come from nobody knows where, so that whoever tries secrets for an app id slows down its \
             newcomers, too: serve with axum's `into_make_service_with_connect_info::<SocketAddr>()`, or set `PeerAddress`"
        );
    });
}
