use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::discovery::Discovery;
use super::fault::Faults;
use super::in_flight::InFlight;
use super::issued::Issued;
use super::keys::KeyRing;
use super::log::Log;
use super::quota::Quota;
use crate::grant::proof::Seen;

/// Everything that the handlers of both listeners share with the [`AuthServer`](super::AuthServer).
pub(super) struct State {
    pub(super) issuer: String,
    /// The issuer's path, without a slash at its end.
    pub(super) path: String,
    pub(super) audience: String,
    pub(super) keys: KeyRing,
    /// With the secrets that are good for them.
    pub(super) clients: Mutex<HashMap<String, Vec<String>>>,
    pub(super) issued: Issued,
    pub(super) settings: Mutex<Settings>,
    pub(super) quota: Quota,
    pub(super) faults: Faults,
    pub(super) api_faults: Faults,
    pub(super) revocation_faults: Faults,
    pub(super) introspection_faults: Faults,
    pub(super) jwks_faults: Faults,
    pub(super) in_flight: InFlight,
    pub(super) log: Log,
    /// The DPoP proofs that the token endpoint and the API have taken.
    pub(super) proofs: Seen,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) lifetime: Duration,
    pub(super) latency: Duration,
    pub(super) api_latency: Duration,
    pub(super) raw_basic: bool,
    pub(super) same_token: bool,
    pub(super) answer: Option<Value>,
    pub(super) discovery: Discovery,
    pub(super) announced_issuer: Option<String>,
    pub(super) announced_auth_methods: Vec<String>,
    pub(super) dpop_required: bool,
    pub(super) token_nonce: Option<String>,
    pub(super) api_nonce: Option<String>,
    pub(super) announced_revocation: bool,
    pub(super) opaque: bool,
    pub(super) jwks: Option<Value>,
}

impl State {
    pub(super) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }
}

/// A test that panicked must not make the others' locks unusable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
