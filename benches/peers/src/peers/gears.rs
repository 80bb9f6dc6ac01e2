use std::time::Duration;

use http::HeaderValue;
use toolkit_auth::oauth2::{OAuthClientConfig, SecretString, TokenProvider};

use super::{Peer, bearer};
use crate::server::TokenServer;

pub struct Gears(TokenProvider);

impl Peer for Gears {
    const NAME: &str = "cf-gears-toolkit-auth";

    async fn new(server: &TokenServer) -> Self {
        let config = OAuthClientConfig {
            token_endpoint: Some(server.url("/token").parse().expect("a URL")),
            client_id: "app".into(),
            client_secret: SecretString::new("secret"),
            http_config: Some(toolkit_http::HttpClientConfig::for_testing()),
            // Its defaults (30 min, 5 min, 10 s) are for tokens that live longer than those here.
            refresh_offset: Duration::from_secs(3),
            jitter_max: Duration::ZERO,
            min_refresh_period: Duration::from_secs(1),
            ..Default::default()
        };
        Self(TokenProvider::new(config).expect("a provider"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        bearer(self.0.get().await.ok()?.expose())
    }
}
