//! The server's keys, as it publishes them, and what it signs and says of tokens for the tests of those who verify them.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::HeaderMap;
use serde_json::{Value, json};

use super::fault::Fault;
use super::listen::Connection;
use super::server::AuthServer;
use super::state::State;
use super::token::{delay, merge};

/// The key set (RFC 7517 5).
pub(super) async fn answer(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let entry = state.log.arrived(format!("GET {}/jwks", state.path), &headers);
    state.log.count(|counts| counts.jwks_requests += 1);
    let (fault, late) = state.jwks_faults.next();
    delay(late).await;
    let response = match fault {
        Some(fault) => fault.play(&connection, "", ()).await,
        None => Json(state.settings().jwks.unwrap_or_else(|| state.keys.jwks())).into_response(),
    };
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

impl AuthServer {
    /// Signs with a new key from now on. The old ones stay in the JWKS, and their tokens stay valid.
    ///
    /// # Errors
    /// Where no key can be made.
    pub fn rotate_keys(&self) -> io::Result<()> {
        self.state().keys.rotate()
    }

    /// Publishes the newest key alone from now on; tokens that others signed are no longer valid.
    pub fn drop_old_keys(&self) {
        self.state().keys.drop_old();
    }

    /// What is published as the JWKS from now on; with `None` the server's own keys, which is the default.
    pub fn set_jwks(&self, document: Option<Value>) {
        self.set(|settings| settings.jwks = document);
    }

    /// The server's public keys, as it publishes them (RFC 7517 5).
    pub fn jwks(&self) -> Value {
        self.state().keys.jwks()
    }

    /// How many requests for the public keys came, however they ended.
    pub fn jwks_requests(&self) -> u64 {
        self.state().log.counts().jwks_requests
    }

    /// Spoils the next request for the public keys that no earlier call of this has claimed.
    pub fn fail_next_jwks(&self, fault: Fault) {
        self.state().jwks_faults.push(fault);
    }

    /// Spoils all requests for the public keys that [`AuthServer::fail_next_jwks`] does not, until [`AuthServer::heal`].
    pub fn fail_always_jwks(&self, fault: Fault) {
        self.state().jwks_faults.always(fault);
    }

    /// Spoils the next introspection request that no earlier call of this has claimed.
    pub fn fail_next_introspection(&self, fault: Fault) {
        self.state().introspection_faults.push(fault);
    }

    /// With `true`, tokens are no JWTs from now on: only introspection tells what they stand for. `false` by default.
    pub fn set_opaque(&self, opaque: bool) {
        self.set(|settings| settings.opaque = opaque);
    }

    /// A token as the server would sign it for [`AuthServer::APP_ID`] now, to live for an hour, with members of its header
    /// and its claims changed: those of an object are put in, those that are `null` taken out. The server does not know
    /// it: its own API and introspection refuse it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> std::io::Result<()> {
    /// # use serde_json::json;
    /// # let server = evertoken::testing::AuthServer::start().await?;
    /// let foreign = server.sign(json!({}), json!({ "iss": "https://elsewhere.example" }))?;
    /// # drop(foreign); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where the key does not sign.
    pub fn sign(&self, header: Value, claims: Value) -> io::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut all = json!({
            "iss": self.issuer(),
            "sub": Self::APP_ID,
            "client_id": Self::APP_ID,
            "aud": self.audience(),
            "iat": now,
            "exp": now + 3600,
            "jti": "signed-by-hand",
        });
        merge(&mut all, Some(&claims));
        self.state().keys.sign_as(&header, &all)
    }
}
