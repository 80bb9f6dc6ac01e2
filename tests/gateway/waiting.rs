//! Clients and upstreams that keep the gateway waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::gateway::config::Limits;
use super::house::until;
use super::{Setting, serve};

/// Long, but for one of them.
fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let hour = Duration::from_secs(3600);
    let mut limits = Limits { head: hour, body: hour, upstream: hour, usage: hour, drain: hour };
    change(&mut limits);
    limits
}

const SHORT: Duration = Duration::from_millis(500);

/// Sends this, then a byte now and then, and returns what comes until the other end closes the connection.
async fn drip(setting: &Setting, text: &str) -> String {
    let mut stream = TcpStream::connect(setting.gateway.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while to.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    // What was sent in vain may reset it.
    let _: io::Result<usize> = timeout(Duration::from_secs(60), from.read_to_end(&mut answer))
        .await
        .expect("the gateway closes the connection");
    dripping.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn half_a_head_holds_no_connection() {
    let setting = Setting::with(|config| config.limits = limits(|limits| limits.head = SHORT)).await;
    for text in ["", "G", "GET /x HTTP/1.1\r\nHost: api\r\nX-Slow: "] {
        drip(&setting, text).await;
    }
    // Nor does one that sends nothing at all, before a request and after one.
    let mut idle = TcpStream::connect(setting.gateway.address).await.unwrap();
    let end = timeout(Duration::from_secs(60), idle.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test]
async fn a_body_that_comes_by_drops_is_given_up() {
    let setting = Setting::with(|config| config.limits = limits(|limits| limits.body = SHORT)).await;
    let head = "POST /x HTTP/1.1\r\nHost: api\r\nAuthorization: Basic YXBwOnNlY3JldA==\r\n";
    let answer = drip(&setting, &format!("{head}Content-Length: 1000000\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // One that pauses, but is fast enough on the whole, is not.
    let mut stream = TcpStream::connect(setting.gateway.address).await.unwrap();
    stream
        .write_all(format!("{head}Content-Length: 400000\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    for _ in 0..100 {
        stream.write_all(&[b'x'; 4000]).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"body\":400000"), "{answer}");
}

/// A body without an end, that tells when it is dropped.
struct Endless(Arc<AtomicBool>);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 65_536])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_response_is_given_up() {
    let dropped: Arc<AtomicBool> = Arc::default();
    let shared = dropped.clone();
    let upstream = serve(Router::new().fallback(async move || Body::new(Endless(shared)))).await;
    let setting = Setting::with(|config| {
        config.upstream = format!("http://{upstream}");
        config.limits = limits(|limits| limits.body = SHORT);
    })
    .await;
    let mut stream = TcpStream::connect(setting.gateway.address).await.unwrap();
    let head = "GET /x HTTP/1.1\r\nHost: api\r\nAuthorization: Basic YXBwOnNlY3JldA==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    until("the upstream's body is dropped", || dropped.load(Ordering::Relaxed)).await;
}

/// An upstream that answers every connection with this, and then with silence.
async fn says(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(text.as_bytes()).await.unwrap();
            all.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    for (text, body) in [
        ("", &b""[..]),
        ("HTTP/1.1 200 OK\r\nX-Slow: ", b""),
        ("", &[b'x'; 100_000]),
        // It does not even read what it is sent.
        ("", &[b'x'; 50_000_000]),
    ] {
        let upstream = says(text).await;
        let setting = Setting::with(|config| {
            config.upstream = upstream;
            config.limits = limits(|limits| limits.upstream = SHORT);
        })
        .await;
        let request = setting.http.post(setting.front("/x")).basic_auth("app", Some("secret"));
        let answer = timeout(Duration::from_secs(60), request.body(body).send()).await.expect("an answer");
        // With the rest of a body under way, the client may see nothing but the end of the connection.
        match answer {
            Ok(answer) => assert_eq!(answer.status(), 504),
            Err(error) => assert!(body.len() > 1_000_000, "{error}"),
        }
    }
    let upstream = says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
    let setting = Setting::with(|config| {
        config.upstream = upstream;
        config.limits = limits(|limits| limits.upstream = SHORT);
    })
    .await;
    let answer =
        setting.http.get(setting.front("/x")).basic_auth("app", Some("secret")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    timeout(Duration::from_secs(60), answer.text()).await.expect("an end").unwrap_err();
}
