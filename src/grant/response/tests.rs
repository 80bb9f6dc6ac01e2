use http::HeaderName;
use proptest::prelude::*;

use super::super::tests::credentials;
use super::*;

pub(in super::super) const SECRET: &str = "s3cr3t c@nary";
const TOKEN: &str = "t0ken-canary";

/// What an answer comes to, for a request sent with `SECRET` at 1,300,000,000 s (Sun, 13 Mar 2011 07:06:40 GMT).
pub(in super::super) fn judge(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Result<TokenResponse> {
    judge_for(SECRET, status, headers, body)
}

/// The same for a request sent with this secret.
pub(in super::super) fn judge_for(
    secret: &str,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<TokenResponse> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    let wall = Duration::from_secs(1_300_000_000);
    let sent = Moment::new(Duration::from_secs(10), wall, None);
    parse(
        &answer.body(Bytes::copy_from_slice(body)).unwrap(),
        &Asked {
            endpoint: &Url::parse("https://as.example/token?x").unwrap(),
            scopes: &["read".into(), "write".into()],
            credentials: &credentials("app", secret, 0),
            assertion: None,
            proof: None,
            sent,
            answered: Moment { monotonic: Duration::from_secs(12), ..sent },
        },
        &Oddities::default(),
    )
}

fn accepted(more: &str) -> Result<TokenResponse> {
    judge(200, &[], format!(r#"{{"access_token":"{TOKEN}"{more}}}"#).as_bytes())
}

#[test]
fn lifetimes_in_every_form() {
    const DAY: f64 = 86_400.0;
    for (expires_in, seconds) in [
        ("3600", 3600.0),
        ("864000", 10.0 * DAY),
        ("0.5", 0.5),
        ("3599.25", 3599.25),
        ("\"3600\"", 3600.0),
        ("\" 12.5 \"", 12.5),
        ("31536001", 365.0 * DAY),
        ("1e30", 365.0 * DAY),
        ("99999999999999999999999", 365.0 * DAY),
        ("\"inf\"", 365.0 * DAY),
        ("null", 300.0),
        ("\"soon\"", 300.0),
        ("\"\"", 300.0),
        ("true", 300.0),
        ("[60]", 300.0),
        ("{\"s\":60}", 300.0),
    ] {
        let token = accepted(&format!(r#","expires_in":{expires_in}"#)).unwrap();
        assert_eq!(token.lifetime.as_secs_f64(), seconds, "{expires_in}");
    }
    assert_eq!(accepted("").unwrap().lifetime, DEFAULT_LIFETIME);
    // The Auth0 simulator's JWT says 41 days; what counts is `expires_in`, not what else there is.
    let token = accepted(r#","expires_in":86400,"expires_at":4102444800"#).unwrap();
    assert_eq!(token.lifetime.as_secs_f64(), DAY);
}

#[test]
fn expired_on_arrival() {
    for expires_in in ["0", "-1", "-0.0", "\"0\"", "\"NaN\"", "\"-inf\"", "-1e300", "1e-300"] {
        let error = accepted(&format!(r#","expires_in":{expires_in}"#)).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true), "{expires_in}");
        assert!(error.to_string().contains("expired on arrival"), "{error}");
    }
}

#[test]
fn refresh_in_is_a_hint() {
    for (refresh_in, expected) in [
        ("1800", Some(1800)),
        ("\"90\"", Some(90)),
        ("0", None),
        ("-5", None),
        ("\"x\"", None),
        ("null", None),
    ] {
        let token = accepted(&format!(r#","refresh_in":{refresh_in}"#)).unwrap();
        assert_eq!(token.refresh_in, expected.map(Duration::from_secs), "{refresh_in}");
    }
}

#[test]
fn scopes_granted_and_missing() {
    let cases: &[(&str, Option<&str>, &[&str])] = &[
        ("", None, &[]),
        (r#","scope":"read write""#, Some("read write"), &[]),
        (r#","scope":"write read admin""#, Some("write read admin"), &[]),
        (r#","scope":"read""#, Some("read"), &["write"]),
        (r#","scope":"reading""#, Some("reading"), &["read", "write"]),
        (r#","scope":"""#, Some(""), &["read", "write"]),
        (r#","scope":null"#, None, &[]),
        (r#","scope":["read"]"#, None, &[]),
    ];
    for (more, scope, missing) in cases {
        let token = accepted(more).unwrap();
        assert_eq!(
            (token.scope.as_deref(), &token.missing_scopes[..]),
            (*scope, &missing.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
            "{more}"
        );
    }
}

#[test]
fn token_types() {
    for kind in [
        "\"Bearer\"",
        "\"bearer\"",
        "\"BEARER\"",
        "null",
        "\"\"",
        "\"Bearer \"",
        "\"BearerToken\"",
        "\"JWT\"",
    ] {
        assert!(accepted(&format!(r#","token_type":{kind}"#)).is_ok(), "{kind}");
    }
    for (kind, named) in [("DPoP", "\"DPoP\""), ("mac", "\"mac\""), ("N_A", "\"N_A\"")] {
        let error = accepted(&format!(r#","token_type":"{kind}""#)).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true), "{kind}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let odd = format!(r#","token_type":"pop {TOKEN}{}\u001b""#, "x".repeat(5000));
    let long = accepted(&odd).unwrap_err().to_string();
    assert!(long.len() < 400 && !long.contains('\u{1b}') && !long.contains(TOKEN), "{long}");
}

#[test]
fn trims_what_clings_to_a_token() {
    for padded in ["t0ken\\n", "t0ken\\r\\n", " t0ken ", "\\tt0ken", "\\ufefft0ken\\u0000"] {
        let token = judge(200, &[], format!(r#"{{"access_token":"{padded}"}}"#).as_bytes()).unwrap();
        assert_eq!(token.text.token(), "t0ken", "{padded}");
        assert_eq!(token.text.header(), "Bearer t0ken");
    }
    for nothing in ["", " ", "\\r\\n"] {
        let error = judge(200, &[], format!(r#"{{"access_token":"{nothing}"}}"#).as_bytes()).unwrap_err();
        assert!(error.to_string().contains("has no access_token"), "{nothing:?}: {error}");
    }
    // What is cut out of errors is the token as it is used.
    let body = format!(r#"{{"access_token":"{TOKEN}\n","error":"x","error_description":"of {TOKEN}"}}"#);
    let error = judge(200, &[], body.as_bytes()).unwrap_err();
    assert_eq!(error.description(), Some("of [redacted]"));
}

/// The request was sent at 1,300,000,000 s, and the answer read at the same time by the wall clock.
#[test]
fn expiries_as_points_in_time() {
    const DATE: [(&str, &str); 1] = [("date", "Sun, 13 Mar 2011 07:06:40 GMT")];
    // Two hours behind this machine.
    const BEHIND: [(&str, &str); 1] = [("date", "Sun, 13 Mar 2011 05:06:40 GMT")];
    let judge = |headers: &[(&str, &str)], more: &str| {
        judge(200, headers, format!(r#"{{"access_token":"{TOKEN}",{more}}}"#).as_bytes())
    };
    for (headers, more, seconds) in [
        (&[][..], r#""expires_on":"1300003600""#, 3600.0),
        (&[], r#""expires_on":1300003600"#, 3600.0),
        (&[], r#""expires_on":1300003600.5"#, 3600.5),
        (&[], r#""expires_at":1300000060"#, 60.0),
        (&[], r#""expiresAt":"1300000060000""#, 60.0),
        (&DATE, r#""expires_on":" 1300003600 ""#, 3600.0),
        (&BEHIND, r#""expires_on":1299996400"#, 3600.0),
        (&[], r#""expires_on":4102444800"#, 365.0 * 86_400.0),
        // `expires_in` comes first, if it can be read.
        (&[], r#""expires_in":60,"expires_on":1300003600"#, 60.0),
        (&[], r#""expires_in":null,"expires_on":1300003600"#, 3600.0),
        // Nothing that can be believed.
        (&[], r#""expires_on":"3/13/2011 7:06:40 AM +00:00""#, 300.0),
        (&[], r#""expires_at":"2011-03-13T08:06:40Z""#, 300.0),
        (&[], r#""expires_on":3600"#, 300.0),
        (&[], r#""expires_on":-1"#, 300.0),
        (&[], r#""expires_on":1e999"#, 300.0),
        (&[], r#""expires_on":"inf""#, 300.0),
        (&[], r#""expires_on":1299996400"#, 300.0),
    ] {
        let token = judge(headers, more).unwrap();
        assert_eq!(token.lifetime.as_secs_f64(), seconds, "{more} {headers:?}");
    }
    let error = judge(&DATE, r#""expires_on":1300000000"#).unwrap_err();
    assert!(error.to_string().contains("expired on arrival (expires_on"), "{error}");
}

#[test]
fn tokens_that_cannot_be_carried() {
    for bad in ["a b", "a\\nb\\n", "a\\r\\nX-Evil: 1", "t\\u00f6k", "a,b", "a\\u0000b", "\\\"a\\\""] {
        let error = judge(200, &[], format!(r#"{{"access_token":"{bad}"}}"#).as_bytes()).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true), "{bad}");
        assert!(!error.to_string().contains("Evil"), "{error}");
    }
}

#[test]
fn every_2xx_with_a_token_is_one() {
    let body = format!(r#"{{"access_token":"{TOKEN}","error":null,"nested":{{"access_token":"no"}}}}"#);
    for (status, headers) in [
        (200, &[("content-type", "text/html")][..]),
        (200, &[("retry-after", "60")]), // nanoidp
        (200, &[("www-authenticate", "Basic error=\"invalid_client\"")]),
        (201, &[]),
        (299, &[]),
    ] {
        let token = judge(status, headers, body.as_bytes()).unwrap();
        assert_eq!(token.text.token(), TOKEN);
        assert_eq!(
            (token.sent.monotonic, token.round_trip),
            (Duration::from_secs(10), Duration::from_secs(2))
        );
        assert!(!format!("{token:?}").contains(TOKEN));
    }
}

/// Texts in which the secrets appear now and then, in one of the forms that a server may have met.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => any::<String>(),
        1 => Just(SECRET.to_owned()),
        1 => Just(TOKEN.to_owned()),
        1 => Just("s3cr3t%20c%40nary".to_owned()),
        1 => Just("s3cr3t+c%40nary".to_owned()),
        1 => Just("s3cr3t\0 c@nary".to_owned()),
        1 => Just("/a?b#c".to_owned()),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn any_headers() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    proptest::collection::vec((0..8usize, proptest::collection::vec(any::<u8>(), 0..40)), 0..6)
}

fn respond(status: u16, headers: &[(usize, Vec<u8>)], body: &[u8]) -> Result<TokenResponse> {
    const NAMES: [&str; 8] = [
        "retry-after",
        "x-retry-after",
        "x-ratelimit-reset",
        "date",
        "location",
        "www-authenticate",
        "auth0-client-quota-limit",
        "content-type",
    ];
    let mut answer = Response::builder().status(status).body(Bytes::copy_from_slice(body)).unwrap();
    for (name, value) in headers {
        if let Ok(value) = http::HeaderValue::from_bytes(value) {
            answer.headers_mut().append(HeaderName::from_static(NAMES[*name]), value);
        }
    }
    let sent = Moment::new(Duration::ZERO, Duration::ZERO, None);
    let asked = Asked {
        endpoint: &Url::parse("https://as.example/token").unwrap(),
        scopes: &[],
        credentials: &credentials("app", SECRET, 0),
        assertion: None,
        proof: None,
        sent,
        answered: sent,
    };
    parse(&answer, &asked, &Oddities::default())
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        status in 100..1000u16,
        headers in any_headers(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = respond(status, &headers, &body);
    }

    #[test]
    fn no_lifetime_makes_it_panic_or_exceeds_a_year(number in any::<f64>(), text in any::<String>()) {
        for value in [serde_json::json!(number), serde_json::json!(number.to_string()), serde_json::json!(text)] {
            for name in ["expires_in", "expires_on", "expires_at"] {
                let body = serde_json::json!({ "access_token": TOKEN, name: value, "refresh_in": value });
                if let Ok(token) = respond(200, &[], body.to_string().as_bytes()) {
                    prop_assert!(!token.lifetime.is_zero() && token.lifetime <= LONGEST_LIFETIME);
                }
            }
        }
    }

    #[test]
    fn no_error_tells_a_secret(
        status in prop_oneof![Just(200u16), 200..600u16],
        name in prop_oneof![Just("error"), Just("error_description"), Just("message"), Just("token_type"), Just("title")],
        text in any_text(),
        other in any_text(),
        location in any_text(),
        whole in any::<bool>(),
    ) {
        let fields = serde_json::json!({ "access_token": TOKEN, name: text, "error": other }).to_string();
        // A token is known for one only where the body can be read.
        let (body, location) = match whole {
            true => (&fields[..], location),
            false => (&fields[..fields.len() - 1], location.replace(TOKEN, "")),
        };
        if let Err(error) = respond(status, &[(4, location.into_bytes())], body.as_bytes()) {
            let shown = format!("{error} {error:?} {:?} {:?}", error.oauth_error(), error.description());
            for secret in [SECRET, TOKEN, "s3cr3t%20c%40nary", "s3cr3t+c%40nary"] {
                prop_assert!(!shown.contains(secret), "{}", shown);
            }
        }
    }
}
