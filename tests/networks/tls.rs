//! A server that shows a certificate of the test's own authority, and may ask for one.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::authority::Authority;

/// It answers everything with a token, but metadata where they are asked for.
#[derive(Clone)]
pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    metadata: Arc<Mutex<String>>,
    /// What is said instead of a token, cut off without a word.
    torn: Arc<Mutex<Option<String>>>,
}

pub const TOKEN: &str = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}"#;

impl Server {
    /// A server of this authority; with `clients`, only for clients with a certificate under that.
    pub async fn start(authority: &Authority, clients: Option<&str>) -> Self {
        Self::showing(authority.issue(&["localhost", "127.0.0.1", "auth.test", "api.test"]), clients).await
    }

    /// A server with this certificate and its key.
    pub async fn showing((certificate, key): (String, String), clients: Option<&str>) -> Self {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let certificates = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(certificates, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, asked: Arc::default(), metadata: Arc::default(), torn: Arc::default() };
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, this) = (acceptor.clone(), this.clone());
                tokio::spawn(async move {
                    if let Ok(socket) = acceptor.accept(socket).await {
                        this.answer(socket).await;
                    }
                });
            }
        });
        server
    }

    async fn answer(&self, mut socket: tokio_rustls::server::TlsStream<tokio::net::TcpStream>) {
        let asked = read_request(&mut socket).await;
        let metadata = self.metadata.lock().unwrap().clone();
        let body = if asked.contains("/.well-known/") { metadata.as_str() } else { TOKEN };
        if !asked.is_empty() {
            self.asked.lock().unwrap().push(asked);
        }
        let torn = self.torn.lock().unwrap().clone();
        if let Some(torn) = torn {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{torn}");
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.flush().await;
            // Without `close_notify`.
            let _ = socket.get_mut().0.shutdown().await;
            return;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
    }

    /// Has this server be an issuer that sends clients with a certificate to another.
    pub fn announce(&self, other: &Server) {
        let (issuer, alias) = (self.url(""), other.url("/mtls/token"));
        *self.metadata.lock().unwrap() = format!(
            r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/token","mtls_endpoint_aliases":{{"token_endpoint":"{alias}"}}}}"#
        );
    }

    /// Has it answer everything with these header fields and this body, and close the connection without `close_notify`.
    pub fn tear(&self, fields_and_body: &str) {
        *self.torn.lock().unwrap() = Some(fields_and_body.to_owned());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Head and body; empty where the other side went away.
pub async fn read_request(socket: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length:")
                    .map(|length| length.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}
