//! An API provider's own client: what is known of its servers is one constant, so its customers bring an app id and an
//! app secret, or one key, and nothing else. The guide `evertoken::guide::sdk` tells the rest.
//!
//! `cargo run --example sdk_author` runs it on an authorization server in a box.
#![allow(clippy::print_stdout, missing_docs)]

use evertoken::testing::{AuthServer, Fault};
use evertoken::{ApiKey, Client, Preset, Result, SecretString};

pub const ACME: Preset = Preset::new()
    .issuer("https://acme.eu.auth0.com/")
    .audience("https://api.acme.com")
    .base_url("https://api.acme.com/v1/")
    .key_prefix("acme_live")
    .env_prefix("ACME")
    .user_agent("acme-sdk/1.2");

#[derive(Debug, Clone)]
pub struct Acme(Client);

#[derive(Debug, serde::Deserialize)]
pub struct Order {
    pub id: u64,
    pub item: String,
}

impl Acme {
    pub fn new(app_id: &str, app_secret: impl Into<SecretString>) -> Result<Self> {
        ACME.client(app_id, app_secret).map(Self)
    }

    pub fn from_key(key: &str) -> Result<Self> {
        ACME.from_key(key).build().map(Self)
    }

    /// With a client that was set up by hand, from `ACME.builder(..)` as a rule.
    pub fn with_client(client: Client) -> Self {
        Self(client)
    }

    pub async fn orders(&self) -> Result<Vec<Order>> {
        self.0.get("orders").send().await?.error_for_status()?.json().await
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // What a customer writes. Nothing is asked of a server before the first call.
    let _acme = Acme::new("my-app", "my-secret")?;

    // What is wrong with a key is told offline.
    let key = ApiKey::issue("acme_test", "my-app", "my-secret")?;
    if let Err(error) = Acme::from_key(key.expose()) {
        println!("{error}");
    }

    // The same on a box, whose API is told what to answer: addresses set by hand win.
    let server = AuthServer::start().await?;
    server.fail_next_api(Fault::Status {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"[{"id": 1, "item": "anvil"}, {"id": 2, "item": "rocket skates"}]"#.into(),
    });
    let client = ACME
        .builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .audience(server.audience())
        .base_url(server.api_url())
        .build()?;
    for order in Acme::with_client(client).orders().await? {
        println!("order {}: {}", order.id, order.item);
    }
    Ok(())
}
