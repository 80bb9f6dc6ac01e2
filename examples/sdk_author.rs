//! An API provider's own client: it knows where its servers are, so its customers bring an app id and an app secret
//! and nothing else.
//!
//! `cargo run --example sdk_author` runs it on an authorization server in a box.
#![allow(clippy::print_stdout, missing_docs)]

use evertoken::testing::{AuthServer, Fault};
use evertoken::{Client, Result, SecretString};

/// One of Acme's sites: where its tokens come from, what they are for, where its API is.
#[derive(Debug)]
pub struct Site<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub base_url: &'a str,
}

const PRODUCTION: Site<'_> = Site {
    issuer: "https://acme.eu.auth0.com/",
    audience: "https://api.acme.com",
    base_url: "https://api.acme.com/v1/",
};

#[derive(Debug, Clone)]
pub struct AcmeClient(Client);

#[derive(Debug, serde::Deserialize)]
pub struct Order {
    pub id: u64,
    pub item: String,
}

impl AcmeClient {
    pub fn new(app_id: &str, app_secret: impl Into<SecretString>) -> Result<Self> {
        Self::on(&PRODUCTION, app_id, app_secret)
    }

    /// The same on another site, such as a sandbox.
    pub fn on(site: &Site<'_>, app_id: &str, app_secret: impl Into<SecretString>) -> Result<Self> {
        let api = Client::builder(app_id, app_secret)
            .issuer(site.issuer)
            .audience(site.audience)
            .base_url(site.base_url)
            .build()?;
        Ok(Self(api))
    }

    pub async fn orders(&self) -> Result<Vec<Order>> {
        Ok(self.0.get("orders").send().await?.error_for_status()?.json().await?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What a customer writes. Nothing is asked of a server before the first call.
    let _acme = AcmeClient::new("my-app", "my-secret")?;

    // The same on a box, whose API is told what to answer.
    let server = AuthServer::start().await?;
    let (issuer, audience, base_url) = (server.issuer(), server.audience(), server.api_url());
    let site = Site { issuer: &issuer, audience: &audience, base_url: &base_url };
    server.fail_next_api(Fault::Status {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: r#"[{"id": 1, "item": "anvil"}, {"id": 2, "item": "rocket skates"}]"#.into(),
    });
    let acme = AcmeClient::on(&site, AuthServer::APP_ID, AuthServer::APP_SECRET)?;
    for order in acme.orders().await? {
        println!("order {}: {}", order.id, order.item);
    }
    Ok(())
}
