//! A call may allocate no more than one of bare reqwest with a prebuilt header.

mod loopback;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use evertoken::http::HeaderValue;
use evertoken::http::header::AUTHORIZATION;
use loopback::Server;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

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
    let with = fewest(async || {
        api.get("orders").send().await.unwrap().bytes().await.unwrap();
    })
    .await;
    println!("bare reqwest: {without} allocations a call, evertoken: {with}");
    assert!(without > 0, "the counter counts");
    assert!(with <= without, "{with} against {without}");
}

#[tokio::test]
async fn a_held_token_is_read_without_allocating() {
    let server = Server::guarded();
    let api = server.client();
    api.token().await.unwrap();
    let read = fewest(async || {
        let token = api.token().await.unwrap();
        assert!(token.authorization().is_sensitive());
        assert!(api.current_token().is_some());
    })
    .await;
    assert_eq!(read, 0);
}
