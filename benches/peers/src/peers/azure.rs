use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, Transport};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use http::HeaderValue;

use super::{Peer, bearer};
use crate::server::TokenServer;

pub struct Azure(Arc<ClientSecretCredential>);

/// It insists on https for the authority, so its transport is what leads to the local server.
#[derive(Debug)]
struct Local {
    url: String,
    http: reqwest::Client,
}

#[async_trait::async_trait]
impl HttpClient for Local {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        let failed = |error| azure_core::Error::new(azure_core::error::ErrorKind::Io, error);
        let answer = self.http.post(&self.url).send().await.map_err(failed)?;
        let status = answer.status().as_u16().into();
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), answer.bytes().await.map_err(failed)?))
    }
}

impl Peer for Azure {
    const NAME: &str = "azure_identity";

    async fn new(server: &TokenServer) -> Self {
        let local = Local { url: server.url("/token"), http: reqwest::Client::new() };
        let client_options =
            ClientOptions { transport: Some(Transport::new(Arc::new(local))), ..Default::default() };
        let options = ClientSecretCredentialOptions { client_options };
        let credential =
            ClientSecretCredential::new("tenant", "app".into(), Secret::new("secret"), Some(options));
        Self(credential.expect("a credential"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        bearer(self.0.get_token(&["https://api.example/.default"], None).await.ok()?.token.secret())
    }
}
