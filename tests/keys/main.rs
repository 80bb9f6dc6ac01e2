//! Customers' keys at Auth0's Management API: from the first to the last call with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod auth0;
mod canary;
mod registration;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use auth0::{AUDIENCE, Auth0, MANAGEMENT, SCOPES};
use evertoken::http::Request;
use evertoken::server::{
    Auth0Keys, CallOutcome, CreatedKey, Exchange, KeyAdmin, KeyInfo, Keys, Managed, NewKey, RefusalKind,
    Revocations, Usage, UsageFile, Verifier,
};
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, ErrorKind, Result, TokenSource};
use serde_json::json;

struct Scene {
    server: AuthServer,
    auth0: Auth0,
    exchange: Exchange,
    keys: Keys,
}

fn management(server: &AuthServer, auth0: &Auth0, scopes: &str) -> Auth0Keys {
    let client = Client::builder("management", "management-secret")
        .token_url(server.token_url())
        .audience(MANAGEMENT)
        .scope(scopes)
        .base_url(&auth0.url)
        .build()
        .unwrap();
    Auth0Keys::new(client, AUDIENCE)
}

impl Scene {
    async fn new() -> Self {
        let server = AuthServer::builder()
            .client("management", "management-secret")
            .audience(MANAGEMENT)
            .start()
            .await
            .unwrap();
        let auth0 = Auth0::start(&server).await;
        let exchange = Exchange::builder(server.issuer()).audience(AUDIENCE).build().unwrap();
        let keys = Keys::builder(management(&server, &auth0, SCOPES), "acme_test").unwrap();
        let keys = keys.exchange(&exchange).build();
        Self { server, auth0, exchange, keys }
    }

    /// What a customer gets who sends this key to the API.
    async fn works(&self, key: &ApiKey) -> Result<()> {
        // As it comes in: one string.
        let key = ApiKey::parse(key.expose()).unwrap();
        self.exchange.token(key.app_id(), key.app_secret(), None).await.map(drop)
    }
}

#[tokio::test]
async fn a_key_lives_from_issue_to_delete_and_each_change_holds_at_once() {
    let scene = Scene::new().await;
    let (auth0, keys) = (&scene.auth0, &scene.keys);
    let issued =
        keys.issue(NewKey::named("nightly import").customer("Initech").scope("read:orders")).await.unwrap();
    let app_id = issued.info.app_id.clone();
    assert_eq!((issued.key.app_id(), issued.key.prefix()), (app_id.as_str(), "acme_test"));
    assert_eq!(auth0.field(&app_id, "app_type"), "non_interactive");
    assert_eq!(auth0.field(&app_id, "grant_types"), json!(["client_credentials"]));
    scene.works(&issued.key).await.unwrap();

    let listed = keys.list().await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].name.as_str(), listed[0].customer.as_deref()),
        (1, "nightly import", Some("Initech"))
    );
    let age = SystemTime::now().duration_since(listed[0].created.unwrap()).unwrap();
    assert!(age < Duration::from_secs(60) && listed[0].enabled && listed[0].last_used.is_none());

    let reset = keys.reset(&app_id).await.unwrap();
    assert_eq!(reset.info.app_id, app_id);
    assert_eq!(scene.works(&issued.key).await.unwrap_err().kind(), ErrorKind::CredentialsRejected, "at once");
    scene.works(&reset.key).await.unwrap();

    keys.disable(&app_id).await.unwrap();
    assert!(scene.works(&reset.key).await.is_err());
    assert!(!keys.list().await.unwrap()[0].enabled);
    keys.enable(&app_id).await.unwrap();
    scene.works(&reset.key).await.unwrap();

    keys.delete(&app_id).await.unwrap();
    assert!(scene.works(&reset.key).await.is_err());
    assert!(keys.list().await.unwrap().is_empty() && !auth0.has(&app_id));
    let shown = format!("{listed:?} {issued:?} {reset:?} {keys:?} {issued:#?}");
    assert!(!shown.contains("-secret-"), "{shown}");
}

#[tokio::test]
async fn all_pages_are_listed_and_only_what_was_issued_here() {
    let scene = Scene::new().await;
    let mut issued = Vec::new();
    for number in 0..205 {
        issued.push(scene.keys.issue(NewKey::named(format!("key {number}"))).await.unwrap().info.app_id);
    }
    let listed: Vec<_> = scene.keys.list().await.unwrap().into_iter().map(|key| key.app_id).collect();
    assert_eq!(listed, issued);
    let pages = scene.auth0.log().iter().filter(|what| *what == "GET /clients").count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn what_is_made_by_half_is_taken_back_or_named() {
    let scene = Scene::new().await;
    let before = scene.auth0.names();
    let conflict = || json!({ "statusCode": 500, "error": "Internal Server Error", "message": "oops" });
    scene.auth0.fail_next("POST /client-grants", 500, conflict());
    let error = scene.keys.issue(NewKey::named("a")).await.unwrap_err();
    assert!(error.to_string().contains("it was deleted again"), "{error}");
    assert!(error.is_retryable() && error.status() == Some(500));
    assert_eq!(scene.auth0.names(), before);

    scene.auth0.fail_next("POST /client-grants", 500, conflict());
    scene.auth0.fail_next("DELETE /clients/id", 500, conflict());
    let error = scene.keys.issue(NewKey::named("a")).await.unwrap_err();
    let left = scene.auth0.names().into_iter().find(|name| !before.contains(name)).unwrap();
    assert!(error.to_string().contains(&format!("still there as {left:?}")), "{error}");

    // An API that does not exist.
    let elsewhere = Auth0Keys::new(
        Client::builder("management", "management-secret")
            .token_url(scene.server.token_url())
            .audience(MANAGEMENT)
            .scope(SCOPES)
            .base_url(&scene.auth0.url)
            .build()
            .unwrap(),
        "https://elsewhere.example",
    );
    let keys = Keys::builder(elsewhere, "acme_test").unwrap().build();
    let error = keys.issue(NewKey::named("a")).await.unwrap_err();
    assert_eq!(error.oauth_error(), Some("inexistent_resource_server"), "{error}");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let scene = Scene::new().await;
    for app_id in [
        "management",
        "somebody-s",
        "nobody",
        "",
        ".",
        "..",
        "../client-grants",
        "a/b",
        "management/rotate-secret",
        "?page=1",
    ] {
        for outcome in [
            scene.keys.reset(app_id).await.map(drop),
            scene.keys.delete(app_id).await,
            scene.keys.disable(app_id).await,
        ] {
            outcome.expect_err(app_id);
        }
    }
    assert!(scene.auth0.has("management") && scene.auth0.has("somebody-s"));
    assert_eq!(scene.auth0.field("somebody-s", "grant_types"), json!(["client_credentials"]));
    let changes = ["POST", "PATCH", "DELETE"];
    let log = scene.auth0.log();
    assert!(!log.iter().any(|what| changes.iter().any(|change| what.starts_with(change))), "{log:?}");
}

#[tokio::test]
async fn errors_say_what_auth0_says() {
    let scene = Scene::new().await;
    scene.auth0.fail_next("GET /clients", 429, json!({ "message": "Global limit has been reached" }));
    let error = scene.keys.list().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Throttled, true));
    let wait = error.retry_after().unwrap();
    assert!((25..=31).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(error.description(), Some("Global limit has been reached"));

    let error = scene.keys.issue(NewKey::named("<b>")).await.unwrap_err();
    assert_eq!((error.status(), error.oauth_error()), (Some(400), Some("invalid_body")));
    assert!(error.to_string().starts_with("no key was issued: "), "{error}");
    for bad in [NewKey::named(" "), NewKey::named("a").customer("x".repeat(256))] {
        assert_eq!(scene.keys.issue(bad).await.unwrap_err().kind(), ErrorKind::Configuration);
    }
    assert!(Keys::builder(management(&scene.server, &scene.auth0, SCOPES), "Acme").is_err());

    let poor =
        Keys::builder(management(&scene.server, &scene.auth0, "read:clients"), "acme_test").unwrap().build();
    assert!(poor.list().await.unwrap().is_empty());
    let error = poor.issue(NewKey::named("a")).await.unwrap_err();
    assert_eq!((error.status(), error.oauth_error()), (Some(403), Some("insufficient_scope")));
    assert!(error.to_string().contains("create:clients"), "{error}");

    scene.auth0.fail_next("GET /clients", 200, json!({ "clients": "eyJ.secret" }));
    let error = scene.keys.list().await.unwrap_err().to_string();
    assert!(error.contains("not what it should be") && !error.contains("eyJ"), "{error}");

    // The token is replaced where it was revoked: nobody notices.
    scene.server.revoke_all();
    scene.keys.list().await.unwrap();
}

/// A management interface that has somebody else's words, and fails after it has done it.
struct Failing;

impl KeyAdmin for Failing {
    fn create<'a>(&'a self, _: &'a NewKey) -> Managed<'a, CreatedKey> {
        Box::pin(async { Err("out of\norder".into()) })
    }

    fn list(&self) -> Managed<'_, Vec<KeyInfo>> {
        Box::pin(async { Ok(vec![KeyInfo::new("app", "a"), KeyInfo::new("idle", "b")]) })
    }

    fn reset<'a>(&'a self, app_id: &'a str) -> Managed<'a, CreatedKey> {
        if app_id == "hangs" {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Err("the answer was lost".into()) })
    }

    fn set_enabled<'a>(&'a self, _: &'a str, _: bool) -> Managed<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn delete<'a>(&'a self, _: &'a str) -> Managed<'a, ()> {
        Box::pin(async { Err("the answer was lost".into()) })
    }
}

#[tokio::test]
async fn this_process_forgets_whatever_the_outcome_and_knows_what_was_used() {
    let forgotten = Arc::new(Mutex::new(Vec::new()));
    let told = forgotten.clone();
    let usage = Usage::builder(UsageFile::new("/dev/null")).start().unwrap();
    let revocations = Revocations::new(Duration::from_secs(3600));
    let keys = Keys::builder(Failing, "acme_test")
        .unwrap()
        .forget(move |app_id| told.lock().unwrap().push(app_id.to_owned()))
        .usage(&usage)
        .revocations(&revocations)
        .build();
    let error = keys.issue(NewKey::named("a")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("outoforder") || error.to_string().contains("out oforder")),
        (ErrorKind::Api, true)
    );
    assert!(keys.reset("reset").await.is_err() && keys.delete("delete").await.is_err());
    keys.disable("disable").await.unwrap();
    keys.enable("enable").await.unwrap();
    keys.revoke("revoke").await.unwrap();
    // Whoever asked for it goes away before it is done.
    tokio::select! {
        biased;
        _ = keys.reset("hangs") => unreachable!(),
        () = std::future::ready(()) => {}
    }
    assert_eq!(*forgotten.lock().unwrap(), ["reset", "delete", "disable", "enable", "revoke", "hangs"]);
    assert!(revocations.is_revoked("revoke", Some(SystemTime::now())));

    usage.call(Some("app"), CallOutcome::Accepted, None);
    let listed = keys.list().await.unwrap();
    assert!(listed[0].last_used.is_some() && listed[1].last_used.is_none());
    let error = Keys::builder(Failing, "acme_test").unwrap().build().revoke("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

/// The bill names who the key was issued for, without a word to the usage.
#[tokio::test]
async fn usage_learns_the_customer_of_each_key_that_is_issued_reset_or_listed() {
    let scene = Scene::new().await;
    let path = std::env::temp_dir().join(format!("evertoken-keys-usage-{}.jsonl", std::process::id()));
    let admin = || Keys::builder(management(&scene.server, &scene.auth0, SCOPES), "acme_test").unwrap();
    let earlier = admin().build();
    let old = earlier.issue(NewKey::named("old").customer("Globex")).await.unwrap().info.app_id;

    let usage = Usage::builder(UsageFile::new(&path)).start().unwrap();
    let keys = admin().usage(&usage).build();
    let issued = keys.issue(NewKey::named("new").customer("Initech")).await.unwrap().info.app_id;
    let nobodys = keys.issue(NewKey::named("none")).await.unwrap().info.app_id;
    let reset = earlier.issue(NewKey::named("reset").customer("Initrode")).await.unwrap().info.app_id;
    let reset = keys.reset(&reset).await.unwrap().info.app_id;
    let mut customers = Vec::new();
    for listed in [false, true] {
        if listed {
            keys.list().await.unwrap();
        }
        for app_id in [&old, &issued, &nobodys, &reset] {
            usage.call(Some(app_id), CallOutcome::Accepted, None);
        }
        usage.flush().await.unwrap();
        let records = UsageFile::read(&path).unwrap().pop().unwrap().batch.records;
        let of = |app_id| records.iter().find(|record| record.app_id.as_ref() == Some(app_id)).unwrap();
        customers.push([&old, &issued, &nobodys, &reset].map(|app_id| of(app_id).customer.clone()));
    }
    std::fs::remove_file(&path).unwrap();
    let [globex, initech, initrode] = ["Globex", "Initech", "Initrode"].map(|name| Some(name.to_owned()));
    assert_eq!(customers[0], [None, initech.clone(), None, initrode.clone()]);
    assert_eq!(customers[1], [globex, initech, None, initrode]);
}

/// A token that is still valid, and whose signature is still good.
#[tokio::test]
async fn a_revoked_app_s_tokens_are_refused_though_they_are_valid() {
    let server = AuthServer::builder().client("other", "s").start().await.unwrap();
    let revocations = Revocations::new(Duration::from_secs(86_400));
    let verifier = Verifier::builder(server.issuer())
        .audience(server.audience())
        .revocations(&revocations)
        .build()
        .unwrap();
    let keys =
        Keys::builder(Failing, "acme_test").unwrap().verifier(&verifier).revocations(&revocations).build();
    let token = |app_id: &'static str, secret: &'static str| {
        let source = TokenSource::builder(app_id, secret).token_url(server.token_url()).build().unwrap();
        async move { source.token().await.unwrap() }
    };
    let (one, other) = (token(AuthServer::APP_ID, AuthServer::APP_SECRET).await, token("other", "s").await);
    for token in [&one, &other] {
        verifier.verify(token.as_str()).await.unwrap();
    }
    keys.revoke(AuthServer::APP_ID).await.unwrap();
    for _ in 0..2 {
        let refusal = verifier.verify(one.as_str()).await.unwrap_err();
        assert_eq!(refusal.kind(), RefusalKind::InvalidToken);
        verifier.verify(other.as_str()).await.unwrap();
    }
    // A key that works again: what is issued a second later is good.
    let mut parts = Request::get("/").body(()).unwrap().into_parts().0;
    loop {
        let token = token(AuthServer::APP_ID, AuthServer::APP_SECRET).await;
        parts.headers.insert("authorization", token.authorization().clone());
        if verifier.verify_request(&parts).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    parts.headers.insert("authorization", one.authorization().clone());
    assert!(verifier.verify_request(&parts).await.is_err());
}

/// What is revoked in the very second of its issue would be refused for all its life, if it were kept.
#[tokio::test]
async fn after_a_revocation_no_token_is_kept_that_would_be_refused() {
    let server = AuthServer::start().await.unwrap();
    let revocations = Revocations::new(Duration::from_secs(86_400));
    let exchange = Exchange::builder(server.issuer()).revocations(&revocations).build().unwrap();
    let token = || async {
        let secret = AuthServer::APP_SECRET.into();
        exchange.token(AuthServer::APP_ID, &secret, None).await.unwrap()
    };
    let first = token().await;
    assert_eq!(token().await, first);
    revocations.revoke(AuthServer::APP_ID).await.unwrap();
    let begun = SystemTime::now();
    while revocations.is_revoked(AuthServer::APP_ID, Some(SystemTime::now())) {
        token().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(10));
    let kept = token().await;
    assert!(kept != first);
    assert_eq!(token().await, kept);
}
