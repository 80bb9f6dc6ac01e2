//! With a fresh token a read allocates nothing, and a call no more than one of bare reqwest with a prebuilt header.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;
mod loopback;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::time::Duration;

use evertoken::http::HeaderValue;
use evertoken::http::header::{AUTHORIZATION, USER_AGENT};
use evertoken::testing::AuthServer;
use evertoken::{Client, TokenSource};
use house::at_once;
use loopback::Server;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates in 10,000 runs of `read`.
fn allocations<T>(mut read: impl FnMut() -> T) -> usize {
    let before = COUNT.get();
    for _ in 0..10_000 {
        black_box(read());
    }
    COUNT.get() - before
}

#[tokio::test]
async fn a_read_with_a_fresh_token_allocates_nothing_and_does_not_wait() {
    let server = AuthServer::builder().lifetime(Duration::from_secs(86_400)).start().await.unwrap();
    let source = TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .build()
        .unwrap();
    // A failed read must not pass for a cheap one.
    let token = source.token().await.unwrap();
    assert!(source.current_token().is_some_and(|held| held == token));
    assert_eq!(at_once(source.authorization()).unwrap().unwrap(), token.authorization());

    assert_eq!(allocations(|| source.current_token().unwrap()), 0);
    assert_eq!(allocations(|| at_once(source.token()).unwrap().unwrap()), 0);
    assert_eq!(allocations(|| at_once(source.authorization()).unwrap().unwrap()), 0);
    assert_eq!(server.token_requests(), 1);
}

/// The fewest allocations of this thread in one of many runs: what else happens at times is not the call's doing.
async fn fewest<F: Future>(mut run: impl FnMut() -> F) -> usize {
    let mut fewest = usize::MAX;
    for _ in 0..200 {
        let before = COUNT.get();
        run().await;
        fewest = fewest.min(COUNT.get() - before);
    }
    fewest
}

// One thread, so that the connections are counted as well, and the servers' thread is not.
#[tokio::test]
async fn a_call_allocates_no_more_than_bare_reqwest() {
    let server = Server::guarded();
    let bare = evertoken::reqwest::Client::new();
    let api = server.builder().http_client(bare.clone()).build().unwrap();
    assert_eq!(api.get("orders").send().await.unwrap().status(), 200);

    let url = format!("{}orders", server.base_url());
    let mut header = HeaderValue::from_static("Bearer t1");
    header.set_sensitive(true);
    let without = fewest(async || {
        let response = bare.get(&url).header(AUTHORIZATION, header.clone()).send().await.unwrap();
        response.bytes().await.unwrap();
    })
    .await;
    let call = async |api: &Client| {
        api.get("orders").send().await.unwrap().bytes().await.unwrap();
    };
    let with = fewest(|| call(&api)).await;
    println!("bare reqwest: {without} allocations a call, evertoken: {with}");
    assert!(without > 0, "the counter counts");
    assert!(with <= without, "{with} against {without}");

    // One header more, for both.
    let named = HeaderValue::from_static("acme-sdk/1.2");
    let without = fewest(async || {
        let request = bare.get(&url).header(AUTHORIZATION, header.clone()).header(USER_AGENT, named.clone());
        request.send().await.unwrap().bytes().await.unwrap();
    })
    .await;
    let api = server.builder().http_client(bare.clone()).user_agent("acme-sdk/1.2").build().unwrap();
    let with = fewest(|| call(&api)).await;
    println!("with a user agent, bare reqwest: {without}, evertoken: {with}");
    assert!(with <= without, "{with} against {without}");
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), 10_000);
    assert_eq!(allocations(|| Vec::<u8>::with_capacity(1).extend_from_slice(&[0; 9])), 20_000);
}
