//! Does this machine get a token, and if not, why not? `cargo run --example check`
//!
//! It reads the environment as `ClientBuilder::from_env` does: `EVERTOKEN_APP_ID` and `EVERTOKEN_APP_SECRET`, or
//! `EVERTOKEN_API_KEY`; `EVERTOKEN_ISSUER` or `EVERTOKEN_TOKEN_URL`; `EVERTOKEN_AUDIENCE`, `EVERTOKEN_SCOPE`. With neither
//! id nor key set it shows itself on an authorization server in a box. The exit code is 1 where no token is to be had.
#![allow(clippy::print_stdout, missing_docs)]

use std::process::ExitCode;

use evertoken::ClientBuilder;
use evertoken::testing::AuthServer;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let is_set = |name| std::env::var_os(name).is_some();
    let diagnosis = if is_set("EVERTOKEN_APP_ID") || is_set("EVERTOKEN_API_KEY") {
        ClientBuilder::from_env().check().await
    } else {
        println!("EVERTOKEN_APP_ID and EVERTOKEN_API_KEY are not set: this is about a server in a box.");
        let server = AuthServer::start().await?;
        evertoken::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .issuer(server.issuer())
            .audience(server.audience())
            .scope("orders:read")
            .check()
            .await
    };
    print!("{diagnosis}");
    Ok(if diagnosis.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
