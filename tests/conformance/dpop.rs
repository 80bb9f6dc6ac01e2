//! Tokens bound by DPoP (RFC 9449), with a nonce required in every proof.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use evertoken::{Builder, Dpop, ErrorKind, PrivateKeyJwt, SigningKey, TokenSource};
use serde_json::Value;

use super::provider::{Credential, Provider};
use super::source;

fn bound(provider: &Provider) -> Builder<TokenSource> {
    source(provider, &provider.bound())
}

fn claims(jwt: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_after_one_nonce() {
    let provider = Provider::start().await;
    let ed25519 = SigningKey::from_jwk(provider.keyed("EdDSA").key).unwrap();
    for dpop in [Dpop::new(), Dpop::with_key(ed25519)] {
        let before = provider.requests().await.len();
        let source = bound(&provider).dpop(dpop).build().unwrap();
        let token = source.token().await.unwrap();
        let known = provider.introspect(token.as_str()).await;
        assert_eq!((&known["active"], &known["token_type"]), (&true.into(), &"DPoP".into()));
        let jkt = known["cnf"]["jkt"].as_str().unwrap().to_owned();
        assert_eq!(jkt.len(), 43);
        let statuses = async || -> Vec<u16> {
            provider.requests().await[before..].iter().map(|request| request.status).collect()
        };
        assert_eq!(statuses().await, [400, 200]);

        // The nonce is kept for the next request, and the key for the family.
        let other = source.with("", ["orders:read"]).unwrap().token().await.unwrap();
        assert_eq!(statuses().await, [400, 200, 200]);
        assert_eq!(provider.introspect(other.as_str()).await["cnf"]["jkt"], jkt);
    }
}

#[tokio::test]
async fn a_nonce_and_an_assertion_go_together() {
    let provider = Provider::start().await;
    let keyed = provider.keyed("ES256");
    let key = SigningKey::from_pem(&keyed.key).unwrap();
    let source = TokenSource::builder(&keyed.client_id, "")
        .issuer(provider.issuer())
        .client_auth(PrivateKeyJwt::new(key.clone().with_key_id("kid-ES256")))
        .dpop(Dpop::with_key(key));
    let token = source.build().unwrap().token().await.unwrap();
    assert_eq!(provider.introspect(token.as_str()).await["token_type"], "DPoP");
    // The server takes no assertion twice, so each of the two requests had its own.
    let [one, two] = &provider.assertions().await[..] else { panic!("not two assertions") };
    assert_ne!(one, two);
}

#[tokio::test]
async fn a_client_that_must_prove_itself_and_does_not_is_told_so() {
    let provider = Provider::start().await;
    let error = bound(&provider).build().unwrap().token().await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::RequestRefused, Some("invalid_grant")));
    // The server says no more than that.
    assert!(error.to_string().contains("`dpop`"), "{error}");
}

#[tokio::test]
async fn a_replayed_proof_and_one_by_another_key_are_refused() {
    let provider = Provider::start().await;
    for _ in 0..2 {
        bound(&provider).dpop(Dpop::new()).build().unwrap().token().await.unwrap();
    }
    let proofs = provider.proofs().await;
    let [_, one, _, other] = &proofs[..] else { panic!("not two requests each") };
    assert!(claims(one)["nonce"].is_string() && claims(one)["jti"] != claims(other)["jti"]);
    let (status, answer) = provider.with_proof(one).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_grant".into()), "{answer}");

    let (message, _) = one.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let (status, answer) = provider.with_proof(&format!("{message}.{signature}")).await;
    assert_eq!((status, &answer["error"]), (400, &"invalid_dpop_proof".into()), "{answer}");
}

#[tokio::test]
async fn a_client_that_need_not_may_bind_its_tokens() {
    let provider = Provider::start().await;
    let Credential { client_id, client_secret } = provider.basic();
    let source = TokenSource::builder(client_id, client_secret).issuer(provider.issuer()).dpop(Dpop::new());
    let token = source.build().unwrap().token().await.unwrap();
    assert_eq!(provider.introspect(token.as_str()).await["token_type"], "DPoP");
}
