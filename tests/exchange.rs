//! The exchange at the box, and what a customer costs in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod house;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::future::ready;
use std::hint::black_box;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use evertoken::http::{Request, Response};
use evertoken::server::{
    CallerLayer, Exchange, ExchangeBuilder, PeerAddress, Usage, UsageBatch, UsageSink, Verifier, Written,
};
use evertoken::testing::{AuthServer, Fault, Transport, TransportError};
use evertoken::{ClientAuth, Error, ErrorKind, SecretString};
use house::{at_once, until};
use tower::{Layer, ServiceExt};

/// Counts for each thread what it has allocated and not freed, and how often it allocates.
struct Counting;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static TIMES: Cell<u64> = const { Cell::new(0) };
}

/// As glibc does it: eight bytes more, in steps of sixteen.
fn count(size: usize, sign: i64) {
    let size = i64::try_from((size + 8).next_multiple_of(16)).unwrap_or(0);
    let _ = HELD.try_with(|held| held.set(held.get() + sign * size));
    let _ = TIMES.try_with(|times| times.set(times.get() + 1));
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn exchange(server: &AuthServer) -> ExchangeBuilder {
    Exchange::builder(server.issuer()).audience(server.audience())
}

fn secret(text: &str) -> SecretString {
    text.into()
}

fn right() -> SecretString {
    secret(AuthServer::APP_SECRET)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_calls_of_one_customer_make_one_request() {
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_millis(500));
    let exchange = exchange(&server).build().unwrap();
    let calls: Vec<_> = (0..1_000)
        .map(|_| {
            let exchange = exchange.clone();
            tokio::spawn(async move { exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap() })
        })
        .collect();
    let mut tokens = HashSet::new();
    for call in calls {
        tokens.insert(call.await.unwrap().as_str().to_owned());
    }
    assert_eq!((tokens.len(), server.token_requests(), server.max_in_flight()), (1, 1, 1));
    assert!(server.accepts(tokens.iter().next().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_calls_of_many_customers_find_the_server_once() {
    let server = AuthServer::start().await.unwrap();
    let exchange = exchange(&server).max_concurrent(16).build().unwrap();
    let apps: Vec<String> = (0..200).map(|number| format!("app-{number}")).collect();
    apps.iter().for_each(|app| server.register(app, app));
    let calls: Vec<_> = apps
        .iter()
        .map(|app| {
            let (exchange, app) = (exchange.clone(), app.clone());
            tokio::spawn(async move { exchange.token(&app, &secret(&app), None).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((server.discovery_requests(), server.token_requests()), (1, 200));
    assert!(server.max_in_flight() <= 12, "{} at once", server.max_in_flight());
    assert_eq!(exchange.status().customers, 200);
}

/// Some hang, and the others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_whose_request_hangs_delays_no_other() {
    let server = AuthServer::builder().client("other", "s").start().await.unwrap();
    let exchange = exchange(&server).token_url(server.token_url()).build().unwrap();
    server.fail_next(Fault::Hang);
    let hanging = {
        let exchange = exchange.clone();
        tokio::spawn(async move { exchange.token(AuthServer::APP_ID, &right(), None).await })
    };
    server.wait_for_token_requests(1).await;
    exchange.token("other", &secret("s"), None).await.unwrap();
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn what_is_held_outlasts_the_server_and_a_wrong_secret_never_gets_it() {
    let server = AuthServer::start().await.unwrap();
    for method in [None, Some(ClientAuth::ClientSecretPost), Some(ClientAuth::ClientSecretBasic)] {
        let mut builder = exchange(&server);
        if let Some(method) = method {
            builder = builder.client_auth(method);
        }
        let exchange = builder.build().unwrap();
        let token = exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap();
        for wrong in ["", "Secret", "secret ", "secre", "secretsecret"] {
            let error = exchange.token(AuthServer::APP_ID, &secret(wrong), None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CredentialsRejected, "{wrong:?}");
        }
        let unknown = exchange.token("nobody", &secret("xyz"), None).await.unwrap_err();
        let wrong = exchange.token(AuthServer::APP_ID, &secret("xyz"), None).await.unwrap_err();
        let words = |error: &Error| error.clone().to_string();
        assert_eq!(words(&unknown), words(&wrong), "nobody learns which app ids there are");

        server.outage();
        assert_eq!(at_once(exchange.token(AuthServer::APP_ID, &right(), None)).unwrap().unwrap(), token);
        let error = exchange.token("new", &right(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
        assert!(error.is_retryable());
        server.recover().await.unwrap();
    }
}

#[tokio::test]
async fn a_rotated_secret_is_good_until_it_is_purged() {
    let server = AuthServer::start().await.unwrap();
    let exchange = exchange(&server).build().unwrap();
    exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap();
    server.rotate(AuthServer::APP_ID, "new");
    exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap();
    exchange.token(AuthServer::APP_ID, &secret("new"), None).await.unwrap();
    exchange.purge(AuthServer::APP_ID);
    assert!(exchange.token(AuthServer::APP_ID, &right(), None).await.is_err());
    exchange.token(AuthServer::APP_ID, &secret("new"), None).await.unwrap();
}

#[tokio::test]
async fn tokens_for_one_thing_are_none_for_another() {
    let server = AuthServer::start().await.unwrap();
    let exchange = exchange(&server).scope("read").build().unwrap();
    let other = exchange.with("https://other.example", ["write"]).unwrap();
    let claims = |token: &str| -> serde_json::Value {
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap())
            .unwrap()
    };
    for _ in 0..2 {
        let token = exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap();
        assert_eq!(
            (&claims(token.as_str())["aud"], token.scope()),
            (&server.audience().into(), Some("read"))
        );
        let token = other.token(AuthServer::APP_ID, &right(), None).await.unwrap();
        assert_eq!(claims(token.as_str())["aud"], "https://other.example");
        assert_eq!(token.scope(), Some("write"));
    }
    assert_eq!(server.token_requests(), 2);
    assert!(exchange.with("", ["a\"b"]).is_err());
}

#[tokio::test]
async fn short_tokens_are_renewed_by_who_comes_by() {
    let server = AuthServer::builder().lifetime(Duration::from_secs(2)).start().await.unwrap();
    let exchange = exchange(&server).build().unwrap();
    let token = || async { exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap() };
    let first = token().await;
    let mut all = HashSet::new();
    until("it was renewed twice", || {
        let token = at_once(token()).expect("a call never waits");
        assert!(server.accepts(token.as_str()));
        all.insert(token.as_str().to_owned());
        all.len() == 3
    })
    .await;
    assert!(all.contains(first.as_str()));
    assert_eq!(server.max_in_flight(), 1);
}

#[derive(Clone, Default)]
struct Batches(Arc<Mutex<Vec<UsageBatch>>>);

impl UsageSink for Batches {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        self.0.lock().unwrap().push(batch.clone());
        Box::pin(ready(Ok(())))
    }
}

#[tokio::test]
async fn tokens_are_counted_by_app_id() {
    let server = AuthServer::builder().client("other", "s").start().await.unwrap();
    let batches = Batches::default();
    let usage = Usage::builder(batches.clone()).start().unwrap();
    let exchange = exchange(&server).usage(&usage).build().unwrap();
    for _ in 0..3 {
        exchange.token(AuthServer::APP_ID, &right(), None).await.unwrap();
        exchange.token("other", &secret("s"), None).await.unwrap();
        assert!(exchange.token("other", &secret("wrong"), None).await.is_err());
        exchange.purge("other");
    }
    usage.shutdown().await.unwrap();
    let batches = batches.0.lock().unwrap();
    let counted: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.records)
        .map(|record| (record.app_id.as_deref(), record.tokens_issued))
        .collect();
    assert_eq!(counted, [(Some(AuthServer::APP_ID), 1), (Some("other"), 3)]);
}

#[test]
fn what_cannot_work_is_told_when_it_is_built() {
    let builder = || Exchange::builder("https://as.example");
    for (mistaken, named) in [
        (Exchange::builder("as.example"), "issuer"),
        (Exchange::builder("http://as.example"), "issuer"),
        (builder().token_url("http://as.example/token"), "token_url"),
        (builder().scope("a\"b"), "scope"),
        (builder().capacity(0), "capacity"),
        (builder().max_concurrent(1), "max_concurrent"),
        (builder().max_concurrent_per_app(0), "max_concurrent_per_app"),
        (builder().max_waiting(0), "max_waiting"),
        (builder().max_newcomers_per_second(0.0), "max_newcomers_per_second"),
        (builder().max_newcomers_per_second(f64::NAN), "max_newcomers_per_second"),
        (builder().max_age(Duration::from_millis(10)), "max_age"),
        (builder().client_auth(ClientAuth::TlsClientAuth), "client_auth"),
        (builder().root_certificate("no"), "root_certificate"),
        (builder().proxy("no"), "proxy"),
    ] {
        let error = mistaken.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{named}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

/// Answers at once, with a token as long as a JWT is.
struct AtOnce;

const TEXT: usize = 700;

impl Transport for AtOnce {
    fn send(
        &self,
        _: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, TransportError>> + Send + '_>> {
        let token = "t".repeat(TEXT);
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":86400,"scope":"read write"}}"#
        );
        Box::pin(ready(Ok(Response::new(body.into()))))
    }
}

#[tokio::test]
async fn a_customer_takes_600_bytes_beside_the_token_s_text_and_a_hit_allocates_nothing() {
    const CUSTOMERS: usize = 5_000;
    const MOST: i64 = 600;
    let exchange = Exchange::builder("https://as.example")
        .token_url("https://as.example/token")
        .transport(Arc::new(AtOnce))
        .capacity(2 * CUSTOMERS)
        .build()
        .unwrap();
    let names: Vec<_> =
        (0..CUSTOMERS).map(|number| (format!("app-{number}"), secret(&format!("secret-{number}")))).collect();
    // What the first one brings with it is there once.
    exchange.token("first", &right(), None).await.unwrap();
    let before = HELD.get();
    for (app_id, secret) in &names {
        exchange.token(app_id, secret, None).await.unwrap();
    }
    let each = (HELD.get() - before) / i64::try_from(CUSTOMERS).unwrap();
    let beside = each - i64::try_from(TEXT).unwrap();
    println!("{each} bytes for each customer, {beside} beside the token's text");
    assert_eq!(exchange.status().customers, CUSTOMERS + 1);
    assert!((100..=MOST).contains(&beside), "{beside}");

    let before = TIMES.get();
    for (app_id, secret) in &names {
        black_box(at_once(exchange.token(app_id, secret, None)).unwrap().unwrap());
    }
    assert_eq!(TIMES.get() - before, 0);
}

/// Never answers.
struct Silent;

impl Transport for Silent {
    fn send(
        &self,
        _: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, TransportError>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

fn silent(max_waiting: usize) -> Exchange {
    Exchange::builder("https://as.example")
        .token_url("https://as.example/token")
        .transport(Arc::new(Silent))
        .max_waiting(max_waiting)
        .build()
        .unwrap()
}

/// Sends `count` requests through the layer, each with its own app id, and returns how many of them
/// wait, and the bytes that they hold.
async fn waiting(
    exchange: Exchange,
    count: usize,
    secret: &str,
    peer: impl Fn(usize) -> IpAddr,
) -> (usize, i64) {
    let verifier = Verifier::builder("https://as.example").audience("api").build().unwrap();
    let layer = CallerLayer::new(verifier).exchange(exchange);
    let inner =
        tower::service_fn(|_| ready(Ok::<_, std::convert::Infallible>(Response::new(bytes::Bytes::new()))));
    let service = layer.layer(inner);
    let before = HELD.get();
    let mut calls = Vec::with_capacity(count);
    for number in 0..count {
        let pair = format!("{number:06}-{}:{secret}", &secret[..secret.len().min(4_000)]);
        let header = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let mut request = Request::builder().header("authorization", header).body(()).unwrap();
        request.extensions_mut().insert(PeerAddress(peer(number)));
        let mut call = Box::pin(service.clone().oneshot(request));
        if at_once(call.as_mut()).is_none() {
            calls.push(call);
        }
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    (calls.len(), HELD.get() - before)
}

/// 411 requests with secrets of 200 kB held 173 MB.
#[tokio::test]
async fn credentials_longer_than_any_wait_for_nothing() {
    let peer = |number: usize| IpAddr::from([192, 0, 2, (number % 200) as u8]);
    let (waits, held) = waiting(silent(10_000), 411, &"s".repeat(200_000), peer).await;
    println!("411 requests with secrets of 200 kB: {waits} wait and hold {held} bytes");
    assert_eq!(waits, 0);
    assert!(held < 1 << 20, "{held}");
    let exchange = silent(10_000);
    for (app_id, length) in
        [("a".repeat(4_097), 10), ("app".to_owned(), 4_097), ("app".to_owned(), 5_000_000)]
    {
        let outcome = at_once(exchange.token(&app_id, &secret(&"s".repeat(length)), None)).unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::CredentialsRejected);
    }
    assert!(at_once(exchange.token(&"a".repeat(4_096), &secret(&"s".repeat(4_096)), None)).is_none());
}

#[tokio::test]
async fn all_that_waits_holds_no_more_than_8_kib_for_each_place() {
    let many = |number: usize| IpAddr::from([10, 0, (number / 200) as u8, (number % 200) as u8]);
    let one = |_| IpAddr::from([192, 0, 2, 1]);
    let secret = "s".repeat(4_000);
    let (waits, held) = waiting(silent(500), 1_500, &secret, many).await;
    println!("1,500 requests with 8 kB of credentials and 500 places: {waits} wait and hold {held} bytes");
    assert!((50..500).contains(&waits), "{waits}");
    assert!(held < 3 * 500 * (8 << 10), "{held}");
    let (waits, held) = waiting(silent(500), 1_500, &secret, one).await;
    println!("the same from one address: {waits} wait and hold {held} bytes");
    assert!((5..=63).contains(&waits), "{waits}");
}
