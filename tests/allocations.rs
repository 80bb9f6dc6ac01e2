//! With a fresh token a read allocates nothing, and a call no more than one of bare reqwest with a prebuilt header.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;
mod loopback;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::time::Duration;

use evertoken::http::header::{AUTHORIZATION, USER_AGENT};
use evertoken::http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response};
use evertoken::testing::AuthServer;
use evertoken::{Client, TokenLayer, TokenMiddleware, TokenSource, reqwest};
use house::at_once;
use loopback::Server;
use reqwest_middleware::{ClientBuilder, Middleware, Next};
use tower::{Layer, Service, service_fn};

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

const RUNS: usize = 10_000;

/// How often this thread allocates in so many runs of `read`.
fn allocations<T>(mut read: impl FnMut() -> T) -> usize {
    let before = COUNT.get();
    for _ in 0..RUNS {
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

    // Its future is moved before it is sent: it holds the request, and a pointer or two.
    assert!(size_of_val(&api.get("orders").send()) <= size_of::<evertoken::reqwest::Request>() + 16);

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

/// A source with a fresh token for the API of `server`.
async fn fresh_source(server: &Server) -> TokenSource {
    let source = server.source();
    source.token().await.unwrap();
    source
}

#[tokio::test]
async fn the_headers_of_a_call_are_one_map_with_one_entry() {
    let server = Server::guarded();
    let source = fresh_source(&server).await;
    let url = format!("{}orders", server.base_url()).parse().unwrap();
    let header = source.authorization().await.unwrap();

    let map = allocations(|| HeaderMap::from_iter([(AUTHORIZATION, header.clone())]));
    assert!(map > 0, "the counter counts");
    assert_eq!(allocations(|| at_once(source.headers(&Method::GET, &url)).unwrap().unwrap()), map);
}

#[tokio::test]
async fn the_tower_layer_allocates_nothing() {
    let server = Server::guarded();
    let source = fresh_source(&server).await;
    let header = source.authorization().await.unwrap();
    let mut bare = service_fn(|request: Request<&'static str>| {
        assert!(request.headers().contains_key(AUTHORIZATION));
        ready(Ok::<_, Infallible>(Response::new(request.into_body())))
    });
    let url = format!("{}orders", server.base_url());
    let request = || Request::post(url.as_str()).body("{}").unwrap();

    let without = allocations(|| {
        let mut request = request();
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        at_once(bare.call(request)).unwrap().unwrap()
    });
    let layer = TokenLayer::new(source).unwrap();
    let (mut replaying, mut once) = (layer.layer(bare), layer.without_replay().layer(bare));
    let with = allocations(|| at_once(replaying.call(request())).unwrap().unwrap());
    println!("a bare service: {without} allocations, with the layer: {with}");
    assert!(without > 0, "the counter counts");
    assert_eq!(with, without);
    assert_eq!(allocations(|| at_once(once.call(request())).unwrap().unwrap()), without);
}

/// What a middleware costs that does no more than to set a header that it has.
struct Static(HeaderValue);

#[async_trait::async_trait]
impl Middleware for Static {
    async fn handle(
        &self,
        mut request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        request.headers_mut().insert(AUTHORIZATION, self.0.clone());
        next.run(request, extensions).await
    }
}

/// Answers without any network.
struct Api;

#[async_trait::async_trait]
impl Middleware for Api {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        assert!(request.headers().contains_key(AUTHORIZATION));
        Ok(Response::new("").into())
    }
}

#[tokio::test]
async fn the_middleware_allocates_what_keeping_the_request_for_a_replay_does() {
    let server = Server::guarded();
    let source = fresh_source(&server).await;
    let header = source.authorization().await.unwrap();
    let url = format!("{}orders", server.base_url());
    let chain = |of: ClientBuilder| of.with(Api).build();
    let http = reqwest::Client::new();
    let bare = chain(ClientBuilder::new(http.clone()).with(Static(header)));
    let api = chain(ClientBuilder::new(http.clone()).with(TokenMiddleware::new(source).unwrap()));
    let request = http.get(&url).build().unwrap();

    let copy = allocations(|| request.try_clone().unwrap());
    let without = allocations(|| at_once(bare.execute(request.try_clone().unwrap())).unwrap().unwrap());
    let with = allocations(|| at_once(api.execute(request.try_clone().unwrap())).unwrap().unwrap());
    println!("a static middleware: {without} allocations, ours: {with}, a copy of the request: {copy}");
    assert!(without > 0, "the counter counts");
    assert_eq!(with, without + copy);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| Box::new(1)), RUNS);
    assert_eq!(allocations(|| Vec::<u8>::with_capacity(1).extend_from_slice(&[0; 9])), 2 * RUNS);
}
