//! Everybody's way to a ready `Authorization` header, as its documentation shows it.

pub mod aliri;
pub mod aws;
pub mod azure;
pub mod bare;
pub mod ever;
pub mod gcp_auth;
pub mod gears;
pub mod google;
pub mod huskarl;
pub mod oauth2_rwlock;
pub mod yup;

use std::future::Future;

use http::HeaderValue;

use crate::server::TokenServer;

pub trait Peer: Sized + Send + Sync + 'static {
    const NAME: &str;

    /// Points a new client at the server.
    fn new(server: &TokenServer) -> impl Future<Output = Self> + Send;

    /// The header, ready to be put into a request; `None` where the client failed.
    fn header(&self) -> impl Future<Output = Option<HeaderValue>> + Send;
}

/// What one writes around a client that gives only the token's text.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A service account's key file, with a key made for this run.
pub fn service_account(server: &TokenServer) -> serde_json::Value {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use base64::Engine;
    static PEM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let pem = PEM.get_or_init(|| {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("an RSA key");
        let der: Pkcs8V1Der = key.as_der().expect("PKCS #8");
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    });
    serde_json::json!({
        "type": "service_account", "project_id": "bench", "private_key_id": "1", "private_key": pem,
        "client_email": "bench@example.com", "client_id": "1", "token_uri": server.url("/token"),
    })
}
