//! Every fault of the box, one test each: at the token endpoint with a token held and without one, at the API, and at the
//! revocation endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::time::Duration;

use evertoken::http::StatusCode;
use evertoken::testing::{AuthServer, Fault};
use evertoken::{ClientAuth, Error, ErrorKind, Event, Events, RenewalPolicy, TokenSource};
use house::{at_once, client, until};

const SOON: Duration = Duration::from_secs(1);

/// The limit of a request: short if it is what ends it, else so long that a busy machine keeps it.
fn limit(fault: &Fault) -> Duration {
    match fault {
        Fault::Hang => SOON * 3,
        // Its headers must come in time.
        Fault::EndlessBody => SOON * 10,
        _ => LONG,
    }
}

/// Ends a wait for what will never come; nothing here is measured against it.
const LONG: Duration = Duration::from_secs(60);

fn status(status: u16) -> Fault {
    Fault::Status { status, headers: Vec::new(), body: "<h1>oops</h1>".into() }
}

fn oauth(status: u16, error: &str) -> Fault {
    Fault::Oauth { status, error: error.into(), description: String::new() }
}

/// The error of the next attempt that fails.
async fn failure(events: &mut Events) -> Error {
    loop {
        if let Event::RenewalFailed { error, .. } = events.next().await.unwrap() {
            return error;
        }
    }
}

/// At the token endpoint, where `kind` tells what to call it, and `None` that it is no failure.
async fn at_the_token_endpoint(fault: Fault, kind: Option<ErrorKind>) {
    for held in [true, false] {
        let server = AuthServer::start().await.unwrap();
        let policy = RenewalPolicy::default().request_timeout(limit(&fault));
        // Fixed, so that the secret is not sent in another way at once, which the fault does not meet.
        let basic = ClientAuth::ClientSecretBasic;
        let api = client(&server).client_auth(basic).renewal(policy).token_timeout(LONG).build().unwrap();
        let mut events = api.events();
        let before = if held { Some(api.token().await.unwrap()) } else { None };
        server.fail_next(fault.clone());
        match &before {
            Some(before) => api.invalidate(before),
            None => drop(api.prefetch()),
        }
        if let Some(kind) = kind {
            let error = failure(&mut events).await;
            assert_eq!((error.kind(), error.server()), (kind, Some(server.token_url().as_str())), "{error}");
            if let Some(before) = &before {
                assert!(at_once(api.token()).expect("no read waits").is_ok(), "{error}");
                assert!(server.accepts(before.as_str()));
                assert!(api.get("orders").send().await.unwrap().status().is_success());
            }
            if !error.is_retryable() {
                let status = api.status();
                assert_eq!(status.last_error.unwrap().kind(), kind);
                assert_eq!(
                    held,
                    api.token().await.is_ok(),
                    "a token serves on, and else the refusal is told at once"
                );
                server.rotate(AuthServer::APP_ID, "new");
                api.set_credentials(AuthServer::APP_ID, "new").unwrap();
            }
        }
        // It is asked again, and has got over it.
        until("there is a new token", || {
            let now = api.current_token();
            now.is_some() && now != before && api.status().last_error.is_none()
        })
        .await;
        assert!(api.get("orders").send().await.unwrap().status().is_success());
        assert_eq!(server.token_requests(), 1 + u64::from(held) + u64::from(kind.is_some()));
        assert_eq!(server.max_in_flight(), 1);
    }
}

/// What comes of a call that meets a fault of the API.
enum Call {
    Answered(u16),
    /// Answered, but its body cannot be read.
    Spoilt,
    Failed,
}

/// The API's faults are the caller's: they say nothing about the token. Only a 401 does.
async fn at_the_api(fault: Fault, expected: Call, token_requests: u64) {
    let server = AuthServer::start().await.unwrap();
    let api = client(&server).build().unwrap();
    api.prefetch().await.unwrap();
    server.fail_next_api(fault.clone());
    match (api.get("orders").timeout(limit(&fault)).send().await, expected) {
        (Ok(response), Call::Answered(status)) => assert_eq!(response.status().as_u16(), status),
        (Ok(response), Call::Spoilt) => {
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.json::<serde_json::Value>().await.is_err());
        }
        (Err(error), Call::Failed) => assert_eq!(error.kind(), ErrorKind::Api, "{error}"),
        (outcome, _) => panic!("{outcome:?}"),
    }
    assert!(api.get("orders").send().await.unwrap().status().is_success());
    assert_eq!(server.token_requests(), token_requests);
    assert!(api.status().last_error.is_none());
}

/// The token is revoked (`None`), as far as the server says, or `shutdown` says why not.
async fn at_the_revocation_endpoint(fault: Fault, kind: Option<ErrorKind>, requests: u64) {
    let server = AuthServer::start().await.unwrap();
    let source = TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .revoke_on_shutdown(true)
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    server.fail_next_revocation(fault.clone());
    let outcome = tokio::time::timeout(LONG, source.shutdown()).await.unwrap();
    assert_eq!(outcome.as_ref().err().map(Error::kind), kind, "{outcome:?}");
    if let Err(error) = &outcome {
        assert!(error.to_string().contains(&server.issuer()), "{error}");
    }
    assert_eq!(server.revocations(), requests);
    // What the body of a 200 says is no matter (RFC 7009 2.2).
    let believed = fault == Fault::Garbage;
    assert_eq!(server.accepts(token.as_str()), kind.is_some() || believed);
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Closed);
}

macro_rules! faults {
    ($($place:ident { $($name:ident: $fault:expr, $($expected:expr),+;)+ })+) => {
        $(mod $place {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$place($fault, $($expected),+).await;
                }
            )+
        })+
    };
}

use Call::{Answered, Failed, Spoilt};
use ErrorKind::{AuthServerUnavailable, CredentialsRejected, InvalidResponse, RequestRefused, Throttled};

faults! {
    at_the_token_endpoint {
        status_500: status(500), Some(AuthServerUnavailable);
        status_403: status(403), Some(RequestRefused);
        status_429: status(429), Some(Throttled);
        retry_after_seconds: Fault::RetryAfterSeconds(429, 2), Some(Throttled);
        retry_after_date: Fault::RetryAfterDate(503, SOON), Some(AuthServerUnavailable);
        hang: Fault::Hang, Some(AuthServerUnavailable);
        reset: Fault::Reset, Some(AuthServerUnavailable);
        close: Fault::Close, Some(AuthServerUnavailable);
        torn_body: Fault::TornBody, Some(AuthServerUnavailable);
        endless_body: Fault::EndlessBody, Some(InvalidResponse);
        garbage: Fault::Garbage, Some(InvalidResponse);
        oauth_invalid_client: oauth(401, "invalid_client"), Some(CredentialsRejected);
        oauth_invalid_scope: oauth(400, "invalid_scope"), Some(RequestRefused);
        oauth_503: oauth(503, "invalid_client"), Some(AuthServerUnavailable);
        latency: Fault::Latency(SOON / 4), None;
    }
    at_the_api {
        status_500: status(500), Answered(500), 1;
        status_403: status(403), Answered(403), 1;
        retry_after_seconds: Fault::RetryAfterSeconds(429, 1), Answered(429), 1;
        retry_after_date: Fault::RetryAfterDate(503, SOON), Answered(503), 1;
        hang: Fault::Hang, Failed, 1;
        reset: Fault::Reset, Failed, 1;
        close: Fault::Close, Failed, 1;
        torn_body: Fault::TornBody, Spoilt, 1;
        endless_body: Fault::EndlessBody, Spoilt, 1;
        garbage: Fault::Garbage, Spoilt, 1;
        oauth_invalid_token: oauth(401, "invalid_token"), Answered(200), 2;
        latency: Fault::Latency(SOON / 4), Answered(200), 1;
    }
    at_the_revocation_endpoint {
        status_500: status(500), Some(AuthServerUnavailable), 1;
        status_403: status(403), Some(RequestRefused), 1;
        retry_after_seconds: Fault::RetryAfterSeconds(503, 1), None, 2;
        retry_after_date: Fault::RetryAfterDate(503, SOON), None, 2;
        hang: Fault::Hang, Some(AuthServerUnavailable), 1;
        reset: Fault::Reset, Some(AuthServerUnavailable), 1;
        close: Fault::Close, Some(AuthServerUnavailable), 1;
        torn_body: Fault::TornBody, Some(AuthServerUnavailable), 1;
        endless_body: Fault::EndlessBody, Some(InvalidResponse), 1;
        garbage: Fault::Garbage, None, 1;
        oauth_unsupported_token_type: oauth(400, "unsupported_token_type"), Some(RequestRefused), 1;
        latency: Fault::Latency(SOON / 4), None, 1;
    }
}
