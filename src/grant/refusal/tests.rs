use std::time::Duration;

use ErrorKind::{AuthServerUnavailable, CredentialsRejected, InvalidResponse, RequestRefused, Throttled};

use super::super::response::tests::{SECRET, judge, judge_for};
use super::*;

/// status, headers, body → kind, retryable, OAuth code, description, Retry-After
type Row = (
    u16,
    &'static [(&'static str, &'static str)],
    &'static str,
    ErrorKind,
    bool,
    Option<&'static str>,
    Option<&'static str>,
    Option<u64>,
);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // A wrong secret, as the servers say it.
    (401, &[("www-authenticate", "Basic realm=\"x\"")], r#"{"error":"invalid_client","error_description":"no"}"#, CredentialsRejected, false, Some("invalid_client"), Some("no"), None),
    (401, &[("www-authenticate", "Bearer error=\"invalid_client\"")], "", CredentialsRejected, false, Some("invalid_client"), None, None),
    (401, &[("www-authenticate", "Basic realm=\"a\""), ("www-authenticate", "Bearer scope=\"x\", error=invalid_client")], "<p>", CredentialsRejected, false, Some("invalid_client"), None, None),
    (401, &[("www-authenticate", "Bearer error=\"invalid_token\"")], "", RequestRefused, true, None, None, None),
    (400, &[], r#"{"error":"invalid_client"}"#, CredentialsRejected, false, Some("invalid_client"), None, None),
    (200, &[], r#"{"error":"invalid_client"}"#, CredentialsRejected, false, Some("invalid_client"), None, None),
    (403, &[], "", RequestRefused, true, None, None, None),
    (401, &[], "<h1>Unauthorized</h1>", RequestRefused, true, None, None, None),
    (407, &[], "", RequestRefused, true, None, None, None),
    (401, &[], r#"{"timestamp":1,"status":401,"error":"Unauthorized","path":"/token"}"#, RequestRefused, true, None, None, None),
    (403, &[], r#"{"message":"Forbidden","detail":"by the gateway"}"#, RequestRefused, true, None, Some("by the gateway"), None),
    (401, &[], r#"{"error":"access_denied","error_description":"Unauthorized"}"#, CredentialsRejected, false, Some("access_denied"), None, None),
    (401, &[], r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#, CredentialsRejected, false, Some("unauthorized_client"), Some("Invalid client or Invalid client credentials"), None),
    (401, &[], r#"{"error":"invalid_grant"}"#, CredentialsRejected, false, Some("invalid_grant"), None, None),
    (401, &[], r#"{"error":"bad_credentials"}"#, CredentialsRejected, false, Some("bad_credentials"), None, None),
    (401, &[], r#"{"error":"invalid_request"}"#, RequestRefused, false, Some("invalid_request"), None, None),
    (401, &[], r#"{"error":"use_dpop_nonce"}"#, RequestRefused, false, Some("use_dpop_nonce"), None, None),
    (401, &[], r#"{"error":"Bad credentials"}"#, RequestRefused, true, None, Some("Bad credentials"), None),
    (403, &[], r#"{"error":"bad_credentials"}"#, RequestRefused, false, Some("bad_credentials"), None, None),
    (401, &[], r#"{"error":"invalid_scope"}"#, RequestRefused, false, Some("invalid_scope"), None, None),
    // Other refusals.
    (400, &[], r#"{"error":"invalid_scope"}"#, RequestRefused, false, Some("invalid_scope"), None, None),
    (403, &[], r#"{"error":"scope_invalid"}"#, RequestRefused, false, Some("scope_invalid"), None, None),
    (403, &[], r#"{"error":"authorization_type_invalid"}"#, RequestRefused, false, Some("authorization_type_invalid"), None, None),
    (400, &[], r#"{"error":"invalid_target"}"#, RequestRefused, false, Some("invalid_target"), None, None),
    (400, &[], r#"{"error":"unauthorized_client"}"#, RequestRefused, false, Some("unauthorized_client"), None, None),
    (403, &[], r#"{"error":"access_denied","error_description":"Client is not authorized"}"#, RequestRefused, false, Some("access_denied"), Some("Client is not authorized"), None),
    (400, &[], r#"{"error":"unsupported_grant_type"}"#, RequestRefused, false, Some("unsupported_grant_type"), None, None),
    (400, &[], r#"{"error":"invalid_request"}"#, RequestRefused, false, Some("invalid_request"), None, None),
    (400, &[], r#"{"error":"invalid_grant"}"#, RequestRefused, false, Some("invalid_grant"), None, None),
    (422, &[], r#"{"error":"unknown_tenant"}"#, RequestRefused, false, Some("unknown_tenant"), None, None),
    (409, &[], r#"{"error":"invalid_request"}"#, RequestRefused, false, Some("invalid_request"), None, None),
    (404, &[], r#"{"error":"invalid_client"}"#, CredentialsRejected, false, Some("invalid_client"), None, None),
    (200, &[("retry-after", "9")], r#"{"error":"invalid_scope","access_token":"t0ken-canary"}"#, RequestRefused, false, Some("invalid_scope"), None, None),
    // Outages. A 5xx never condemns a credential.
    (500, &[("content-type", "text/html")], "<html>", AuthServerUnavailable, true, None, None, None),
    (500, &[], r#"{"error":"invalid_client"}"#, AuthServerUnavailable, true, Some("invalid_client"), None, None),
    (503, &[("retry-after", "30")], r#"{"error":"temporarily_unavailable"}"#, AuthServerUnavailable, true, Some("temporarily_unavailable"), None, Some(30)),
    (503, &[("retry-after", "Sun, 13 Mar 2011 07:07:00 GMT")], "", AuthServerUnavailable, true, None, None, Some(20)),
    (503, &[("retry-after", "9999")], "", AuthServerUnavailable, true, None, None, Some(300)),
    (503, &[("x-ratelimit-reset", "30")], "", AuthServerUnavailable, true, None, None, None),
    (400, &[], r#"{"error":"temporarily_unavailable"}"#, AuthServerUnavailable, true, Some("temporarily_unavailable"), None, None),
    (400, &[("retry-after", "4")], r#"{"error":"server_error"}"#, AuthServerUnavailable, true, Some("server_error"), None, Some(4)),
    (200, &[("retry-after", "4")], r#"{"error":"server_error"}"#, AuthServerUnavailable, true, Some("server_error"), None, None),
    // Too many requests.
    (429, &[("x-retry-after", "11")], r#"{"message":"Too many requests. Please try again later."}"#, Throttled, true, None, Some("Too many requests. Please try again later."), Some(11)),
    (429, &[("x-ratelimit-reset", "1300000042")], "", Throttled, true, None, None, Some(42)),
    (429, &[("x-ratelimit-reset", "7")], "", Throttled, true, None, None, Some(7)),
    (429, &[("auth0-client-quota-limit", "b=per_hour;q=10;r=0;t=140,b=per_day;q=50;r=3;t=9")], r#"{"error":"invalid_client"}"#, Throttled, true, Some("invalid_client"), None, Some(140)),
    (429, &[], r#"{"error":"Too Many Requests"}"#, Throttled, true, None, None, None),
    (400, &[("retry-after", "3")], r#"{"error":"slow_down"}"#, Throttled, true, Some("slow_down"), None, Some(3)),
    (200, &[("retry-after", "3"), ("x-ratelimit-reset", "5")], r#"{"error":"slow_down"}"#, Throttled, true, Some("slow_down"), None, None),
    // Not the token endpoint, or not only.
    (301, &[("location", "https://as.example/token/")], "", InvalidResponse, true, None, None, None),
    (308, &[("location", "/token/")], "", InvalidResponse, true, None, None, None),
    (302, &[], "", InvalidResponse, true, None, None, None),
    (307, &[("location", "https://login.example/?state=1")], "", InvalidResponse, true, None, None, None),
    (404, &[], "<html>", InvalidResponse, true, None, None, None),
    (405, &[], "", InvalidResponse, true, None, None, None),
    (410, &[], "", InvalidResponse, true, None, None, None),
    (404, &[], r#"{"error":"Not Found"}"#, InvalidResponse, true, None, None, None),
    // Keycloak while it starts, and whatever else has no such endpoint yet.
    (404, &[], r#"{"error":"Realm does not exist"}"#, InvalidResponse, true, None, Some("Realm does not exist"), None),
    (404, &[], r#"{"error":"unknown_tenant"}"#, InvalidResponse, true, None, Some("unknown_tenant"), None),
    (404, &[], r#"{"error":"invalid_request","error_description":"unrecognized route"}"#, InvalidResponse, true, None, Some("unrecognized route"), None),
    (405, &[], r#"{"error":"invalid_request"}"#, InvalidResponse, true, None, Some("invalid_request"), None),
    (410, &[], r#"{"error":"gone_for_good"}"#, InvalidResponse, true, None, Some("gone_for_good"), None),
    (400, &[], r#"{"error":"Something is wrong"}"#, InvalidResponse, true, None, Some("Something is wrong"), None),
    (200, &[], r#"{"error":"no such client"}"#, InvalidResponse, true, None, Some("no such client"), None),
    (415, &[], r#"{"message":"Content-Type not allowed"}"#, InvalidResponse, true, None, Some("Content-Type not allowed"), None),
    (400, &[("content-type", "application/problem+json")], r#"{"title":"Bad Request","detail":"scope missing","status":400}"#, InvalidResponse, true, None, Some("scope missing"), None),
    (400, &[], r#"{"title":"Malformed"}"#, InvalidResponse, true, None, Some("Malformed"), None),
    (422, &[("content-type", "text/plain")], "Failed to deserialize form body", InvalidResponse, true, None, None, None),
    (400, &[], r#"{"error":{"code":7}}"#, InvalidResponse, true, None, None, None),
    (400, &[], r#"{"error":"ß"}"#, InvalidResponse, true, None, Some("ß"), None),
    (200, &[], "", InvalidResponse, true, None, None, None),
    (200, &[], "<html>", InvalidResponse, true, None, None, None),
    (200, &[], "[]", InvalidResponse, true, None, None, None),
    (200, &[], r#"{"access_token":"t0ken-can"#, InvalidResponse, true, None, None, None),
    (200, &[], r#"{"access_token":""}"#, InvalidResponse, true, None, None, None),
    (200, &[], r#"{"access_token":["t0ken-canary"]}"#, InvalidResponse, true, None, None, None),
    (204, &[], "", InvalidResponse, true, None, None, None),
];

#[test]
fn what_every_refusal_means() {
    for row in ROWS {
        let (status, headers, body, kind, retryable, code, description, wait) = *row;
        let error = judge(status, headers, body.as_bytes()).unwrap_err();
        let said = (error.kind(), error.is_retryable(), error.oauth_error(), error.description());
        assert_eq!(said, (kind, retryable, code, description), "{row:?}");
        assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{row:?}");
        assert_eq!((error.server(), error.status()), (Some("https://as.example/token"), Some(status)));
        assert!(!format!("{error} {error:?}").contains("t0ken"), "{error}");
    }
}

#[test]
fn advice_says_what_to_do() {
    for (status, headers, body, said) in [
        (400, &[][..], r#"{"error":"invalid_scope"}"#, "`scope`"),
        (403, &[], r#"{"error":"scope_invalid"}"#, "`scope`"),
        (400, &[], r#"{"error":"invalid_target"}"#, "`resource`"),
        (403, &[], r#"{"error":"access_denied"}"#, "audience"),
        (400, &[], r#"{"error":"unsupported_grant_type"}"#, "client-credentials grant"),
        (400, &[], r#"{"error":"something_new"}"#, "settings"),
        (403, &[], "", "a firewall or proxy may have sent this; or the credential is wrong"),
        (301, &[("location", "/token/")], "", "https://as.example/token/ (301"),
        (308, &[("location", "https://b.example/t?code=7#f")], "", "to https://b.example/t (308"),
        (301, &[("location", "/token/")], "", "set `token_url` to it"),
        (404, &[], "", "check `token_url`"),
    ] {
        let text = judge(status, headers, body.as_bytes()).unwrap_err().to_string();
        assert!(text.contains(said) && !text.contains("code=7"), "{text}");
    }
}

#[test]
fn codes_and_descriptions_are_tamed() {
    let error =
        judge_for("x7", 400, &[], format!(r#"{{"error":"{}"}}"#, "x7".repeat(32)).as_bytes()).unwrap_err();
    assert_eq!(error.oauth_error().unwrap().len(), 64);
    let body = format!(
        r#"{{"error":"{}\n\u001b[31m","error_description":"{}\u0000{}"}}"#,
        "x".repeat(100),
        SECRET,
        "y".repeat(300)
    );
    let error = judge(400, &[], body.as_bytes()).unwrap_err();
    assert_eq!(error.oauth_error(), None);
    let description = error.description().unwrap();
    assert!(description.starts_with("[redacted]yyy") && description.chars().count() == 200, "{description}");
}

/// A secret that is a word of the protocol changes nothing but what is shown of the server's own words.
#[test]
fn no_secret_changes_what_an_answer_means() {
    let secrets = [
        "client",
        "invalid_client",
        "invalid",
        "error",
        "e",
        "_",
        "Bearer",
        "Basic",
        "slow_down",
        "unavailable",
        "nonce",
    ];
    for row in ROWS {
        let (status, headers, body, kind, retryable, code, _, wait) = *row;
        for secret in secrets {
            let error = judge_for(secret, status, headers, body.as_bytes()).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{secret}: {row:?}");
            assert_eq!(error.retry_after(), wait.map(Duration::from_secs), "{secret}: {row:?}");
            match code {
                Some(code) if code::known(code).is_some() => {
                    assert_eq!(error.oauth_error(), Some(code), "{secret}")
                }
                code => assert_eq!(error.oauth_error().is_some(), code.is_some(), "{secret}: {row:?}"),
            }
        }
    }
    for (secret, body) in [
        ("Bearer", r#"{"access_token":"t","token_type":"Bearer"}"#),
        ("e", r#"{"access_token":"t","token_type":"bearer","expires_in":60}"#),
        ("t", r#"{"access_token":"t","token_type":"Bearer"}"#),
    ] {
        judge_for(secret, 200, &[], body.as_bytes()).unwrap();
    }
}
