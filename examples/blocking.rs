//! One API call from a program without async.
//!
//! `cargo run --example blocking` runs on an authorization server in a box; with `EVERTOKEN_APP_ID`,
//! `EVERTOKEN_APP_SECRET`, `EVERTOKEN_ISSUER`, `EVERTOKEN_AUDIENCE` and `EVERTOKEN_BASE_URL` set, on a real one.
#![allow(clippy::print_stdout, missing_docs)]

use evertoken::blocking::{Client, ClientBuilder};
use evertoken::testing::AuthServer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("EVERTOKEN_APP_ID").is_some() {
        let api = ClientBuilder::from_env().build()?;
        println!("{}", api.get("").send()?.status());
        return Ok(());
    }
    // The box is async; the client below needs none of this.
    let runtime = tokio::runtime::Runtime::new()?;
    let server = runtime.block_on(AuthServer::start())?;

    // From here on it is what a customer writes.
    let api = Client::builder("app", "secret")
        .issuer(server.issuer())
        .audience(server.audience())
        .base_url(server.api_url())
        .build()?;
    let answer = api.get("orders").send()?.error_for_status()?;
    println!("{} {}", answer.status(), answer.text()?);
    Ok(())
}
