use gcp_auth::{CustomServiceAccount, TokenProvider};
use http::HeaderValue;

use super::{Peer, bearer, service_account};
use crate::server::TokenServer;

pub struct GcpAuth(CustomServiceAccount);

impl Peer for GcpAuth {
    const NAME: &str = "gcp_auth";

    async fn new(server: &TokenServer) -> Self {
        Self(CustomServiceAccount::from_json(&service_account(server).to_string()).expect("an account"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        bearer(self.0.token(&["https://www.googleapis.com/auth/cloud-platform"]).await.ok()?.as_str())
    }
}
