//! The blocking client: the same calls without a runtime, on one thread for the whole process.
#![cfg(feature = "blocking")]
#![allow(clippy::unwrap_used)]

mod loopback;

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::IntoResponse;
use evertoken::blocking::Client;
use evertoken::http::StatusCode;
use evertoken::{ErrorKind, Event};
use loopback::{FOREVER, Server, now, stalling_api};

fn client(server: &Server) -> Client {
    Client::builder("id", "secret").token_url(server.token_url()).base_url(server.base_url()).build().unwrap()
}

/// One test at a time has blocking clients, so that their thread can be counted.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The background threads of this process, by name.
#[cfg(target_os = "linux")]
fn background_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "evertoken")
        .count()
}

#[test]
fn calls_work_without_a_runtime() {
    let _alone = alone();
    let server = Server::guarded();
    let api = client(&server);
    let response = api.post("orders").query(&[("a", "b")]).json(&[1, 2]).send().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("content-length"));
    assert_eq!(response.url().as_str(), format!("{}orders?a=b", server.base_url()));
    assert_eq!(response.json::<Vec<u8>>().unwrap(), [1, 2]);
    assert_eq!(api.put("x").body("text").send().unwrap().text().unwrap(), "text");
    assert_eq!(api.token().unwrap().as_str(), "t1");
    assert_eq!(api.authorization().unwrap(), "Bearer t1");
    api.prefetch().unwrap();

    server.revoke();
    assert_eq!(api.post("x").body("again").send().unwrap().bytes().unwrap(), "again");
    assert_eq!(server.issued(), 2);
}

#[test]
fn a_body_is_read_in_parts() {
    let _alone = alone();
    let server = Server::guarded();
    let body: String = (0..100_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let mut response = client(&server).post("x").body(body.clone()).send().unwrap();
    let mut begin = [0; 10];
    response.read_exact(&mut begin).unwrap();
    let mut rest = String::new();
    response.read_to_string(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&begin).into_owned() + &rest, body);
    assert_eq!(response.read(&mut begin).unwrap(), 0);

    let mut response = client(&server).post("x").body(body.clone()).send().unwrap();
    response.read_exact(&mut begin).unwrap();
    assert_eq!(response.text().unwrap(), body[10..]);
}

#[test]
fn errors_come_back() {
    let _alone = alone();
    let server = Server::start(|_, seen| match seen.uri.path() {
        "/v1/hang" => (FOREVER, ().into_response()),
        _ => now((StatusCode::NOT_FOUND, "no")),
    });
    let api = client(&server);
    let error = api.get("x?key=s3cr3t").send().unwrap().error_for_status().unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Api, Some(404)));
    assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    let error = api.get("x").send().unwrap().json::<u8>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Api);
    assert_eq!(api.get("../x").send().unwrap_err().kind(), ErrorKind::Configuration);
    let error = api.get("hang").timeout(Duration::from_millis(50)).send().unwrap_err();
    assert!(error.is_retryable());

    // Within the shortest of these limits that lets this machine come as far as the body.
    let mut response = [300, 1_500, 6_000, 24_000]
        .into_iter()
        .find_map(|limit| {
            let stalling = Client::builder("id", "secret").token_url(server.token_url());
            let stalling = stalling.base_url(stalling_api()).timeout(Duration::from_millis(limit));
            stalling.build().unwrap().get("x").send().ok()
        })
        .unwrap();
    let mut begin = [0; 10];
    response.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"first part");
    assert!(response.read(&mut begin).is_err());
}

#[test]
fn it_works_within_a_runtime_and_is_dropped_there() {
    let _alone = alone();
    let server = Server::guarded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let api = client(&server);
        assert_eq!(api.get("x").send().unwrap().status(), StatusCode::OK);
        let clone = api.clone();
        let text = tokio::spawn(async move { clone.post("x").body("b").send().unwrap().text().unwrap() });
        assert_eq!(text.await.unwrap(), "b");
        drop(api);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn one_thread_serves_all_and_ends_with_the_last() {
    let _alone = alone();
    let until = |count: usize| {
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            background_threads() == count
        })
    };
    assert!(until(0), "those of other tests end");
    let (server, other) = (Server::guarded(), Server::guarded());
    let clients = [client(&server), client(&server), client(&other)];
    for api in &clients {
        api.get("x").send().unwrap();
    }
    assert_eq!(background_threads(), 1);
    let response = clients[0].post("x").body("kept").send().unwrap();
    drop(clients);
    assert_eq!(response.text().unwrap(), "kept", "a response keeps the thread");
    assert!(until(0));

    assert_eq!(client(&server).get("x").send().unwrap().status(), StatusCode::OK, "and it starts again");
}

#[test]
fn events_are_iterated_until_the_client_is_gone() {
    let _alone = alone();
    let server = Server::guarded();
    let api = client(&server);
    let mut events = api.events();
    assert!(events.try_next().is_none());
    let waiting = std::thread::spawn({
        let events = api.events();
        move || events.map(|event| format!("{event:?}")).collect::<Vec<_>>()
    });
    api.token().unwrap();
    assert!(matches!(events.next(), Some(Event::Renewed { .. })));
    api.set_credentials("id", "another").unwrap();
    assert!(matches!(events.next(), Some(Event::CredentialsRotated)));
    drop(api);
    assert!(matches!(events.next(), Some(Event::Closed)));
    assert!(events.next().is_none() && events.next().is_none() && events.try_next().is_none());
    let seen = waiting.join().unwrap();
    assert!(seen.len() == 3 && seen[0].starts_with("Renewed") && seen[2] == "Closed", "{seen:?}");
}
