use google_cloud_auth::credentials::{CacheableResource, Credentials, mds};
use http::{Extensions, HeaderValue, header::AUTHORIZATION};

use super::Peer;
use crate::server::TokenServer;

/// With tokens of the metadata server: those of its service accounts are signed at home.
pub struct Google(Credentials);

impl Peer for Google {
    const NAME: &str = "google-cloud-auth";

    async fn new(server: &TokenServer) -> Self {
        Self(mds::Builder::default().with_endpoint(server.url("")).build().expect("credentials"))
    }

    async fn header(&self) -> Option<HeaderValue> {
        match self.0.headers(Extensions::new()).await.ok()? {
            CacheableResource::New { data, .. } => data.get(AUTHORIZATION).cloned(),
            CacheableResource::NotModified => None,
        }
    }
}
