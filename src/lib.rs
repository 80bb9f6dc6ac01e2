//! Evertoken: for its developers' users, a stub of the page to come.
#![forbid(unsafe_code)]

mod clock;
mod credentials;
mod error;
mod origin;
mod secret;

#[cfg(feature = "testing")]
pub use clock::{Moment, TimeSource};
pub use error::{Error, ErrorKind, Result};
