//! Clients that authenticate by a signed assertion (RFC 7523).

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use evertoken::testing::{Moment, TimeSource};
use evertoken::{
    AssertionAudience, Builder, PrivateKeyJwt, SecretJwt, SigningAlgorithm, SigningKey, TokenSource,
};
use serde_json::Value;

use super::assert_refused;
use super::provider::{Keyed, Provider, TokenRequest};

/// What is said of a client assertion that was refused.
const ADVICE: &str = ": check that the server has this key for the app id, under this `kid` and algorithm, what \
                      audience it wants, and both clocks";

pub(crate) fn key(keyed: &Keyed) -> SigningKey {
    let key = match keyed.alg.as_str() {
        "EdDSA" => SigningKey::from_jwk(&keyed.key),
        "PS256" => {
            SigningKey::from_pem(&keyed.key).and_then(|key| key.with_algorithm(SigningAlgorithm::Ps256))
        }
        _ => SigningKey::from_pem(&keyed.key),
    };
    key.unwrap().with_key_id(format!("kid-{}", keyed.alg))
}

fn source(provider: &Provider, client_id: &str, method: PrivateKeyJwt) -> Builder<TokenSource> {
    TokenSource::builder(client_id, "").issuer(provider.issuer()).client_auth(method)
}

#[tokio::test]
async fn every_algorithm_is_taken() {
    let provider = Provider::start().await;
    for alg in ["RS256", "PS256", "ES256", "EdDSA"] {
        let keyed = provider.keyed(alg);
        let source = source(&provider, &keyed.client_id, PrivateKeyJwt::new(key(&keyed))).build().unwrap();
        let token = source.token().await.unwrap();
        assert_eq!(provider.introspect(token.as_str()).await["client_id"], keyed.client_id, "{alg}");
    }
    let mac = provider.mac();
    let source = TokenSource::builder(&mac.client_id, mac.client_secret.as_str())
        .issuer(provider.issuer())
        .client_auth(SecretJwt::new());
    let token = source.build().unwrap().token().await.unwrap();
    assert_eq!(provider.introspect(token.as_str()).await["client_id"], mac.client_id);
    assert!(provider.requests().await.iter().all(|request| request.auth == "assertion"));
}

#[tokio::test]
async fn each_audience_that_the_rfc_allows_is_taken_and_no_other() {
    let provider = Provider::start().await;
    let keyed = provider.keyed("ES256");
    let token_url = format!("{}/token", provider.issuer());
    for (audience, taken) in [
        (AssertionAudience::Issuer, true),
        (AssertionAudience::TokenEndpoint, true),
        (AssertionAudience::Named(provider.issuer().to_owned()), true),
        (AssertionAudience::Named("https://another.example".to_owned()), false),
    ] {
        let method = PrivateKeyJwt::new(key(&keyed)).audience(audience.clone());
        let outcome = source(&provider, &keyed.client_id, method).build().unwrap().token().await;
        match outcome {
            Ok(_) => assert!(taken, "{audience:?}"),
            Err(error) => {
                assert!(!taken, "{audience:?}: {error}");
                assert_refused(&provider, &error, ADVICE);
            }
        }
    }
    let by_url = TokenSource::builder(&keyed.client_id, "").token_url(token_url);
    by_url.client_auth(PrivateKeyJwt::new(key(&keyed))).build().unwrap().token().await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_told_as_such() {
    let provider = Provider::start().await;
    let (right, other) = (provider.keyed("RS256"), provider.keyed("PS256"));
    // The right kind of key and the right name, but another key.
    let wrong = SigningKey::from_pem(&other.key).unwrap().with_key_id("kid-RS256");
    let method = PrivateKeyJwt::new(wrong);
    let error = source(&provider, &right.client_id, method).build().unwrap().token().await.unwrap_err();
    assert_refused(&provider, &error, ADVICE);
}

#[tokio::test]
async fn a_wrong_secret_makes_a_wrong_mac() {
    let provider = Provider::start().await;
    let wrong = TokenSource::builder(provider.mac().client_id, "w".repeat(64)).issuer(provider.issuer());
    let error = wrong.client_auth(SecretJwt::new()).build().unwrap().token().await.unwrap_err();
    assert_refused(&provider, &error, ": check app id and app secret, and how they are sent (`client_auth`)");
}

#[tokio::test]
async fn no_assertion_is_sent_twice_and_one_sent_twice_is_refused() {
    let provider = Provider::start().await;
    let keyed = provider.keyed("EdDSA");
    let source = source(&provider, &keyed.client_id, PrivateKeyJwt::new(key(&keyed))).build().unwrap();
    for audience in ["a", "b", "c", "d", "e"] {
        // Each audience is a token of its own, hence a request.
        source.with(audience, [""; 0]).unwrap().token().await.unwrap();
    }
    let assertions = provider.assertions().await;
    assert_eq!(
        provider.requests().await,
        [(); 5].map(|()| TokenRequest { auth: "assertion".into(), status: 200 })
    );
    let ids: HashSet<String> = assertions
        .iter()
        .map(|jwt| BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap())
        .map(|claims| serde_json::from_slice::<Value>(&claims).unwrap()["jti"].to_string())
        .collect();
    assert_eq!((assertions.len(), ids.len()), (5, 5));

    let (status, answer) = provider.replay(&assertions[0]).await;
    assert_eq!((status, &answer["error"]), (401, &Value::from("invalid_client")));
}

/// The system's clocks, but for a wall that is set back by so much.
struct Late(Duration);

impl TimeSource for Late {
    fn coarse(&self) -> (Duration, Duration) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - self.0;
        (wall, wall)
    }

    fn now(&self) -> Moment {
        let (monotonic, wall) = self.coarse();
        Moment::new(monotonic, wall, None)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[tokio::test]
async fn an_expired_assertion_is_refused_and_made_anew_by_the_servers_clock() {
    let provider = Provider::start().await;
    let keyed = provider.keyed("ES256");
    let late = |by| {
        source(&provider, &keyed.client_id, PrivateKeyJwt::new(key(&keyed))).clock(Arc::new(Late(by))).build()
    };
    assert!(late(Duration::from_secs(600)).unwrap().token().await.is_ok());
    // A clock that is off by days is not believed to be.
    let error = late(Duration::from_secs(2 * 86_400)).unwrap().token().await.unwrap_err();
    assert_refused(&provider, &error, ADVICE);
}
