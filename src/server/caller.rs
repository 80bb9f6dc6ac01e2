use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::clock::system_time;

/// Who makes a request: the app, what it may do, and what its token says of it.
///
/// It is cheap to clone, and holds no token and no secret; `Debug` shows the names of the claims, not what they say.
#[derive(Clone)]
pub struct Caller {
    identity: Arc<Identity>,
    how: How,
}

/// How a caller has shown who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum How {
    /// By an access token that is good for whoever holds it (RFC 6750).
    Bearer,
    /// By an access token that is bound to a key, and a proof by that key (RFC 9449).
    Dpop,
    /// By an access token that is bound to the certificate of the connection (RFC 8705 3).
    Certificate,
    /// By app id and secret in the `Authorization` header (RFC 7617).
    Basic,
    /// By a one-string API key.
    ApiKey,
}

/// What is known of an app by its token.
pub(crate) struct Identity {
    pub(crate) app_id: String,
    pub(crate) scopes: Box<[String]>,
    pub(crate) claims: Map<String, Value>,
    /// Of the token, since the Unix epoch; `None` where it does not say.
    pub(crate) expires: Option<Duration>,
    pub(crate) issued: Option<Duration>,
    pub(crate) binding: Binding,
}

/// The key or certificate that a token is bound to (RFC 7800 3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Binding {
    /// The thumbprint of a key (RFC 9449 6.1).
    pub(crate) jkt: Option<String>,
    /// The thumbprint of a certificate (RFC 8705 3.1).
    pub(crate) x5t: Option<String>,
}

impl Binding {
    pub(crate) fn is_none(&self) -> bool {
        self.jkt.is_none() && self.x5t.is_none()
    }
}

impl Caller {
    pub(crate) fn new(identity: Arc<Identity>, how: How) -> Self {
        Self { identity, how }
    }

    /// The app id: the token's `client_id`, or what its profile has in its place.
    pub fn app_id(&self) -> &str {
        &self.identity.app_id
    }

    /// What the token allows, in its order (RFC 6749 3.3).
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.identity.scopes.iter().map(String::as_str)
    }

    /// Whether the token allows this one.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.identity.scopes.iter().any(|has| has == scope)
    }

    /// All that the token says (RFC 7519 4), or what introspection says of it (RFC 7662 2.2).
    pub fn claims(&self) -> &Map<String, Value> {
        &self.identity.claims
    }

    /// How the caller has shown who it is.
    pub fn how(&self) -> How {
        self.how
    }

    /// When the token ends by its `exp`; `None` for an opaque one of which introspection did not tell.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.identity.expires.map(system_time)
    }

    /// When the token was issued by its `iat`, where it says so.
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.identity.issued.map(system_time)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("app_id", &self.identity.app_id)
            .field("scopes", &self.identity.scopes)
            .field("claims", &self.identity.claims.keys())
            .field("how", &self.how)
            .finish()
    }
}
