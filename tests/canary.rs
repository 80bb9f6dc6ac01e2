//! A secret and the tokens are planted, everything that can be seen is collected, and neither may be in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::error::Error as _;
use std::fmt::Debug;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::testing::{AuthServer, Fault, fixed_client};
use evertoken::{ApiKey, Error, RenewalPolicy, TokenSource, blocking};
use house::{client, source};
use metrics_util::debugging::DebuggingRecorder;
use tracing_subscriber::fmt::MakeWriter;

/// It differs in every form in which it goes over the wire.
const SECRET: &str = "c4n4ry:s3cr3t %+ü/";
const ENCODED: &str = "c4n4ry%3As3cr3t%20%25%2B%C3%BC%2F";
/// `app:` with the encoded and the raw secret, as Basic has them.
const BASIC_ENCODED: &str = "YXBwOmM0bjRyeSUzQXMzY3IzdCUyMCUyNSUyQiVDMyVCQyUyRg==";
const BASIC_RAW: &str = "YXBwOmM0bjRyeTpzM2NyM3QgJSvDvC8=";

/// All that a person or a log could see.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    fn show(&self, what: &dyn Debug) {
        let text = format!("{what:?} {what:#?}\n");
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    /// An error in full: its text, its Debug, and the same of all its sources.
    fn error(&self, error: &Error) {
        self.show(&error.to_string());
        self.show(error);
        self.show(&(error.kind(), error.oauth_error(), error.description(), error.server()));
        let mut source = error.source();
        while let Some(cause) = source {
            self.show(&cause.to_string());
            self.show(&cause);
            source = cause.source();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Seen {
    type Writer = Seen;

    fn make_writer(&'a self) -> Seen {
        self.clone()
    }
}

/// Which of the forbidden texts are in `text`.
fn leaks<'a>(text: &str, forbidden: &[&'a str]) -> Vec<&'a str> {
    forbidden.iter().filter(|bad| text.contains(**bad)).copied().collect()
}

fn oauth(status: u16, error: &str, description: &str) -> Fault {
    Fault::Oauth { status, error: error.into(), description: description.into() }
}

fn page(status: u16, body: &str) -> Fault {
    Fault::Status { status, headers: vec![("Content-Type".into(), "text/html".into())], body: body.into() }
}

/// One thread and one recorder for all of it: the box, the refresher, the HTTP stack.
#[tokio::test]
async fn neither_secret_nor_token_is_anywhere_but_on_the_wire() {
    let seen = Seen::default();
    // TRACE of every target, of hyper and reqwest as well.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(seen.clone())
        .init();
    let hook = seen.clone();
    std::panic::set_hook(Box::new(move |info| hook.show(&info.to_string())));
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _mine = metrics::set_default_local_recorder(&recorder);

    let server = AuthServer::builder().client("app", SECRET).start().await.unwrap();
    let builder = || client(&server).token_param("extra", SECRET);
    seen.show(&builder());
    let made = || evertoken::Client::builder("app", SECRET).token_url(server.token_url());
    let api = made().audience(server.audience()).base_url(server.api_url()).build().unwrap();
    let mut events = api.events();

    // The good days: a token, a call, a revoked token, a renewal.
    let token = api.token().await.unwrap();
    assert!(api.get("orders").query(&[("q", "x")]).send().await.unwrap().status().is_success());
    server.revoke_all();
    assert!(api.get("orders").send().await.unwrap().status().is_success());
    seen.show(&(&api, api.token_source(), &token, api.status(), token.authorization()));
    seen.show(&(
        api.get("orders"),
        api.get("orders").build().unwrap(),
        api.prefetch(),
        RenewalPolicy::default(),
    ));
    seen.show(
        &(api.headers(&evertoken::http::Method::GET, &api.get("x").build().unwrap().url().clone()).await),
    );
    seen.show(&(&server, server.log()));

    // The bad ones, where the server gives back what it was sent.
    let echo = format!("bad {SECRET} or {ENCODED} in {BASIC_ENCODED} or {BASIC_RAW}, {}", token.as_str());
    for fault in [
        oauth(401, "invalid_client", &format!("bad {SECRET}")),
        oauth(400, "invalid_request", &format!("bad {ENCODED} in {BASIC_ENCODED} or {BASIC_RAW}")),
        oauth(400, SECRET, &echo[..echo.len() - token.as_str().len()]),
        page(500, &echo),
        page(200, &echo),
        page(403, &echo),
        page(
            200,
            &format!(r#"{{"access_token":"{0} x","token_type":"{0}","expires_in":1}}"#, token.as_str()),
        ),
        page(200, &format!(r#"{{"access_token":"{}","token_type":"mac"}}"#, token.as_str())),
        page(200, &format!(r#"{{"access_token":"{}","token_type""#, token.as_str())),
        Fault::TornBody,
        Fault::Garbage,
        Fault::Reset,
    ] {
        server.fail_always(fault);
        let source = made().token_timeout(Duration::from_millis(200)).build().unwrap();
        seen.error(&source.token().await.unwrap_err());
        seen.show(&(&source, source.status()));
        server.heal();
    }
    for mistaken in [
        TokenSource::builder("", SECRET).token_url("https://as.example/"),
        TokenSource::builder("app", SECRET).token_url(format!("https://app:{ENCODED}@as.example/")),
        source(&server).base_url(format!("http://api.example/?{ENCODED}")),
        source(&server).token_param("client_secret", SECRET),
    ] {
        seen.show(&mistaken);
        seen.error(&mistaken.build().unwrap_err());
    }
    seen.error(&api.get("https://elsewhere.example/").send().await.unwrap_err());
    api.set_credentials("app", format!("{SECRET}, the second")).unwrap();

    let key = ApiKey::issue("acme_live", "app", SECRET).unwrap();
    let mistyped = key.expose().replace('4', "5") + "x";
    seen.show(&(&key, key.to_string(), TokenSource::builder_from(key.expose())));
    seen.error(&ApiKey::parse(&mistyped).unwrap_err());

    // A panic whose message has all of it in it.
    let panicking = tokio::spawn({
        let (api, token) = (api.clone(), token.clone());
        async move { panic!("{api:?} {token:?} {:?}", api.status()) }
    });
    seen.show(&panicking.await.unwrap_err());

    let without_async = std::thread::spawn({
        let (token_url, base_url) = (server.token_url(), server.api_url());
        move || {
            let builder = blocking::Client::builder("app", SECRET).token_url(token_url).base_url(base_url);
            let shown = format!("{builder:?}");
            let api = builder.build().unwrap();
            format!("{shown} {api:?} {:?}", api.get("orders"))
        }
    });
    seen.show(&without_async.join().unwrap());
    let fixed = fixed_client(token.as_str(), "https://api.example/").unwrap();
    seen.show(&(&fixed, fixed.current_token()));

    api.shutdown().await;
    seen.error(&api.token().await.unwrap_err());
    while let Some(event) = events.next().await {
        seen.show(&event);
    }
    for (key, unit, text, value) in snapshots.snapshot().into_vec() {
        seen.show(&(key, unit, text, value));
    }
    let _ = std::panic::take_hook();

    let text = seen.text();
    for expected in
        ["token renewed", "hyper", "invalid_client", "Rejected", "panicked", "evertoken_renewals_total"]
    {
        assert!(text.contains(expected), "{expected:?} was not collected: the test would prove nothing");
    }
    let tokens = server.issued_tokens();
    assert!(tokens.len() >= 2);
    let mut forbidden = vec![SECRET, ENCODED, BASIC_ENCODED, BASIC_RAW];
    forbidden.extend([key.expose(), mistyped.as_str()]);
    forbidden.extend(tokens.iter().map(String::as_str));
    if let Some(bad) = leaks(&text, &forbidden).first() {
        let at = text.find(*bad).unwrap();
        let around: String =
            text[..at].chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
        panic!("{bad:?} shows after: {around}");
    }
    // The search finds what is there.
    assert_eq!(leaks(&format!("{text}{SECRET}"), &forbidden), [SECRET]);
}
