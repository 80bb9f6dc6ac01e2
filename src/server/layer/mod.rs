//! Credentials of any kind in, a known caller out: for any service that takes HTTP requests.

mod answer;
mod doorman;
mod extract;
mod scope;
mod service;

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use tower_layer::Layer;

use super::exchange::Exchange;
use super::usage::Usage;
use super::verifier::Verifier;
use crate::error::{Error, Result};
use answer::Challenges;
use doorman::{Doorman, Keys};

pub use scope::{RequireScope, ScopeService};
pub use service::CallerService;

/// A tower layer that lets a request through if it is known who sends it, and puts the [`Caller`](super::Caller) into its
/// extensions.
///
/// It takes access tokens in the `Authorization` header, as `Bearer` (RFC 6750) and `DPoP` (RFC 9449); and, with
/// [`exchange`](Self::exchange), app id and secret as `Basic` (RFC 7617) and a one-string API key in `X-Api-Key`, as a
/// `Bearer` token or as the user name of `Basic`, whose password is then ignored. Nothing
/// is taken from the query. What came as a secret is taken off the request, so that what lies behind does not see it.
///
/// # What it answers
///
/// | | status | |
/// |---|---|---|
/// | no credentials | 401 | a challenge without an error code (RFC 6750 3.1) |
/// | several, or malformed ones | 400 | `invalid_request` |
/// | a token that is no good | 401 | `invalid_token`, or `invalid_dpop_proof` (RFC 9449 7.1) |
/// | app id and secret that do not fit | 401 | `invalid_client`, the same for an unknown app id as for a wrong secret |
/// | a scope is missing | 403 | `insufficient_scope`, with the scopes that are needed |
/// | too many refused secrets, or the authorization server asks for patience | 429 | `Retry-After` |
/// | the authorization server is away, and nothing that is held decides | 503 | `Retry-After` |
/// | the key that signed a token may be too new to be known here | 503 | `Retry-After` |
///
/// All of them have `Cache-Control: no-store`, and a JSON body of `error` and `error_description`. The body of the answers
/// must be one that is made of [`Bytes`](bytes::Bytes), as axum's and `http_body_util::Full` are.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use evertoken::server::{Caller, CallerLayer, Exchange, RequireScope, Verifier};
///
/// # fn run() -> Result<Router, Box<dyn std::error::Error>> {
/// let issuer = "https://acme.eu.auth0.com/";
/// let verifier = Verifier::builder(issuer).audience("https://api.acme.com").build()?;
/// let exchange = Exchange::builder(issuer).audience("https://api.acme.com").build()?;
/// let app = Router::new()
///     .route("/orders", get(|caller: Caller| async move { format!("orders of {}", caller.app_id()) }))
///     .layer(RequireScope::new("orders:read")?)
///     .layer(CallerLayer::new(verifier).exchange(exchange));
/// # Ok(app) }
/// ```
#[derive(Clone)]
pub struct CallerLayer(Arc<Doorman>);

impl CallerLayer {
    /// A layer that takes access tokens.
    pub fn new(verifier: Verifier) -> Self {
        let challenges = Arc::new(Challenges::new(verifier.realm(), verifier.takes_proofs()));
        Self(Arc::new(Doorman {
            verifier,
            exchange: None,
            keys: None,
            forward: false,
            optional: false,
            usage: None,
            challenges,
        }))
    }

    /// Takes app id and secret as well, by `Basic` and as an API key in `X-Api-Key`, and exchanges them for a token. The
    /// exchange must ask for tokens that the verifier takes: for its audience.
    pub fn exchange(self, exchange: Exchange) -> Self {
        self.with(|doorman| {
            doorman.exchange = Some(exchange);
            doorman.keys.get_or_insert_with(Keys::default);
            Arc::make_mut(&mut doorman.challenges).basic = true;
        })
    }

    /// The header in which API keys come: `x-api-key` by default.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where it is no header's name, or is `authorization`.
    pub fn api_key_header(self, name: &str) -> Result<Self> {
        let header = HeaderName::try_from(name).ok().filter(|header| *header != http::header::AUTHORIZATION);
        let header =
            header.ok_or_else(|| Error::configuration("the header for API keys has no usable name"))?;
        Ok(self.with(|doorman| doorman.keys.get_or_insert_with(Keys::default).header = header))
    }

    /// Takes API keys of this prefix only, such as `acme_live`: those of another service or environment are then refused
    /// without asking the authorization server.
    pub fn api_key_prefix(self, prefix: impl Into<String>) -> Self {
        self.with(|doorman| doorman.keys.get_or_insert_with(Keys::default).prefix = Some(prefix.into()))
    }

    /// Puts the access token on the request, as `Authorization: Bearer`, for the services behind. One that came as a token
    /// stays as it came; by default one that was got by an exchange is not shown.
    pub fn forward_token(self) -> Self {
        self.with(|doorman| doorman.forward = true)
    }

    /// Lets requests through that have no credentials at all; they have no [`Caller`](super::Caller). Those with bad
    /// ones are refused all the same.
    pub fn optional(self) -> Self {
        self.with(|doorman| doorman.optional = true)
    }

    /// What challenges call the API: the verifier's first audience by default.
    pub fn realm(self, realm: &str) -> Self {
        self.with(|doorman| realm.clone_into(&mut Arc::make_mut(&mut doorman.challenges).realm))
    }

    /// The address of the API's metadata (RFC 9728 3), which challenges then name: clients find the authorization server
    /// by it.
    pub fn resource_metadata(self, url: &str) -> Self {
        self.with(|doorman| Arc::make_mut(&mut doorman.challenges).resource_metadata = Some(url.to_owned()))
    }

    /// Counts each call, accepted or refused.
    pub fn usage(self, usage: &Usage) -> Self {
        self.with(|doorman| doorman.usage = Some(usage.clone()))
    }

    fn with(self, change: impl FnOnce(&mut Doorman)) -> Self {
        let mut doorman = Arc::unwrap_or_clone(self.0);
        change(&mut doorman);
        Self(Arc::new(doorman))
    }
}

impl<S> Layer<S> for CallerLayer {
    type Service = CallerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerService { doorman: self.0.clone(), inner }
    }
}

impl fmt::Debug for CallerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallerLayer").field(&self.0).finish()
    }
}
