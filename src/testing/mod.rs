//! An authorization server in a box, for your tests and for ours (feature `testing`).
//!
//! [`AuthServer`] is real HTTP on loopback: an OAuth 2.0 authorization server (client credentials, discovery, JWKS,
//! signed JWT access tokens by RFC 9068, revocation, introspection) and, on a port of its own, a protected API that really verifies what it is
//! given. It counts what it sees, and it fails on command: see [`Fault`].
//!
//! ```
//! use evertoken::testing::{AuthServer, Fault};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthServer::start().await?;
//! let http = reqwest::Client::new();
//! let ask = || {
//!     let (id, secret) = (AuthServer::APP_ID, Some(AuthServer::APP_SECRET));
//!     http.post(server.token_url()).basic_auth(id, secret).form(&[("grant_type", "client_credentials")]).send()
//! };
//!
//! // A token, and a call with it.
//! let answer: serde_json::Value = ask().await?.json().await?;
//! let token = answer["access_token"].as_str().unwrap();
//! let orders = format!("{}orders", server.api_url());
//! assert_eq!(http.get(&orders).bearer_auth(token).send().await?.status(), 200);
//!
//! // The API stops accepting it.
//! server.revoke(token);
//! assert_eq!(http.get(&orders).bearer_auth(token).send().await?.status(), 401);
//!
//! // The token endpoint is throttled once.
//! server.fail_next(Fault::RetryAfterSeconds(429, 7));
//! assert_eq!(ask().await?.headers()["retry-after"], "7");
//! assert_eq!(ask().await?.status(), 200);
//! assert_eq!(server.token_requests(), 3);
//! # Ok(()) }
//! ```

mod api;
mod builder;
mod clock;
mod discovery;
mod fault;
mod fixed;
mod in_flight;
mod introspection;
mod issued;
mod keys;
mod listen;
mod log;
mod publication;
mod quota;
mod revocation;
mod server;
mod state;
mod token;

pub use crate::clock::{Moment, TimeSource};
pub use crate::grant::{Transport, TransportError, TransportErrorKind};
pub use builder::AuthServerBuilder;
pub use clock::ManualClock;
pub use discovery::Discovery;
pub use fault::Fault;
pub use fixed::fixed_client;
pub use keys::Signing;
pub use log::LogEntry;
pub use server::AuthServer;
