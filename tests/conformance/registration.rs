//! Customers' keys by dynamic client registration (RFC 7591) and its management (RFC 7592), at a server that gives another
//! access token with each change.

use std::path::PathBuf;

use evertoken::server::{Exchange, Keys, NewKey, RegisteredKeys, RegistrationFile, RegistrationStore};
use evertoken::{ApiKey, ErrorKind};

use super::provider::Provider;

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("evertoken-{name}-{}.json", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn keys(provider: &Provider, file: &File, token: &str, exchange: &Exchange) -> Keys {
    let admin =
        RegisteredKeys::new(&format!("{}/reg", provider.issuer()), RegistrationFile::new(&file.0)).unwrap();
    Keys::builder(admin.initial_access_token(token), "acme_test").unwrap().exchange(exchange).build()
}

#[tokio::test]
async fn a_key_is_registered_reset_switched_and_deleted() {
    let provider = Provider::start().await;
    let exchange = Exchange::builder(provider.issuer()).build().unwrap();
    let file = File::new("registered");
    let keys = keys(&provider, &file, provider.initial_access_token(), &exchange);
    let works = |key: &ApiKey| {
        let (key, exchange) = (key.clone(), exchange.clone());
        async move { exchange.token(key.app_id(), key.app_secret(), None).await }
    };

    let issued = keys.issue(NewKey::named("till").customer("Initech").scope("orders:read")).await.unwrap();
    works(&issued.key).await.unwrap();
    let other = keys.issue(NewKey::named("other")).await.unwrap();
    let listed = keys.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    let till = listed.iter().find(|key| key.name == "till").unwrap();
    assert_eq!((till, till.customer.as_deref()), (&issued.info, Some("Initech")));

    // Each change gives another access token, and the next one needs it.
    for _ in 0..2 {
        keys.disable(issued.key.app_id()).await.unwrap();
        let error = works(&issued.key).await.unwrap_err();
        // RFC 6749 5.2 would have it say `unauthorized_client`.
        assert_eq!(
            (error.kind(), error.oauth_error()),
            (ErrorKind::RequestRefused, Some("invalid_request")),
            "{error}"
        );
        assert!(
            keys.list().await.unwrap().iter().any(|key| !key.enabled && key.app_id == issued.info.app_id)
        );
        keys.enable(issued.key.app_id()).await.unwrap();
        works(&issued.key).await.unwrap();
    }

    let reset = keys.reset(issued.key.app_id()).await.unwrap();
    assert_eq!((reset.info.name.as_str(), reset.info.customer.as_deref()), ("till", Some("Initech")));
    works(&reset.key).await.unwrap();
    assert_eq!(works(&issued.key).await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
    assert_eq!(keys.list().await.unwrap().len(), 2);

    keys.delete(reset.key.app_id()).await.unwrap();
    assert!(works(&reset.key).await.is_err());
    works(&other.key).await.unwrap();
    assert_eq!(keys.list().await.unwrap(), std::slice::from_ref(&other.info));
    assert_eq!(keys.delete(reset.key.app_id()).await.unwrap_err().status(), Some(404));
    let shown = format!("{keys:?} {listed:?} {issued:?}");
    assert!(!shown.contains(&issued.key.expose()[20..40]), "{shown}");
}

#[tokio::test]
async fn what_the_server_refuses_is_told_and_nothing_is_kept() {
    let provider = Provider::start().await;
    let exchange = Exchange::builder(provider.issuer()).build().unwrap();
    let file = File::new("refused");
    let error = keys(&provider, &file, "wrong", &exchange).issue(NewKey::named("a")).await.unwrap_err();
    assert_eq!((error.status(), error.oauth_error()), (Some(401), Some("invalid_token")), "{error}");
    let right = keys(&provider, &file, provider.initial_access_token(), &exchange);
    let error = right.issue(NewKey::named("a").scope("unknown:scope")).await.unwrap_err();
    assert_eq!(
        (error.status(), error.oauth_error()),
        (Some(400), Some("invalid_client_metadata")),
        "{error}"
    );
    assert!(RegistrationFile::new(&file.0).all().await.unwrap().is_empty());

    // What the store says of where a client is managed is not believed beyond the server itself.
    let issued = right.issue(NewKey::named("a")).await.unwrap();
    let text = std::fs::read_to_string(&file.0).unwrap();
    let elsewhere = text.replace(provider.issuer(), "http://127.0.0.1:1");
    std::fs::write(&file.0, elsewhere).unwrap();
    let error = right.delete(issued.key.app_id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UntrustedOrigin, "{error}");
}
