use evertoken::TokenSource;
use http::HeaderValue;

use super::Peer;
use crate::server::TokenServer;

pub struct Evertoken(TokenSource);

impl Peer for Evertoken {
    const NAME: &str = "evertoken";

    async fn new(server: &TokenServer) -> Self {
        Self(TokenSource::builder("app", "secret").token_url(server.url("/token")).build().expect("a source"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        self.0.authorization().await.ok()
    }
}
