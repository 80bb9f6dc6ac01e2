//! What the tests by theme share.
#![allow(dead_code)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use evertoken::testing::AuthServer;
use evertoken::{Builder, Client, ClientBuilder, TokenSource};

/// A source at the box, with its ordinary client.
pub fn source(server: &AuthServer) -> Builder<TokenSource> {
    TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET).token_url(server.token_url())
}

/// A client of the box's API.
pub fn client(server: &AuthServer) -> ClientBuilder {
    Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .token_url(server.token_url())
        .audience(server.audience())
        .base_url(server.api_url())
}

pub async fn box_of(lifetime: Duration) -> AuthServer {
    AuthServer::builder().lifetime(lifetime).start().await.unwrap()
}

/// What a future gives when it is polled once: a read that does not wait is ready by then.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Waits until `done`, and fails loudly where that does not come about.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
