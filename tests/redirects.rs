//! A token never crosses a redirect to another origin.

mod loopback;

use axum::response::{IntoResponse, Response};
use evertoken::ErrorKind;
use evertoken::http::StatusCode;
use loopback::{Server, now};

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
    // A client of its own, whose first refusal by the API is under no cooldown.
    let api = api_server.client();
    api.prefetch().await.unwrap();
    api_server.revoke();
    assert_eq!(api.post("near").body("b").send().await.unwrap().text().await.unwrap(), "b");
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
