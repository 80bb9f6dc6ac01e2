use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use evertoken::testing::{ManualClock, Transport, TransportError};
use evertoken::{AccessToken, Builder, Error, Event, Status, TokenSource};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::runtime::Runtime;

pub const APP_ID: &str = "app-7";
/// It differs from what form encoding makes of it.
pub const SECRET: &str = "s3cr3t/c4nary+Xy7=";
/// What we send instead of the secret itself: form-encoded, and in both Basic headers.
pub const SECRETS: [&str; 4] = [
    SECRET,
    "s3cr3t%2Fc4nary%2BXy7%3D",
    "YXBwLTc6czNjcjN0L2M0bmFyeStYeTc9",
    "YXBwLTc6czNjcjN0JTJGYzRuYXJ5JTJCWHk3JTNE",
];

/// When it is, in seconds since the epoch: Fri, 13 Feb 2009 23:31:30 GMT.
pub const NOW: u64 = 1_234_567_890;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// An answer as it goes over the wire: the status, headers, an empty line, the body. What can be no header is left out.
pub fn parse(data: &[u8]) -> Response<Bytes> {
    let (mut rest, mut first) = (data, true);
    let mut answer = Response::new(Bytes::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or_default();
        if line.is_empty() {
            break;
        }
        if std::mem::take(&mut first) {
            let status = StatusCode::from_bytes(line.get(..3).unwrap_or_default());
            *answer.status_mut() = status.unwrap_or(StatusCode::BAD_REQUEST);
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value)
            && answer.headers().len() < 100
        {
            answer.headers_mut().append(name, value);
        }
    }
    *answer.body_mut() = Bytes::copy_from_slice(rest);
    answer
}

/// A server that answers by a function, and remembers what it was asked.
pub struct Scripted<F> {
    answer: F,
    pub seen: Mutex<Vec<Request<Bytes>>>,
}

impl<F> Scripted<F> {
    pub fn new(answer: F) -> Arc<Self> {
        Arc::new(Self { answer, seen: Mutex::default() })
    }
}

impl<F: Fn(&Request<Bytes>) -> Response<Bytes> + Send + Sync + 'static> Transport for Scripted<F> {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let answer = (self.answer)(&request);
        self.seen.lock().unwrap().push(request);
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// A builder whose time stands still.
pub fn builder(transport: Arc<dyn Transport>) -> Builder<TokenSource> {
    let clock = ManualClock::new(UNIX_EPOCH + Duration::from_secs(NOW));
    TokenSource::builder(APP_ID, SECRET).transport(transport).clock(Arc::new(clock)).seed(7)
}

/// What one attempt came to.
pub struct Outcome {
    pub token: Result<AccessToken, Error>,
    pub lifetime: Option<Duration>,
    pub status: Status,
    /// Everything that this crate shows of it.
    pub shown: String,
}

/// One attempt at a token.
pub fn attempt(builder: Builder<TokenSource>) -> Outcome {
    let source = builder.build().unwrap();
    block_on(async {
        let mut events = source.events();
        drop(source.prefetch());
        for _ in 0..1000 {
            let Some(event) = events.try_next() else {
                tokio::task::yield_now().await;
                continue;
            };
            let (token, lifetime) = match &event {
                Event::Renewed { lifetime, .. } => (source.current_token().ok_or(None), Some(*lifetime)),
                Event::RenewalFailed { error, .. } | Event::CredentialsRejected { error, .. } => {
                    (Err(Some(error.clone())), None)
                }
                _ => continue,
            };
            let status = source.status();
            let shown = format!("{event:?} {status:?} {source:?} {token:?}");
            let token = token.map_err(|error| error.expect("a token that was received is there"));
            return Outcome { token, lifetime, status, shown };
        }
        panic!("the attempt has no end");
    })
}

/// The attempt when the token endpoint gives this answer.
pub fn answered(answer: Response<Bytes>) -> Outcome {
    let server = Scripted::new(move |_: &Request<Bytes>| answer.clone());
    attempt(builder(server).token_url("https://as.example/token").scope("read write"))
}
