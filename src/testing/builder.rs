use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use super::discovery::{self, Discovery};
use super::fault::Faults;
use super::in_flight::InFlight;
use super::issued::Issued;
use super::keys::{KeyRing, Signing};
use super::listen::Bound;
use super::log::Log;
use super::quota::Quota;
use super::server::{AuthServer, Handle};
use super::state::{Settings, State};
use super::{api, introspection, publication, revocation, token};
use crate::grant::proof::Seen;

/// The largest request body that the API takes.
const API_BODY_LIMIT: usize = 16 << 20;

/// What an [`AuthServer`] is to be; [`AuthServer::builder`] gives one.
#[derive(Clone)]
pub struct AuthServerBuilder {
    lifetime: Duration,
    audience: String,
    signing: Signing,
    path: String,
    clients: HashMap<String, String>,
}

impl fmt::Debug for AuthServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthServerBuilder")
            .field("lifetime", &self.lifetime)
            .field("audience", &self.audience)
            .field("signing", &self.signing)
            .field("path", &self.path)
            .field("clients", &self.clients.keys())
            .finish()
    }
}

impl AuthServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            lifetime: Duration::from_secs(3600),
            audience: "https://api.example".to_owned(),
            signing: Signing::default(),
            path: String::new(),
            clients: HashMap::from([(AuthServer::APP_ID.to_owned(), AuthServer::APP_SECRET.to_owned())]),
        }
    }

    /// How long tokens live: 3600 s by default. The API refuses a token at exactly that age, fractions of a second
    /// included; `expires_in` is a whole number where the lifetime is.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The audience that the API asks of a token, and that a token gets whose request names none:
    /// `https://api.example` by default.
    pub fn audience(mut self, audience: &str) -> Self {
        audience.clone_into(&mut self.audience);
        self
    }

    /// How tokens are signed: [`Signing::Rs256`] by default.
    pub fn signing(mut self, signing: Signing) -> Self {
        self.signing = signing;
        self
    }

    /// The path of the issuer, such as `/tenant`, of letters, digits, `-._~` and slashes: none by default.
    pub fn path(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.path = if path.is_empty() { String::new() } else { format!("/{path}") };
        self
    }

    /// One more client beside [`AuthServer::APP_ID`], or another secret for that one.
    pub fn client(mut self, id: &str, secret: &str) -> Self {
        self.clients.insert(id.to_owned(), secret.to_owned());
        self
    }

    /// Starts the server on the current tokio runtime, on two free ports.
    ///
    /// # Errors
    /// Where no port can be bound, no key be made, or the path is not one.
    pub async fn start(self) -> io::Result<AuthServer> {
        // The router panics on what it takes for its own syntax.
        if !self.path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the issuer's path has other characters",
            ));
        }
        let auth = Bound::new()?;
        let api = Bound::new()?;
        let state = Arc::new(State {
            issuer: format!("http://{}{}", auth.address(), self.path),
            path: self.path,
            audience: self.audience,
            keys: KeyRing::new(self.signing)?,
            clients: Mutex::new(self.clients.into_iter().map(|(id, secret)| (id, vec![secret])).collect()),
            issued: Issued::default(),
            settings: Mutex::new(Settings {
                lifetime: self.lifetime,
                latency: Duration::ZERO,
                api_latency: Duration::ZERO,
                raw_basic: false,
                same_token: false,
                answer: None,
                discovery: Discovery::Both,
                announced_issuer: None,
                announced_auth_methods: vec!["client_secret_basic".into(), "client_secret_post".into()],
                dpop_required: false,
                token_nonce: None,
                api_nonce: None,
                announced_revocation: true,
                opaque: false,
                jwks: None,
            }),
            quota: Quota::default(),
            faults: Faults::default(),
            api_faults: Faults::default(),
            revocation_faults: Faults::default(),
            introspection_faults: Faults::default(),
            jwks_faults: Faults::default(),
            in_flight: InFlight::default(),
            log: Log::new(),
            proofs: Seen::with_room(100_000),
        });
        let auth_router = Router::new()
            .route(&format!("{}/token", state.path), post(token::answer))
            .route(&format!("{}/revoke", state.path), post(revocation::answer))
            .route(&format!("{}/introspect", state.path), post(introspection::answer))
            .route(&format!("{}/jwks", state.path), get(publication::answer))
            .fallback(discovery::answer)
            .with_state(state.clone());
        let api_router = Router::new()
            .fallback(api::answer)
            .layer(DefaultBodyLimit::max(API_BODY_LIMIT))
            .with_state(state.clone());
        let api_url = format!("http://{}/v1/", api.address());
        Ok(AuthServer(Arc::new(Handle {
            state,
            auth: auth.serve(auth_router)?,
            _api: api.serve(api_router)?,
            api_url,
        })))
    }
}
