//! From an app id and an app secret to one API call.
//!
//! `cargo run --example minimal` runs on an authorization server in a box; with `EVERTOKEN_APP_ID`,
//! `EVERTOKEN_APP_SECRET`, `EVERTOKEN_ISSUER`, `EVERTOKEN_AUDIENCE` and `EVERTOKEN_BASE_URL` set, on a real one.
#![allow(clippy::print_stdout, missing_docs)]

use evertoken::testing::AuthServer;
use evertoken::{Client, ClientBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("EVERTOKEN_APP_ID").is_some() {
        let api = ClientBuilder::from_env().build()?;
        println!("{}", api.get("").send().await?.status());
        return Ok(());
    }
    let server = AuthServer::start().await?;

    // From here on it is what a customer writes.
    let api = Client::builder("app", "secret")
        .issuer(server.issuer())
        .audience(server.audience())
        .base_url(server.api_url())
        .build()?;
    let answer = api.get("orders").send().await?.error_for_status()?;
    println!("{} {}", answer.status(), answer.text().await?);
    Ok(())
}
