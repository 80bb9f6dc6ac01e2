//! An API with protected routes: scopes, tokens from an SDK, and app ids and secrets from whoever has none.
//!
//! `cargo run --example axum_api` runs on an authorization server in a box, calls itself in every way, and ends. With
//! `EVERTOKEN_ISSUER` and `EVERTOKEN_AUDIENCE` set, it serves on `LISTEN` (`127.0.0.1:8080`) for the customers of a real one.
#![allow(clippy::print_stdout, missing_docs)]

use std::net::SocketAddr;

use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum::routing::{get, post};
use axum::{Json, Router};
use evertoken::server::{Caller, CallerLayer, Exchange, RequireScope, Verifier};
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, reqwest};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn orders(caller: Caller) -> Json<Value> {
    Json(json!({ "orders_of": caller.app_id() }))
}

/// With the address of whoever connects: who tries secrets is slowed down, and nobody else.
type Service = IntoMakeServiceWithConnectInfo<Router, SocketAddr>;

fn api(issuer: &str, audience: &str) -> evertoken::Result<Service> {
    let verifier = Verifier::builder(issuer).audience(audience).build()?;
    let exchange = Exchange::builder(issuer).audience(audience).scope("orders:read").build()?;
    Ok(Router::new()
        .route("/orders", get(orders).layer(RequireScope::new("orders:read")?))
        .route("/orders/new", post(orders).layer(RequireScope::new("orders:write")?))
        .layer(CallerLayer::new(verifier).exchange(exchange))
        .into_make_service_with_connect_info())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let listen = from_env("LISTEN");
    if let (Some(issuer), Some(audience)) = (from_env("EVERTOKEN_ISSUER"), from_env("EVERTOKEN_AUDIENCE")) {
        let listener = TcpListener::bind(listen.as_deref().unwrap_or("127.0.0.1:8080")).await?;
        println!("http://{}/orders", listener.local_addr()?);
        return Ok(axum::serve(listener, api(&issuer, &audience)?).await?);
    }

    let server = AuthServer::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let app = api(&server.issuer(), &server.audience())?;
    tokio::spawn(async move { axum::serve(listener, app).await });

    let customer = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .audience(server.audience())
        .scope("orders:read orders:write")
        .base_url(&base)
        .build()?;
    let http = reqwest::Client::new();
    let key = ApiKey::issue("acme_live", AuthServer::APP_ID, AuthServer::APP_SECRET)?;
    let orders = format!("{base}/orders");
    let (id, secret) = (AuthServer::APP_ID, Some(AuthServer::APP_SECRET));
    for (what, answer) in [
        ("the SDK", customer.get("orders").send().await?.into_inner()),
        ("the SDK, writing", customer.post("orders/new").send().await?.into_inner()),
        ("app id and secret", http.get(&orders).basic_auth(id, secret).send().await?),
        (
            "app id and secret, writing",
            http.post(orders.clone() + "/new").basic_auth(id, secret).send().await?,
        ),
        ("an API key", http.get(&orders).header("x-api-key", key.expose()).send().await?),
        ("a wrong secret", http.get(&orders).basic_auth(id, Some("wrong")).send().await?),
        ("nothing", http.get(&orders).send().await?),
    ] {
        let (status, challenge) = (answer.status(), answer.headers().get("www-authenticate").cloned());
        println!("{what:<28} {status:<16} {}", answer.text().await?);
        if let Some(challenge) = challenge {
            println!("{:<28} {}", "", challenge.to_str()?);
        }
    }
    Ok(())
}
