use std::time::{Duration, Instant};

use http::HeaderValue;
use oauth2::basic::BasicClient;
use oauth2::{ClientId, ClientSecret, EndpointNotSet, EndpointSet, TokenResponse, TokenUrl};
use tokio::sync::RwLock;

use super::{Peer, bearer};
use crate::server::TokenServer;

type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// How long before its end a token is replaced.
const MARGIN: Duration = Duration::from_secs(3);

/// The cache that people write around it.
pub struct Oauth2 {
    client: Client,
    http: reqwest012::Client,
    held: RwLock<Option<(String, Instant)>>,
}

impl Peer for Oauth2 {
    const NAME: &str = "oauth2 + RwLock";

    async fn new(server: &TokenServer) -> Self {
        let client = BasicClient::new(ClientId::new("app".into()))
            .set_client_secret(ClientSecret::new("secret".into()))
            .set_token_uri(TokenUrl::new(server.url("/token")).expect("a URL"));
        Self { client, http: reqwest012::Client::new(), held: RwLock::new(None) }
    }

    async fn header(&self) -> Option<HeaderValue> {
        if let Some((token, until)) = &*self.held.read().await
            && Instant::now() < *until
        {
            return bearer(token);
        }
        let mut held = self.held.write().await;
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return bearer(token);
        }
        let asked = Instant::now();
        let answer = self.client.exchange_client_credentials().request_async(&self.http).await.ok()?;
        let until = asked + answer.expires_in()?.saturating_sub(MARGIN);
        let token = answer.access_token().secret().clone();
        let header = bearer(&token);
        *held = Some((token, until));
        header
    }
}
