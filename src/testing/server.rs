use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::builder::AuthServerBuilder;
use super::discovery::Discovery;
use super::fault::Fault;
use super::listen::Door;
use super::log::LogEntry;
use super::state::{Settings, State, lock};

/// An OAuth 2.0 authorization server on `127.0.0.1`, with a protected API beside it on a port of its own.
///
/// It runs in tasks on the tokio runtime that started it. Clones are handles to the same server; with the last of
/// them its sockets close and its tasks end. The [module](super) shows it at work.
#[derive(Clone)]
pub struct AuthServer(pub(super) Arc<Handle>);

pub(super) struct Handle {
    pub(super) state: Arc<State>,
    pub(super) auth: Door,
    /// Held for what its end does.
    pub(super) _api: Door,
    pub(super) api_url: String,
}

impl fmt::Debug for AuthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthServer")
            .field("issuer", &self.issuer())
            .field("api_url", &self.api_url())
            .field("is_out", &self.is_out())
            .field("token_requests", &self.token_requests())
            .finish_non_exhaustive()
    }
}

impl AuthServer {
    /// The client that every server knows.
    pub const APP_ID: &str = "app";
    /// The secret of [`AuthServer::APP_ID`], until it is rotated.
    pub const APP_SECRET: &str = "secret";

    /// A server with all defaults; see [`AuthServerBuilder`] for them.
    ///
    /// # Errors
    /// Where no port can be bound, or no key be made.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A server to be.
    pub fn builder() -> AuthServerBuilder {
        AuthServerBuilder::new()
    }

    /// The issuer (RFC 8414 2): `http://127.0.0.1:PORT` and the path, without a slash at the end.
    pub fn issuer(&self) -> String {
        self.state().issuer.clone()
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.state().issuer)
    }

    /// The revocation endpoint (RFC 7009). What is revoked there is refused by the API; a token of another client is
    /// not (`unauthorized_client`).
    pub fn revocation_url(&self) -> String {
        format!("{}/revoke", self.state().issuer)
    }

    /// The introspection endpoint (RFC 7662), which tells any client about any token.
    pub fn introspection_url(&self) -> String {
        format!("{}/introspect", self.state().issuer)
    }

    /// The public keys (RFC 7517).
    pub fn jwks_url(&self) -> String {
        format!("{}/jwks", self.state().issuer)
    }

    /// The base URL of the protected API: `http://127.0.0.1:PORT/v1/`, another port than the issuer's.
    ///
    /// Under it every path and method answers, with a valid token, JSON of `path`, `query`, `method`, `client_id`,
    /// `headers` (without `Authorization`) and `body`; without, a 401 with a `Bearer` challenge (RFC 6750 3), or a `DPoP`
    /// one (RFC 9449 7.1) for a token that is bound to a key. Some
    /// paths do otherwise: `always-401` and `forbidden` (a 403) refuse every token, `redirect?to=URL` is a 307,
    /// and `public` asks for no token and tells in `authorization` whether it was sent an `Authorization` header.
    pub fn api_url(&self) -> String {
        self.0.api_url.clone()
    }

    /// The audience that the API asks of a token.
    pub fn audience(&self) -> String {
        self.state().audience.clone()
    }

    /// Adds a client.
    pub fn register(&self, id: &str, secret: &str) {
        lock(&self.state().clients).insert(id.to_owned(), vec![secret.to_owned()]);
    }

    /// Gives a client one more secret, beside those that it has: a rotation with overlap begins. [`AuthServer::rotate`]
    /// ends it.
    pub fn add_secret(&self, id: &str, secret: &str) {
        lock(&self.state().clients).entry(id.to_owned()).or_default().push(secret.to_owned());
    }

    /// Gives a client another secret. All others are refused from now on; tokens live on.
    pub fn rotate(&self, id: &str, new_secret: &str) {
        self.register(id, new_secret);
    }

    /// Takes a client away. Its tokens live on.
    pub fn remove(&self, id: &str) {
        lock(&self.state().clients).remove(id);
    }

    /// How long tokens live from now on; see [`AuthServerBuilder::lifetime`].
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.set(|settings| settings.lifetime = lifetime);
    }

    /// By how much the token endpoint's answers are late: 0 by default. Whether a request is granted, and when its
    /// token expires, is decided when the request comes.
    pub fn set_latency(&self, latency: Duration) {
        self.set(|settings| settings.latency = latency);
    }

    /// By how much the API's answers are late: 0 by default. A token is checked when the call comes.
    pub fn set_api_latency(&self, latency: Duration) {
        self.set(|settings| settings.api_latency = latency);
    }

    /// With `true`, id and secret are taken from HTTP Basic as they are, as some servers do, instead of form-decoded
    /// (RFC 6749 2.3.1), which is the default.
    pub fn set_raw_basic(&self, raw: bool) {
        self.set(|settings| settings.raw_basic = raw);
    }

    /// With `true`, a client gets its token again for as long as that lives, `expires_in` being what is left, even
    /// where it was revoked. `false` by default.
    pub fn set_same_token(&self, same: bool) {
        self.set(|settings| settings.same_token = same);
    }

    /// Grants so many tokens in each period from now on, all clients together, then answers 429 until the next one
    /// begins, and says in `Auth0-Client-Quota-Limit` what is left. Without end by default.
    pub fn set_quota(&self, limit: u64, period: Duration) {
        self.state().quota.set(limit, period);
    }

    /// Changes the token endpoint's success answers from now on: the fields of an object are put in, those that are
    /// `null` are taken out. Anything but an object is the answer itself.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> std::io::Result<()> {
    /// # let server = evertoken::testing::AuthServer::start().await?;
    /// server.answer_with(serde_json::json!({ "expires_in": "3600", "token_type": null }));
    /// # Ok(()) }
    /// ```
    pub fn answer_with(&self, json: Value) {
        self.set(|settings| settings.answer = Some(json));
    }

    /// Where the metadata is published: [`Discovery::Both`] by default.
    pub fn set_discovery(&self, discovery: Discovery) {
        self.set(|settings| settings.discovery = discovery);
    }

    /// What the metadata says the issuer is: [`AuthServer::issuer`] by default.
    pub fn set_announced_issuer(&self, issuer: &str) {
        self.set(|settings| settings.announced_issuer = Some(issuer.to_owned()));
    }

    /// What the metadata says in `token_endpoint_auth_methods_supported`: `client_secret_basic` and
    /// `client_secret_post` by default, which both work whatever is announced. An empty list leaves the field out.
    pub fn set_announced_auth_methods(&self, methods: &[&str]) {
        self.set(|settings| {
            settings.announced_auth_methods = methods.iter().map(|&method| method.to_owned()).collect();
        });
    }

    /// With `true`, the token endpoint wants a DPoP proof (RFC 9449 5) and the API takes no Bearer token; `false` by
    /// default. A token that was asked for with a proof is bound to its key either way, and the API takes it with a proof
    /// by that key only. Proofs are verified as RFC 9449 4.3 says: by ES256 or EdDSA, not 60 s off, and each once.
    pub fn set_dpop_required(&self, required: bool) {
        self.set(|settings| settings.dpop_required = required);
    }

    /// The nonce that the token endpoint wants in DPoP proofs from now on (RFC 9449 8), and has in its answers: none by
    /// default.
    pub fn set_token_nonce(&self, nonce: Option<&str>) {
        self.set(|settings| settings.token_nonce = nonce.map(str::to_owned));
    }

    /// The same for the API (RFC 9449 9).
    pub fn set_api_nonce(&self, nonce: Option<&str>) {
        self.set(|settings| settings.api_nonce = nonce.map(str::to_owned));
    }

    /// Whether the metadata names the revocation endpoint, which is there in any case: `true` by default.
    pub fn set_announced_revocation(&self, announced: bool) {
        self.set(|settings| settings.announced_revocation = announced);
    }

    /// Revokes a token: the API refuses it from now on.
    pub fn revoke(&self, token: &str) {
        self.state().issued.revoke(token);
    }

    /// Revokes all tokens that were issued until now.
    pub fn revoke_all(&self) {
        self.state().issued.revoke_all();
    }

    /// Whether the API would accept this token now.
    pub fn accepts(&self, token: &str) -> bool {
        self.state().check(token).is_some()
    }

    /// All tokens that were issued, the oldest first.
    pub fn issued_tokens(&self) -> Vec<String> {
        self.state().issued.all()
    }

    /// Spoils the next token request that no earlier call of this has claimed.
    pub fn fail_next(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Spoils all token requests that [`AuthServer::fail_next`] does not, until [`AuthServer::heal`].
    pub fn fail_always(&self, fault: Fault) {
        self.state().faults.always(fault);
    }

    /// Spoils the next call of the API that no earlier call of this has claimed.
    pub fn fail_next_api(&self, fault: Fault) {
        self.state().api_faults.push(fault);
    }

    /// Spoils the next revocation request that no earlier call of this has claimed.
    pub fn fail_next_revocation(&self, fault: Fault) {
        self.state().revocation_faults.push(fault);
    }

    /// Takes back what [`AuthServer::fail_next`], [`AuthServer::fail_always`], [`AuthServer::fail_next_api`],
    /// [`AuthServer::fail_next_revocation`], [`AuthServer::fail_next_introspection`], [`AuthServer::fail_next_jwks`],
    /// [`AuthServer::fail_always_jwks`] and [`AuthServer::answer_with`] asked for. Requests that hang already hang
    /// on.
    pub fn heal(&self) {
        self.state().faults.clear();
        self.state().revocation_faults.clear();
        self.state().api_faults.clear();
        self.state().introspection_faults.clear();
        self.state().jwks_faults.clear();
        self.set(|settings| settings.answer = None);
    }

    /// Takes the authorization server off the net: its socket is closed when this returns, connections are dropped,
    /// and new ones refused. The API stays.
    pub fn outage(&self) {
        self.0.auth.close();
    }

    /// Ends an [`AuthServer::outage`], at the same port.
    ///
    /// # Errors
    /// Where the port cannot be bound again.
    pub async fn recover(&self) -> io::Result<()> {
        self.0.auth.reopen()
    }

    /// Whether there is an outage.
    pub fn is_out(&self) -> bool {
        !self.0.auth.is_open()
    }

    /// How many token requests came, however they ended.
    pub fn token_requests(&self) -> u64 {
        self.state().log.token_requests()
    }

    /// Waits until so many token requests have come since the start or [`AuthServer::reset_counters`].
    pub async fn wait_for_token_requests(&self, n: u64) {
        self.state().log.wait_for_token_requests(n).await;
    }

    /// How many requests for metadata came, the unanswered included.
    pub fn discovery_requests(&self) -> u64 {
        self.state().log.counts().discovery_requests
    }

    /// How many revocation requests came, however they ended.
    pub fn revocations(&self) -> u64 {
        self.state().log.counts().revocations
    }

    /// How many introspection requests came, however they ended.
    pub fn introspections(&self) -> u64 {
        self.state().log.counts().introspections
    }

    /// The most token requests that were handled at once, hanging ones included whose client is still there.
    pub fn max_in_flight(&self) -> u64 {
        self.state().in_flight.max()
    }

    /// How many calls the API received.
    pub fn api_calls(&self) -> u64 {
        self.state().log.counts().api_calls
    }

    /// How many calls the API answered with a 401.
    pub fn api_refused(&self) -> u64 {
        self.state().log.counts().api_refused
    }

    /// The last 10,000 requests in the order in which they came, those to the API included.
    pub fn log(&self) -> Vec<LogEntry> {
        self.state().log.entries()
    }

    /// Sets all counters to 0 and empties the log.
    pub fn reset_counters(&self) {
        self.state().log.reset();
        self.state().in_flight.reset();
    }

    pub(super) fn state(&self) -> &State {
        &self.0.state
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.state().settings));
    }
}
