//! Revoked apps: tokens that would outlive their revocation, and clocks that disagree about when it was.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use evertoken::http::{Request, Response, StatusCode, header};
use evertoken::server::{
    CallerLayer, Exchange, Introspection, RefusalKind, Revocation, Revocations, Verifier,
};
use evertoken::testing::{AuthServer, Fault, ManualClock};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use super::builder;

const S: fn(u64) -> Duration = Duration::from_secs;
const HOUR: Duration = Duration::from_secs(3600);
const APP: &str = AuthServer::APP_ID;

/// An API that can revoke, with its clock; the server's tokens are signed to the test's liking.
struct Scene {
    server: AuthServer,
    clock: Arc<ManualClock>,
    revocations: Revocations,
    verifier: Verifier,
}

impl Scene {
    async fn at(wall: SystemTime) -> Self {
        let server = AuthServer::start().await.unwrap();
        let clock = Arc::new(ManualClock::new(wall));
        let revocations = Revocations::new(HOUR).clock(clock.clone());
        let verifier = Self::verifier(&server, &clock, &revocations);
        Self { server, clock, revocations, verifier }
    }

    async fn new() -> Self {
        Self::at(SystemTime::now()).await
    }

    fn verifier(server: &AuthServer, clock: &Arc<ManualClock>, revocations: &Revocations) -> Verifier {
        let introspection = Introspection::new(APP, AuthServer::APP_SECRET);
        let builder = builder(server).clock(clock.clone()).revocations(revocations);
        builder.introspection(introspection).build().unwrap()
    }

    fn wall(&self) -> u64 {
        self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    fn sign(&self, iat: u64, exp: u64) -> String {
        let id = format!("{iat}-{exp}");
        self.server.sign(json!({}), json!({ "iat": iat, "exp": exp, "jti": id })).unwrap()
    }

    async fn takes(&self, token: &str) -> bool {
        match self.verifier.verify(token).await {
            Ok(_) => true,
            Err(refusal) => {
                assert_eq!(refusal.kind(), RefusalKind::InvalidToken, "{refusal}");
                false
            }
        }
    }

    /// Whether an opaque token is taken of which the server says this.
    async fn takes_opaque(&self, token: &str, mut claims: Value) -> bool {
        let all = json!({ "active": true, "client_id": APP, "aud": self.server.audience() });
        claims.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
        let fault = Fault::Status { status: 200, headers: vec![], body: claims.to_string() };
        self.server.fail_next_introspection(fault);
        self.takes(token).await
    }
}

#[tokio::test]
async fn a_token_that_would_outlive_its_revocation_is_refused() {
    let scene = Scene::new().await;
    let now = scene.wall();
    for exp in [now + 3600, now + 3601] {
        assert!(scene.takes(&scene.sign(now, exp)).await);
    }
    for (iat, exp) in [(now, now + 3661), (now - 10_000, now + 10), (now + 20, now + 90_000), (0, now + 60)] {
        let long = scene.sign(iat, exp);
        assert!(!scene.takes(&long).await, "{iat} {exp}");
    }
    // Without revocations nothing has to be held to any lifetime.
    let plain = builder(&scene.server).clock(scene.clock.clone()).build().unwrap();
    plain.verify(&scene.sign(now, now + 90_000)).await.unwrap();

    assert!(scene.takes_opaque("a", json!({ "iat": now, "exp": now + 3600 })).await);
    assert!(scene.takes_opaque("b", json!({ "iat": now - 3600 })).await);
    assert!(scene.takes_opaque("c", json!({ "exp": now + 3600 })).await);
    for (token, claims) in [
        ("d", json!({ "iat": now, "exp": now + 3661 })),
        ("e", json!({ "iat": now - 4000 })),
        ("f", json!({ "exp": now + 4000 })),
        ("g", json!({})),
        ("h", json!({ "iat": null, "exp": null })),
    ] {
        assert!(!scene.takes_opaque(token, claims.clone()).await, "{claims}");
    }
}

/// To the second before the last token has ended by itself, by the clock that is ahead as far as it may be.
#[tokio::test]
async fn no_token_comes_back_when_its_revocation_is_forgotten() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let revocations = Revocations::new(HOUR).clock(clock.clone());
    let verifier =
        builder(&server).clock(clock.clone()).leeway(S(300)).revocations(&revocations).build().unwrap();
    let scene = Scene { server, clock, revocations, verifier };
    let now = scene.wall();
    let token = scene.sign(now + 299, now + 299 + 3600);
    assert!(scene.takes(&token).await);
    scene.revocations.revoke(APP).await.unwrap();
    for step in 0..26 {
        scene.clock.advance(S(180));
        // Whatever is too old is forgotten with the next.
        scene.revocations.revoke(&format!("other-{step}")).await.unwrap();
        assert!(!scene.takes(&token).await, "{step}");
    }
    assert!(!scene.revocations.is_revoked(APP, None));
}

#[tokio::test]
async fn a_token_of_a_server_whose_clock_is_ahead_does_not_survive_a_revocation() {
    for is_seen in [true, false] {
        let scene = Scene::new().await;
        let now = scene.wall();
        let old = scene.sign(now + 20, now + 3000);
        if is_seen {
            assert!(scene.takes(&old).await);
        }
        scene.revocations.revoke(APP).await.unwrap();
        assert!(!scene.takes(&old).await);
        scene.verifier.purge(APP);
        for _ in 0..10 {
            scene.clock.advance(S(7));
            assert!(!scene.takes(&old).await);
        }
        // What is issued after the leeway has passed is good again.
        let now = scene.wall();
        assert!(scene.takes(&scene.sign(now + 20, now + 3000)).await);
    }
}

/// With clocks that agree a second is enough, however the revocation came.
#[tokio::test]
async fn a_new_token_is_taken_a_second_after_a_revocation_if_the_clocks_agree() {
    for ahead in [0, 30, 100_000] {
        let scene = Scene::new().await;
        let old = scene.sign(scene.wall(), scene.wall() + 60);
        assert!(scene.takes(&old).await);
        scene.revocations.apply(&Revocation::new(APP, scene.clock.wall() + S(ahead))).unwrap();
        assert!(!scene.takes(&old).await);
        scene.clock.advance(S(1));
        assert!(scene.takes(&scene.sign(scene.wall(), scene.wall() + 60)).await, "{ahead}");
        assert!(!scene.takes(&old).await);
    }
}

/// The same API for customers who send app id and secret.
struct Gateway {
    scene: Scene,
    layer: CallerLayer,
}

impl Gateway {
    async fn at(wall: SystemTime, exchange_knows: bool) -> Self {
        let scene = Scene::at(wall).await;
        let exchange = Exchange::builder(scene.server.issuer()).audience(scene.server.audience());
        let exchange = exchange.clock(scene.clock.clone());
        let exchange = if exchange_knows { exchange.revocations(&scene.revocations) } else { exchange };
        let layer = CallerLayer::new(scene.verifier.clone()).exchange(exchange.build().unwrap());
        Self { scene, layer }
    }

    async fn call(&self) -> Response<Body> {
        let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let pair = BASE64_STANDARD.encode(format!("{APP}:{}", AuthServer::APP_SECRET));
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Basic {pair}"));
        self.layer.layer(inner).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn statuses(&self, calls: usize) -> Vec<StatusCode> {
        let mut statuses = Vec::new();
        for _ in 0..calls {
            statuses.push(self.call().await.status());
        }
        statuses
    }
}

#[tokio::test]
async fn a_revocation_dated_ahead_costs_one_token_and_no_call() {
    for exchange_knows in [true, false] {
        let gateway = Gateway::at(SystemTime::now(), exchange_knows).await;
        let Scene { server, clock, revocations, .. } = &gateway.scene;
        assert_eq!(gateway.call().await.status(), StatusCode::OK);
        clock.advance(S(2));
        revocations.apply(&Revocation::new(APP, clock.wall() + S(30))).unwrap();
        clock.advance(Duration::from_millis(1));
        assert_eq!(gateway.statuses(200).await, [StatusCode::OK; 200]);
        assert_eq!(server.token_requests(), 2, "{exchange_knows}");
        // In the second after it once more, since a token's own time says no more than the second.
        clock.advance(S(2));
        assert_eq!(gateway.statuses(50).await, [StatusCode::OK; 50]);
        assert!(server.token_requests() <= 3);
    }
}

#[tokio::test]
async fn a_customer_who_was_reset_is_served_by_an_api_whose_clock_is_off() {
    for (wall, exchange_knows) in [
        (SystemTime::now() + S(20), true),
        (SystemTime::now() + S(20), false),
        (SystemTime::now() - S(20), true),
    ] {
        let gateway = Gateway::at(wall, exchange_knows).await;
        let Scene { server, clock, revocations, .. } = &gateway.scene;
        assert_eq!(gateway.call().await.status(), StatusCode::OK);
        clock.advance(S(2));
        revocations.revoke(APP).await.unwrap();
        clock.advance(Duration::from_millis(1));
        for _ in 0..5 {
            assert_eq!(gateway.statuses(20).await, [StatusCode::OK; 20]);
            clock.advance(S(1));
        }
        assert!(server.token_requests() <= 3, "{}", server.token_requests());
    }
}

/// A clock that is set back makes tokens look older than they are. That is an outage, and no flood.
#[tokio::test]
async fn a_clock_set_back_after_a_revocation_does_not_ask_for_a_token_with_each_call() {
    for exchange_knows in [true, false] {
        let gateway = Gateway::at(SystemTime::now(), exchange_knows).await;
        let Scene { server, clock, revocations, .. } = &gateway.scene;
        assert_eq!(gateway.call().await.status(), StatusCode::OK);
        revocations.revoke(APP).await.unwrap();
        clock.set_wall(clock.wall() - S(20));
        for _ in 0..200 {
            let answer = gateway.call().await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(answer.headers().contains_key(header::RETRY_AFTER));
        }
        assert!(server.token_requests() <= 3, "{}", server.token_requests());
        clock.advance(S(60));
        assert_eq!(gateway.call().await.status(), StatusCode::OK);
    }
}
