//! What must be true of whatever outsiders feed us, for any bytes: the fuzz targets and tests/properties.rs check the
//! same. Each `check` panics where it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

pub mod access_token;
mod answer;
pub mod api_key;
pub mod challenge;
pub mod credentials;
pub mod discovery;
pub mod error_response;
pub mod jwk;
pub mod jwks;
pub mod pacing;
mod said;
pub mod token_response;
