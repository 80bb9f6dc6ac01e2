//! The token for tower and reqwest-middleware stacks.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

mod loopback;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use evertoken::http::{Request, Response, StatusCode};
use evertoken::reqwest::{Body, Client};
use evertoken::{Error, ErrorKind, TokenLayer, TokenMiddleware, TokenSource};
use loopback::Server;
use tower::{Layer, Service, ServiceExt};

/// The `Authorization` and the body.
type Call = (Option<String>, String);

/// An HTTP client of tower's kind that only notes what it gets, and takes no call for which it was not ready.
#[derive(Default)]
struct Api {
    calls: Arc<Mutex<Vec<Call>>>,
    revoked: Arc<AtomicBool>,
    ready: bool,
}

impl Clone for Api {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), revoked: self.revoked.clone(), ready: false }
    }
}

impl<B: Into<String>> Service<Request<B>> for Api {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let authorization =
            request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let refused = self.revoked.load(Ordering::SeqCst) && authorization.as_deref() == Some("Bearer t1");
        self.calls.lock().unwrap().push((authorization, request.into_body().into()));
        let mut response = Response::new("answer".to_owned());
        if refused {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(response))
    }
}

/// A body that is sent only once.
struct Stream(&'static str);

impl From<Stream> for String {
    fn from(stream: Stream) -> Self {
        stream.0.to_owned()
    }
}

fn request<B>(url: &str, body: B) -> Request<B> {
    Request::post(url).body(body).unwrap()
}

fn call(authorization: &str, body: &str) -> Call {
    (Some(authorization.to_owned()), body.to_owned())
}

#[tokio::test]
async fn the_layer_attaches_and_recovers() {
    let server = Server::guarded();
    let api = Api::default();
    let mut service = TokenLayer::new(server.source()).unwrap().layer(api.clone());
    let url = format!("{}/any/path", server.url);
    for body in ["one", "two"] {
        let ready = ServiceExt::<Request<String>>::ready(&mut service).await.unwrap();
        let response = ready.call(request(&url, body.to_owned())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        api.revoked.store(true, Ordering::SeqCst);
    }
    let mut own = request(&url, "own".to_owned());
    own.headers_mut().insert("authorization", "Basic abc".parse().unwrap());
    service.oneshot(own).await.unwrap();
    assert_eq!(
        *api.calls.lock().unwrap(),
        [
            call("Bearer t1", "one"),
            call("Bearer t1", "two"),
            call("Bearer t2", "two"),
            call("Basic abc", "own")
        ]
    );
}

#[tokio::test]
async fn the_layer_takes_bodies_that_cannot_be_cloned() {
    let server = Server::guarded();
    let api = Api::default();
    let layer = TokenLayer::new(server.source()).unwrap().without_replay();
    api.revoked.store(true, Ordering::SeqCst);
    for (body, status) in [("one", StatusCode::UNAUTHORIZED), ("two", StatusCode::OK)] {
        let response = layer.layer(api.clone()).oneshot(request(&server.url, Stream(body))).await.unwrap();
        assert_eq!(response.status(), status);
    }
    assert_eq!(*api.calls.lock().unwrap(), [call("Bearer t1", "one"), call("Bearer t2", "two")]);
}

#[tokio::test]
async fn the_layer_lets_no_token_go_elsewhere() {
    let server = Server::guarded();
    let api = Api::default();
    let layer = TokenLayer::new(server.source()).unwrap();
    let port = server.url.rsplit(':').next().unwrap();
    for url in [
        "http://other.example/",
        "/only/a/path",
        "http://127.0.0.1/",
        &format!("https://127.0.0.1:{port}/"),
        &format!("http://127.0.0.1:{port}@other.example/"),
    ] {
        let error = layer.layer(api.clone()).oneshot(request(url, String::new())).await.unwrap_err();
        assert_eq!(error.downcast::<Error>().unwrap().kind(), ErrorKind::UntrustedOrigin, "{url}");
    }
    assert!(api.calls.lock().unwrap().is_empty());
    assert_eq!(server.issued(), 0);
}

#[tokio::test]
async fn the_middleware_attaches_and_recovers() {
    let server = Server::guarded();
    let http = Client::builder().redirect(evertoken::redirect_policy()).build().unwrap();
    let api = reqwest_middleware::ClientBuilder::new(http)
        .with(TokenMiddleware::new(server.source()).unwrap())
        .build();
    let url = format!("{}x", server.base_url());
    assert_eq!(api.post(&url).body("one").send().await.unwrap().status(), StatusCode::OK);
    server.revoke();
    assert_eq!(api.post(&url).body("two").send().await.unwrap().text().await.unwrap(), "two");
    server.revoke();
    let stream = Body::wrap(Body::from("three"));
    assert_eq!(api.post(&url).body(stream).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    api.get(&url).header("authorization", "Basic abc").send().await.unwrap();
    let sent: Vec<_> = server.authorizations().into_iter().flatten().collect();
    assert_eq!(sent, ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2", "Basic abc"]);

    let other = Server::guarded();
    let reqwest_middleware::Error::Middleware(error) = api.get(&other.url).send().await.unwrap_err() else {
        panic!("the middleware's own error is expected");
    };
    assert_eq!(error.downcast::<Error>().unwrap().kind(), ErrorKind::UntrustedOrigin);
    assert!(other.log().is_empty());
}

#[test]
fn without_a_trusted_origin_neither_is_made() {
    let source = TokenSource::builder("id", "secret").token_url("https://as.example/token").build().unwrap();
    assert_eq!(TokenLayer::new(source.clone()).unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(TokenMiddleware::new(source).unwrap_err().kind(), ErrorKind::Configuration);
}
