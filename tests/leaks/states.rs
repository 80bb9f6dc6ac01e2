//! What a client is doing when it is dropped.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use evertoken::http::{Request, Response};
use evertoken::testing::{ManualClock, Transport, TransportError, TransportErrorKind};
use evertoken::{Client, ClientBuilder, Dpop, Event, RenewalPolicy, State};

use crate::elsewhere::until;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    NeverUsed,
    Starting,
    Awaited,
    Fresh,
    Renewing,
    Degraded,
    DegradedWithToken,
    Rejected,
    Withheld,
    Idle,
    Closed,
    WithRelatives,
    BoundToAKey,
}

impl Doing {
    pub const ALL: [Self; 13] = [
        Self::NeverUsed,
        Self::Starting,
        Self::Awaited,
        Self::Fresh,
        Self::Renewing,
        Self::Degraded,
        Self::DegradedWithToken,
        Self::Rejected,
        Self::Withheld,
        Self::Idle,
        Self::Closed,
        Self::WithRelatives,
        Self::BoundToAKey,
    ];
}

const GRANTS: u8 = 0;
const HANGS: u8 = 1;
const DOWN: u8 = 2;
const REFUSES: u8 = 3;

/// The authorization server, in one of these moods.
#[derive(Default)]
pub struct Server {
    mood: AtomicU8,
    requests: AtomicU8,
}

impl Transport for Server {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let nth = self.requests.fetch_add(1, SeqCst);
        let scheme = if request.headers().contains_key("dpop") { "DPoP" } else { "Bearer" };
        Box::pin(async move {
            let (status, body) = match self.mood.load(SeqCst) {
                GRANTS => {
                    (200, format!(r#"{{"access_token":"t{nth}","token_type":"{scheme}","expires_in":3600}}"#))
                }
                HANGS => pending().await,
                DOWN => return Err(TransportError::new(TransportErrorKind::Connect).with_source("no route")),
                _ => (401, r#"{"error":"invalid_client","error_description":"who?"}"#.to_owned()),
            };
            Ok(Response::builder().status(status).body(body.into()).unwrap())
        })
    }
}

/// One client with clocks and a server of its own.
pub struct Life {
    pub clock: Arc<ManualClock>,
    pub server: Arc<Server>,
}

impl Life {
    pub fn new() -> Self {
        Self { clock: Arc::default(), server: Arc::default() }
    }

    pub fn builder(&self) -> ClientBuilder {
        Client::builder("app", "secret")
            .token_url("https://as.example/token")
            .base_url("https://api.example/v1/")
            .renewal(RenewalPolicy::default().stop_after_unused(1))
            .transport(self.server.clone())
            .clock(self.clock.clone())
    }

    fn set(&self, mood: u8) {
        self.server.mood.store(mood, SeqCst);
    }

    async fn asked(&self, times: u8) {
        until(|| self.server.requests.load(SeqCst) >= times).await;
    }

    /// Brings the client there, and drops it.
    pub async fn run(&self, doing: Doing) {
        let mut builder = self.builder();
        if doing == Doing::BoundToAKey {
            builder = builder.dpop(Dpop::new());
        }
        let client = builder.build().unwrap();
        let is = async |state| until(|| client.status().state == state).await;
        match doing {
            Doing::NeverUsed => is(State::Starting).await,
            Doing::Starting => {
                self.set(HANGS);
                client.prefetch();
                self.asked(1).await;
                is(State::Starting).await;
            }
            // A caller who gave up, and one who listens for longer than the client lives.
            Doing::Awaited => {
                self.set(HANGS);
                let mut events = client.events();
                let mut waiting = Box::pin(client.token());
                assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                self.asked(1).await;
                drop(waiting);
                drop(client);
                assert!(matches!(events.next().await, Some(Event::Closed)));
            }
            Doing::Fresh | Doing::BoundToAKey => {
                client.token().await.unwrap();
                is(State::Fresh).await;
            }
            Doing::Renewing => {
                client.token().await.unwrap();
                self.set(HANGS);
                self.clock.advance(HOUR - Duration::from_secs(60));
                self.asked(2).await;
                is(State::Renewing).await;
            }
            Doing::Degraded => {
                self.set(DOWN);
                client.prefetch();
                is(State::Degraded).await;
            }
            Doing::DegradedWithToken => {
                client.token().await.unwrap();
                self.set(DOWN);
                self.clock.advance(HOUR - Duration::from_secs(60));
                is(State::Degraded).await;
                client.token().await.unwrap();
            }
            Doing::Rejected => {
                self.set(REFUSES);
                client.token().await.unwrap_err();
                is(State::Rejected).await;
            }
            Doing::Withheld => {
                let token = client.token().await.unwrap();
                self.set(HANGS);
                self.clock.advance(Duration::from_secs(10));
                client.invalidate(&token);
                self.asked(2).await;
                assert!(client.current_token().is_none());
            }
            Doing::Idle => {
                client.token().await.unwrap();
                self.clock.advance(HOUR);
                self.asked(2).await;
                is(State::Fresh).await;
                self.clock.advance(HOUR);
                is(State::Idle).await;
            }
            Doing::Closed => {
                client.token().await.unwrap();
                client.shutdown().await.unwrap();
                is(State::Closed).await;
            }
            Doing::WithRelatives => {
                client.token().await.unwrap();
                let relative = client.with("https://other.example", ["read"]).unwrap();
                relative.token().await.unwrap();
            }
        }
    }
}
