use std::time::Duration;

use aliri_clock::DurationSecs;
use aliri_tokens::sources::oauth2::{ClientCredentialsTokenSource, dto};
use aliri_tokens::{ClientId, ClientSecret, TokenLifetimeConfig, TokenWatcher, backoff, jitter};
use http::HeaderValue;
use tokio::sync::OnceCell;

use super::{Peer, bearer};
use crate::server::TokenServer;

/// Its watcher needs a token to begin with, so the first callers wait for one cell.
pub struct Aliri {
    url: String,
    watcher: OnceCell<TokenWatcher>,
}

impl Peer for Aliri {
    const NAME: &str = "aliri_tokens";

    async fn new(server: &TokenServer) -> Self {
        Self { url: server.url("/token"), watcher: OnceCell::new() }
    }

    async fn header(&self) -> Option<HeaderValue> {
        let watcher = match self.watcher.get() {
            Some(watcher) => watcher,
            None => self.watcher.get_or_try_init(|| watch(&self.url)).await.ok()?,
        };
        let token = watcher.token();
        bearer(token.access_token().as_str())
    }
}

async fn watch(url: &str) -> Result<TokenWatcher, Box<dyn std::error::Error + Send + Sync>> {
    let credentials = dto::ClientCredentials {
        client_id: ClientId::from_static("app"),
        client_secret: ClientSecret::from_static("secret"),
    };
    let credentials = dto::ClientCredentialsWithAudience {
        credentials: credentials.into(),
        audience: aliri::jwt::Audience::from_static("https://api.example"),
    };
    let source = ClientCredentialsTokenSource::new(
        reqwest012::Client::new(),
        url.parse()?,
        credentials,
        // Its default of 30 s to the first renewal is longer than the tokens live here.
        TokenLifetimeConfig::new(0.75, DurationSecs(1)),
    );
    let backoff = backoff::ErrorBackoffConfig::new(Duration::from_secs(1), Duration::from_secs(30), 2);
    Ok(TokenWatcher::spawn_from_token_source(source, jitter::NullJitter, backoff).await?)
}
