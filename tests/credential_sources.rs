//! What each source of credentials does when it fails, changes or gives something wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod folder;
mod house;

use std::future::pending;
use std::io::{Error as IoError, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::testing::{AuthServer, Fault, ManualClock};
use evertoken::{ApiKey, AppCredentials, Builder, CredentialSource, ErrorKind, Event, State, TokenSource};
use folder::{Folder, set_mode};
use house::until;

const ID: &str = AuthServer::APP_ID;
const GOOD: &str = AuthServer::APP_SECRET;
const HOUR: Duration = Duration::from_secs(3600);

fn given(secret: &str) -> AppCredentials {
    AppCredentials::new(ID, secret)
}

fn builder(source: impl Into<CredentialSource>, server: &AuthServer) -> Builder<TokenSource> {
    TokenSource::builder_with(source).token_url(server.token_url())
}

fn lines(secret: &str) -> String {
    format!("APP_ID={ID}\nAPP_SECRET={secret}\n")
}

/// A provider that does what it is told, and counts.
#[derive(Clone, Default)]
struct Vault(Arc<(Mutex<Does>, AtomicUsize)>);

#[derive(Clone, Default)]
enum Does {
    #[default]
    Fail,
    Hang,
    Panic,
    Give(AppCredentials),
    /// Another secret each time.
    GiveAnother,
}

impl Vault {
    fn now(&self, does: Does) {
        *self.0.0.lock().unwrap() = does;
    }

    fn asked(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }

    fn source(&self) -> CredentialSource {
        let this = self.clone();
        CredentialSource::provider(move || {
            let nth = this.0.1.fetch_add(1, Ordering::SeqCst);
            let does = this.0.0.lock().unwrap().clone();
            async move {
                match does {
                    Does::Fail => Err(IoError::other(format!("sealed\nsince {GOOD} o'clock"))),
                    Does::Hang => pending().await,
                    Does::Panic => panic!("the provider's own"),
                    Does::Give(credentials) => Ok(credentials),
                    Does::GiveAnother => Ok(given(&format!("secret-{nth}"))),
                }
            }
        })
    }
}

#[tokio::test]
async fn the_next_secret_is_tried_in_the_same_attempt_and_promoted_for_all() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let source = builder(given("old").next_secret(GOOD), &server).clock(clock.clone()).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    assert_eq!(server.token_requests(), 2);
    assert!(matches!(events.next().await, Some(Event::CredentialsRotated)));
    assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
    assert!(events.try_next().is_none(), "nothing has failed");

    let relative = source.with("https://other.example", ["read"]).unwrap();
    relative.token().await.unwrap();
    assert_eq!(server.token_requests(), 3, "it knows which is the right one");
    clock.advance(HOUR);
    source.token().await.unwrap();
    assert_eq!(server.max_in_flight(), 1);
}

#[tokio::test]
async fn where_both_are_refused_the_server_is_left_alone() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let source = builder(given("old").next_secret("older"), &server).clock(clock.clone()).build().unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
    assert!(error.to_string().contains("the next secret was refused, too"), "{error}");
    assert!(error.retry_after().unwrap() >= Duration::from_secs(4), "{error}");
    // Both by Basic, then both in the body.
    assert_eq!((server.token_requests(), source.status().state), (4, State::Rejected));
    clock.advance(Duration::from_secs(3));
    assert!(source.token().await.is_err());
    assert_eq!(server.token_requests(), 4);
    // One early check is left of the five requests, and then comes a pause of a minute at least.
    clock.advance(Duration::from_secs(24));
    until("it was checked", || server.token_requests() == 5).await;
    until("that was refused", || source.status().consecutive_failures == 2).await;
    clock.advance(Duration::from_secs(59));
    assert!(source.token().await.is_err());
    assert_eq!(server.token_requests(), 5);

    // And one that is set by hand is tried at once.
    source.set_credentials(ID, GOOD).unwrap();
    source.token().await.unwrap();
    assert_eq!(server.token_requests(), 6);
}

#[tokio::test]
async fn only_a_refusal_brings_up_the_next_secret_and_only_a_token_promotes_it() {
    let server = AuthServer::start().await.unwrap();
    let oauth =
        |status, error: &str| Fault::Oauth { status, error: error.into(), description: String::new() };
    for fault in
        [oauth(503, "invalid_client"), oauth(400, "invalid_scope"), Fault::RetryAfterSeconds(429, 60)]
    {
        server.heal();
        server.reset_counters();
        server.fail_always(fault.clone());
        let patience = Duration::from_millis(100);
        let clock = Arc::new(ManualClock::default());
        let source = builder(given(GOOD).next_secret("next"), &server).clock(clock).token_timeout(patience);
        let source = source.build().unwrap();
        source.prefetch();
        until("it failed", || source.status().consecutive_failures == 1).await;
        assert_eq!(server.token_requests(), 1, "{fault:?}");
    }
    // The next secret meets a server that is down: that is an outage, and proves nothing.
    server.heal();
    server.reset_counters();
    server.fail_next(oauth(401, "invalid_client"));
    server.fail_next(oauth(503, "server_error"));
    let source = builder(given(GOOD).next_secret("next"), &server).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    let Some(Event::RenewalFailed { error, .. }) = events.next().await else { panic!("it failed first") };
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    assert!(matches!(events.next().await, Some(Event::Renewed { .. })), "and nothing was promoted");
    assert_eq!(server.token_requests(), 3);
}

#[tokio::test]
async fn a_provider_is_asked_once_for_a_thousand_callers_and_before_each_renewal() {
    let server = AuthServer::start().await.unwrap();
    let vault = Vault::default();
    vault.now(Does::Give(given(GOOD)));
    let clock = Arc::new(ManualClock::default());
    let source = builder(vault.source(), &server).clock(clock.clone()).build().unwrap();
    assert_eq!(vault.asked(), 0, "nothing is asked before the first read");
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.token().await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!((vault.asked(), server.token_requests()), (1, 1));
    source.with("https://other.example", ["read"]).unwrap().token().await.unwrap();
    assert_eq!((vault.asked(), server.token_requests()), (1, 2), "one answer serves the family");
    clock.advance(HOUR);
    source.token().await.unwrap();
    until("it was asked again", || vault.asked() == 2).await;
}

#[tokio::test]
async fn a_provider_that_has_given_nothing_yet_is_an_error_that_mends_itself() {
    for (does, said) in [
        (Does::Fail, "the credential provider failed: sealed"),
        (Does::Panic, "panicked"),
        (Does::Give(given("")), "the app secret is empty"),
        (Does::Give(AppCredentials::new("", GOOD)), "the app id is empty"),
    ] {
        let server = AuthServer::start().await.unwrap();
        let vault = Vault::default();
        vault.now(does);
        let source = builder(vault.source(), &server).build().unwrap();
        let mut events = source.events();
        let waiting = tokio::spawn({
            let source = source.clone();
            async move { source.token().await }
        });
        let Some(Event::RenewalFailed { error, .. }) = events.next().await else { panic!("it failed") };
        assert_eq!(error.kind(), ErrorKind::CredentialsUnavailable);
        assert!(error.is_retryable() && error.to_string().contains(said), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert_eq!(server.token_requests(), 0);
        vault.now(Does::Give(given(GOOD)));
        waiting.await.unwrap().unwrap();
        assert_eq!(server.token_requests(), 1);
    }
}

#[tokio::test]
async fn a_provider_that_hangs_gets_half_of_an_attempt() {
    let server = AuthServer::start().await.unwrap();
    let vault = Vault::default();
    vault.now(Does::Hang);
    let clock = Arc::new(ManualClock::default());
    let source = builder(vault.source(), &server).clock(clock.clone()).build().unwrap();
    source.prefetch();
    until("it was asked", || vault.asked() == 1).await;
    clock.advance(Duration::from_secs(2));
    until("it was given up", || source.status().consecutive_failures == 1).await;
    let error = source.status().last_error.unwrap();
    assert_eq!(error.kind(), ErrorKind::CredentialsUnavailable);
    assert!(error.to_string().contains("within 2.0 s"), "{error}");
    // A credential that is set by hand meanwhile need not wait for it.
    clock.advance(Duration::from_secs(1));
    until("it was asked again", || vault.asked() == 2).await;
    source.set_credentials(ID, GOOD).unwrap();
    until("there is a token", || source.current_token().is_some()).await;
}

#[tokio::test]
async fn a_provider_that_fails_later_costs_nothing() {
    for does in [Does::Fail, Does::Panic, Does::Hang, Does::Give(given(""))] {
        let server = AuthServer::start().await.unwrap();
        let vault = Vault::default();
        vault.now(Does::Give(given(GOOD)));
        let clock = Arc::new(ManualClock::default());
        let source = builder(vault.source(), &server).clock(clock.clone()).build().unwrap();
        let mut events = source.events();
        source.token().await.unwrap();
        let hangs = matches!(does, Does::Hang);
        vault.now(does);
        clock.advance(HOUR * 9 / 10);
        until("it was asked again", || vault.asked() == 2).await;
        if hangs {
            clock.advance(Duration::from_secs(5));
        }
        server.wait_for_token_requests(2).await;
        for _ in 0..2 {
            assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
        }
        assert_eq!(source.status().state, State::Fresh);
    }
}

#[tokio::test]
async fn a_refusal_has_the_provider_asked_afresh_in_the_same_attempt() {
    let server = AuthServer::start().await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let source = CredentialSource::provider({
        let asked = asked.clone();
        move || {
            let secret = if asked.fetch_add(1, Ordering::SeqCst) == 0 { "old" } else { GOOD };
            async move { Ok::<_, IoError>(given(secret)) }
        }
    });
    let source = builder(source, &server).build().unwrap();
    let mut events = source.events();
    source.token().await.unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), server.token_requests()), (2, 2));
    assert!(matches!(events.next().await, Some(Event::CredentialsRotated)));
    assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
}

#[tokio::test]
async fn a_provider_is_asked_now_and_then_while_what_it_gave_is_refused() {
    let server = AuthServer::start().await.unwrap();
    let vault = Vault::default();
    vault.now(Does::Give(given("old")));
    let clock = Arc::new(ManualClock::default());
    let source = builder(vault.source(), &server).clock(clock.clone()).build().unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
    assert_eq!((vault.asked(), server.token_requests()), (2, 2), "Basic and the body, once each");
    for (length, failures) in [(6, 2), (24, 3)] {
        clock.advance(Duration::from_secs(length));
        until("it was checked in vain", || source.status().consecutive_failures == failures).await;
    }
    let (asked, requests) = (vault.asked(), server.token_requests());
    clock.advance(Duration::from_secs(15));
    until("it was asked", || vault.asked() == asked + 1).await;
    assert_eq!(server.token_requests(), requests);
    vault.now(Does::Give(given(GOOD)));
    clock.advance(Duration::from_secs(15));
    until("there is a token", || source.current_token().is_some()).await;
    assert_eq!(server.token_requests(), requests + 1);
    // And no more once all is well.
    let asked = vault.asked();
    clock.advance(Duration::from_secs(60));
    source.with("https://other.example", ["x"]).unwrap().token().await.unwrap();
    assert_eq!(vault.asked(), asked + 1, "for the new token only");
}

#[tokio::test]
async fn a_provider_with_another_secret_each_time_makes_no_storm() {
    let server = AuthServer::start().await.unwrap();
    let vault = Vault::default();
    vault.now(Does::GiveAnother);
    let clock = Arc::new(ManualClock::default());
    let source = builder(vault.source(), &server).clock(clock.clone()).build().unwrap();
    assert!(source.token().await.is_err());
    assert_eq!(server.token_requests(), 3, "the second is sent in the body as well");
    // A minute in steps, in each of which everything that can happen does.
    for _ in 0..120 {
        clock.advance(Duration::from_millis(500));
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    let requests = server.token_requests();
    assert!(requests <= 3 + 3 * 7, "{requests} requests in a minute");
    assert_eq!(server.max_in_flight(), 1);
}

#[tokio::test]
async fn a_change_of_the_file_is_seen_however_it_is_made() {
    let folder = Folder::new("changes");
    let put = |name: &str, secret: &str| folder.put(name, &lines(secret));
    let in_place = |path: &std::path::Path, secret: &str| std::fs::write(path, lines(secret)).unwrap();
    type Put<'a> = &'a dyn Fn() -> std::path::PathBuf;
    let cases: [(&str, Put<'_>, &dyn Fn()); 3] = [
        ("renamed", &|| put("a", "wrong"), &|| drop(put("a", GOOD))),
        ("in place", &|| put("b", "wrong-"), &|| in_place(&folder.path("b"), GOOD)),
        ("after it was away", &|| put("c", "wrong"), &|| {
            std::fs::remove_file(folder.path("c")).unwrap();
            put("c", GOOD);
        }),
    ];
    for (how, path, change) in cases {
        let server = AuthServer::start().await.unwrap();
        let source = builder(CredentialSource::file(path()), &server).build().unwrap();
        assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
        assert_eq!(server.token_requests(), 2, "by Basic, and in the body");
        change();
        until(how, || source.current_token().is_some()).await;
        assert_eq!(server.token_requests(), 3, "{how}");
    }
}

/// The attempt under way knows nothing of it, and its failure is none of it.
#[tokio::test]
async fn a_next_secret_that_comes_during_an_attempt_is_tried_after_it() {
    let folder = Folder::new("meanwhile");
    let lines = |next: &str| format!("APP_ID={ID}\nAPP_SECRET=wrong\nAPP_SECRET_NEXT={next}\n");
    let path = folder.put("a", &lines("older"));
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_secs(2));
    let source = builder(CredentialSource::file(&path), &server).build().unwrap();
    source.prefetch();
    // That of the next secret, which takes longer than the file is not looked at.
    server.wait_for_token_requests(2).await;
    folder.put("a", &lines(GOOD));
    until("it is tried", || source.current_token().is_some()).await;
    assert_eq!(server.token_requests(), 4);
}

#[cfg(unix)]
#[tokio::test]
async fn a_change_is_seen_as_kubernetes_makes_it() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new("kubernetes");
    for (version, secret) in [("..1", "wrong"), ("..2", GOOD)] {
        std::fs::create_dir(folder.path(version)).unwrap();
        let path = folder.put(&format!("{version}/secret"), &lines(secret));
        set_mode(&path, 0o644);
    }
    symlink("..1", folder.path("..data")).unwrap();
    symlink("..data/secret", folder.path("secret")).unwrap();
    let server = AuthServer::start().await.unwrap();
    let error = builder(CredentialSource::file(folder.path("secret")), &server).build().unwrap_err();
    assert!(error.to_string().contains("mode 0644"), "{error}");
    let file = CredentialSource::file_readable_by_others(folder.path("secret"));
    let source = builder(file, &server).build().unwrap();
    assert!(source.token().await.is_err());
    symlink("..2", folder.path("..data_tmp")).unwrap();
    std::fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    until("there is a token", || source.current_token().is_some()).await;
}

/// What is logged in this process, by other tests as well.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// In how many lines on this file there is this text.
    fn times(&self, path: &std::path::Path, text: &str) -> usize {
        let (log, path) = (self.0.lock().unwrap(), path.to_str().unwrap());
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| line.contains(path) && line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_file_that_is_spoilt_changes_nothing_and_is_told_of_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let folder = Folder::new("spoilt");
    let server = AuthServer::start().await.unwrap();
    let path = folder.put("secret", &lines(GOOD));
    let source = builder(CredentialSource::file(&path), &server).build().unwrap();
    source.token().await.unwrap();
    let mut events = source.events();
    let has = |text: &str| log.times(&path, text) == 1;
    folder.put("secret", &format!("{{\"app_secret\": \"{GOOD}"));
    until("the torn one is told", || has("no valid JSON")).await;
    #[cfg(unix)]
    {
        folder.put("secret", &lines("other"));
        set_mode(&path, 0o644);
        until("the open one is told", || has("mode 0644") && has("chmod 600")).await;
    }
    std::fs::remove_file(&path).unwrap();
    until("the missing one is told", || has("cannot be read")).await;
    // What it gave before serves on, for new tokens, too.
    source.with("https://other.example", ["x"]).unwrap().token().await.unwrap();
    assert!(events.try_next().is_none());
    folder.put("secret", &lines(GOOD));
    until("all is well", || has("gives credentials again")).await;
    assert_eq!(server.token_requests(), 2, "and nothing is asked for that");
    assert!(has("no valid JSON") && has("cannot be read"), "each once");
}

#[tokio::test]
async fn a_file_is_not_believed_while_it_is_being_written() {
    let folder = Folder::new("writing");
    let server = AuthServer::start().await.unwrap();
    let path = folder.put("secret", &format!("APP_SECRET={GOOD}\nAPP_ID={ID}"));
    let clock = Arc::new(ManualClock::default());
    let source = builder(CredentialSource::file(path), &server).clock(clock.clone()).build().unwrap();
    let token = source.token().await.unwrap();
    let mut events = source.events();
    server.add_secret(ID, "newest");
    let pass = async |length| {
        clock.advance(length);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    // The app id is not all there when it is read, and is when it is read again.
    folder.put("secret", &format!("APP_SECRET=newest\nAPP_ID={}", &ID[..1]));
    pass(Duration::from_secs(1)).await;
    folder.put("secret", &format!("APP_SECRET=newest\nAPP_ID={ID}"));
    pass(Duration::from_millis(50)).await;
    assert!(events.try_next().is_none());
    pass(Duration::from_secs(1)).await;
    pass(Duration::from_millis(50)).await;
    assert!(matches!(events.try_next(), Some(Event::CredentialsRotated)));
    assert_eq!(source.current_token(), Some(token), "the app id was never another");
}

#[tokio::test]
async fn another_app_id_in_the_file_drops_the_token() {
    let folder = Folder::new("another");
    let server = AuthServer::builder().client("another", "app").start().await.unwrap();
    let path = folder.put("secret", &lines(GOOD));
    let source = builder(CredentialSource::file(&path), &server).build().unwrap();
    let first = source.token().await.unwrap();
    let relative = source.with("https://other.example", ["x"]).unwrap();
    let second = relative.token().await.unwrap();
    folder.put("secret", "APP_ID=another\nAPP_SECRET=app\n");
    for (source, old) in [(&source, &first), (&relative, &second)] {
        until("it has another token", || source.current_token().is_some_and(|token| token != *old)).await;
    }
    let ids: Vec<_> = server.log().into_iter().filter_map(|entry| entry.client_id).collect();
    assert_eq!(ids, [ID, ID, "another", "another"]);
}

#[tokio::test]
async fn what_is_set_by_hand_holds_until_the_source_has_something_else() {
    let folder = Folder::new("hand");
    let server = AuthServer::start().await.unwrap();
    let path = folder.put("secret", &lines("wrong"));
    let clock = Arc::new(ManualClock::default());
    let source = builder(CredentialSource::file(path), &server).clock(clock.clone()).build().unwrap();
    assert!(source.token().await.is_err());
    source.set_credentials(ID, GOOD).unwrap();
    source.token().await.unwrap();
    let mut events = source.events();
    let watched = async || {
        clock.advance(Duration::from_secs(1));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    folder.put("secret", &format!("# once more\n{}", lines("wrong")));
    watched().await;
    watched().await;
    assert!(events.try_next().is_none(), "nothing new");
    server.add_secret(ID, "newest");
    folder.put("secret", &lines("newest"));
    watched().await;
    watched().await;
    assert!(matches!(events.try_next(), Some(Event::CredentialsRotated)));
}

#[tokio::test]
async fn what_build_can_know_it_tells() {
    let server = AuthServer::start().await.unwrap();
    let folder = Folder::new("build");
    let path = folder.put("secret", &lines(GOOD));
    for (source, said) in [
        (CredentialSource::file(folder.path("")), "no regular file"),
        (CredentialSource::directory(&path), "is no directory"),
        (CredentialSource::file(&path).next_secret_file(&path), "`next_secret_file` goes with"),
        (AppCredentials::new("", GOOD).into(), "the app id is empty"),
        (given("").into(), "the app secret is empty"),
        (
            CredentialSource::env_prefix("EVERTOKEN_TEST_NOT_THERE"),
            "EVERTOKEN_TEST_NOT_THERE_APP_ID is not set",
        ),
    ] {
        let error = builder(source, &server).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(said), "{error}");
    }
    let key = ApiKey::issue("acme", ID, GOOD).unwrap();
    builder(key, &server).build().unwrap().token().await.unwrap();
}

#[tokio::test]
async fn trims_line_ends_however_credentials_come_in() {
    let folder = Folder::new("stray");
    let server = AuthServer::start().await.unwrap();
    let works = async |what: &str, builder: Builder<TokenSource>| {
        let source = builder.build().unwrap_or_else(|error| panic!("{what}: {error}"));
        source.token().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    };
    for (before, after) in [("", "\n"), ("", "\r\n"), ("\u{feff}", ""), ("\t", "\0\x7f")] {
        let stray = |text: &str| format!("{before}{text}{after}");
        let (id, secret) = (stray(ID), stray(GOOD));
        let both = AppCredentials::new(&*id, &*secret);
        works("given", builder(both.clone(), &server)).await;
        works("builder", TokenSource::builder(&*id, &*secret).token_url(server.token_url())).await;
        works("next", builder(given("other").next_secret(&*secret), &server)).await;
        works(
            "provider",
            builder(
                CredentialSource::provider(move || {
                    let both = both.clone();
                    async { Ok::<_, IoError>(both) }
                }),
                &server,
            ),
        )
        .await;
        let json = serde_json::json!({ "app_id": id, "app_secret": secret }).to_string();
        works("file", builder(CredentialSource::file(folder.put("secret", &json)), &server)).await;
        let environment = CredentialSource::from_lookup("X", None, |name| match name {
            "X_APP_ID" => Some(stray(ID).into()),
            "X_APP_SECRET" => Some(stray(GOOD).into()),
            _ => None,
        });
        works("environment", builder(environment, &server)).await;
        let key = ApiKey::issue("acme", &id, &*secret).unwrap();
        for text in [stray(key.expose()), format!(" \"{}\"{after}", key.expose())] {
            works("API key", builder(ApiKey::parse(&text).unwrap(), &server)).await;
        }
        let source = builder(given("other"), &server).build().unwrap();
        source.set_credentials(&*id, &*secret).unwrap();
        source.token().await.unwrap();
        for url in [stray(&server.issuer()), format!("'{}'{after}", server.issuer())] {
            let builder = TokenSource::builder(ID, GOOD).issuer(url).audience(stray(&server.audience()));
            works("issuer", builder.resource(stray("https://api.example/"))).await;
        }
        let builder = TokenSource::builder(ID, GOOD).token_url(format!("\"{}\"", stray(&server.token_url())));
        works("token_url", builder.base_url(format!(" \"{}\"", server.issuer()))).await;
    }
    let empty = TokenSource::builder("\n", GOOD).issuer(server.issuer()).build().unwrap_err();
    assert!(empty.to_string().contains("app id is empty"), "{empty}");
    let empty = TokenSource::builder(ID, "\r\n").issuer(server.issuer()).build().unwrap_err();
    assert!(empty.to_string().contains("app secret is empty"), "{empty}");
}

#[tokio::test]
async fn keeps_spaces_and_quotes_of_ids_and_secrets() {
    let server = AuthServer::start().await.unwrap();
    for secret in [" secret ", "\"secret\"", "'"] {
        server.rotate(ID, secret);
        builder(given(&format!("{secret}\n")), &server).build().unwrap().token().await.unwrap();
    }
}

#[tokio::test]
async fn warns_of_odd_credentials_once_and_without_the_value() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = AuthServer::start().await.unwrap();
    let odd = AppCredentials::new(ID, "\"h1dden\"").next_secret("h1dden-2\r\n");
    let source = builder(odd, &server).build().unwrap();
    for _ in 0..2 {
        source.set_credentials(ID, " h1dden-3\n").unwrap();
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for said in [
        "the app secret begins and ends with a quote; it is used as it is",
        "the next app secret begins or ends with a control character or a line end; it is removed",
        "the app secret begins or ends with a control character or a line end; it is removed",
        "the app secret begins with white space; it is used as it is",
    ] {
        let times = text.lines().filter(|line| line.contains("WARN") && line.contains(said)).count();
        // The first text is within the other's only by its end.
        assert_eq!(times, 1, "{said}: {text}");
    }
    assert!(!text.contains("h1dden"), "{text}");
}

/// A source over files, and how to write what it reads.
type Place<'a> = (&'a str, CredentialSource, Box<dyn Fn(&str, &str) + 'a>);

fn places(folder: &Folder) -> Vec<Place<'_>> {
    std::fs::create_dir(folder.path("directory")).unwrap();
    let variables = |names: [(&'static str, &'static str); 2]| {
        let paths = names.map(|(name, file)| (name, folder.path(file)));
        CredentialSource::from_lookup("X", None, move |name| {
            paths.iter().find(|(known, _)| *known == name).map(|(_, path)| path.into())
        })
    };
    vec![
        (
            "file",
            CredentialSource::file(folder.path("file")),
            Box::new(|id, secret| drop(folder.put("file", &format!("APP_ID={id}\nAPP_SECRET={secret}\n")))),
        ),
        (
            "files",
            CredentialSource::files(folder.path("id"), folder.path("secret")),
            Box::new(|id, secret| {
                folder.put("secret", &format!("{secret}\n"));
                folder.put("id", &format!("{id}\r\n"));
            }),
        ),
        (
            "directory",
            CredentialSource::directory(folder.path("directory")),
            Box::new(|id, secret| {
                folder.put("directory/client-secret", secret);
                folder.put("directory/client-id", id);
            }),
        ),
        (
            "variables",
            variables([("X_APP_ID_FILE", "var-id"), ("X_APP_SECRET_FILE", "var-secret")]),
            Box::new(|id, secret| {
                folder.put("var-secret", &format!("{secret}\n"));
                folder.put("var-id", &format!("{id}\n"));
            }),
        ),
    ]
}

#[tokio::test]
async fn files_that_come_late_are_waited_for() {
    let folder = Folder::new("late");
    for (what, source, put) in places(&folder) {
        let server = AuthServer::start().await.unwrap();
        let source = builder(source, &server).build().unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut events = source.events();
        let waiting = tokio::spawn({
            let source = source.clone();
            async move { source.token().await }
        });
        let Some(Event::RenewalFailed { error, .. }) = events.next().await else {
            panic!("{what} is missing")
        };
        assert_eq!(error.kind(), ErrorKind::CredentialsUnavailable, "{error}");
        assert!(error.is_retryable(), "{error}");
        let path = folder.path("").to_str().unwrap().to_owned();
        assert!(error.to_string().contains(&path), "{what}: {error}");
        assert_eq!(server.token_requests(), 0);
        put(ID, GOOD);
        waiting.await.unwrap().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(server.token_requests(), 1, "{what}");
    }
}

#[tokio::test]
async fn files_that_are_torn_at_the_start_are_waited_for() {
    let folder = Folder::new("torn");
    let server = AuthServer::start().await.unwrap();
    for (text, said) in [
        ("", "it is empty"),
        ("{\"app_secret\": \"h1dden", "no valid JSON"),
        ("APP_ID=app", "the app secret is empty"),
        ("APP_SECRET=h1dden", "no app id"),
        ("APP_ID=a\nCLIENT_ID=b\nAPP_SECRET=h1dden", "APP_ID and CLIENT_ID contradict each other"),
    ] {
        let path = folder.put("secret", text);
        let patience = Duration::from_millis(100);
        let source = builder(CredentialSource::file(&path), &server).token_timeout(patience).build().unwrap();
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsUnavailable, "{error}");
        assert!(error.is_retryable() && error.to_string().contains(said), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
        folder.put("secret", &lines(GOOD));
        until("there is a token", || source.current_token().is_some()).await;
    }
}

#[tokio::test]
async fn a_change_of_id_and_secret_in_files_of_their_own_is_seen() {
    let folder = Folder::new("apart");
    for (what, source, put) in places(&folder) {
        let server = AuthServer::builder().client("another", "s2").start().await.unwrap();
        put(ID, GOOD);
        let source = builder(source, &server).build().unwrap();
        let first = source.token().await.unwrap();
        put("another", "s2");
        until(what, || source.current_token().is_some_and(|token| token != first)).await;
        let ids: Vec<_> = server.log().into_iter().filter_map(|entry| entry.client_id).collect();
        assert_eq!((ids.first().unwrap().as_str(), ids.last().unwrap().as_str()), (ID, "another"), "{what}");
    }
}

#[tokio::test]
async fn an_app_id_that_comes_before_its_secret_is_not_believed_at_once() {
    let folder = Folder::new("halves");
    let server = AuthServer::builder().client("another", "s2").start().await.unwrap();
    let (id, secret) = (folder.put("id", ID), folder.put("secret", GOOD));
    let clock = Arc::new(ManualClock::default());
    let source = builder(CredentialSource::files(id, secret), &server).clock(clock.clone()).build().unwrap();
    source.token().await.unwrap();
    let mut events = source.events();
    let watched = async || {
        for length in [Duration::from_secs(1), Duration::from_millis(50)] {
            clock.advance(length);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    };
    let path = folder.put("id", "another");
    // It stays young, however long the test takes.
    let late = std::time::SystemTime::now() + HOUR;
    std::fs::File::options().write(true).open(path).unwrap().set_modified(late).unwrap();
    watched().await;
    watched().await;
    assert!(events.try_next().is_none(), "the secret is still the old one");
    folder.put("secret", "s2");
    watched().await;
    assert!(matches!(events.try_next(), Some(Event::CredentialsRotated)));
    until("it has another token", || server.log().len() == 2).await;
    let ids: Vec<_> = server.log().into_iter().filter_map(|entry| entry.client_id).collect();
    assert_eq!(ids, [ID, "another"]);
}

#[tokio::test]
async fn the_next_secret_can_be_in_a_file_of_its_own() {
    let folder = Folder::new("next");
    let server = AuthServer::start().await.unwrap();
    let (id, secret) = (folder.put("id", ID), folder.put("secret", "old"));
    let source = CredentialSource::files(id, secret).next_secret_file(folder.path("next"));
    let source = builder(source, &server).build().unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
    folder.put("next", &format!("{GOOD}\n"));
    until("there is a token", || source.current_token().is_some()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn files_of_a_mount_that_others_may_read_need_a_switch() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new("volume");
    std::fs::create_dir(folder.path("..1")).unwrap();
    for (name, text) in [("client_id", ID), ("client_secret", GOOD)] {
        set_mode(&folder.put(&format!("..1/{name}"), text), 0o644);
        symlink(format!("..data/{name}"), folder.path(name)).unwrap();
    }
    symlink("..1", folder.path("..data")).unwrap();
    let server = AuthServer::start().await.unwrap();
    let variables = |switch: &'static str| {
        let path = folder.path("").into_os_string();
        CredentialSource::from_lookup("X", None, move |name| match name {
            "X_CREDENTIALS_DIRECTORY" => Some(path.clone()),
            "X_FILE_READABLE_BY_OTHERS" => Some(switch.into()),
            _ => None,
        })
    };
    let files = || CredentialSource::files(folder.path("client_id"), folder.path("client_secret"));
    let directory = || CredentialSource::directory(folder.path(""));
    for (refused, advice) in [
        (files(), "`CredentialSource::readable_by_others`"),
        (directory(), "`CredentialSource::readable_by_others`"),
        (variables("false"), "set X_FILE_READABLE_BY_OTHERS=true"),
    ] {
        let error = builder(refused, &server).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("mode 0644") && error.to_string().contains(advice), "{error}");
    }
    for accepted in [files().readable_by_others(), directory().readable_by_others(), variables("true")] {
        builder(accepted, &server).build().unwrap().token().await.unwrap();
    }
    let error = builder(variables("h1dden"), &server).build().unwrap_err();
    assert!(error.to_string().contains("X_FILE_READABLE_BY_OTHERS is neither true nor false"), "{error}");
    assert!(!error.to_string().contains("h1dden"), "{error}");
}

#[tokio::test]
async fn variables_that_contradict_each_other_are_named() {
    let server = AuthServer::start().await.unwrap();
    for names in [
        ["X_APP_ID", "X_APP_ID_FILE"],
        ["X_APP_SECRET", "X_APP_SECRET_FILE"],
        ["X_APP_SECRET_NEXT", "X_APP_SECRET_NEXT_FILE"],
        ["X_API_KEY", "X_API_KEY_FILE"],
        ["X_API_KEY_FILE", "X_APP_ID_FILE"],
        ["X_CREDENTIALS_FILE", "X_APP_SECRET_FILE"],
        ["X_CREDENTIALS_FILE", "X_CREDENTIALS_DIRECTORY"],
    ] {
        let lookup = |name: &str| names.contains(&name).then(|| "h1dden".into());
        let error = builder(CredentialSource::from_lookup("X", None, lookup), &server).build().unwrap_err();
        let text = error.to_string();
        assert!(names.iter().all(|name| text.contains(name)) && !text.contains("h1dden"), "{text}");
    }
    // An id that everybody may see beside a secret in a file.
    let folder = Folder::new("mixed");
    let path = folder.put("secret", &format!("{GOOD}\n"));
    let mixed = |name: &str| match name {
        "X_APP_ID" => Some(ID.into()),
        "X_APP_SECRET_FILE" => Some(format!(" '{}'\n", path.display()).into()),
        _ => None,
    };
    builder(CredentialSource::from_lookup("X", None, mixed), &server).build().unwrap().token().await.unwrap();
    let key = ApiKey::issue("acme", ID, GOOD).unwrap();
    let path = folder.put("key", &format!("{}\n", key.expose()));
    let keyed = |name: &str| (name == "X_API_KEY_FILE").then(|| path.clone().into());
    builder(CredentialSource::from_lookup("X", None, keyed), &server).build().unwrap().token().await.unwrap();
    // A secret where its file should be named.
    let mistaken = |name: &str| match name {
        "X_APP_ID" => Some(ID.into()),
        "X_APP_SECRET_FILE" => Some("h1dden".into()),
        _ => None,
    };
    let source = CredentialSource::from_lookup("X", None, mistaken);
    let source = builder(source, &server).token_timeout(Duration::from_millis(100)).build().unwrap();
    let error = source.token().await.unwrap_err();
    assert!(error.to_string().contains("X_APP_SECRET_FILE"), "{error}");
    assert!(!format!("{error:?} {source:?}").contains("h1dden"), "{error:?}");
}
