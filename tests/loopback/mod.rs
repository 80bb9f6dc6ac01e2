//! A token endpoint and an API on loopback, on a thread of their own, so that tests without a runtime can use them.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, clippy::unwrap_used)]

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as the API saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").map(|value| value.to_str().unwrap())
    }
}

/// An answer and how long it takes to come: [`FOREVER`] is never.
pub type Answer = (Duration, Response);

pub fn now(answer: impl IntoResponse) -> Answer {
    (Duration::ZERO, answer.into_response())
}

type Handler = dyn Fn(&Server, &Seen) -> Answer + Send + Sync;

#[derive(Clone)]
pub struct Server {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    token_delay: Duration,
    issued: AtomicUsize,
    /// The number of the one token that the API takes.
    valid: AtomicUsize,
    log: Mutex<Vec<Seen>>,
    _stop: Mutex<Option<oneshot::Sender<()>>>,
}

pub const FOREVER: Duration = Duration::MAX;

impl Server {
    pub fn start(handler: impl Fn(&Server, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::with_token_delay(Duration::ZERO, handler)
    }

    pub fn with_token_delay(
        token_delay: Duration,
        handler: impl Fn(&Server, &Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            token_delay,
            issued: AtomicUsize::new(0),
            valid: AtomicUsize::new(0),
            log: Mutex::default(),
            _stop: Mutex::new(Some(stop)),
        });
        let state = Reach { url: url.clone(), shared: Arc::downgrade(&shared) };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let app = Router::new().route("/token", post(issue)).fallback(api).with_state(state);
                let served = axum::serve(TcpListener::from_std(listener).unwrap(), app);
                tokio::select! {
                    _ = served => {}
                    _ = stopped => {}
                }
            });
        });
        Self { url, shared }
    }

    /// An API that takes the newest token, and answers others as RFC 6750 says.
    pub fn guarded() -> Self {
        Self::start(|server, seen| now(server.guard(seen)))
    }

    pub fn guard(&self, seen: &Seen) -> Response {
        let valid = format!("Bearer t{}", self.shared.valid.load(Ordering::SeqCst));
        if seen.authorization() == Some(&valid) {
            seen.body.clone().into_response()
        } else {
            (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer error=\"invalid_token\"")], "no")
                .into_response()
        }
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    pub fn base_url(&self) -> String {
        format!("{}/v1/", self.url)
    }

    pub fn revoke(&self) {
        self.shared.valid.store(0, Ordering::SeqCst);
    }

    pub fn issued(&self) -> usize {
        self.shared.issued.load(Ordering::SeqCst)
    }

    pub fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.log().iter().map(|seen| seen.authorization().map(str::to_owned)).collect()
    }

    pub fn source(&self) -> evertoken::TokenSource {
        evertoken::TokenSource::builder("id", "secret")
            .token_url(self.token_url())
            .base_url(self.base_url())
            .build()
            .unwrap()
    }

    /// The same, whose token may go there, too.
    pub fn trusting(&self, other: &str) -> evertoken::TokenSource {
        let builder = evertoken::TokenSource::builder("id", "secret").token_url(self.token_url());
        builder.base_url(self.base_url()).trusted_origin(other).build().unwrap()
    }

    pub fn client(&self) -> evertoken::Client {
        self.builder().build().unwrap()
    }

    pub fn builder(&self) -> evertoken::ClientBuilder {
        evertoken::Client::builder("id", "secret").token_url(self.token_url()).base_url(self.base_url())
    }
}

/// What the thread has: no handle, so that the last one outside ends it.
#[derive(Clone)]
struct Reach {
    url: String,
    shared: Weak<Shared>,
}

impl Reach {
    fn server(&self) -> Result<Server, StatusCode> {
        let shared = self.shared.upgrade().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        Ok(Server { shared, url: self.url.clone() })
    }
}

async fn issue(State(reach): State<Reach>) -> Result<Response, StatusCode> {
    let delay = reach.server()?.shared.token_delay;
    match delay {
        FOREVER => pending().await,
        delay => tokio::time::sleep(delay).await,
    }
    let server = reach.server()?;
    let number = server.shared.issued.fetch_add(1, Ordering::SeqCst) + 1;
    server.shared.valid.store(number, Ordering::SeqCst);
    let body = format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":3600}}"#);
    Ok(([("content-type", "application/json")], body).into_response())
}

async fn api(
    State(reach): State<Reach>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    let server = reach.server()?;
    let seen = Seen { method, uri, headers, body };
    server.shared.log.lock().unwrap().push(seen.clone());
    let answer = (server.shared.handler)(&server, &seen);
    drop(server);
    match answer {
        (FOREVER, _) => pending().await,
        (delay, response) => {
            tokio::time::sleep(delay).await;
            Ok(response)
        }
    }
}

/// An API that answers each request with a part of a body and then with nothing.
pub fn stalling_api() -> String {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst part");
            open.push(stream);
        }
    });
    url
}
