//! Why does it not work? From the environment to a verdict, never with the secret or the token.
//!
//! `cargo run --example check` reads `EVERTOKEN_APP_ID` and `EVERTOKEN_APP_SECRET` (or `EVERTOKEN_API_KEY`, or
//! `EVERTOKEN_CREDENTIALS_FILE`),
//! `EVERTOKEN_ISSUER` or `EVERTOKEN_TOKEN_URL`, and `EVERTOKEN_AUDIENCE`, `EVERTOKEN_SCOPE`, `EVERTOKEN_BASE_URL`; with
//! `-- --demo` it asks an authorization server in a box. The exit code is 1 where something failed.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::process::ExitCode;

use evertoken::testing::AuthServer;
use evertoken::{Builder, TokenSource};

const USAGE: &str = "\
Nothing is set. Give what your provider gave you, then run this again:

  EVERTOKEN_APP_ID, EVERTOKEN_APP_SECRET   or EVERTOKEN_API_KEY, or EVERTOKEN_CREDENTIALS_FILE
  EVERTOKEN_ISSUER                         or EVERTOKEN_TOKEN_URL, where there is no discovery
  EVERTOKEN_AUDIENCE, EVERTOKEN_SCOPE      where the API wants them

With --demo it asks an authorization server in a box.";

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let diagnosis = if std::env::args().any(|arg| arg == "--demo") {
        let server = AuthServer::start().await?;
        TokenSource::builder("app", "secret")
            .issuer(server.issuer())
            .audience(server.audience())
            .scope("read")
            .check()
            .await
    } else if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("EVERTOKEN_")) {
        Builder::<TokenSource>::from_env().check().await
    } else {
        eprintln!("{USAGE}");
        return Ok(ExitCode::FAILURE);
    };
    println!("{diagnosis}");
    Ok(if diagnosis.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
