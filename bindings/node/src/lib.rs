//! The native half of the npm package `evertoken`: free functions over handles. What people see is in `lib`.
//!
//! JavaScript's own threads come in here and never wait. What takes time runs on one runtime of the process, and its outcome
//! goes back through the mailbox of the client that it is for. Nothing here holds an environment of Node's beyond its end.

// Nobody sees these types from Rust.
#![allow(missing_debug_implementations, missing_docs)]

mod client;
mod client_auth;
mod credentials;
mod errors;
mod events;
mod home;
mod log;
mod mailbox;
mod options;
mod pass;
mod status;
mod testing;
mod word;
