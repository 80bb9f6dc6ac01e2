//! Client authentication by a signed assertion, through the public API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use evertoken::testing::{Transport, TransportError};
use evertoken::{
    Builder, ClientAuth, ErrorKind, PrivateKeyJwt, SecretJwt, Signed, Signer, SigningAlgorithm, SigningKey,
    TokenSource, http, reqwest,
};
use tracing_subscriber::fmt::MakeWriter;

/// RFC 8037 A.1 as PKCS#8.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

/// Keeps the assertions that it is sent; the first are answered with their echo and a refusal, the others with a token.
struct Server {
    refusals: usize,
    assertions: Mutex<Vec<String>>,
}

impl Server {
    fn refusing(refusals: usize) -> Arc<Self> {
        Arc::new(Self { refusals, assertions: Mutex::default() })
    }

    fn seen(&self) -> Vec<String> {
        self.assertions.lock().unwrap().clone()
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, TransportError>> + Send + 'a>>;

impl Transport for Server {
    fn send(&self, request: http::Request<Bytes>) -> Answer<'_> {
        let form =
            reqwest::Url::parse(&format!("http://x/?{}", str::from_utf8(request.body()).unwrap())).unwrap();
        let jwt = form.query_pairs().find(|(name, _)| name == "client_assertion").unwrap().1.into_owned();
        let mut assertions = self.assertions.lock().unwrap();
        assertions.push(jwt.clone());
        let (status, body) = if assertions.len() <= self.refusals {
            (503, format!(r#"{{"error":"server_error","error_description":"no use for {jwt}"}}"#))
        } else {
            (200, r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}"#.to_owned())
        };
        Box::pin(async move { Ok(http::Response::builder().status(status).body(body.into()).unwrap()) })
    }
}

fn source(server: &Arc<Server>, method: impl Into<ClientAuth>) -> Builder<TokenSource> {
    let source = TokenSource::builder("app", "").token_url("https://as.example/token");
    source.client_auth(method).transport(server.clone())
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn neither_key_nor_assertion_is_in_logs_errors_or_debug() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    // For the whole process: what a thread's own subscriber sees depends on which test met a callsite first.
    subscriber.with_writer(log.clone()).init();

    let server = Server::refusing(1);
    let method = PrivateKeyJwt::new(SigningKey::from_pem(PEM).unwrap());
    let builder = source(&server, method.clone());
    let mut shown = format!("{builder:?} {method:?} {:?}", ClientAuth::from(method.clone()));
    let source = builder.build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    while let Some(event) = events.try_next() {
        shown += &format!("{event:?}");
    }
    shown += &format!("{source:?} {:?}", source.status());
    shown += &SigningKey::from_pem(PEM.replace("MC4C", "MC4D")).unwrap_err().to_string();
    shown += &String::from_utf8(log.0.lock().unwrap().clone()).unwrap();

    let assertions = server.seen();
    assert_eq!(assertions.len(), 2);
    assert!(shown.contains("no use for [redacted]"), "{shown}");
    assert!(shown.contains("private_key_jwt"), "the log was not kept: {shown}");
    let mut canaries = vec!["IJ1hsZ3v", "nWGxne_9", "rAMcrn9g"];
    canaries.extend(assertions.iter().flat_map(|jwt| jwt.split('.')));
    for canary in canaries {
        assert!(!shown.contains(canary), "{canary} in {shown}");
    }
}

#[tokio::test]
async fn each_attempt_has_an_assertion_of_its_own() {
    let server = Server::refusing(2);
    let source = source(&server, PrivateKeyJwt::new(SigningKey::from_pem(PEM).unwrap())).build().unwrap();
    source.token().await.unwrap();
    let mut seen = server.seen();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn only_a_method_without_a_secret_takes_an_empty_one() {
    let server = Server::refusing(0);
    let refused = |builder: Builder<TokenSource>| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("secret is empty"), "{error}");
    };
    refused(TokenSource::builder("app", "").token_url("https://as.example/token"));
    for method in [
        ClientAuth::ClientSecretBasic,
        ClientAuth::ClientSecretBasicRaw,
        ClientAuth::ClientSecretPost,
        SecretJwt::new().into(),
    ] {
        refused(source(&server, method));
    }
    let keyed = source(&server, PrivateKeyJwt::new(SigningKey::from_pem(PEM).unwrap())).build().unwrap();
    keyed.set_credentials("other", "").unwrap();

    let secret = TokenSource::builder("app", "s").token_url("https://as.example/token").build().unwrap();
    assert_eq!(secret.set_credentials("app", "").unwrap_err().kind(), ErrorKind::Configuration);
}

/// Fails, panics, and then signs.
struct Moody(AtomicUsize);

impl Signer for Moody {
    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::EdDsa
    }

    fn sign<'a>(&'a self, _: &'a [u8]) -> Signed<'a> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match turn {
                0 => Err("the HSM is busy".into()),
                1 => panic!("a moody signer"),
                _ => Ok(vec![0; 64]),
            }
        })
    }
}

#[tokio::test]
async fn a_signer_that_fails_and_panics_is_asked_again() {
    let server = Server::refusing(0);
    let source = source(&server, PrivateKeyJwt::with_signer(Moody(AtomicUsize::new(0)))).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    assert_eq!(server.seen().len(), 1);
    let failures: String =
        std::iter::from_fn(|| events.try_next()).map(|event| format!("{event:?}")).collect();
    assert!(failures.contains("the HSM is busy") && failures.contains("panicked"), "{failures}");
}
