use std::time::{Duration, SystemTime};

use crate::error::Error;
use crate::grant::Quota;

/// In which state a token source is; [`Status::state`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// No token yet: not asked for, or the first one is on its way.
    Starting,
    /// A token is held and nothing is to do.
    Fresh,
    /// A request for a token is under way.
    Renewing,
    /// The last attempt failed. A held token is served on; the next attempt is planned.
    Degraded,
    /// The authorization server refuses the credential or the request; it is looked at again now and then.
    Rejected,
    /// Nobody read the token for as long as the policy says; the next read starts again.
    Idle,
    /// Shut down.
    Closed,
}

/// A picture of a token source at one moment. It holds no token.
///
/// A readiness check asks for a token if none is held. Without [`prefetch`](crate::TokenSource::prefetch) nothing is asked of
/// the authorization server before the first call, and nothing any more after
/// [`stop_after_unused`](crate::RenewalPolicy::stop_after_unused): a service that gets no traffic until it is ready would
/// never become ready.
///
/// ```
/// # fn ready(source: &evertoken::TokenSource) -> bool {
/// let is_ready = source.status().is_ready();
/// if !is_ready {
///     source.prefetch(); // does not wait; at most one request is under way, and backoff holds
/// }
/// is_ready
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The state.
    pub state: State,
    /// For how much longer the held token is handed out; `None` without a valid token.
    pub expires_in: Option<Duration>,
    /// How long ago the held token was asked for.
    pub age: Option<Duration>,
    /// The scope that was granted.
    pub scope: Option<String>,
    /// When a token was last received.
    pub last_renewal: Option<SystemTime>,
    /// What was left of the server's quota of tokens after the last renewal; `None` where it does not say.
    pub quota: Option<Quota>,
    /// The time to the next attempt, where one is planned.
    pub next_attempt: Option<Duration>,
    /// How many attempts in a row have failed.
    pub consecutive_failures: u32,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<Error>,
}

impl Status {
    /// Returns whether a valid token is held: the readiness check of a service. Reading it asks for no token, so that it stays
    /// false without a call or a [`prefetch`](crate::TokenSource::prefetch); see [`Status`].
    pub fn is_ready(&self) -> bool {
        self.expires_in.is_some()
    }
}
