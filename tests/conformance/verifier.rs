//! The API's side: this server's tokens are verified, introspected, bound, and signed with one key after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use evertoken::http::{Method, Request};
use evertoken::server::{Caller, Exchange, How, Introspection, RefusalKind, Verifier, VerifierBuilder};
use evertoken::{Dpop, TokenSource, reqwest};

use super::provider::{Credential, Provider};
use super::{PATIENCE, source};

fn verifier(provider: &Provider) -> VerifierBuilder {
    Verifier::builder(provider.issuer()).audience(provider.resource())
}

fn introspection(provider: &Provider) -> Introspection {
    let Credential { client_id, client_secret } = provider.basic();
    Introspection::new(client_id, client_secret).max_age(Duration::ZERO)
}

fn assert_is(caller: &Caller, credential: &Credential, how: How) {
    assert_eq!((caller.app_id(), caller.how()), (credential.client_id.as_str(), how));
}

#[tokio::test]
async fn a_jwt_is_verified_and_so_is_what_an_exchange_gets() {
    let provider = Provider::start().await;
    let credential = provider.basic();
    let verifier = verifier(&provider).build().unwrap();
    let of_client =
        source(&provider, &credential).resource(provider.resource()).scope("orders:read").build().unwrap();
    let caller = verifier.verify(of_client.token().await.unwrap().as_str()).await.unwrap();
    assert_is(&caller, &credential, How::Bearer);
    assert!(caller.has_scope("orders:read") && !caller.has_scope("orders:write"));

    let exchange = Exchange::builder(provider.issuer()).resource(provider.resource()).build().unwrap();
    let Credential { client_id, client_secret } = &credential;
    let token = exchange.token(client_id, &client_secret.as_str().into(), None).await.unwrap();
    assert_is(&verifier.verify(token.as_str()).await.unwrap(), &credential, How::Bearer);

    let other = Verifier::builder(provider.issuer()).audience("https://other.example").build().unwrap();
    assert_eq!(other.verify(token.as_str()).await.unwrap_err().reason(), "it is for another audience");
}

#[tokio::test]
async fn an_opaque_token_is_introspected_until_it_is_revoked() {
    let provider = Provider::start().await;
    let credential = provider.basic();
    // A token for no resource names no audience.
    let verifier =
        verifier(&provider).introspection(introspection(&provider).audience_optional()).build().unwrap();
    let token = source(&provider, &credential).build().unwrap().token().await.unwrap();
    assert!(!token.as_str().contains('.'));
    assert_is(&verifier.verify(token.as_str()).await.unwrap(), &credential, How::Bearer);
    provider.revoke(token.as_str()).await;
    assert_eq!(verifier.verify(token.as_str()).await.unwrap_err().kind(), RefusalKind::InvalidToken);
}

#[tokio::test]
async fn tokens_bound_to_a_key_are_taken_with_a_proof_only() {
    let provider = Provider::start().await;
    let credential = provider.bound();
    let verifier = verifier(&provider)
        .introspection(introspection(&provider).audience_optional())
        .public_url("https://api.example.com")
        .build()
        .unwrap();
    let builder =
        || source(&provider, &credential).dpop(Dpop::new()).trusted_origin("https://api.example.com");
    let sources: [TokenSource; 2] =
        [builder().build().unwrap(), builder().resource(provider.resource()).build().unwrap()];
    let url = reqwest::Url::parse("https://api.example.com/v1/orders").unwrap();
    for source in sources {
        let mut request = Request::get("/v1/orders?page=2").body(()).unwrap();
        *request.headers_mut() = source.headers(&Method::GET, &url).await.unwrap();
        let (parts, ()) = request.into_parts();
        assert_is(&verifier.verify_request(&parts).await.unwrap(), &credential, How::Dpop);
        assert_eq!(verifier.verify_request(&parts).await.unwrap_err().kind(), RefusalKind::InvalidProof);
        let token = source.token().await.unwrap();
        assert_eq!(verifier.verify(token.as_str()).await.unwrap_err().kind(), RefusalKind::InvalidToken);
    }
}

/// The old keys stay published, as is right: not one token is refused, and nobody waits for a cooldown.
#[tokio::test]
async fn keys_are_rotated_while_traffic_runs() {
    let provider = Arc::new(Provider::start().await);
    let verifier = verifier(&provider).build().unwrap();
    let (over, verified) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (provider, verifier) = (provider.clone(), verifier.clone());
            let (over, verified) = (over.clone(), verified.clone());
            tokio::spawn(async move {
                let http = reqwest::Client::new();
                let Credential { client_id, client_secret } = provider.post();
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", &client_id),
                    ("client_secret", &client_secret),
                    ("resource", provider.resource()),
                ];
                while !over.load(Ordering::Relaxed) {
                    let answer =
                        http.post(format!("{}/token", provider.issuer())).form(&form).send().await.unwrap();
                    let answer: serde_json::Value = answer.json().await.unwrap();
                    let caller = verifier.verify(answer["access_token"].as_str().unwrap()).await;
                    assert_eq!(caller.expect("no good token is refused").app_id(), client_id);
                    verified.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let rotations = async {
        for keys in 2..6 {
            let before = verified.load(Ordering::Relaxed);
            provider.rotate_keys().await;
            while verified.load(Ordering::Relaxed) < before + 20 || verifier.condition().keys < keys {
                assert!(callers.iter().all(|caller| !caller.is_finished()), "a caller has given up");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, rotations).await.expect("the keys are found");
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}
