use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What kind of thing went wrong; [`Error::kind`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The authorization server refuses the credential (RFC 6749 5.2): `invalid_client`, or a 401 with another code that may be
    /// about the client. Whatever else could have been meant was tried. The refresher checks
    /// again after some 5 s and some 20 s, since a new secret may not be known everywhere yet, then every 1 to 5 minutes, and
    /// at once if the credential changes.
    CredentialsRejected,
    /// The credential could not be had or used: the [`CredentialSource`](crate::CredentialSource) has given none yet, or the
    /// [`Signer`](crate::Signer) that holds its key failed.
    CredentialsUnavailable,
    /// The authorization server could not be reached, broke off, or answered with a 5xx.
    AuthServerUnavailable,
    /// The authorization server asks for fewer requests (429, `slow_down`).
    Throttled,
    /// The authorization server accepts the credential but not the request: a scope, an audience, a grant
    /// (`invalid_scope`, `invalid_target`, `unauthorized_client`, … RFC 6749 5.2, RFC 8707 2).
    RequestRefused,
    /// The authorization server answered, but not with a token that can be used. One such answer is no verdict: it is
    /// retried with backoff.
    InvalidResponse,
    /// No token came before the caller's deadline, and no attempt had failed by then.
    Timeout,
    /// The request would have carried the token to an origin that is not trusted. Nothing was sent.
    UntrustedOrigin,
    /// The client was set up wrongly.
    Configuration,
    /// The client was shut down.
    Closed,
    /// The API itself, not the authorization server: the call could not be sent, its answer could not be read, or the answer
    /// was a 4xx or 5xx under `error_for_status`.
    Api,
}

impl ErrorKind {
    /// Returns the stable name of the kind in snake case, such as `credentials_rejected`: the label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsRejected => "credentials_rejected",
            Self::CredentialsUnavailable => "credentials_unavailable",
            Self::AuthServerUnavailable => "auth_server_unavailable",
            Self::Throttled => "throttled",
            Self::RequestRefused => "request_refused",
            Self::InvalidResponse => "invalid_response",
            Self::Timeout => "timeout",
            Self::UntrustedOrigin => "untrusted_origin",
            Self::Configuration => "configuration",
            Self::Closed => "closed",
            Self::Api => "api",
        }
    }
}

/// The one error type of this crate.
///
/// Its [`Display`](fmt::Display) is one line for the person who reads it at 3 a.m.: what failed, against which
/// server, with which OAuth error code, whether it mends itself, and when it is tried again. It never holds a
/// secret or a token.
///
/// ```
/// # fn handle(error: evertoken::Error) {
/// use evertoken::ErrorKind;
/// match error.kind() {
///     ErrorKind::CredentialsRejected => eprintln!("ask for a new key: {error}"),
///     _ if error.is_retryable() => eprintln!("again in {:?}: {error}", error.retry_after()),
///     _ => eprintln!("{error}"),
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    server: Option<String>,
    status: Option<u16>,
    oauth_error: Option<String>,
    description: Option<String>,
    retryable: bool,
    retry_after: Option<Duration>,
    advice: Option<Cow<'static, str>>,
    /// The server throttles this client, and no other.
    of_client: bool,
    /// The server looked for the client's id or secret in the form body.
    wants_body: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether it may mend without anybody changing the program, the credential or the server's settings. For a call
    /// to the API ([`ErrorKind::Api`]): whether the same call may be sent again. It may if its method is idempotent
    /// (RFC 9110 9.2.2) and the API could not be reached, broke off, took too long or answered 5xx; with any method if it was
    /// certainly not carried out: no connection was made, or the API answered 408, 425, 429, or 503 with `Retry-After`. A
    /// `POST` that may have been carried out is not retryable.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns whether a time limit ran out: that of the wait for a token, or that of a call to the API.
    pub fn is_timeout(&self) -> bool {
        let cause = self.0.source.as_deref().and_then(|source| source.downcast_ref::<reqwest::Error>());
        self.kind() == ErrorKind::Timeout || cause.is_some_and(reqwest::Error::is_timeout)
    }

    /// Returns when it is worth trying again: the time to the refresher's next attempt, or for a call to the API what its
    /// answer asks for (`Retry-After`, RFC 9110 10.2.3; at 429 also the reset of its rate limit).
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The OAuth error code as the authorization server gave it, such as `invalid_client` (RFC 6749 5.2).
    pub fn oauth_error(&self) -> Option<&str> {
        self.0.oauth_error.as_deref()
    }

    /// The server's `error_description`, at most 200 characters, without control characters and our secrets.
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// The server it happened with: scheme, host, port and path, never a query or user information.
    pub fn server(&self) -> Option<&str> {
        self.0.server.as_deref()
    }

    /// The HTTP status with which the server answered, where it answered.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(
            kind,
            ErrorKind::CredentialsUnavailable
                | ErrorKind::AuthServerUnavailable
                | ErrorKind::InvalidResponse
                | ErrorKind::Throttled
                | ErrorKind::Timeout
        );
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            server: None,
            status: None,
            oauth_error: None,
            description: None,
            retryable,
            retry_after: None,
            advice: None,
            of_client: false,
            wants_body: false,
            source: None,
        }))
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the client was shut down").advice("create a new client")
    }

    pub(crate) fn expired_on_arrival() -> Self {
        Self::new(
            ErrorKind::InvalidResponse,
            "the authorization server gave a token that had expired on arrival",
        )
        .advice("look at the server's clock and at the lifetime that it gives")
    }

    pub(crate) fn with_server(mut self, server: impl Into<String>) -> Self {
        self.0.server = Some(server.into());
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_oauth(mut self, code: Option<String>, description: Option<String>) -> Self {
        self.0.oauth_error = code;
        self.0.description = description;
        self
    }

    /// Blames the server for what would be a mistake of the configuration if the user had given it.
    pub(crate) fn given_by_server(mut self) -> Self {
        self.0.kind = ErrorKind::InvalidResponse;
        self.retryable(true)
    }

    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after;
        self
    }

    /// What the reader can do about it, where it does not mend itself.
    pub(crate) fn advice(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Makes what waiting may cure of an error about a source of credentials.
    pub(crate) fn unavailable(mut self) -> Self {
        self.0.kind = ErrorKind::CredentialsUnavailable;
        self.retryable(true)
    }

    /// Rewrites message and advice, which name options, and leaves out the address, which is the value of one.
    pub(crate) fn reworded(mut self, reword: impl Fn(&str) -> String) -> Self {
        self.0.server = None;
        self.0.message = reword(&self.0.message);
        self.0.advice = self.0.advice.map(|advice| reword(&advice).into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn of_client(mut self, of_client: bool) -> Self {
        self.0.of_client = of_client;
        self
    }

    /// Whether the server throttles this one client by a quota of its own, as far as it says so.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only who has many clients can go by it"))]
    pub(crate) fn is_of_client(&self) -> bool {
        self.0.of_client
    }

    pub(crate) fn wanting_body(mut self, wants_body: bool) -> Self {
        self.0.wants_body = wants_body;
        self
    }

    /// Returns whether the server looked for the client's id or secret in the form body and may not have found them.
    pub(crate) fn wants_body(&self) -> bool {
        self.0.wants_body
    }

    /// Returns what happened, without what comes of it and what to do.
    pub(crate) fn facts(&self) -> String {
        let Inner { message, server, oauth_error, description, .. } = &*self.0;
        let server = server.as_ref().map(|server| format!(" [{server}]")).unwrap_or_default();
        let said = match (oauth_error, description) {
            (Some(code), Some(text)) => format!(": {code} ({text})"),
            (Some(said), None) | (None, Some(said)) => format!(": {said}"),
            (None, None) => String::new(),
        };
        format!("{message}{server}{said}")
    }

    /// Returns what to do, if the error says so.
    pub(crate) fn advice_given(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// Says behind what failed why it did; kind and all particulars stay.
    pub(crate) fn because(mut self, why: impl fmt::Display) -> Self {
        self.0.message = format!("{}: {why}", self.0.message);
        self
    }

    /// Says in front what the caller was waiting for; kind and all particulars stay.
    pub(crate) fn prefixed(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, retryable, retry_after, advice, .. } = &*self.0;
        f.write_str(&self.facts())?;
        match (retryable, retry_after) {
            // Nobody repeats a call to the API but its caller.
            (true, Some(after)) if *kind == ErrorKind::Api => {
                write!(f, "; retryable after {}", Rounded(*after))?;
            }
            (true, None) if *kind == ErrorKind::Api => f.write_str("; retryable")?,
            (false, _) if *kind == ErrorKind::Api => f.write_str("; not retryable")?,
            (true, Some(after)) => write!(f, "; tried again in {}", Rounded(*after))?,
            (true, None) => f.write_str("; may mend by itself")?,
            (false, Some(after)) => {
                write!(f, "; does not mend by itself, looked at again in {}", Rounded(*after))?;
            }
            (false, None) => f.write_str("; does not mend by itself")?,
        }
        match advice {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

/// A duration as a person says it.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            s if s < 10.0 => write!(f, "{s:.1} s"),
            s if s < 600.0 => write!(f, "{s:.0} s"),
            s => write!(f, "{:.0} min", s / 60.0),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("message", &self.to_string());
        if let Some(status) = self.0.status {
            out.field("status", &status);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// An API call that was sent by `reqwest` itself. Its method is unknown, so that
/// [`is_retryable`](Error::is_retryable) is true only if the API has certainly not acted on it. The query is left out of the
/// URL, since it may hold secrets.
impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        crate::api_error::call_failed(error, crate::api_error::Effect::PerSending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_where_code_and_when() {
        let error =
            Error::new(ErrorKind::CredentialsRejected, "the authorization server refused the credential")
                .with_server("https://as.example/token")
                .with_oauth(Some("invalid_client".into()), Some("no such client".into()))
                .with_retry_after(Some(Duration::from_secs(212)))
                .advice("check app id and secret");
        assert_eq!(
            error.to_string(),
            "the authorization server refused the credential [https://as.example/token]: invalid_client (no such \
             client); does not mend by itself, looked at again in 212 s: check app id and secret"
        );
    }

    #[test]
    fn an_error_is_small_and_shared() {
        fn is<T: Send + Sync + Clone + 'static>() {}
        is::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
