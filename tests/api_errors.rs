//! Calls to the API that fail: what the error says, whether the call may be repeated, and when it is by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod loopback;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use evertoken::http::Method;
use evertoken::reqwest::Body;
use evertoken::testing::{AuthServer, Fault};
use evertoken::{Client, Error, ErrorKind, Result};
use loopback::{Server, now};
use serde_json::Value;

/// What the documentation shows.
async fn documented(api: &Client, method: Method) -> Result<Value> {
    api.request(method, "orders?key=canary").send().await?.error_for_status()?.json().await
}

fn answers(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) -> Server {
    Server::start(move |_, _| {
        let mut answer: Response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        now(answer)
    })
}

#[tokio::test]
async fn each_failure_has_its_own_words_and_says_whether_to_repeat_the_call() {
    type Case = (u16, &'static [(&'static str, &'static str)], &'static str, &'static str, bool, bool);
    let cases: &[Case] = &[
        // status, headers, body, said, a GET is retryable, a POST is
        (404, &[], "no such canary", "the API answered 404 Not Found", false, false),
        (429, &[("retry-after", "7")], "", "the API answered 429 Too Many Requests", true, true),
        (500, &[], "<h1>canary</h1>", "the API answered 500 Internal Server Error", true, false),
        (503, &[("retry-after", "7")], "", "the API answered 503 Service Unavailable", true, true),
        (200, &[], "<h1>canary</h1>", "is no JSON: expected value, at line 1, column 1", false, false),
        (200, &[], "{\n\"canary\": ", "is JSON that ends too early, at line 2", false, false),
    ];
    for (status, headers, body, said, get, post) in cases.iter().copied() {
        let server = answers(status, headers, body);
        let api = server.client();
        for (method, retryable) in [(Method::GET, get), (Method::POST, post)] {
            let error = documented(&api, method.clone()).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().contains(said), "{method} {status}: {shown}");
            assert!(!shown.contains("canary") && !shown.contains("mend"), "{shown}");
            assert_eq!((error.kind(), error.status()), (ErrorKind::Api, error.status().map(|_| status)));
            assert_eq!(error.is_retryable(), retryable, "{method} {shown}");
            let after = headers.first().map(|_| Duration::from_secs(7));
            assert_eq!(error.retry_after(), after, "{method} {shown}");
        }
        // Without `error_for_status` an error page is no mystery either.
        let error = api.get("orders").send().await.unwrap().json::<Value>().await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        let kept = api.get("orders").send().await.unwrap();
        assert_eq!(kept.error_for_status_ref().is_err(), status != 200);
        assert_eq!(kept.status().as_u16(), status);
    }
}

#[test]
fn the_blocking_client_says_the_same() {
    for (status, body, said, retryable) in [
        (500, "", "the API answered 500 Internal Server Error", true),
        (429, "", "the API answered 429 Too Many Requests", true),
        (404, "", "the API answered 404 Not Found", false),
        (200, "<h1>canary</h1>", "is no JSON: expected value, at line 1, column 1", false),
    ] {
        let server = answers(status, &[("retry-after", "7")], body);
        let api = server.builder().blocking().build().unwrap();
        let call = || api.get("orders").send()?.error_for_status()?.json::<Value>();
        let error = call().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert_eq!(error.retry_after(), (status != 200).then_some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn an_error_of_reqwest_alone_names_the_status_too() {
    for (status, retryable) in [(429, true), (500, false), (404, false)] {
        let server = answers(status, &[], "");
        let answer = evertoken::reqwest::get(server.base_url() + "x?key=canary").await.unwrap();
        let error = Error::from(answer.error_for_status().unwrap_err());
        assert!(error.to_string().contains(&format!("the API answered {status}")), "{error}");
        // Its method is unknown: a POST that ended in a 500 may have been carried out.
        assert_eq!(error.is_retryable(), retryable, "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

/// A client whose connection to the API is open and idle.
async fn warm(server: &AuthServer) -> Client {
    let api = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET).issuer(server.issuer());
    let api = api.base_url(server.api_url()).build().unwrap();
    let answer = api.get("orders").send().await.unwrap().error_for_status().unwrap();
    answer.json::<Value>().await.unwrap();
    api
}

#[tokio::test]
async fn an_idempotent_call_that_meets_a_closed_connection_is_sent_once_more() {
    for fault in [Fault::Close, Fault::Reset] {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let server = AuthServer::start().await.unwrap();
            let api = warm(&server).await;
            server.fail_next_api(fault.clone());
            let body = if method == Method::PUT { "the body" } else { "" };
            let answer = api.request(method.clone(), "orders").body(body).send().await;
            assert!(answer.is_ok_and(|answer| answer.status().is_success()), "{method} {fault:?}");
            assert_eq!(server.token_requests(), 1);

            server.fail_next_api(fault.clone());
            server.fail_next_api(fault.clone());
            let error = api.request(method.clone(), "orders").send().await.unwrap_err();
            assert!(error.is_retryable(), "{method} {error}");
            assert!(
                error.to_string().contains("the connection was closed before the answer came"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_call_that_may_have_been_carried_out_is_not_repeated_and_not_retryable() {
    for fault in [Fault::Close, Fault::Reset] {
        let server = AuthServer::start().await.unwrap();
        let api = warm(&server).await;
        for request in [api.post("orders").body("x"), api.patch("orders"), api.post("orders")] {
            server.fail_next_api(fault.clone());
            let error = request.send().await.unwrap_err();
            assert!(!error.is_retryable() && error.kind() == ErrorKind::Api, "{fault:?} {error}");
            assert!(
                error.to_string().contains("; not retryable: the API may have carried it out"),
                "{error}"
            );
            assert!(api.get("orders").send().await.is_ok(), "one fault, one sending");
        }
        // A stream is gone once it was sent.
        server.fail_next_api(fault.clone());
        let error = api.put("orders").body(Body::wrap(Body::from("x"))).send().await.unwrap_err();
        assert!(error.is_retryable(), "its caller has it again, {error}");
    }
}

#[tokio::test]
async fn a_call_with_an_authorization_of_its_own_is_sent_once_more_with_it() {
    let server = AuthServer::start().await.unwrap();
    let api = warm(&server).await;
    let token = format!("Bearer {}", api.token().await.unwrap().as_str());
    server.fail_next_api(Fault::Close);
    let answer = api.get("orders").header("authorization", token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_call_that_was_certainly_not_sent_is_retryable_with_every_method() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::guarded();
    let api = Client::builder("id", "secret").token_url(server.token_url());
    let api = api.base_url(format!("http://{gone}/")).build().unwrap();
    for method in [Method::GET, Method::POST] {
        let error = api.request(method, "orders").send().await.unwrap_err();
        assert!(error.is_retryable() && error.kind() == ErrorKind::Api, "{error}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_repeated_by_the_caller_if_at_all() {
    let server = AuthServer::start().await.unwrap();
    let api = warm(&server).await;
    for (method, retryable) in [(Method::GET, true), (Method::POST, false)] {
        server.fail_next_api(Fault::TornBody);
        let answer = api.request(method, "orders").send().await.unwrap();
        let error = answer.bytes().await.unwrap_err();
        assert!(error.to_string().contains("the API's answer broke off"), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
    }
}

/// A server that ends each new connection would do so again.
#[tokio::test]
async fn a_new_connection_that_is_closed_without_an_answer_is_an_error_at_once() {
    let server = AuthServer::start().await.unwrap();
    let api = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET).issuer(server.issuer());
    let api = api.base_url(server.api_url()).build().unwrap();
    server.fail_next_api(Fault::Close);
    let error = api.get("orders").send().await.unwrap_err();
    assert!(error.is_retryable() && server.api_calls() == 1, "{error}");
}

/// An API with keep-alive. Returns its URL, and how many connections it has had.
fn counting_api() -> (String, Arc<AtomicUsize>) {
    fn serve(mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if line.is_empty() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || serve(stream));
        }
    });
    (url, connections)
}

/// Node.js closes a connection after 5 s without a call.
#[tokio::test]
async fn a_connection_that_was_idle_for_five_seconds_is_not_used_again() {
    let server = Server::guarded();
    let (url, connections) = counting_api();
    let api = Client::builder("id", "secret").token_url(server.token_url()).base_url(url).build().unwrap();
    assert_eq!(api.get("x").send().await.unwrap().text().await.unwrap(), "[]");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api.get("x").send().await.unwrap().text().await.unwrap(), "[]");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
