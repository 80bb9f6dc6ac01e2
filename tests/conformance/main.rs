//! Against an authorization server that this project did not write: npm's `oidc-provider`, OpenID certified.
//! Needs node and npm, and fails without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod assertions;
#[path = "../house/authority.rs"]
mod authority;
mod certificates;
mod dpop;
mod endings;
mod provider;
mod registration;
mod verifier;

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use evertoken::{AccessToken, Builder, ClientAuth, ErrorKind, Event, TokenSource};
use provider::{Credential, Provider, TokenRequest};
use serde_json::Value;

/// Ends a wait for what will never come; nothing here is measured against it.
const PATIENCE: Duration = Duration::from_secs(60);

fn source(provider: &Provider, credential: &Credential) -> Builder<TokenSource> {
    TokenSource::builder(&credential.client_id, credential.client_secret.as_str()).issuer(provider.issuer())
}

/// The server refused the client itself, and the error says all that is known, with this advice.
fn assert_refused(provider: &Provider, error: &evertoken::Error, advice: &str) {
    assert_eq!((error.kind(), error.status()), (ErrorKind::CredentialsRejected, Some(401)));
    assert_eq!(error.oauth_error(), Some("invalid_client"));
    assert_eq!(error.description(), Some("client authentication failed"));
    assert!(!error.is_retryable());
    let text = error.to_string();
    let server = error.server().unwrap();
    assert!(server.ends_with("/token"), "{server}");
    assert!(server.starts_with(provider.issuer()) || server.starts_with("https://localhost:"), "{server}");
    let start = format!(
        "the authorization server refused the credential [{server}]: invalid_client (client authentication failed); \
         does not mend by itself, looked at again in "
    );
    assert!(text.starts_with(&start) && text.ends_with(advice), "{text}");
}

/// The claims of a JWT access token.
fn claims(token: &AccessToken) -> Value {
    let payload = token.as_str().split('.').nth(1).expect("a JWT has three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The next token that is not `old`, while every call on the way succeeds.
async fn next_after(source: &TokenSource, old: &AccessToken) -> AccessToken {
    let changed = async {
        loop {
            let token = source.token().await.unwrap();
            if token.as_str() != old.as_str() {
                return token;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("a new token comes")
}

#[tokio::test]
async fn discovery_and_basic_with_an_id_and_secret_that_need_encoding() {
    let provider = Provider::start().await;
    let credential = provider.basic();
    let token = source(&provider, &credential).build().unwrap().token().await.unwrap();

    let known = provider.introspect(token.as_str()).await;
    assert_eq!(known["active"], true);
    assert_eq!(known["client_id"], credential.client_id);
    assert_eq!(provider.requests().await, [TokenRequest { auth: "basic".into(), status: 200 }]);
}

#[tokio::test]
async fn post_with_an_id_and_secret_that_need_encoding() {
    let provider = Provider::start().await;
    let credential = provider.post();
    let source = source(&provider, &credential).client_auth(ClientAuth::ClientSecretPost).build().unwrap();
    let token = source.token().await.unwrap();

    assert_eq!(provider.introspect(token.as_str()).await["client_id"], credential.client_id);
    assert_eq!(provider.requests().await, [TokenRequest { auth: "post".into(), status: 200 }]);
}

#[tokio::test]
async fn a_jwt_for_a_resource_with_the_scopes_asked_for() {
    let provider = Provider::start().await;
    let credential = provider.basic();
    let builder = source(&provider, &credential).resource(provider.resource());
    let token = builder.scope("orders:read orders:write").build().unwrap().token().await.unwrap();

    let claims = claims(&token);
    assert_eq!(claims["iss"], provider.issuer());
    assert_eq!(claims["aud"], provider.resource());
    assert_eq!(claims["client_id"], credential.client_id);
    assert_eq!(claims["scope"], "orders:read orders:write");
    assert_eq!(token.scope(), Some("orders:read orders:write"));
}

#[tokio::test]
async fn an_unknown_resource_is_refused_by_name() {
    let provider = Provider::start().await;
    let builder = source(&provider, &provider.basic()).resource("https://unknown.example.com");
    let error = builder.build().unwrap().token().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::RequestRefused);
    assert_eq!(error.oauth_error(), Some("invalid_target"));
}

#[tokio::test]
async fn calls_through_several_lifetimes_all_get_a_live_token() {
    let provider = Provider::start().await;
    let source = source(&provider, &provider.basic()).resource(provider.resource()).build().unwrap();

    let mut events = source.events();
    let mut token = source.token().await.unwrap();
    let mut seen = HashSet::from([token.as_str().to_owned()]);
    let calls = async {
        while seen.len() < 5 {
            // Looked at beforehand: a machine may stand still between the read and the next line.
            let now = SystemTime::now();
            token = source.token().await.unwrap();
            let end = UNIX_EPOCH + Duration::from_secs(claims(&token)["exp"].as_u64().unwrap());
            assert!(now < end, "an expired token was served");
            seen.insert(token.as_str().to_owned());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("the tokens are renewed");

    source.shutdown().await.unwrap();
    let requests = provider.requests().await;
    let renewed = std::iter::from_fn(|| events.try_next());
    let renewed = renewed.filter(|event| matches!(event, Event::Renewed { .. })).count();
    // One more may have been under way when it was shut down.
    assert!((renewed..=renewed + 1).contains(&requests.len()), "one request for each token");
    assert!(requests.iter().all(|request| request.status == 200));
}

#[tokio::test]
async fn a_wrong_secret_is_told_as_such() {
    let provider = Provider::start().await;
    let wrong = Credential { client_secret: "wrong".into(), ..provider.basic() };
    let error = source(&provider, &wrong).build().unwrap().token().await.unwrap_err();

    assert_refused(&provider, &error, ": check app id and app secret, and how they are sent (`client_auth`)");
}

#[tokio::test]
async fn an_unknown_scope_is_dropped_and_the_token_says_so() {
    let provider = Provider::start().await;
    let builder = source(&provider, &provider.basic()).resource(provider.resource());
    let token = builder.scope("orders:read nonsense").build().unwrap().token().await.unwrap();

    assert_eq!(token.scope(), Some("orders:read"));
}

#[tokio::test]
async fn a_scope_not_open_to_the_client_is_refused_by_name() {
    let provider = Provider::start().await;
    let builder = source(&provider, &provider.post()).client_auth(ClientAuth::ClientSecretPost);
    let error = builder.scope("orders:write").build().unwrap().token().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::RequestRefused);
    assert_eq!(error.oauth_error(), Some("invalid_scope"));
}

#[tokio::test]
async fn a_rotated_secret_costs_nothing_while_the_token_lives_and_mends_at_once() {
    let provider = Provider::start().await;
    let Credential { client_id, client_secret } = provider.basic();
    let source =
        TokenSource::builder(&client_id, client_secret.as_str()).issuer(provider.issuer()).build().unwrap();
    let held = source.token().await.unwrap();

    provider.rotate(&client_id, "fresh: 1%+").await;
    source.invalidate(&held);
    assert_eq!(source.token().await.unwrap().as_str(), held.as_str());
    assert_eq!(provider.requests().await.last().unwrap().status, 401);

    source.set_credentials(&client_id, "fresh: 1%+").unwrap();
    next_after(&source, &held).await;
}

#[tokio::test]
async fn a_revoked_token_is_replaced() {
    let provider = Provider::start().await;
    let source = source(&provider, &provider.basic()).build().unwrap();
    let revoked = source.token().await.unwrap();
    provider.revoke(revoked.as_str()).await;
    assert_eq!(provider.introspect(revoked.as_str()).await["active"], false);

    source.invalidate(&revoked);
    let next = next_after(&source, &revoked).await;
    assert_eq!(provider.introspect(next.as_str()).await["active"], true);
}
