//! What the server knows of our tokens (RFC 7662), and how they end (RFC 7009).

use std::time::{SystemTime, UNIX_EPOCH};

use evertoken::{Builder, ClientAuth, ErrorKind, PrivateKeyJwt, SecretJwt, TokenSource};

use super::assertions::key;
use super::provider::{Credential, Provider};
use super::source;

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn the_server_knows_the_token_as_we_do() {
    let provider = Provider::start().await;
    let credential = provider.basic();
    let source = source(&provider, &credential).scope("orders:read").build().unwrap();
    let token = source.token().await.unwrap();
    let known = provider.introspect(token.as_str()).await;
    assert_eq!(known["active"], true);
    assert_eq!(known["client_id"], credential.client_id);
    assert_eq!(known["scope"], "orders:read");
    assert_eq!(token.scope(), Some("orders:read"));
    assert_eq!(known["token_type"], "Bearer");
    // Ours counts from when the request was sent, the server's from when it came, and in whole seconds.
    let (ours, theirs) = (seconds(token.expires_at()), known["exp"].as_u64().unwrap());
    let lifetime = theirs - known["iat"].as_u64().unwrap();
    assert!(ours <= theirs && theirs <= seconds(SystemTime::now()) + lifetime, "{ours} {known}");
}

#[tokio::test]
async fn shutdown_revokes_whatever_the_client_authenticates_by() {
    let provider = Provider::start().await;
    let by = |Credential { client_id, client_secret }: Credential| {
        TokenSource::builder(client_id, client_secret.as_str()).issuer(provider.issuer())
    };
    let keyed = |alg| {
        let keyed = provider.keyed(alg);
        TokenSource::builder(&keyed.client_id, "")
            .issuer(provider.issuer())
            .client_auth(PrivateKeyJwt::new(key(&keyed)))
    };
    let by_url = TokenSource::builder(provider.keyed("EdDSA").client_id, "")
        .token_url(format!("{}/token", provider.issuer()))
        .revocation_url(format!("{}/token/revocation", provider.issuer()))
        .client_auth(PrivateKeyJwt::new(key(&provider.keyed("EdDSA"))));
    let builders: [Builder<TokenSource>; 6] = [
        by(provider.basic()),
        by(provider.post()).client_auth(ClientAuth::ClientSecretPost),
        by(provider.mac()).client_auth(SecretJwt::new()),
        keyed("RS256"),
        keyed("ES256"),
        by_url,
    ];
    for (number, builder) in builders.into_iter().enumerate() {
        let source = builder.revoke_on_shutdown(true).build().unwrap();
        let token = source.token().await.unwrap();
        assert_eq!(provider.introspect(token.as_str()).await["active"], true, "{number}");
        source.shutdown().await.unwrap();
        assert_eq!(provider.introspect(token.as_str()).await["active"], false, "{number}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_revoke_its_jwts_is_quoted() {
    let provider = Provider::start().await;
    let builder = source(&provider, &provider.basic()).resource(provider.resource());
    let source = builder.revoke_on_shutdown(true).build().unwrap();
    source.token().await.unwrap();
    let error = source.shutdown().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::RequestRefused, Some(400)));
    assert_eq!(error.oauth_error(), Some("unsupported_token_type"));
    assert!(error.to_string().contains("cannot revoke tokens of this kind"), "{error}");
    assert!(error.to_string().contains("Structured JWT Tokens cannot be revoked"), "{error}");
}
