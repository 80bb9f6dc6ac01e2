//! How a client begins, rests and ends: its task ends with the last handle in every state, and nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod elsewhere;
mod folder;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use elsewhere::{Elsewhere, one_thread, until, until_no_task_is_left, within};
use evertoken::testing::{AuthServer, Fault, ManualClock};
use evertoken::{
    AppCredentials, Client, CredentialSource, ErrorKind, Event, RenewalPolicy, State, TokenSource,
};
use folder::Folder;
use tokio::runtime::Handle;
use tokio::task::yield_now;

const HOUR: Duration = Duration::from_secs(3600);

/// What a source is doing when its last handle is dropped.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Nothing,
    FirstAttempt,
    Sleeping,
    Renewing,
    BackingOff,
    Probing,
    Withholding,
    Resting,
}

/// Brings a source there.
async fn bring(doing: Doing, source: &TokenSource, clock: &ManualClock, server: &AuthServer) {
    match doing {
        Doing::Nothing => {}
        Doing::FirstAttempt => {
            server.fail_always(Fault::Hang);
            source.prefetch();
            server.wait_for_token_requests(1).await;
            assert_eq!(source.status().state, State::Starting);
        }
        Doing::Sleeping => {
            source.token().await.unwrap();
            assert_eq!(source.status().state, State::Fresh);
        }
        Doing::Renewing => {
            source.token().await.unwrap();
            server.fail_always(Fault::Hang);
            clock.advance(HOUR - Duration::from_secs(60));
            server.wait_for_token_requests(2).await;
            assert_eq!(source.status().state, State::Renewing);
        }
        Doing::BackingOff => {
            server.fail_always(Fault::Reset);
            source.prefetch();
            until(|| source.status().consecutive_failures == 1).await;
            assert_eq!(source.status().state, State::Degraded);
        }
        Doing::Probing => {
            server.rotate(AuthServer::APP_ID, "another");
            let error = source.token().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
            assert_eq!(source.status().state, State::Rejected);
            server.rotate(AuthServer::APP_ID, AuthServer::APP_SECRET);
        }
        Doing::Withholding => {
            let token = source.token().await.unwrap();
            server.fail_always(Fault::Hang);
            clock.advance(Duration::from_secs(10));
            source.invalidate(&token);
            server.wait_for_token_requests(2).await;
            assert!(source.current_token().is_none());
        }
        Doing::Resting => {
            source.token().await.unwrap();
            clock.advance(HOUR);
            server.wait_for_token_requests(2).await;
            until(|| source.status().state == State::Fresh).await;
            clock.advance(HOUR);
            until(|| source.status().state == State::Idle).await;
        }
    }
}

#[tokio::test]
async fn the_end_of_the_last_handle_ends_the_task_whatever_it_does() {
    for doing in [
        Doing::Nothing,
        Doing::FirstAttempt,
        Doing::Sleeping,
        Doing::Renewing,
        Doing::BackingOff,
        Doing::Probing,
        Doing::Withholding,
        Doing::Resting,
    ] {
        let elsewhere = Elsewhere::new();
        let clock = Arc::new(ManualClock::default());
        let source = elsewhere
            .source()
            .clock(clock.clone())
            .renewal(RenewalPolicy::default().stop_after_unused(1))
            .build()
            .unwrap();
        bring(doing, &source, &clock, &elsewhere.server).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks > 0, !matches!(doing, Doing::Nothing), "{doing:?}: {tasks} tasks");

        // The clock stands still and the server does not answer: no sleep and no request ends by itself.
        let other = source.clone();
        drop(source);
        yield_now().await;
        assert_eq!(
            Handle::current().metrics().num_alive_tasks() > 0,
            tasks > 0,
            "{doing:?}: a handle is left"
        );
        drop(other);
        until_no_task_is_left().await;
        elsewhere.wait_until_nobody_waits().await;
    }
}

#[tokio::test]
async fn whatever_a_credential_source_does_ends_with_the_last_handle() {
    let elsewhere = Elsewhere::new();
    let held = Arc::new(());
    let hangs = CredentialSource::provider({
        let held = held.clone();
        move || {
            let held = held.clone();
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Err::<AppCredentials, _>("it never comes")
            }
        }
    });
    let source = TokenSource::builder_with(hangs).token_url(elsewhere.server.token_url()).build().unwrap();
    source.prefetch();
    until(|| Arc::strong_count(&held) == 3).await;
    drop(source);
    until_no_task_is_left().await;
    assert_eq!(Arc::strong_count(&held), 1, "closure and future are gone");

    let path = std::env::temp_dir().join(format!("evertoken-lifecycle-{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::write(&path, format!("APP_ID={}\nAPP_SECRET={}", AuthServer::APP_ID, AuthServer::APP_SECRET))
        .unwrap();
    let watched = CredentialSource::file(&path);
    let source = TokenSource::builder_with(watched).token_url(elsewhere.server.token_url()).build().unwrap();
    source.token().await.unwrap();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1, "the file is watched by the one task");
    drop(source);
    until_no_task_is_left().await;
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn events_status_and_waiting_callers_keep_nothing_alive_that_is_not_theirs() {
    let elsewhere = Elsewhere::new();
    let source = elsewhere.source().build().unwrap();
    source.token().await.unwrap();
    let mut events = source.events();
    drop(source);
    assert!(matches!(within(events.next()).await, Some(Event::Closed)));
    assert!(within(events.next()).await.is_none());
    until_no_task_is_left().await;

    // A future that waits is a handle as long as it lives.
    elsewhere.server.fail_always(Fault::Hang);
    let source = elsewhere.source().build().unwrap();
    let mut waiting = Box::pin({
        let source = source.clone();
        async move { source.token().await }
    });
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("nobody answers"),
        () = elsewhere.server.wait_for_token_requests(2) => {}
    }
    drop(source);
    yield_now().await;
    assert!(Handle::current().metrics().num_alive_tasks() > 0);
    drop(waiting);
    until_no_task_is_left().await;
    elsewhere.wait_until_nobody_waits().await;
}

#[tokio::test]
async fn shutdown_ends_the_family_though_a_request_hangs() {
    let elsewhere = Elsewhere::new();
    // Its clock stands still, so it cannot be that a wait was given up.
    let source = elsewhere.source().clock(Arc::<ManualClock>::default()).build().unwrap();
    let relative = source.with("https://other.example", ["read"]).unwrap();
    assert!(relative.token().await.is_ok());
    let mut events = [source.events(), relative.events()];
    elsewhere.server.fail_always(Fault::Hang);
    source.prefetch();
    elsewhere.server.wait_for_token_requests(2).await;
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    yield_now().await;

    within(source.shutdown()).await.unwrap();
    assert_eq!(within(waiting).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let late = source.with("https://late.example", ["read"]).unwrap();
    for member in [&late, &source, &relative] {
        assert_eq!(within(member.token()).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(member.authorization().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(member.prefetch().await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(member.current_token().is_none());
        assert_eq!(member.status().state, State::Closed);
        assert!(member.events().next().await.is_none());
        let refused = member.set_credentials("app", "another").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        within(member.shutdown()).await.unwrap();
    }
    for events in &mut events {
        assert!(matches!(within(events.next()).await, Some(Event::Closed)));
        assert!(within(events.next()).await.is_none());
    }
    until_no_task_is_left().await;
    elsewhere.wait_until_nobody_waits().await;
}

#[test]
fn shutdown_waits_no_longer_than_a_second_for_a_runtime_that_stands_still() {
    let elsewhere = Elsewhere::new();
    let clock = Arc::new(ManualClock::default());
    let source = elsewhere.source().clock(clock.clone()).build().unwrap();
    let frozen = one_thread();
    frozen.block_on(source.token()).unwrap();
    let other = one_thread();
    other.block_on(async {
        let mut shutdown = Box::pin(source.shutdown());
        tokio::select! {
            biased;
            _ = &mut shutdown => panic!("the task cannot have ended"),
            () = async { for _ in 0..100 { yield_now().await } } => {}
        }
        clock.advance(Duration::from_secs(1));
        within(shutdown).await.unwrap();
        assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[tokio::test]
async fn with_the_idle_policy_requests_stop_after_an_unused_lifetime_and_the_next_read_starts_again() {
    let elsewhere = Elsewhere::new();
    let server = &elsewhere.server;
    let clock = Arc::new(ManualClock::default());
    let policy = RenewalPolicy::default().stop_after_unused(1);
    let source = elsewhere.source().clock(clock.clone()).renewal(policy).build().unwrap();
    let lifetime = async |idle: bool| {
        clock.advance(HOUR);
        until(|| source.status().state == if idle { State::Idle } else { State::Fresh }).await;
    };
    source.token().await.unwrap();
    // It was used, so it is renewed; and then no more.
    lifetime(false).await;
    assert_eq!(server.token_requests(), 2);
    for _ in 0..5 {
        lifetime(true).await;
    }
    assert_eq!(server.token_requests(), 2);
    assert!(Handle::current().metrics().num_alive_tasks() > 0, "it rests, it has not ended");

    within(source.token()).await.unwrap();
    assert_eq!((server.token_requests(), source.status().state), (3, State::Fresh));
    // As long as it is read, it is kept.
    for used in 4..8 {
        source.token().await.unwrap();
        lifetime(false).await;
        assert_eq!(server.token_requests(), used);
    }
}

/// Who gets an answer at once starts it all the same.
#[test]
fn a_reader_who_need_not_wait_starts_what_has_ended_with_its_runtime() {
    let elsewhere = Elsewhere::new();
    let folder = Folder::new("revived");
    let put =
        |secret: &str| folder.put("a", &format!("APP_ID={}\nAPP_SECRET={secret}\n", AuthServer::APP_ID));
    let builder = TokenSource::builder_with(CredentialSource::file(put("wrong")));
    let source = builder.token_url(elsewhere.server.token_url()).build().unwrap();
    let refused = one_thread().block_on(source.token()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CredentialsRejected);
    // Nobody looks at the file now.
    put(AuthServer::APP_SECRET);
    one_thread().block_on(async {
        assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::CredentialsRejected);
        until(|| source.status().state == State::Fresh).await;
    });
}

#[tokio::test]
async fn a_reader_who_does_not_wait_has_a_token_asked_for() {
    let server = AuthServer::start().await.unwrap();
    let builder = TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
    let source = builder.token_url(server.token_url()).token_timeout(Duration::ZERO).build().unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Timeout);
    until(|| source.status().state == State::Fresh).await;
}

/// One client for the whole process, as programs have it.
mod in_a_static {
    use std::cell::RefCell;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    static ELSEWHERE: LazyLock<Elsewhere> = LazyLock::new(Elsewhere::new);
    static CLOCK: LazyLock<Arc<ManualClock>> = LazyLock::new(Arc::default);
    static CLIENT: LazyLock<Client> =
        LazyLock::new(|| ELSEWHERE.client().clock(CLOCK.clone()).build().unwrap());
    static TURN: Mutex<()> = Mutex::new(());

    thread_local! {
        static MINE: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    }

    /// Has the tests run one after another: a turn ends with the test's thread, and so after its runtime.
    fn wait_for_my_turn() {
        MINE.with_borrow_mut(|mine| {
            mine.get_or_insert_with(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        });
    }

    async fn use_it() {
        wait_for_my_turn();
        // What the test before left behind serves; and what this one needs anew, it gets.
        for _ in 0..3 {
            let before = ELSEWHERE.server.token_requests();
            assert_eq!(within(CLIENT.get("orders").send()).await.unwrap().status(), 200);
            CLOCK.advance(2 * HOUR);
            assert_eq!(within(CLIENT.get("orders").send()).await.unwrap().status(), 200);
            let requests = ELSEWHERE.server.token_requests() - before;
            assert!((1..=2).contains(&requests), "{requests} requests");
        }
    }

    #[tokio::test]
    async fn it_works_in_one_test() {
        use_it().await;
    }

    #[tokio::test]
    async fn it_works_in_a_second_test() {
        use_it().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_works_in_a_test_of_many_threads() {
        use_it().await;
    }

    #[test]
    fn it_works_in_one_runtime_after_another() {
        for _ in 0..10 {
            one_thread().block_on(use_it());
        }
    }
}
