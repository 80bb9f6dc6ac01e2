use http::HeaderValue;
use yup_oauth2::authenticator::DefaultAuthenticator;
use yup_oauth2::{ServiceAccountAuthenticator, ServiceAccountKey};

use super::{Peer, bearer, service_account};
use crate::server::TokenServer;

pub struct Yup(DefaultAuthenticator);

impl Peer for Yup {
    const NAME: &str = "yup-oauth2";

    async fn new(server: &TokenServer) -> Self {
        let key: ServiceAccountKey = serde_json::from_value(service_account(server)).expect("a key file");
        Self(ServiceAccountAuthenticator::builder(key).build().await.expect("an authenticator"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        bearer(self.0.token(&["https://www.googleapis.com/auth/cloud-platform"]).await.ok()?.token()?)
    }
}
