//! A valid access token, always at hand.
//!
//! An API gives its customers an app id and an app secret (OAuth's `client_id` and `client_secret`); the API itself
//! wants short-lived access tokens. Evertoken is the code in between:
//!
//! ```no_run
//! # #[derive(serde::Deserialize)] struct Order;
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let api = evertoken::Client::builder("my-app", "my-secret")
//!     .issuer("https://acme.eu.auth0.com/")
//!     .audience("https://api.acme.com")
//!     .base_url("https://api.acme.com/v1/")
//!     .build()?;
//! let orders: Vec<Order> = api.get("orders").send().await?.json().await?;
//! # drop(orders); Ok(()) }
//! ```
//!
//! # How a token lives
//!
//! The first read starts a task, the refresher, which asks the authorization server for a token (RFC 6749 4.4) and
//! puts it into a slot. Every call reads the slot: one atomic load, one look at the clocks, one prebuilt header. At
//! *renew-at* (between 0.67 and 0.9 of the token's life, drawn once per token) the refresher asks for the next one,
//! while the held one serves on. A failed renewal costs nothing: the refresher tries again with jittered backoff,
//! and the token serves until *serve-until*, a leeway before its expiry. Only then do callers wait.
//!
//! At most one token request is in flight per source, whatever the number of callers. Where the API answers 401, the
//! token is renewed once and the call is sent once more, under a cooldown. A token is never served past its end, be it
//! that the machine was suspended or that its wall clock was set.
//!
//! # What to use
//!
//! - [`Client`]: an HTTP client for one API, over `reqwest`, which this crate re-exports.
//! - [`TokenSource`]: the token alone, for whatever carries your calls.
//! - `TokenLayer` and `TokenMiddleware` (feature `middleware`): the same for `tower` and `reqwest-middleware`.
//! - `blocking` (feature `blocking`): the same for programs without an async runtime.
//! - `server` (feature `server`): the other end, for the API itself: who calls, and may they?
//! - `testing` (feature `testing`): an authorization server in a box, with faults on command.
//! - [`Preset`]: all of this as the SDK of one API; [`guide::sdk`] tells how to ship it.
//!
//! # What it cannot do
//!
//! The buffers of the HTTP stack hold copies of secret and token that are not wiped; what this crate owns is. Tokens
//! are not shared between processes: each one asks for its own, and again after each start. How the client
//! authenticates is [`ClientAuth`]'s matter: by its secret, by a JWT signed with the secret or a private key, or by a
//! certificate. [`Dpop`] binds the tokens to a key.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api_error;
mod caught;
mod cause;
mod client;
mod clock;
mod credentials;
mod environment;
mod error;
mod grant;
pub mod guide;
#[cfg(feature = "middleware")]
mod middleware;
mod network;
mod origin;
mod padding;
mod proxies;
mod renewal;
mod secret;
#[cfg(feature = "server")]
pub mod server;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod user_agent;

#[cfg(feature = "blocking")]
pub use client::blocking;
#[doc(hidden)]
pub use client::resolve_url;
pub use client::{Client, ClientBuilder, Preset, RequestBuilder, Response, redirect_policy};
pub use credentials::{ApiKey, AppCredentials, CredentialSource};
#[doc(hidden)]
pub use environment::{VARIABLES, Variable};
pub use error::{Error, ErrorKind, Result};
pub use grant::{
    AssertionAudience, ClientAuth, Dpop, HmacAlgorithm, PrivateKeyJwt, Quota, SecretJwt, Signed, Signer,
    SigningAlgorithm, SigningKey,
};
#[cfg(feature = "middleware")]
pub use middleware::{TokenFuture, TokenLayer, TokenMiddleware, TokenService};
#[doc(hidden)]
pub use padding::trimmed_url;
pub use renewal::{AccessToken, Event, Events, RenewalPolicy, State, Status};
pub use secrecy::SecretString;
pub use source::{Builder, Diagnosis, Finding, Level, Pass, Prefetch, TokenSource};

pub use http;
pub use reqwest;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
