//! A token never crosses a redirect to another origin.
#![allow(clippy::unwrap_used)]

mod loopback;

use axum::response::{IntoResponse, Response};
use evertoken::http::StatusCode;
use evertoken::{ErrorKind, TokenMiddleware, TokenSource};
use loopback::{Server, now};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

fn redirect(to: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
}

/// An API whose `/v1/away` leads to `elsewhere`, and whose `/v1/near` leads to its `/v1/x`.
fn leading_to(elsewhere: String) -> Server {
    Server::start(move |server, seen| {
        now(match seen.uri.path() {
            "/v1/away" => redirect(&elsewhere),
            "/v1/near" => redirect("/v1/x"),
            _ => server.guard(seen),
        })
    })
}

#[tokio::test]
async fn within_the_origin_the_token_stays_and_a_401_is_recovered_from() {
    let api_server = leading_to(String::new());
    let api = api_server.client();
    assert_eq!(api.get("near").send().await.unwrap().status(), 200);
    api_server.revoke();
    let response = api.get("near").send().await.unwrap();
    assert_eq!((response.status(), response.url().path()), (StatusCode::OK, "/v1/x"));
}

/// An ordinary client, which follows redirects by itself.
fn wrapped(source: TokenSource) -> ClientWithMiddleware {
    let middleware = TokenMiddleware::new(source).unwrap();
    ClientBuilder::new(evertoken::reqwest::Client::new()).with(middleware).build()
}

/// The first answer may have been "done, look there": sending the call again would do it twice.
#[tokio::test]
async fn a_redirected_post_is_not_sent_again_but_its_token_is_renewed() {
    for status in [StatusCode::SEE_OTHER, StatusCode::TEMPORARY_REDIRECT] {
        let server = Server::start(move |server, seen| {
            now(match seen.uri.path() {
                // It ends the token as well, so that what follows meets a 401.
                "/v1/orders" if seen.method == "POST" => {
                    let done = server.guard(seen).status();
                    server.revoke();
                    if done.is_success() {
                        (status, [("location", "/v1/orders/7")]).into_response()
                    } else {
                        done.into_response()
                    }
                }
                _ => server.guard(seen),
            })
        });
        let posts = || server.log().iter().filter(|seen| seen.uri.path() == "/v1/orders").count();
        let plain = server.client();
        let wrapped = wrapped(server.source());
        let answer = plain.post("orders").body("one").send().await.unwrap();
        assert_eq!((answer.status(), posts()), (StatusCode::UNAUTHORIZED, 1), "{status}");
        assert_eq!(plain.get("orders/7").send().await.unwrap().status(), 200);
        let answer = wrapped.post(server.url.clone() + "/v1/orders").body("two").send().await.unwrap();
        assert_eq!((answer.status(), posts()), (StatusCode::UNAUTHORIZED, 2), "{status}");
        let answer = wrapped.get(server.url.clone() + "/v1/orders/7").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// A token goes to one of the trusted origins only: what another says by a redirect is not about it.
#[tokio::test]
async fn a_trusted_origin_that_got_no_token_does_not_refuse_it() {
    let other = Server::guarded();
    let api_server = leading_to(format!("{}/x", other.url));
    let api = api_server.builder().trusted_origin(&other.url).build().unwrap();
    let wrapped = wrapped(api_server.trusting(&other.url));
    for _ in 0..2 {
        assert_eq!(api.get("away").send().await.unwrap().status(), 401);
        assert_eq!(wrapped.get(api_server.base_url() + "away").send().await.unwrap().status(), 401);
    }
    assert_eq!(other.authorizations(), [None, None, None, None]);
    assert_eq!(api_server.issued(), 2, "one for each of the two");
}

#[tokio::test]
async fn another_origin_gets_no_token_and_its_401_changes_nothing() {
    let other = Server::guarded();
    let api_server = leading_to(format!("{}/x", other.url));
    let api = api_server.client();
    assert_eq!(api.get("away").send().await.unwrap().status(), 401);
    assert_eq!(other.authorizations(), [None]);
    assert!(!other.log()[0].headers.contains_key("referer"));
    assert_eq!(api.get("x").send().await.unwrap().status(), 200);
    assert_eq!(api_server.issued(), 1);
}

#[tokio::test]
async fn a_second_step_within_another_origin_gets_no_token_either() {
    let other = Server::start(|_, seen| {
        now(if seen.uri.path() == "/first" { redirect("/second") } else { "got it".into_response() })
    });
    let api_server = leading_to(format!("{}/first", other.url));
    let error = api_server.client().get("away").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Api);
    assert_eq!(other.authorizations(), [None], "only the first step was followed");

    // With a transport of the caller's own the policy must be given; this is what it is for.
    let own = evertoken::reqwest::Client::builder().redirect(evertoken::redirect_policy()).build().unwrap();
    api_server.builder().http_client(own).build().unwrap().get("away").send().await.unwrap_err();
    assert_eq!(other.authorizations(), [None, None]);
}

#[tokio::test]
async fn another_origin_cannot_send_the_call_back() {
    let api_server = leading_to(String::new());
    let back = format!("{}/v1/x", api_server.url);
    let other = Server::start(move |_, _| now(redirect(&back)));
    let first = leading_to(format!("{}/x", other.url));
    let api = first.builder().trusted_origin(&api_server.url).build().unwrap();
    api.get("away").send().await.unwrap_err();
    assert!(api_server.log().is_empty());
}

#[tokio::test]
async fn redirects_without_end_are_an_error() {
    let server = Server::start(|_, _| now(redirect("/v1/x")));
    let error = server.client().get("x").send().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Api);
    assert_eq!(server.log().len(), 11);
}
