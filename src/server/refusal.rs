use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// Why a request is not let through, in words that its sender may hear.
///
/// `Display` and [`reason`](Self::reason) never hold a token or a secret. What an operator has to know beyond that is in
/// the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(Box<Why>);

/// Boxed, so that what is not refused carries none of it about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Why {
    kind: RefusalKind,
    reason: &'static str,
    retry_after: Option<Duration>,
    /// The scopes that the request needs, where it lacks them.
    scope: Option<String>,
}

const REVOKED: &str = "the tokens of this app were revoked";

/// What kind of refusal it is; [`Refusal::kind`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No credentials came: 401 without an error code (RFC 6750 3.1).
    NoCredentials,
    /// They came twice, or malformed: 400, `invalid_request`.
    InvalidRequest,
    /// The token is wrong, expired, revoked, for others, or shown without what it is bound to: 401, `invalid_token`.
    InvalidToken,
    /// The DPoP proof is wrong: 401, `invalid_dpop_proof` (RFC 9449 7.1).
    InvalidProof,
    /// App id and secret are not known together: 401. An unknown app id and a wrong secret are told in the same words.
    InvalidClient,
    /// The token is good, and does not allow this: 403, `insufficient_scope`.
    InsufficientScope,
    /// Too many requests: 429, with `Retry-After`.
    Throttled,
    /// Nothing that is held decides, and the authorization server is away or is not to be asked yet: 503, with `Retry-After`.
    Unavailable,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, reason: &'static str) -> Self {
        Self(Box::new(Why { kind, reason, retry_after: None, scope: None }))
    }

    pub(crate) fn token(reason: &'static str) -> Self {
        Self::new(RefusalKind::InvalidToken, reason)
    }

    /// The refusal of a token whose app was revoked.
    pub(crate) fn revoked() -> Self {
        Self::token(REVOKED)
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.0.reason == REVOKED
    }

    pub(crate) fn unavailable(retry_after: Option<Duration>) -> Self {
        let reason = "the authorization server cannot be asked at the moment";
        Self::new(RefusalKind::Unavailable, reason).after(retry_after)
    }

    pub(crate) fn after(mut self, retry_after: Option<Duration>) -> Self {
        self.0.retry_after = retry_after;
        self
    }

    /// The same for a request that needs these.
    pub(crate) fn of_scope(mut self, scope: &str) -> Self {
        self.0.scope = Some(scope.to_owned());
        self
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        self.0.kind
    }

    /// What is wrong, in a few words.
    pub fn reason(&self) -> &'static str {
        self.0.reason
    }

    /// The scopes that the request needs, where it lacks them; spaces between.
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// When it is worth trying again, where that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The HTTP status that tells it.
    pub fn status(&self) -> StatusCode {
        match self.0.kind {
            RefusalKind::NoCredentials
            | RefusalKind::InvalidToken
            | RefusalKind::InvalidProof
            | RefusalKind::InvalidClient => StatusCode::UNAUTHORIZED,
            RefusalKind::InvalidRequest => StatusCode::BAD_REQUEST,
            RefusalKind::InsufficientScope => StatusCode::FORBIDDEN,
            RefusalKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The error code (RFC 6750 3.1, RFC 9449 7.1); `None` where no credentials came.
    pub fn code(&self) -> Option<&'static str> {
        match self.0.kind {
            RefusalKind::NoCredentials => None,
            RefusalKind::InvalidRequest => Some("invalid_request"),
            RefusalKind::InvalidToken => Some("invalid_token"),
            RefusalKind::InvalidProof => Some("invalid_dpop_proof"),
            RefusalKind::InvalidClient => Some("invalid_client"),
            RefusalKind::InsufficientScope => Some("insufficient_scope"),
            RefusalKind::Throttled => Some("too_many_requests"),
            RefusalKind::Unavailable => Some("temporarily_unavailable"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            RefusalKind::InvalidToken => write!(f, "the access token is refused: {}", self.0.reason),
            RefusalKind::InvalidProof => write!(f, "the DPoP proof is refused: {}", self.0.reason),
            _ => f.write_str(self.0.reason),
        }
    }
}

impl std::error::Error for Refusal {}
