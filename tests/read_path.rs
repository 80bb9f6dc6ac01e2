//! With a fresh token a read allocates nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use evertoken::TokenSource;
use evertoken::testing::AuthServer;

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

/// What a future comes to that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
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
    assert_eq!(at_once(source.authorization()).unwrap(), token.authorization());

    assert_eq!(allocations(|| source.current_token().unwrap()), 0);
    assert_eq!(allocations(|| at_once(source.token()).unwrap()), 0);
    assert_eq!(allocations(|| at_once(source.authorization()).unwrap()), 0);
    assert_eq!(server.token_requests(), 1);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), 10_000);
    assert_eq!(allocations(|| Vec::<u8>::with_capacity(1).extend_from_slice(&[0; 9])), 20_000);
}
