//! Why does it not work? From the environment to a verdict, never with the secret or the token.
//!
//! `cargo run --example check` reads the variables that `ClientBuilder::from_env` reads: `EVERTOKEN_APP_ID`,
//! `EVERTOKEN_APP_SECRET`, `EVERTOKEN_ISSUER` and the like. With `-- --demo` it asks an authorization server in a box. The exit
//! code is 1 if something failed.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::process::ExitCode;

use evertoken::testing::AuthServer;
use evertoken::{Builder, TokenSource};

const USAGE: &str = "\
Nothing is set. Give what your provider gave you, then run this again:

  EVERTOKEN_APP_ID, EVERTOKEN_APP_SECRET   or each in a file: EVERTOKEN_APP_ID_FILE, EVERTOKEN_APP_SECRET_FILE;
                                           or EVERTOKEN_API_KEY, or EVERTOKEN_CREDENTIALS_FILE
  EVERTOKEN_ISSUER                         or EVERTOKEN_TOKEN_URL, if there is no discovery
  EVERTOKEN_AUDIENCE, EVERTOKEN_RESOURCE,
  EVERTOKEN_SCOPE                          if the API wants them
  EVERTOKEN_BASE_URL                       the API, which is called once
  EVERTOKEN_CLIENT_AUTH                    if the provider names a method, such as client_secret_post
  EVERTOKEN_ROOT_CERTIFICATE, EVERTOKEN_PROXY   if the network needs them

With --demo it asks an authorization server in a box.";

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let diagnosis = if std::env::args().any(|arg| arg == "--demo") {
        let server = AuthServer::start().await?;
        TokenSource::builder("app", "secret")
            .issuer(server.issuer())
            .audience(server.audience())
            .scope("read")
            .base_url(server.api_url())
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
