#[cfg(feature = "server")]
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

#[cfg(feature = "server")]
use arc_swap::ArcSwapOption;
use http::HeaderValue;

#[cfg(feature = "server")]
use super::term::Term;
use crate::secret::TokenText;

/// An access token (RFC 6749 1.4), shared: a clone is a reference count.
///
/// Its text is wiped from memory when the last reader lets go, and never shows in `Debug`. Two are equal when their
/// texts are.
#[derive(Clone)]
pub struct AccessToken(Arc<Inner>);

struct Inner {
    text: TokenText,
    /// Where no refresher looks after it.
    #[cfg(feature = "server")]
    term: Term,
    #[cfg(feature = "server")]
    note: ArcSwapOption<Note>,
    expires_at: SystemTime,
    scope: Option<String>,
}

/// What whoever holds a token has found out about it.
#[cfg(feature = "server")]
pub(crate) type Note = Box<dyn Any + Send + Sync>;

impl AccessToken {
    pub(crate) fn new(text: TokenText, expires_at: SystemTime, scope: Option<String>) -> Self {
        Self(Arc::new(Inner {
            text,
            expires_at,
            scope,
            #[cfg(feature = "server")]
            term: Term::none(),
            #[cfg(feature = "server")]
            note: ArcSwapOption::empty(),
        }))
    }

    #[cfg(feature = "server")]
    pub(crate) fn with_term(
        text: TokenText,
        expires_at: SystemTime,
        scope: Option<String>,
        term: Term,
    ) -> Self {
        Self(Arc::new(Inner { text, expires_at, scope, term, note: ArcSwapOption::empty() }))
    }

    /// The token's text, for whoever must put it somewhere by hand. Treat it as the secret that it is.
    pub fn as_str(&self) -> &str {
        self.0.text.token()
    }

    /// The value of the `Authorization` header, made once per token and marked sensitive: `Bearer …` (RFC 6750 2.1), or
    /// `DPoP …` (RFC 9449 7.1), with which a proof must go: see [`TokenSource::headers`](crate::TokenSource::headers).
    #[inline]
    pub fn authorization(&self) -> &HeaderValue {
        self.0.text.header()
    }

    #[cfg(feature = "server")]
    pub(crate) fn term(&self) -> &Term {
        &self.0.term
    }

    /// Returns the place beside the token for what its holder has found out about it.
    #[cfg(feature = "server")]
    pub(crate) fn note(&self) -> &ArcSwapOption<Note> {
        &self.0.note
    }

    pub(super) fn header_apart(&self) -> HeaderValue {
        self.0.text.header_apart()
    }

    /// When the token expires by the authorization server's `expires_in`, on the clock of this machine. It is
    /// handed out no longer than until its leeway before that.
    pub fn expires_at(&self) -> SystemTime {
        self.0.expires_at
    }

    /// The scope that was granted, space-separated (RFC 6749 3.3): the server's word, else what was asked for.
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for AccessToken {}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_at", &self.0.expires_at)
            .field("scope", &self.0.scope)
            .finish_non_exhaustive()
    }
}
