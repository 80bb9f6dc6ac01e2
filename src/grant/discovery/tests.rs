use super::super::tests::{Act, Hands, Script, answer, credentials, token};
use super::super::{Server, TokenEndpoint};
use super::*;
use crate::grant::Tries;
use crate::grant::{GrantRequest, TransportErrorKind};

const ISSUER: &str = "https://as.example/t";
const OAUTH: &str = "https://as.example/.well-known/oauth-authorization-server/t";
const OPENID: &str = "https://as.example/t/.well-known/openid-configuration";
const HOUR: Duration = Duration::from_secs(3600);

fn document(more: &str) -> Act {
    let body = format!(r#"{{"issuer":"{ISSUER}","token_endpoint":"https://as.example/token"{more}}}"#);
    answer(200, &[], &body)
}

fn named(issuer: &str, token_endpoint: &str) -> Act {
    answer(200, &[], &format!(r#"{{"issuer":"{issuer}","token_endpoint":"{token_endpoint}"}}"#))
}

async fn discover(script: &Script, issuer: &str) -> Result<Arc<Metadata>> {
    Discovery::default()
        .metadata(issuer, false, script, &Clock::System, &credentials("app", "s3cr3t", 0))
        .await
}

fn endpoint(script: &Arc<Script>) -> TokenEndpoint {
    let server = Server::issuer(ISSUER, false).unwrap();
    TokenEndpoint::new(server, GrantRequest::default(), None, false, script.clone(), Arc::default())
}

#[tokio::test]
async fn both_places_are_looked_at_in_turn() {
    for (issuer, first, second) in [
        (ISSUER, OAUTH, OPENID),
        ("https://as.example/t/", OAUTH, OPENID),
        (
            "https://as.example",
            "https://as.example/.well-known/oauth-authorization-server",
            "https://as.example/.well-known/openid-configuration",
        ),
        (
            "https://as.example:8443/a/b/",
            "https://as.example:8443/.well-known/oauth-authorization-server/a/b",
            "https://as.example:8443/a/b/.well-known/openid-configuration",
        ),
    ] {
        let script = Script::new([answer(404, &[], ""), named(issuer, "https://as.example/token")]);
        let metadata = discover(&script, issuer).await.unwrap();
        assert_eq!(metadata.token_endpoint.as_str(), "https://as.example/token");
        let seen = script.take_seen();
        assert!(seen.iter().all(|seen| seen.body.is_empty() && seen.headers["accept"] == "application/json"));
        let urls: Vec<_> = seen.into_iter().map(|seen| seen.url).collect();
        assert_eq!(urls, [first, second], "{issuer}");
    }
}

#[tokio::test]
async fn whatever_is_no_metadata_moves_on() {
    for first in [
        answer(200, &[("content-type", "text/html")], "<html>"), // LemonLDAP
        answer(200, &[], "[]"),
        answer(200, &[], r#"{"issuer":"https://as.example/t"}"#),
        answer(200, &[], r#"{"issuer":"https://as.example/t","token_endpoint":7}"#),
        answer(200, &[], r#"{"token_endpoint":"https://as.example/token"}"#),
        answer(302, &[("location", "https://elsewhere.example/")], ""),
        answer(403, &[], ""),
        answer(500, &[], "<h1>"),
        // Even a good document is none with another status.
        answer(404, &[], r#"{"issuer":"https://as.example/t","token_endpoint":"https://as.example/wrong"}"#),
    ] {
        // glewlwyd leaves client_credentials out of what it announces.
        let script = Script::new([first, document(r#","grant_types_supported":["password"]"#)]);
        assert_eq!(discover(&script, ISSUER).await.unwrap().token_endpoint.path(), "/token");
        assert_eq!(script.urls(), [OAUTH, OPENID]);
    }
}

#[tokio::test]
async fn neither_has_metadata() {
    for (first, second, kind, retryable, wait) in [
        (answer(404, &[], ""), answer(404, &[], ""), ErrorKind::InvalidResponse, true, None),
        (answer(200, &[], "<html>"), answer(404, &[], ""), ErrorKind::InvalidResponse, true, None),
        (answer(403, &[], ""), answer(403, &[], ""), ErrorKind::InvalidResponse, true, None),
        (answer(404, &[], ""), answer(302, &[], ""), ErrorKind::InvalidResponse, true, None),
        (answer(404, &[], ""), answer(502, &[], ""), ErrorKind::AuthServerUnavailable, true, None),
        (
            answer(503, &[("retry-after", "7")], ""),
            answer(404, &[], ""),
            ErrorKind::AuthServerUnavailable,
            true,
            Some(7),
        ),
        (
            answer(429, &[("retry-after", "8")], ""),
            answer(429, &[("retry-after", "9")], ""),
            ErrorKind::Throttled,
            true,
            Some(9),
        ),
    ] {
        let script = Script::new([first, second]);
        let error = discover(&script, ISSUER).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs));
        let text = error.to_string();
        assert!(text.contains(OAUTH) && text.contains(OPENID), "{text}");
        assert!(kind != ErrorKind::InvalidResponse || text.contains("token_url"), "{text}");
    }
}

#[tokio::test]
async fn a_transport_failure_ends_the_attempt() {
    let script = Script::new([Act::Fail(TransportErrorKind::Connect)]);
    let error = discover(&script, ISSUER).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    assert_eq!(error.server(), Some(OAUTH));
}

#[tokio::test]
async fn the_issuer_is_the_same_to_the_letter() {
    for (theirs, advice) in [
        ("https://as.example/t/", "only the slash at the end"),
        ("https://AS.example/t", "exactly"),
        ("https://other.example/t", "exactly"),
    ] {
        let script = Script::new([named(theirs, "https://as.example/token")]);
        let error = discover(&script, ISSUER).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true));
        let text = error.to_string();
        assert!(text.contains(theirs) && text.contains(ISSUER) && text.contains(advice), "{text}");
    }
}

#[tokio::test]
async fn a_token_endpoint_must_be_secure() {
    for bad in ["http://as.example/token", "https://u:p@as.example/", "file:///etc/passwd", "/token"] {
        let script = Script::new([named(ISSUER, bad)]);
        let error = discover(&script, ISSUER).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("token_endpoint"), "{bad}: {error}");
    }
}

#[tokio::test]
async fn the_announced_method_is_used_and_not_tried_around() {
    let announced =
        |methods: &str| document(&format!(r#","token_endpoint_auth_methods_supported":[{methods}]"#));
    for (methods, basic) in [
        (r#""client_secret_post","client_secret_basic""#, true),
        (r#""client_secret_post""#, false),
        ("", true),
    ] {
        let script = Script::new([announced(methods), token()]);
        endpoint(&script)
            .request(&Clock::System, &credentials("a", "b", 0), &Tries::default())
            .await
            .unwrap();
        assert_eq!(script.take_seen()[1].headers.contains_key("authorization"), basic, "{methods}");
    }
    let script = Script::new([announced(r#""private_key_jwt""#)]);
    let error = endpoint(&script)
        .request(&Clock::System, &credentials("a", "b", 0), &Tries::default())
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.server()), (ErrorKind::RequestRefused, Some(ISSUER)));

    // What is announced is tried once for each secret, and nothing else is.
    for (methods, requests) in [
        (r#""client_secret_basic","client_secret_post""#, 2),
        (r#""private_key_jwt","client_secret_basic""#, 1),
        (r#""client_secret_post","private_key_jwt""#, 1),
        ("", 2),
    ] {
        let refused = || answer(401, &[], r#"{"error":"invalid_client"}"#);
        let script = Script::new([announced(methods), refused(), refused()]);
        let error = endpoint(&script)
            .request(&Clock::System, &credentials("a", "b", 0), &Tries::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
        assert!(error.to_string().contains("`client_auth`"), "{error}");
        assert_eq!(script.take_seen().len(), 1 + requests, "{methods}");
    }
}

/// The URLs asked for by one more attempt.
async fn next(endpoint: &TokenEndpoint, script: &Script, clock: &Clock) -> Vec<String> {
    let _ = endpoint.request(clock, &credentials("a", "b", 0), &Tries::default()).await;
    script.urls()
}

#[tokio::test]
async fn metadata_are_read_again_when_old_or_doubted() {
    const TOKEN_URL: &str = "https://as.example/token";
    let hands = Arc::new(Hands::default());
    let clock = Clock::Injected(hands.clone());

    let script = Script::new([document(""), token(), token(), document(""), token(), token()]);
    let kept = endpoint(&script);
    assert_eq!(next(&kept, &script, &clock).await, [OAUTH, TOKEN_URL]);
    hands.advance(23 * HOUR);
    assert_eq!(next(&kept, &script, &clock).await, [TOKEN_URL]);
    hands.advance(HOUR);
    assert_eq!(next(&kept, &script, &clock).await, [OAUTH, TOKEN_URL]);
    assert_eq!(next(&kept, &script, &clock).await, [TOKEN_URL]);

    for (status, doubted) in
        [(404, true), (405, true), (410, true), (301, true), (307, true), (418, false), (503, false)]
    {
        let moved = named(ISSUER, "https://as.example/new");
        let mut acts = vec![document(""), answer(status, &[], "")];
        acts.extend(doubted.then_some(moved));
        let script = Script::new(acts.into_iter().chain([token()]));
        let endpoint = endpoint(&script);
        assert_eq!(next(&endpoint, &script, &clock).await, [OAUTH, TOKEN_URL]);
        let after = next(&endpoint, &script, &clock).await;
        let expected: &[&str] = if doubted { &[OAUTH, "https://as.example/new"] } else { &[TOKEN_URL] };
        assert_eq!(after, expected, "{status}");
    }
}

#[tokio::test]
async fn a_failed_rereading_keeps_the_old_metadata() {
    const TOKEN_URL: &str = "https://as.example/token";
    for failures in [
        vec![Act::Fail(TransportErrorKind::Connect)],
        vec![answer(500, &[], ""), answer(404, &[], "")],
        vec![named("https://other.example", "https://as.example/x")],
    ] {
        let hands = Arc::new(Hands::default());
        let clock = Clock::Injected(hands.clone());
        let many = failures.len();
        let acts = [document(""), token()].into_iter().chain(failures).chain([
            token(),
            token(),
            document(""),
            token(),
        ]);
        let script = Script::new(acts);
        let endpoint = endpoint(&script);
        next(&endpoint, &script, &clock).await;
        hands.advance(25 * HOUR);
        let urls = next(&endpoint, &script, &clock).await;
        assert_eq!((urls.len(), urls.last().unwrap().as_str()), (many + 1, TOKEN_URL));
        assert_eq!(next(&endpoint, &script, &clock).await, [TOKEN_URL], "no second re-reading so soon");
        hands.advance(RETRY);
        assert_eq!(next(&endpoint, &script, &clock).await, [OAUTH, TOKEN_URL]);
    }
}

#[tokio::test]
async fn a_rereading_that_hangs_delays_one_attempt_only() {
    let hands = Arc::new(Hands::default());
    let clock = Clock::Injected(hands.clone());
    let script = Script::new([document(""), token(), Act::Hang, token()]);
    let endpoint = endpoint(&script);
    next(&endpoint, &script, &clock).await;
    hands.advance(25 * HOUR);
    let credentials = credentials("a", "b", 0);
    let tries = Tries::default();
    tokio::select! {
        biased;
        outcome = endpoint.request(&clock, &credentials, &tries) => panic!("{outcome:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(script.urls(), [OAUTH]);
    assert_eq!(next(&endpoint, &script, &clock).await, ["https://as.example/token"]);
}
