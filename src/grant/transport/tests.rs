use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Answers every connection with `answer` and closes it; hands back what was asked, one text per connection.
async fn serve(answer: Vec<u8>, connections: usize) -> (SocketAddr, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..connections {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"grant_type=x") {
                let read = socket.read_buf(&mut text).await.unwrap();
                assert_ne!(read, 0, "the request broke off");
            }
            asked.push(String::from_utf8(text).unwrap());
            // The client may have heard enough before all of it is written.
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
            // Not before the client has closed: a socket closed over unread bytes resets the connection.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
        asked
    });
    (address, task)
}

fn transport() -> HttpTransport {
    HttpTransport::new(&Network::default()).unwrap()
}

async fn post(transport: &HttpTransport, address: SocketAddr) -> Result<Response<Bytes>, TransportError> {
    let request = Request::post(format!("http://{address}/token?canary=1"));
    transport.send(request.body(Bytes::from_static(b"grant_type=x")).unwrap()).await
}

async fn met(answer: &[u8]) -> TransportErrorKind {
    let (address, server) = serve(answer.to_vec(), 1).await;
    let error = post(&transport(), address).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    server.await.unwrap();
    error.kind()
}

#[tokio::test]
async fn the_whole_answer_comes_back() {
    let (address, server) =
        serve(b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 3\r\nx-a: b\r\n\r\nabc".to_vec(), 1).await;
    let answer = post(&transport(), address).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-a"], &answer.body()[..]),
        (418, &http::HeaderValue::from_static("b"), &b"abc"[..])
    );
    let asked = server.await.unwrap().concat().to_lowercase();
    assert!(asked.starts_with("post /token?canary=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains(concat!("user-agent: evertoken/", env!("CARGO_PKG_VERSION"), "\r\n")), "{asked}");
    assert!(asked.contains("accept-encoding: gzip\r\n"), "{asked}");
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    use TransportErrorKind::{Interrupted, TooLarge};
    let sized = |length: usize, sent: usize| {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + sent, b' ');
        answer
    };
    assert_eq!(met(b"").await, Interrupted);
    assert_eq!(met(b"HTTP/1.1 200 OK\r\ncontent-le").await, Interrupted);
    assert_eq!(met(&sized(100, 20)).await, Interrupted);
    assert_eq!(met(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"acc").await, Interrupted);
    assert_eq!(
        met(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc").await,
        Interrupted
    );
    assert_eq!(met(&sized(MAX_BODY + 1, MAX_BODY + 1)).await, TooLarge);
    assert_eq!(
        met(&[b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", &zeros_gzipped()[..]].concat()).await,
        TooLarge
    );
    let (address, _) = serve(sized(MAX_BODY, MAX_BODY), 1).await;
    assert_eq!(post(&transport(), address).await.unwrap().body().len(), MAX_BODY);
}

/// Some 2 MiB of zeros in 14 KiB: one literal, then 8,200 copies of 258 bytes (RFC 1951 3.2.6).
fn zeros_gzipped() -> Vec<u8> {
    let mut bits = vec![true, true, false]; // the last block, fixed codes
    let mut code = |code: u32, length: u32| bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    code(0b0011_0000, 8);
    for _ in 0..8_200 {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(
        bits.chunks(8)
            .map(|byte| byte.iter().enumerate().map(|(place, bit)| u8::from(*bit) << place).sum::<u8>()),
    );
    out
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = post(&transport(), address).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Connect);
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, untouched) = serve(Vec::new(), 1).await;
    let redirect = format!("HTTP/1.1 307 X\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = serve(redirect.into_bytes(), 1).await;
    assert_eq!(post(&transport(), address).await.unwrap().status(), 307);
    assert!(!untouched.is_finished());
}

#[tokio::test]
async fn no_connection_is_kept() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        // As many requests as a connection brings.
        while let Ok((mut socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut text = Vec::new();
                while socket.read_buf(&mut text).await.is_ok_and(|read| read > 0) {
                    if text.ends_with(b"grant_type=x") {
                        text.clear();
                        socket.write_all(ANSWER).await.unwrap();
                    }
                }
            });
        }
    });
    let transport = transport();
    for _ in 0..3 {
        post(&transport, address).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[test]
fn the_default_transport_is_shared_while_held() {
    // A slot of its own: other tests may hold what is in the process's.
    let slot = Mutex::default();
    let [one, two] = [(); 2].map(|()| HttpTransport::shared_in(&slot).unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    let weak = Arc::downgrade(&one);
    drop((one, two));
    assert!(weak.upgrade().is_none());
    assert!(HttpTransport::shared_in(&slot).is_ok());
}

#[test]
fn a_growing_body_keeps_its_bytes() {
    let mut body = Zeroizing::new(Vec::new());
    for chunk in [&b"ab"[..], b"", b"cdefgh", b"i"] {
        append(&mut body, chunk);
    }
    assert_eq!(&body[..], b"abcdefghi");
}
