//! Servers that read a secret in one way only, as real ones do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use percent_encoding::percent_decode_str;

use super::super::tests::{Hands, TOKEN, credentials};
use super::super::transport::{Transport, TransportError};
use super::super::{GrantRequest, Server, TokenEndpoint, Tries};
use super::*;
use crate::error::ErrorKind;

/// What a request says of its client: by Basic as it came, or by the form body.
struct Shown {
    basic: Option<String>,
    body: Option<(String, String)>,
}

type Judge = fn(&Shown, (&str, &str)) -> (u16, &'static str);

/// A token endpoint that knows one client, and the ways in which it was asked.
struct Fake {
    client: (String, String),
    judge: Mutex<Judge>,
    seen: Mutex<Vec<&'static str>>,
    metadata: Option<&'static str>,
}

impl Fake {
    fn new(client: (&str, &str), judge: Judge) -> Arc<Self> {
        Self::announcing(client, judge, None)
    }

    fn announcing(client: (&str, &str), judge: Judge, metadata: Option<&'static str>) -> Arc<Self> {
        let client = (client.0.to_owned(), client.1.to_owned());
        Arc::new(Self { client, judge: Mutex::new(judge), seen: Mutex::default(), metadata })
    }

    fn take_seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn endpoint(self: &Arc<Self>, url: &str) -> TokenEndpoint {
        let server = match self.metadata {
            Some(_) => Server::issuer("https://as.example", false),
            None => Server::token_url(url, true),
        };
        let request = GrantRequest::default();
        TokenEndpoint::new(server.unwrap(), request, None, true, self.clone(), Arc::default())
    }
}

const URL: &str = "https://as.example/token";

impl Transport for Fake {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            if request.method() == "GET" {
                return Ok(Response::new(Bytes::from_static(self.metadata.unwrap().as_bytes())));
            }
            let header = request.headers().get("authorization").map(|header| header.to_str().unwrap());
            let basic = header.and_then(|header| header.strip_prefix("Basic ").map(str::to_owned));
            let form = std::str::from_utf8(request.body()).unwrap();
            let field = |name: &str| {
                let value = form.split('&').find_map(|pair| pair.strip_prefix(name))?;
                Some(percent_decode_str(value).decode_utf8().unwrap().into_owned())
            };
            let body = field("client_id=").zip(field("client_secret="));
            let way = match (&basic, &body) {
                // Of what needs encoding in these tests.
                (Some(basic), None)
                    if ["%2", "%3", "%7"].iter().any(|code| decoded(basic).contains(code)) =>
                {
                    "encoded"
                }
                (Some(_), None) => "basic",
                (None, Some(_)) => "post",
                _ => "none or both",
            };
            self.seen.lock().unwrap().push(way);
            let judge = *self.judge.lock().unwrap();
            let (status, body) = judge(&Shown { basic, body }, (&self.client.0, &self.client.1));
            Ok(Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap())
        })
    }
}

fn decoded(basic: &str) -> String {
    String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap()
}

fn is(
    shown: Option<(&str, &str)>,
    client: (&str, &str),
    refusal: (u16, &'static str),
) -> (u16, &'static str) {
    if shown == Some(client) { (200, TOKEN) } else { refusal }
}

fn posted(shown: &Shown) -> Option<(&str, &str)> {
    shown.body.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()))
}

const INVALID_CLIENT: &str = r#"{"error":"invalid_client"}"#;

const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// `/^Basic (\w+)/`, decoded and split at each colon.
fn lemonldap(shown: &Shown, client: (&str, &str)) -> (u16, &'static str) {
    let pair = shown.basic.as_ref().map(|basic| {
        let word: String = basic.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let whole = if word.len() % 4 == 1 { word.len() - 1 } else { word.len() };
        String::from_utf8_lossy(&LENIENT.decode(&word[..whole]).unwrap_or_default()).into_owned()
    });
    let mut parts = pair.iter().flat_map(|pair| pair.split(':'));
    let basic = parts.next().zip(parts.next());
    is(basic.or(posted(shown)), client, (400, INVALID_CLIENT))
}

/// As it is, split at the first colon.
fn glewlwyd(shown: &Shown, client: (&str, &str)) -> (u16, &'static str) {
    let pair = shown.basic.as_ref().map(|basic| decoded(basic));
    is(pair.as_ref().and_then(|pair| pair.split_once(':')).or(posted(shown)), client, (403, ""))
}

/// By the RFC, either way.
fn by_the_rfc(shown: &Shown, client: (&str, &str)) -> (u16, &'static str) {
    let pair = shown.basic.as_ref().map(|basic| decoded(basic));
    let pair = pair.as_ref().and_then(|pair| pair.split_once(':')).map(|(id, secret)| {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decode(id), decode(secret))
    });
    let basic = pair.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
    is(basic.or(posted(shown)), client, (401, INVALID_CLIENT))
}

/// authlib, nanoidp and better-auth with a client that is registered for the body.
fn post_only(shown: &Shown, client: (&str, &str)) -> (u16, &'static str) {
    is(posted(shown), client, (401, INVALID_CLIENT))
}

async fn ask(endpoint: &TokenEndpoint, id: &str, secret: &str) -> Result<()> {
    let tries = Tries::default();
    endpoint.request(&Clock::System, &credentials(id, secret, 0), &tries).await.map(drop)
}

#[tokio::test]
async fn secrets_that_the_basic_of_a_server_cannot_read_go_into_the_body() {
    for (name, judge, id, secret, ways) in [
        ("LemonLDAP, plain", lemonldap as Judge, "app", "secret", &["basic"][..]),
        ("LemonLDAP, a colon", lemonldap, "app", "s:t", &["encoded", "basic", "post"]),
        ("LemonLDAP, base64 with +", lemonldap, "app", "~~>>>>", &["encoded", "basic", "post"]),
        ("LemonLDAP, base64 with /", lemonldap, "app", "???~~~???", &["encoded", "basic", "post"]),
        ("glewlwyd, plain", glewlwyd, "app", "secret", &["basic"]),
        ("glewlwyd, special", glewlwyd, "app", "s+t:", &["encoded", "basic"]),
        ("glewlwyd, an id with a colon", glewlwyd, "a:p", "secret", &["encoded", "basic", "post"]),
        ("by the RFC", by_the_rfc, "a:p", "s+t %:", &["encoded"]),
    ] {
        let fake = Fake::new((id, secret), judge);
        let endpoint = fake.endpoint(URL);
        ask(&endpoint, id, secret).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(fake.take_seen(), ways, "{name}");
        ask(&endpoint, id, secret).await.unwrap();
        assert_eq!(fake.take_seen(), [*ways.last().unwrap()], "{name}: it is remembered");
    }
}

#[tokio::test]
async fn a_client_that_is_registered_for_the_body_is_found_out() {
    // Status and body for Basic.
    let judges: [Judge; 8] = [
        post_only,
        |shown, client| {
            is(
                posted(shown),
                client,
                (400, r#"{"error":"invalid_request","error_description":"client_id is required"}"#),
            )
        },
        |shown, client| is(posted(shown), client, (400, r#"{"error":"invalid_request"}"#)),
        |shown, client| is(posted(shown), client, (400, r#"{"error":"unauthorized_client"}"#)),
        |shown, client| is(posted(shown), client, (403, "")),
        |shown, client| is(posted(shown), client, (400, r#"{"message":"Missing parameter: client_id"}"#)),
        |shown, client| {
            is(
                posted(shown),
                client,
                (422, r#"{"detail":[{"loc":["body","client_id"],"msg":"Field required"}]}"#),
            )
        },
        |shown, client| is(posted(shown), client, (401, r#"{"error":"bad_credentials"}"#)),
    ];
    for (nth, judge) in judges.into_iter().enumerate() {
        let fake = Fake::new(("app", "secret"), judge);
        let endpoint = fake.endpoint(URL);
        ask(&endpoint, "app", "secret").await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        assert_eq!(fake.take_seen(), ["basic", "post"], "{nth}");
        ask(&endpoint, "app", "secret").await.unwrap();
        assert_eq!(fake.take_seen(), ["post"], "{nth}");
    }
    // A server that looks for the client in the body is not asked by the other form of Basic first.
    let fake = Fake::new(("app", "s+t"), judges[1]);
    ask(&fake.endpoint(URL), "app", "s+t").await.unwrap();
    assert_eq!(fake.take_seen(), ["encoded", "post"]);
}

#[tokio::test]
async fn the_body_is_used_only_where_it_is_offered_and_over_what_is_secure() {
    const BOTH: &str = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token",
        "token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]}"#;
    const BASIC: &str = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token",
        "token_endpoint_auth_methods_supported":["client_secret_basic","private_key_jwt"]}"#;
    for (metadata, url, ways) in [
        (Some(BOTH), URL, &["basic", "post"][..]),
        (Some(BASIC), URL, &["basic"]),
        (None, "http://127.0.0.1:7/token", &["basic", "post"]),
        (None, "http://as.example/token", &["basic"]),
    ] {
        let fake = Fake::announcing(("app", "secret"), post_only, metadata);
        let outcome = ask(&fake.endpoint(url), "app", "secret").await;
        assert_eq!(outcome.is_ok(), ways.len() == 2, "{outcome:?}");
        assert_eq!(fake.take_seen(), ways, "{metadata:?} {url}");
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
            assert!(error.to_string().contains("`client_auth`"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_is_not_about_the_client_is_asked_once() {
    for body in [
        r#"{"error":"invalid_scope"}"#,
        r#"{"error":"invalid_target"}"#,
        r#"{"error":"unsupported_grant_type"}"#,
        r#"{"error":"invalid_dpop_proof"}"#,
        r#"{"error":"use_dpop_nonce"}"#,
        r#"{"error":"temporarily_unavailable"}"#,
        r#"{"error":"access_denied"}"#,
    ] {
        static BODY: Mutex<&str> = Mutex::new("");
        *BODY.lock().unwrap() = body;
        let fake = Fake::new(("app", "s+t"), |_, _| (400, *BODY.lock().unwrap()));
        ask(&fake.endpoint(URL), "app", "s+t").await.unwrap_err();
        assert_eq!(fake.take_seen(), ["encoded"], "{body}");
    }
}

/// Of very many credentials, most of which may be made up, each costs one request once it is known how the server reads them.
#[cfg(feature = "server")]
#[tokio::test]
async fn a_wrong_secret_of_many_costs_one_request_once_a_way_has_worked() {
    for (name, judge, first) in [("by the RFC", by_the_rfc as Judge, "encoded"), ("raw", glewlwyd, "basic")] {
        let hands = Arc::new(Hands::default());
        let clock = Clock::Injected(hands.clone());
        let fake = Fake::new(("app", "s%41t"), judge);
        let endpoint = fake.endpoint(URL);
        let ask = async |secret: &str| {
            endpoint.request(&clock, &credentials("app", secret, 0), &Tries::of_many()).await.map(drop)
        };
        ask("w%41ong").await.unwrap_err();
        assert_eq!(fake.take_seen(), ["encoded", "basic"], "{name}: nothing is known yet");
        ask("s%41t").await.unwrap();
        fake.take_seen();
        for nth in 0..100 {
            ask(&format!("w%41ong{nth}")).await.unwrap_err();
        }
        assert_eq!(fake.take_seen(), [first; 100], "{name}");
        ask("plain").await.unwrap_err();
        assert_eq!(fake.take_seen().len(), 1, "{name}");
        // And if the server changes, both forms are tried again after an hour without a success.
        *fake.judge.lock().unwrap() = if name == "raw" { by_the_rfc } else { glewlwyd };
        ask("s%41t").await.unwrap_err();
        hands.advance(KNOWN_FOR);
        ask("s%41t").await.unwrap();
    }
}

#[cfg(feature = "server")]
#[tokio::test]
async fn a_plain_secret_says_nothing_of_how_others_are_read() {
    let fake = Fake::new(("app", "secret"), glewlwyd);
    let endpoint = fake.endpoint(URL);
    let ask = async |secret: &str| {
        endpoint.request(&Clock::System, &credentials("app", secret, 0), &Tries::of_many()).await.map(drop)
    };
    ask("secret").await.unwrap();
    ask("wrong").await.unwrap_err();
    assert_eq!(fake.take_seen(), ["basic", "basic"]);
    ask("w+ong").await.unwrap_err();
    assert_eq!(fake.take_seen(), ["encoded", "basic"], "either form of Basic, but not the body");
}
