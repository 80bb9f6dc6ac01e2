use std::time::Duration;

use http::{HeaderValue, Method, Uri, header::AUTHORIZATION};
use huskarl::authorizer::HttpAuthorizer;
use huskarl::cache::{GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache};
use huskarl::core::client_auth::ClientSecret;
use huskarl::core::secrets::{ProvidedSecret, SecretString};
use huskarl::grant::client_credentials::{ClientCredentialsGrant, ClientCredentialsGrantParameters};
use huskarl_reqwest::ReqwestClient;

use super::Peer;
use crate::server::TokenServer;

pub struct Huskarl {
    authorizer: HttpAuthorizer,
    uri: Uri,
}

impl Peer for Huskarl {
    const NAME: &str = "huskarl";

    async fn new(server: &TokenServer) -> Self {
        let url = server.url("/token");
        let grant = ClientCredentialsGrant::builder()
            .token_endpoint(url.parse().expect("a URL"))
            .client_id("app")
            .client_auth(ClientSecret::new(ProvidedSecret::new(SecretString::new("secret"))))
            .http_client(ReqwestClient::from(reqwest::Client::new()))
            .build();
        let source = GrantTokenSource::builder()
            .grant(grant)
            .grant_parameters(ClientCredentialsGrantParameters::builder().build())
            .refresh_store(InMemoryRefreshTokenStore::default())
            .build();
        // Its default margin of 30 s is longer than the tokens live here.
        let cache = InMemoryTokenCache::builder()
            .source(source)
            .expires_margin(Duration::from_secs(1))
            .refresh_ahead(Duration::from_secs(2))
            .refresh_jitter(None)
            .build();
        let authorizer = HttpAuthorizer::builder().cache(cache).build();
        Self { authorizer, uri: "https://api.example/orders".parse().expect("a URI") }
    }

    async fn header(&self) -> Option<HeaderValue> {
        self.authorizer.get_headers(&Method::GET, &self.uri).await.ok()?.remove(AUTHORIZATION)
    }
}
