//! Clients that authenticate by a certificate, and whose tokens are bound to it (RFC 8705).

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use evertoken::{Builder, ClientAuth, TokenSource};

use super::assert_refused;
use super::authority::Authority;
use super::provider::{Provider, TokenRequest};

const ADVICE: &str =
    ": check that the server has this certificate, or its authority and subject, for the app id";

fn source(
    provider: &Provider,
    authority: &Authority,
    method: &ClientAuth,
    certificate: &str,
) -> Builder<TokenSource> {
    let client_id = if matches!(method, ClientAuth::TlsClientAuth) { "shop-tls" } else { "shop-self" };
    TokenSource::builder(client_id, "")
        .issuer(provider.issuer())
        .root_certificate(authority.pem())
        .client_certificate(certificate)
        .client_auth(method.clone())
}

/// `x5t#S256` (RFC 8705 3.1).
fn thumbprint(pem: &str) -> String {
    let body = pem.split_once("-----BEGIN CERTIFICATE-----").unwrap().1;
    let body = body.split_once("-----END").unwrap().0.split_whitespace().collect::<String>();
    let der = BASE64_STANDARD.decode(body).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der))
}

#[tokio::test]
async fn a_certificate_stands_for_the_secret_and_a_strange_one_does_not() {
    let (authority, own) = (Authority::new(), Authority::self_signed());
    let provider = Provider::start_tls(&authority, &own).await;
    for (method, right, wrong) in [
        (
            ClientAuth::TlsClientAuth,
            authority.client(),
            // Of another authority, and of the right one for somebody else.
            vec![Authority::new().client(), authority.client_named("other.test")],
        ),
        (
            ClientAuth::SelfSignedTlsClientAuth,
            own.clone(),
            vec![Authority::self_signed(), authority.client()],
        ),
    ] {
        let right_one =
            source(&provider, &authority, &method, &right).revoke_on_shutdown(true).build().unwrap();
        let token = right_one.token().await.unwrap();
        let known = provider.introspect(token.as_str()).await;
        assert_eq!(known["active"], true);
        assert_eq!(known["cnf"]["x5t#S256"], thumbprint(&right), "{known}");
        let by_certificate = TokenRequest { auth: "certificate".into(), status: 200 };
        assert_eq!(provider.requests().await.last(), Some(&by_certificate));

        // At its alias, too, where the certificate is asked for.
        right_one.shutdown().await.unwrap();
        assert_eq!(provider.introspect(token.as_str()).await["active"], false);

        for wrong in wrong {
            let source = source(&provider, &authority, &method, &wrong).build().unwrap();
            assert_refused(&provider, &source.token().await.unwrap_err(), ADVICE);
        }
    }
}
