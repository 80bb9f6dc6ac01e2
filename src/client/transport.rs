//! The connections of API calls.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::redirect::Policy;
use tokio::runtime::{Handle, Id};

use super::connecting::CountConnections;
use crate::error::Result;
use crate::network::Network;
use crate::user_agent;

/// For how long a connection without calls is kept: less than any usual server keeps it (Node.js 5 s, load balancers 60 s), so
/// that no call is sent on a connection that the server is closing.
const IDLE: Duration = Duration::from_secs(4);

/// Of which runtime a transport is, and what it follows.
type Key = (Option<Id>, Redirects);

/// A client costs milliseconds and a hundred KiB, most of it for the certificates.
static SHARED: Mutex<Vec<(Key, Weak<reqwest::Client>)>> = Mutex::new(Vec::new());

/// Which redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    /// Those of [`redirect_policy`].
    Guarded,
    /// None: a DPoP proof is good for one URL only.
    Never,
}

/// The transport that all clients of a runtime share as long as there is one. Not those of another runtime: its end
/// would break the calls that are on a shared connection of its own.
pub(super) fn shared(redirects: Redirects) -> Result<Arc<reqwest::Client>> {
    let key = (Handle::try_current().ok().map(|handle| handle.id()), redirects);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.retain(|(_, client)| client.strong_count() > 0);
    let known = shared.iter().find(|(known, _)| *known == key);
    if let Some(client) = known.and_then(|(_, client)| client.upgrade()) {
        return Ok(client);
    }
    let client = Arc::new(new(&Network::default(), redirects)?);
    shared.push((key, Arc::downgrade(&client)));
    Ok(client)
}

pub(super) fn new(network: &Network, redirects: Redirects) -> Result<reqwest::Client> {
    let policy = || match redirects {
        Redirects::Guarded => redirect_policy(),
        Redirects::Never => Policy::none(),
    };
    let set = |client: reqwest::ClientBuilder| {
        client
            .redirect(policy())
            .pool_idle_timeout(IDLE)
            .connector_layer(CountConnections)
            // A query may hold what the next host need not know.
            .referer(false)
            .user_agent(user_agent::OURS)
    };
    network.build(set).map(|(client, _)| client)
}

/// The redirects that API calls follow: at most 10, and none further once one has led to another origin.
///
/// reqwest takes the `Authorization` header away at the step to another origin, but compares only with the step
/// before, and so puts it back on at the next step within that other origin. This policy makes that step an error. It
/// is part of the default transport; use it for an `http_client` of your own, and for one below `TokenMiddleware`
/// (feature `middleware`).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let http = evertoken::reqwest::Client::builder().redirect(evertoken::redirect_policy()).build()?;
/// # Ok(()) }
/// ```
pub fn redirect_policy() -> Policy {
    Policy::custom(|attempt| match attempt.previous() {
        [first, .., last] if first.origin() != last.origin() => {
            attempt.error("a redirect from an origin that the token is not for")
        }
        _ => Policy::default().redirect(attempt),
    })
}
