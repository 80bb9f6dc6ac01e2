//! What is left of a token after `shutdown`: with `revoke_on_shutdown`, nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod house;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::http::{Request, Response, StatusCode};
use evertoken::testing::{AuthServer, Fault, ManualClock, Moment, TimeSource, Transport, TransportError};
use evertoken::{Builder, ClientAuth, ErrorKind, TokenSource, blocking};
use house::{client, source, until};
use serde_json::{Value, json};

/// Ends a wait for what will never come; nothing here is measured against it.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends")
}

fn revoking(server: &AuthServer) -> Builder<TokenSource> {
    TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .revoke_on_shutdown(true)
}

async fn about(server: &AuthServer, token: &str) -> Value {
    let request = evertoken::reqwest::Client::new()
        .post(server.introspection_url())
        .basic_auth(AuthServer::APP_ID, Some(AuthServer::APP_SECRET))
        .form(&[("token", token)]);
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

#[tokio::test]
async fn shutdown_revokes_what_is_held_and_the_api_refuses_it_then() {
    let server = AuthServer::start().await.unwrap();
    let api = client(&server)
        .revoke_on_shutdown(true)
        .revocation_url(server.revocation_url())
        .scope("read")
        .build()
        .unwrap();
    assert_eq!(api.get("orders").send().await.unwrap().status(), StatusCode::OK);
    let token = api.token().await.unwrap();
    let known = about(&server, token.as_str()).await;
    assert_eq!((&known["active"], &known["scope"]), (&true.into(), &"read".into()));
    assert_eq!(known["client_id"], AuthServer::APP_ID);

    within(api.shutdown()).await.unwrap();
    assert_eq!(about(&server, token.as_str()).await, json!({ "active": false }));
    let call = evertoken::reqwest::Client::new().get(format!("{}orders", server.api_url()));
    let answer = call.bearer_auth(token.as_str()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.token().await.unwrap_err().kind(), ErrorKind::Closed);
    // Nothing is left to do.
    within(api.shutdown()).await.unwrap();
    assert_eq!(server.revocations(), 1);
}

#[tokio::test]
async fn the_client_authenticates_as_for_its_tokens() {
    let server = AuthServer::builder().client("id 1", "s: %+").start().await.unwrap();
    for (raw, method, logged) in [
        (false, None, "client_secret_basic"),
        // What has been found out for token requests holds here.
        (true, None, "client_secret_basic"),
        (false, Some(ClientAuth::ClientSecretPost), "client_secret_post"),
    ] {
        server.set_raw_basic(raw);
        server.reset_counters();
        let builder = TokenSource::builder("id 1", "s: %+").issuer(server.issuer()).revoke_on_shutdown(true);
        let builder = match method {
            Some(method) => builder.client_auth(method),
            None => builder,
        };
        let source = builder.build().unwrap();
        let token = source.token().await.unwrap();
        within(source.shutdown()).await.unwrap();
        assert!(!server.accepts(token.as_str()));
        let log = server.log();
        let revocations: Vec<_> = log.iter().filter(|entry| entry.what == "POST /revoke").collect();
        assert_eq!(revocations.len(), 1);
        assert_eq!((revocations[0].client_auth, revocations[0].status), (Some(logged), Some(200)));
    }
}

#[tokio::test]
async fn nothing_is_revoked_that_was_not_asked_for() {
    let server = AuthServer::start().await.unwrap();
    let plain = source(&server).build().unwrap();
    let token = plain.token().await.unwrap();
    within(plain.shutdown()).await.unwrap();
    assert!(server.accepts(token.as_str()));

    // Nor by who does not wait; nor where there is nothing, or nothing that lives.
    let dropped = revoking(&server).build().unwrap();
    let token = dropped.token().await.unwrap();
    drop(dropped);
    assert!(server.accepts(token.as_str()));
    within(revoking(&server).build().unwrap().shutdown()).await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let late = revoking(&server).clock(clock.clone()).build().unwrap();
    late.token().await.unwrap();
    server.outage();
    clock.advance(Duration::from_secs(2 * 3600));
    let ended = tokio::spawn(async move { late.shutdown().await });
    within(ended).await.unwrap().unwrap();
    assert_eq!(server.revocations(), 0);
}

#[tokio::test]
async fn a_token_in_its_leeway_is_revoked() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let source = revoking(&server).clock(clock.clone()).build().unwrap();
    let token = source.token().await.unwrap();
    server.fail_always(Fault::Status { status: 500, headers: vec![], body: String::new() });
    clock.advance(Duration::from_secs(3590));
    assert!(source.current_token().is_none());
    within(source.shutdown()).await.unwrap();
    assert!(!server.accepts(token.as_str()));
}

/// Counts how many revocations are on their way at once.
#[derive(Default, Clone)]
struct Counting(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Transport for Counting {
    fn send(
        &self,
        request: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let all = self.0.all.fetch_add(1, Ordering::SeqCst);
            let revocation = request.uri().path() == "/revoke";
            if revocation {
                self.0.most.fetch_max(self.0.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Others get their turn.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                self.0.now.fetch_sub(1, Ordering::SeqCst);
            }
            let token =
                json!({ "access_token": format!("t{all}"), "token_type": "Bearer", "expires_in": 3600 });
            let body = if revocation { String::new() } else { token.to_string() };
            Ok(Response::new(body.into()))
        })
    }
}

#[tokio::test]
async fn the_whole_family_revokes_at_once_but_not_all_64_together() {
    let counting = Counting::default();
    let source = TokenSource::builder("app", "secret")
        .token_url("https://as.example/token")
        .revocation_url("https://as.example/revoke")
        .revoke_on_shutdown(true)
        .transport(Arc::new(counting.clone()))
        .build()
        .unwrap();
    source.token().await.unwrap();
    for audience in 0..63 {
        source.with(audience.to_string(), [""; 0]).unwrap().token().await.unwrap();
    }
    counting.0.all.store(0, Ordering::SeqCst);
    within(source.shutdown()).await.unwrap();
    assert_eq!(counting.0.all.load(Ordering::SeqCst), 64);
    assert_eq!(counting.0.most.load(Ordering::SeqCst), 8);
}

/// Also those that only their handles keep, since more were used after them.
#[tokio::test]
async fn all_that_live_end_together_and_take_the_same_credentials() {
    let server = AuthServer::start().await.unwrap();
    let source = revoking(&server).build().unwrap();
    let first = source.token().await.unwrap();
    let relatives: Vec<_> = (0..65).map(|number| source.with(number.to_string(), [""; 0]).unwrap()).collect();
    source.set_credentials("another", "secret").unwrap();
    assert!(source.current_token().is_none(), "it was the other app's");
    server.register("another", "secret");
    let second = source.token().await.unwrap();
    assert_ne!(first, second);
    within(relatives[64].shutdown()).await.unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!server.accepts(second.as_str()));
}

#[tokio::test]
async fn a_failure_is_told_and_counted_and_does_not_stop_the_others() {
    let server = AuthServer::start().await.unwrap();
    let source = revoking(&server).build().unwrap();
    for audience in ["a", "b"] {
        source.with(audience, [""; 0]).unwrap().token().await.unwrap();
    }
    source.token().await.unwrap();
    let refusal = |code: &str| Fault::Oauth { status: 400, error: code.into(), description: "no".into() };
    server.fail_next_revocation(refusal("unsupported_token_type"));
    let error = within(source.shutdown()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRefused);
    assert_eq!(error.oauth_error(), Some("unsupported_token_type"));
    assert_eq!(
        error.to_string(),
        format!(
            "1 of 3 tokens could not be revoked and last until they expire: the authorization server cannot revoke \
             tokens of this kind [{}]: unsupported_token_type (no); does not mend by itself: its tokens end by \
             themselves only: do without `revoke_on_shutdown`",
            server.revocation_url()
        )
    );
    assert_eq!(server.revocations(), 3);
    let mut active = 0;
    for token in server.issued_tokens() {
        active += usize::from(about(&server, &token).await["active"] == true);
    }
    assert_eq!(active, 1);
    // It has ended all the same.
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_wrong_secret_and_an_outage_are_told_apart() {
    let server = AuthServer::start().await.unwrap();
    let [refused, alone] = [(); 2].map(|()| revoking(&server).build().unwrap());
    refused.token().await.unwrap();
    alone.token().await.unwrap();
    server.rotate(AuthServer::APP_ID, "another");
    let error = within(refused.shutdown()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::CredentialsRejected, Some(401)));
    server.outage();
    let error = within(alone.shutdown()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    assert!(!error.is_retryable() && error.retry_after().is_none(), "nobody tries again: {error}");
}

/// A clock that tells for how long it was asked to sleep.
#[derive(Default)]
struct Watched {
    clock: ManualClock,
    sleeps: Mutex<Vec<Duration>>,
}

impl TimeSource for Watched {
    fn coarse(&self) -> (Duration, Duration) {
        self.clock.coarse()
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.sleeps.lock().unwrap().push(duration);
        self.clock.sleep(duration)
    }
}

#[tokio::test]
async fn a_server_that_says_when_is_asked_again_and_one_that_hangs_is_given_up() {
    let server = AuthServer::start().await.unwrap();
    let shut_down = async |fault: Fault, pause: Option<u64>| {
        server.heal();
        server.reset_counters();
        let clock = Arc::new(Watched::default());
        let source = revoking(&server).clock(clock.clone()).build().unwrap();
        let token = source.token().await.unwrap();
        server.fail_next_revocation(fault);
        let ended = tokio::spawn(async move { source.shutdown().await });
        until("the first revocation came", || server.revocations() == 1).await;
        if let Some(pause) = pause.map(Duration::from_secs) {
            until("it sleeps", || clock.sleeps.lock().unwrap().contains(&pause)).await;
            clock.clock.advance(pause);
        }
        (within(ended).await.unwrap(), server.revocations(), server.accepts(token.as_str()))
    };
    // RFC 7009 2.2.1: the token still exists, and may be revoked later.
    let (outcome, requests, accepted) = shut_down(Fault::RetryAfterSeconds(503, 3), Some(3)).await;
    outcome.unwrap();
    assert_eq!((requests, accepted), (2, false));

    // Later than anybody waits: at once.
    let (outcome, requests, accepted) = shut_down(Fault::RetryAfterSeconds(503, 60), None).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::AuthServerUnavailable, Some(503)));
    assert_eq!((requests, accepted), (1, true));

    let (outcome, requests, _) = shut_down(Fault::Hang, Some(10)).await;
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("did not answer within 10.0 s"), "{error}");
    assert_eq!((error.kind(), requests), (ErrorKind::AuthServerUnavailable, 1));
}

#[tokio::test]
async fn without_an_endpoint_it_is_said_by_build_or_by_shutdown() {
    let server = AuthServer::start().await.unwrap();
    let error = source(&server).revoke_on_shutdown(true).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("needs a `revocation_url`"), "{error}");
    let error = source(&server).revocation_url("http://as.example/revoke").build().unwrap_err();
    assert!(error.to_string().contains("`revocation_url` is plain http"), "{error}");

    server.set_announced_revocation(false);
    let silent = revoking(&server).build().unwrap();
    silent.token().await.unwrap();
    let error = within(silent.shutdown()).await.unwrap_err();
    assert_eq!((error.kind(), error.server()), (ErrorKind::Configuration, Some(server.issuer().as_str())));
    assert!(error.to_string().contains("announces no usable revocation endpoint"), "{error}");
    let told = revoking(&server).revocation_url(server.revocation_url()).build().unwrap();
    let token = told.token().await.unwrap();
    within(told.shutdown()).await.unwrap();
    assert!(!server.accepts(token.as_str()));
}

#[tokio::test]
async fn a_blocking_client_revokes_too() {
    let server = AuthServer::start().await.unwrap();
    let builder = blocking::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .revoke_on_shutdown(true);
    let (first, second) = (builder.build().unwrap(), {
        let again = blocking::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
        again.issuer(server.issuer()).revoke_on_shutdown(true).build().unwrap()
    });
    let token = tokio::task::spawn_blocking(move || {
        let token = first.token().unwrap();
        first.shutdown().unwrap();
        token
    });
    assert!(!server.accepts(token.await.unwrap().as_str()));
    server.fail_next_revocation(Fault::Reset);
    let outcome = tokio::task::spawn_blocking(move || {
        second.token().unwrap();
        second.shutdown()
    });
    assert_eq!(outcome.await.unwrap().unwrap_err().kind(), ErrorKind::AuthServerUnavailable);
}

/// A token of another client is left alone, an unknown one is no error, and nobody comes in without a secret.
#[tokio::test]
async fn the_box_keeps_to_the_rfcs() {
    let server = AuthServer::builder().client("other", "s2").start().await.unwrap();
    let token = source(&server).build().unwrap().token().await.unwrap();
    let http = evertoken::reqwest::Client::new();
    let ask = async |url: String, id: &str, secret: &str, token: Option<&str>| {
        let form: Vec<_> = token.map(|token| ("token", token)).into_iter().collect();
        let answer = http.post(url).basic_auth(id, Some(secret)).form(&form).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        (status, body["error"].as_str().unwrap_or_default().to_owned())
    };
    let said = |status: u16, code: &str| (status, code.to_owned());
    for url in [server.revocation_url(), server.introspection_url()] {
        assert_eq!(ask(url.clone(), "app", "wrong", Some("x")).await, said(401, "invalid_client"));
        assert_eq!(ask(url.clone(), "app", "secret", None).await, said(400, "invalid_request"));
        assert_eq!(ask(url, "app", "secret", Some("unknown")).await, said(200, ""));
    }
    let text = Some(token.as_str());
    assert_eq!(ask(server.revocation_url(), "other", "s2", text).await, said(400, "unauthorized_client"));
    assert!(server.accepts(token.as_str()));
    assert_eq!(ask(server.revocation_url(), "app", "secret", text).await, said(200, ""));
    assert!(!server.accepts(token.as_str()));
    assert_eq!((server.revocations(), server.introspections()), (5, 3));
}
