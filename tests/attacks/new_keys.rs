//! Signing keys that the issuer has just made, while somebody makes up names of keys.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use evertoken::http::{Request, Response, header};
use evertoken::server::{Caller, PeerAddress, Refusal, RefusalKind, Verifier};
use evertoken::testing::{AuthServer, ManualClock, Signing, Transport, TransportError};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::house::{at_once, until};
use super::{builder, now};

const S: fn(u64) -> Duration = Duration::from_secs;

struct Scene {
    server: AuthServer,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Scene {
    async fn new() -> Self {
        let server = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
        let clock = Arc::new(ManualClock::default());
        let verifier = builder(&server).clock(clock.clone()).build().unwrap();
        verifier.prefetch().await.unwrap();
        Self { server, clock, verifier }
    }

    fn sign(&self, header: Value) -> String {
        self.server.sign(header, json!({ "exp": now() + 9000 })).unwrap()
    }

    fn made_up(&self, kid: &str) -> String {
        self.sign(json!({ "kid": kid }))
    }

    async fn from(&self, peer: &str, token: &str) -> Result<Caller, Refusal> {
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(PeerAddress(peer.parse::<IpAddr>().unwrap()));
        self.verifier.verify_request(&parts).await
    }

    fn rotate(&self) -> String {
        self.server.rotate_keys().unwrap();
        self.sign(json!({}))
    }
}

/// Nobody is told that a good token is no good.
#[tokio::test]
async fn a_token_of_a_new_key_is_put_off_and_not_refused() {
    let scene = Scene::new().await;
    let refusal = scene.verifier.verify(&scene.made_up("made up")).await.unwrap_err();
    assert_eq!(refusal.kind(), RefusalKind::InvalidToken);
    let new = scene.rotate();
    for passed in 0..10 {
        let refusal = at_once(scene.verifier.verify(&new)).unwrap().unwrap_err();
        assert_eq!((refusal.kind(), refusal.retry_after()), (RefusalKind::Unavailable, Some(S(10 - passed))));
        assert!(!refusal.to_string().contains("cannot be asked"), "{refusal}");
        scene.clock.advance(S(1));
    }
    scene.verifier.verify(&new).await.unwrap();
    assert_eq!(scene.server.jwks_requests(), 3);
}

#[tokio::test]
async fn made_up_names_keep_nobody_else_s_key_from_being_found() {
    let scene = Scene::new().await;
    for round in 0..20 {
        for n in 0..50 {
            let made_up = scene.made_up(&format!("made-up-{round}-{n}"));
            scene.from("192.0.2.1", &made_up).await.unwrap_err();
            scene.from("2001:db8::1", &made_up).await.unwrap_err();
            scene.from(&format!("2001:db8::{n}"), &scene.made_up(&format!("other-{n}"))).await.unwrap_err();
        }
        let new = scene.rotate();
        scene.from("198.51.100.7", &new).await.unwrap();
        scene.from("192.0.2.1", &new).await.unwrap();
        scene.clock.advance(S(10));
    }
    // One for each of the two senders, and one for each new key.
    assert_eq!(scene.server.jwks_requests(), 1 + 20 * 3);
}

/// As many senders as somebody likes.
#[tokio::test]
async fn made_up_names_from_everywhere_are_no_flood_at_the_issuer() {
    let scene = Scene::new().await;
    for n in 0..6000_u32 {
        let peer = IpAddr::from(n.to_be_bytes()).to_string();
        let refusal = scene.from(&peer, &scene.made_up(&format!("kid-{n}"))).await.unwrap_err();
        assert!(refusal.kind() == RefusalKind::InvalidToken || refusal.retry_after().unwrap() <= S(5));
        scene.clock.advance(Duration::from_millis(10));
    }
    let requests = scene.server.jwks_requests();
    assert!(requests <= 1 + 5 + 12, "{requests} in a minute");
    // A new key is found with the next of their readings, if not by its own.
    let new = scene.rotate();
    let mut peers = 0_u32;
    let mut waited = Duration::ZERO;
    while scene.from("198.51.100.7", &new).await.is_err() {
        scene.clock.advance(Duration::from_millis(500));
        waited += Duration::from_millis(500);
        assert!(waited <= S(5));
        peers += 1;
        let peer = IpAddr::from(peers.to_be_bytes()).to_string();
        let _ = scene.from(&peer, &scene.made_up(&format!("late-{peers}"))).await;
    }
}

/// Names of keys are often numbered.
#[tokio::test]
async fn whoever_guesses_the_next_key_s_name_does_not_spoil_it() {
    let scene = Scene::new().await;
    let next = {
        let other = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
        other.rotate_keys().unwrap();
        other.jwks()["keys"].as_array().unwrap().last().unwrap()["kid"].as_str().unwrap().to_owned()
    };
    scene.from("192.0.2.1", &scene.made_up(&next)).await.unwrap_err();
    let new = scene.rotate();
    assert_eq!(scene.server.jwks()["keys"].as_array().unwrap().last().unwrap()["kid"], next);
    scene.from("198.51.100.7", &new).await.unwrap();
}

/// Many clients hold tokens of a key that was dropped at once: each of them has to hear it, to get another token.
#[tokio::test]
async fn tokens_of_a_withdrawn_key_are_refused_and_not_put_off() {
    let scene = Scene::new().await;
    let old: Vec<_> = (0..200)
        .map(|n| scene.server.sign(json!({}), json!({ "jti": n.to_string(), "exp": now() + 9000 })).unwrap())
        .collect();
    scene.rotate();
    scene.server.drop_old_keys();
    scene.clock.advance(S(541));
    until("the keys are read again", || scene.verifier.condition().keys_age == Some(S(0))).await;
    let requests = scene.server.jwks_requests();
    for (n, token) in old.iter().enumerate() {
        let refusal = scene.from(&format!("10.0.0.{n}"), token).await.unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::InvalidToken, "{n}: {refusal}");
    }
    assert_eq!(scene.server.jwks_requests(), requests);

    // So it is at a verifier that has never seen the key, once it was looked for.
    let late = builder(&scene.server).clock(scene.clock.clone()).build().unwrap();
    let scene = Scene { verifier: late, ..scene };
    scene.verifier.prefetch().await.unwrap();
    for (n, token) in old.iter().enumerate() {
        let refusal = scene.from(&format!("10.0.0.{n}"), token).await.unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::InvalidToken, "{n}: {refusal}");
    }
    assert!(scene.server.jwks_requests() <= requests + 1 + 5);
}

/// An issuer that has its keys read before it answers, as one with replicas does.
struct Slow {
    keys: Mutex<Value>,
    asked: AtomicUsize,
    answers: Notify,
}

impl Transport for Slow {
    fn send(
        &self,
        _: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let body = self.keys.lock().unwrap().to_string();
        let is_second = self.asked.fetch_add(1, Relaxed) == 1;
        Box::pin(async move {
            if is_second {
                self.answers.notified().await;
            }
            Ok(Response::new(body.into()))
        })
    }
}

/// A reading that somebody else began may be older than the key.
#[tokio::test]
async fn a_reading_under_way_is_followed_by_one_for_the_new_key() {
    let server = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
    let slow = Arc::new(Slow {
        keys: Mutex::new(server.jwks()),
        asked: AtomicUsize::new(0),
        answers: Notify::new(),
    });
    let clock = Arc::new(ManualClock::default());
    let verifier = builder(&server)
        .clock(clock.clone())
        .jwks_url(server.jwks_url())
        .transport(slow.clone())
        .build()
        .unwrap();
    let scene = Scene { server, clock, verifier };
    scene.verifier.prefetch().await.unwrap();
    let made_up = scene.made_up("made up");
    let waiting = tokio::spawn({
        let verifier = scene.verifier.clone();
        async move { verifier.verify(&made_up).await }
    });
    until("it is being read", || slow.asked.load(Relaxed) == 2).await;
    let new = scene.rotate();
    *slow.keys.lock().unwrap() = scene.server.jwks();
    let mut call = pin!(scene.from("198.51.100.7", &new));
    assert!(at_once(call.as_mut()).is_none());
    slow.answers.notify_one();
    call.await.unwrap();
    waiting.await.unwrap().unwrap_err();
    assert_eq!(slow.asked.load(Relaxed), 3);
}
