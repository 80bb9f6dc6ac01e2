use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;

use super::*;
use crate::clock::{Moment, TimeSource};

pub(super) const TOKEN: &str = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":60}"#;

/// What the scripted server does with one request.
pub(super) enum Act {
    Answer(Response<Bytes>),
    Fail(TransportErrorKind),
    Hang,
}

/// A request as it came.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) url: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    fn basic(&self) -> Option<String> {
        let value = self.headers.get("authorization")?.to_str().unwrap().strip_prefix("Basic ").unwrap();
        Some(String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
    }
}

/// A server that acts by a script and keeps what it was asked.
pub(super) struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<Seen>>,
}

impl Script {
    pub(super) fn new(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self { acts: Mutex::new(acts.into_iter().collect()), seen: Mutex::default() })
    }

    pub(super) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.take_seen().into_iter().map(|seen| seen.url).collect()
    }
}

impl Transport for Script {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let act = self.acts.lock().unwrap().pop_front().expect("a request too many");
        self.seen.lock().unwrap().push(Seen {
            url: request.uri().to_string(),
            headers: request.headers().clone(),
            body: request.into_body(),
        });
        Box::pin(async {
            match act {
                Act::Answer(answer) => Ok(answer),
                Act::Fail(kind) => Err(TransportError::new(kind)),
                Act::Hang => pending().await,
            }
        })
    }
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Act::Answer(response.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

pub(super) fn token() -> Act {
    answer(200, &[], TOKEN)
}

/// A clock that moves a second with every exact reading, and by hand.
#[derive(Default)]
pub(super) struct Hands(Mutex<Duration>);

impl Hands {
    pub(super) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl TimeSource for Hands {
    fn coarse(&self) -> (Duration, Duration) {
        let now = *self.0.lock().unwrap();
        (now, now)
    }

    fn now(&self) -> Moment {
        self.advance(Duration::from_secs(1));
        let now = *self.0.lock().unwrap();
        Moment::new(now, now, Some(now))
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(pending())
    }
}

pub(super) fn credentials(id: &str, secret: &str, generation: u64) -> Credentials {
    Credentials { app_id: id.into(), app_secret: secret.into(), generation }
}

fn endpoint(script: &Arc<Script>, auth: Option<ClientAuth>) -> TokenEndpoint {
    let server = Server::token_url("https://as.example/token?tenant=1", false).unwrap();
    let request = GrantRequest { scopes: vec!["a".into(), "b".into()], ..GrantRequest::default() };
    TokenEndpoint::new(server, request, auth, false, script.clone(), Arc::default())
}

fn invalid_client(status: u16) -> Act {
    answer(status, &[], r#"{"error":"invalid_client"}"#)
}

#[tokio::test]
async fn one_plain_request() {
    let script = Script::new([token()]);
    let clock = Clock::Injected(Arc::new(Hands::default()));
    let endpoint = endpoint(&script, None);
    let token = endpoint.request(&clock, &credentials("app", "s3cret", 0), &Tries::default()).await.unwrap();
    assert_eq!(token.text.token(), "t0ken");
    assert_eq!(token.lifetime, Duration::from_secs(60));
    assert_eq!((token.sent.monotonic, token.round_trip), (Duration::from_secs(1), Duration::from_secs(1)));
    let [seen] = &script.take_seen()[..] else { panic!("not one request") };
    assert_eq!(seen.url, "https://as.example/token?tenant=1");
    assert_eq!(seen.body, "grant_type=client_credentials&scope=a%20b");
    assert_eq!(seen.basic().unwrap(), "app:s3cret");
    assert!(seen.headers["authorization"].is_sensitive());
    assert_eq!(seen.headers["accept"], "application/json");
    assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(seen.headers.len(), 3);
    assert_eq!(endpoint.server(), "https://as.example/token");
}

#[tokio::test]
async fn post_puts_the_secret_into_the_body_only() {
    let script = Script::new([token()]);
    endpoint(&script, Some(ClientAuth::ClientSecretPost))
        .request(&Clock::System, &credentials("a:p", "s+t", 0), &Tries::default())
        .await
        .unwrap();
    let [seen] = &script.take_seen()[..] else { panic!("not one request") };
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(seen.body, "grant_type=client_credentials&scope=a%20b&client_id=a%3Ap&client_secret=s%2Bt");
}

const ENCODED: &str = "app:s%2Bt%3A";
const RAW: &str = "app:s+t:";

fn invalid_request() -> Act {
    answer(400, &[], r#"{"error":"invalid_request"}"#)
}

/// Which forms of Basic are sent for a secret that differs in them, attempt by attempt of one generation.
#[tokio::test]
async fn raw_is_tried_once_where_encoded_is_refused() {
    let empty = |status| answer(status, &[], "");
    let challenge = |scheme: &str| {
        answer(401, &[("www-authenticate", &format!("{scheme} realm=\"x\", error=\"invalid_client\""))], "")
    };
    type Case = (&'static str, Vec<Act>, &'static [&'static [&'static str]]);
    let cases: Vec<Case> = vec![
        ("encoded works (oidc-provider, canaille)", vec![token(), token()], &[&[ENCODED], &[ENCODED]]),
        ("400 (LemonLDAP, nanoidp)", vec![invalid_client(400), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("401 (most)", vec![invalid_client(401), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("200 with an error", vec![invalid_client(200), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("403, empty (glewlwyd)", vec![empty(403), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("401, empty", vec![empty(401), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("a challenge (django)", vec![challenge("Bearer"), token(), token()], &[&[ENCODED, RAW], &[RAW]]),
        ("a torn second", vec![empty(401), empty(500), token()], &[&[ENCODED, RAW], &[ENCODED]]),
        ("a 500 says nothing", vec![invalid_client(500), token()], &[&[ENCODED], &[ENCODED]]),
        (
            "nor a scope",
            vec![answer(401, &[], r#"{"error":"scope_invalid"}"#), token()],
            &[&[ENCODED], &[ENCODED]],
        ),
        ("nor a 429", vec![invalid_client(429), token()], &[&[ENCODED], &[ENCODED]]),
        ("nor a 407", vec![empty(407), token()], &[&[ENCODED], &[ENCODED]]),
        (
            "what has worked for a secret is not departed from",
            vec![token(), invalid_client(401), invalid_client(401), token()],
            &[&[ENCODED], &[ENCODED], &[ENCODED], &[ENCODED]],
        ),
        (
            "an outage does not unprove it",
            vec![invalid_client(401), token(), empty(503), token()],
            &[&[ENCODED, RAW], &[RAW], &[RAW]],
        ),
    ];
    for (name, acts, attempts) in cases {
        let script = Script::new(acts);
        let endpoint = endpoint(&script, None);
        for sent in attempts {
            let _ = endpoint.request(&Clock::System, &credentials("app", "s+t:", 0), &Tries::default()).await;
            let seen: Vec<_> = script.take_seen().iter().map(|seen| seen.basic().unwrap()).collect();
            assert_eq!(&seen, sent, "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_fixed_never_falls_back() {
    for (auth, secret) in [
        (Some(ClientAuth::ClientSecretBasic), "s+t:"),
        (Some(ClientAuth::ClientSecretBasicRaw), "s+t:"),
        (Some(ClientAuth::ClientSecretPost), "s+t:"),
    ] {
        let script = Script::new([invalid_client(401)]);
        let outcome = endpoint(&script, auth)
            .request(&Clock::System, &credentials("app", secret, 0), &Tries::default())
            .await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CredentialsRejected);
        assert_eq!(script.take_seen().len(), 1, "{secret}");
    }
}

#[tokio::test]
async fn what_has_worked_at_a_server_is_sent_first_with_the_next_secret() {
    let script = Script::new([invalid_client(401), token(), token(), token()]);
    let endpoint = endpoint(&script, None);
    endpoint.request(&Clock::System, &credentials("app", "s+t:", 0), &Tries::default()).await.unwrap();
    endpoint.request(&Clock::System, &credentials("app", "n+w", 1), &Tries::default()).await.unwrap();
    let other = endpoint.for_request(GrantRequest::default());
    other.request(&Clock::System, &credentials("app", "n+w", 1), &Tries::default()).await.unwrap();
    let seen: Vec<_> = script.take_seen().iter().map(|seen| seen.basic().unwrap()).collect();
    assert_eq!(seen, [ENCODED, RAW, "app:n+w", "app:n+w"]);
}

/// Of two refusals, the one that tells the refresher more.
#[tokio::test]
async fn both_forms_refused() {
    let empty = || answer(403, &[], "");
    for (first, second, kind) in [
        (invalid_client(401), invalid_client(401), ErrorKind::CredentialsRejected),
        (invalid_client(401), empty(), ErrorKind::CredentialsRejected),
        (empty(), invalid_client(401), ErrorKind::CredentialsRejected),
        (empty(), empty(), ErrorKind::RequestRefused),
        (invalid_client(401), answer(503, &[], ""), ErrorKind::AuthServerUnavailable),
        (invalid_client(401), answer(400, &[], r#"{"error":"invalid_scope"}"#), ErrorKind::RequestRefused),
    ] {
        // The body says no more.
        let script = Script::new([first, second, invalid_request()]);
        let error = endpoint(&script, None)
            .request(&Clock::System, &credentials("a", "s+t", 0), &Tries::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!((2..=3).contains(&script.take_seen().len()));
    }
}

#[tokio::test]
async fn what_the_transport_meets() {
    use TransportErrorKind as Kind;
    for (met, kind) in [
        (Kind::Connect, ErrorKind::AuthServerUnavailable),
        (Kind::Timeout, ErrorKind::AuthServerUnavailable),
        (Kind::Interrupted, ErrorKind::AuthServerUnavailable),
        (Kind::TooLarge, ErrorKind::InvalidResponse),
        (Kind::Other, ErrorKind::AuthServerUnavailable),
    ] {
        let script = Script::new([Act::Fail(met)]);
        let error = endpoint(&script, None)
            .request(&Clock::System, &credentials("a", "s+t", 0), &Tries::default())
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, true), "{met:?}");
        assert_eq!(error.server(), Some("https://as.example/token"));
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn a_server_is_checked_when_built() {
    for bad in ["http://as.example/", "https://as.example/?q", "https://u@as.example/", "as.example"] {
        assert_eq!(Server::issuer(bad, false).unwrap_err().kind(), ErrorKind::Configuration, "{bad}");
    }
    assert!(Server::issuer("http://as.example/", true).is_ok());
    assert!(Server::token_url("http://as.example/", false).is_err());
}

#[test]
fn an_attempt_may_move_between_threads_and_shows_no_secret() {
    fn is_send(_: impl Send) {}
    let script = Script::new([]);
    let endpoint = endpoint(&script, None);
    let tries = Tries::default();
    is_send(endpoint.request(&Clock::System, &credentials("a", "canary", 0), &tries));
    let mut endpoint = endpoint;
    endpoint.request.params.push(("pin".into(), "canary".into()));
    assert!(!format!("{endpoint:?}").contains("canary"));
}
