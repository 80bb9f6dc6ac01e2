//! Evertoken: for its developers' users, a stub of the page to come.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod origin;
mod secret;

pub use error::{Error, ErrorKind, Result};
