//! Signing keys that the issuer withdraws, and the tokens that they signed.

use std::sync::Arc;
use std::time::Duration;

use evertoken::server::{Introspection, RefusalKind, Verifier};
use evertoken::testing::{AuthServer, ManualClock, Signing};
use serde_json::{Value, json};

use super::house::{at_once, until};
use super::{builder, now};

struct Scene {
    server: AuthServer,
    clock: Arc<ManualClock>,
    verifier: Verifier,
}

impl Scene {
    async fn new(signing: Signing) -> Self {
        let server = AuthServer::builder().signing(signing).start().await.unwrap();
        let clock = Arc::new(ManualClock::default());
        let introspection = Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .max_age(Duration::from_secs(86_400));
        let verifier = builder(&server).clock(clock.clone()).introspection(introspection).build().unwrap();
        verifier.prefetch().await.unwrap();
        Self { server, clock, verifier }
    }

    fn sign(&self, header: Value, id: &str) -> String {
        self.server.sign(header, json!({ "jti": id, "exp": now() + 9000 })).unwrap()
    }

    /// Has the keys read again by the task that renews them.
    async fn read_again(&self) {
        let before = self.server.jwks_requests();
        self.clock.advance(Duration::from_secs(541));
        until("the keys are read again", || {
            self.server.jwks_requests() > before && self.verifier.condition().keys_age == Some(Duration::ZERO)
        })
        .await;
    }

    async fn is_refused(&self, token: &str) -> bool {
        match self.verifier.verify(token).await {
            Ok(_) => false,
            Err(refusal) => {
                assert_eq!(refusal.kind(), RefusalKind::InvalidToken, "{refusal}");
                true
            }
        }
    }
}

#[tokio::test]
async fn tokens_signed_by_a_withdrawn_key_are_forgotten_and_no_others() {
    for signing in [Signing::Rs256, Signing::Es256] {
        let scene = Scene::new(signing).await;
        let old = scene.sign(json!({}), "old");
        scene.verifier.verify(&old).await.unwrap();
        scene.server.rotate_keys().unwrap();
        let new = scene.sign(json!({}), "new");
        scene.verifier.verify(&new).await.unwrap();
        scene.server.set_opaque(true);
        let source = super::house::source(&scene.server).build().unwrap();
        let opaque = source.token().await.unwrap();
        scene.verifier.verify(opaque.as_str()).await.unwrap();
        // Both keys are published: nothing leaves, and another reading changes nothing.
        scene.read_again().await;
        assert_eq!(scene.verifier.condition().tokens, 3);

        scene.server.drop_old_keys();
        scene.read_again().await;
        assert_eq!(scene.verifier.condition().tokens, 2);
        assert!(scene.is_refused(&old).await);
        for good in [&new, opaque.as_str()] {
            at_once(scene.verifier.verify(good)).expect("it is remembered").unwrap();
        }
    }
}

/// A key is its numbers and what it may be used for. Its name may stay while the key goes.
#[tokio::test]
async fn a_key_that_is_replaced_or_restricted_under_its_name_is_withdrawn_too() {
    let scene = Scene::new(Signing::Rs256).await;
    let published = |change: &dyn Fn(&mut Value)| {
        let mut key = scene.server.jwks()["keys"].as_array().unwrap().last().unwrap().clone();
        change(&mut key);
        json!({ "keys": [key, other_key()] })
    };
    let mut id = 0;
    let named = json!({ "kid": "same" });
    for change in [
        &|key: &mut Value| key["use"] = "enc".into(),
        &|key: &mut Value| key["key_ops"] = json!(["encrypt"]),
        &|key: &mut Value| key["alg"] = "PS256".into(),
        &|key: &mut Value| drop(key["n"].take()),
    ] as [&dyn Fn(&mut Value); 4]
    {
        id += 1;
        scene.server.set_jwks(Some(published(&|key| key["kid"] = "same".into())));
        scene.read_again().await;
        let token = scene.sign(named.clone(), &id.to_string());
        scene.verifier.verify(&token).await.unwrap();
        at_once(scene.verifier.verify(&token)).expect("it is remembered").unwrap();
        scene.server.set_jwks(Some(published(&|key| {
            key["kid"] = "same".into();
            change(key);
        })));
        scene.read_again().await;
        assert!(scene.is_refused(&token).await, "{id}");
    }

    scene.server.set_jwks(Some(published(&|key| key["kid"] = "same".into())));
    scene.read_again().await;
    let token = scene.sign(named.clone(), "replaced");
    scene.verifier.verify(&token).await.unwrap();
    scene.server.rotate_keys().unwrap();
    scene.server.set_jwks(Some(published(&|key| key["kid"] = "same".into())));
    scene.read_again().await;
    assert!(scene.is_refused(&token).await);
    scene.verifier.verify(&scene.sign(named, "new")).await.unwrap();
}

/// A key that stays among the published ones, so that the set is never empty (RFC 7515 A.3.1).
fn other_key() -> Value {
    json!({
        "kty": "EC", "crv": "P-256", "kid": "other",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

#[tokio::test]
async fn purge_all_forgets_every_token_and_reads_the_keys_again() {
    let scene = Scene::new(Signing::Es256).await;
    let tokens = ["a", "b", "c"].map(|id| scene.sign(json!({}), id));
    for token in &tokens {
        scene.verifier.verify(token).await.unwrap();
    }
    scene.server.rotate_keys().unwrap();
    scene.server.drop_old_keys();
    scene.verifier.purge_all();
    assert_eq!(scene.verifier.condition().tokens, 0);
    until("the keys are read again", || scene.server.jwks_requests() == 2).await;
    scene.verifier.verify(&scene.sign(json!({}), "new")).await.unwrap();
    for token in &tokens {
        assert!(scene.is_refused(token).await);
    }
    // While the issuer asks for patience nobody asks it.
    scene.server.outage();
    scene.clock.advance(Duration::from_secs(541));
    until("the failure shows", || scene.verifier.condition().last_error.is_some()).await;
    scene.server.recover().await.unwrap();
    let before = scene.server.jwks_requests();
    (0..100).for_each(|_| scene.verifier.purge_all());
    tokio::task::yield_now().await;
    assert_eq!(scene.server.jwks_requests(), before);
}
