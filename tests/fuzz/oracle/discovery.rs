//! The answer to a question for metadata (RFC 8414 3.2, OpenID Connect Discovery 4).

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::Value;

use super::answer::{SECRETS, Scripted, attempt, builder, parse};
use super::said;

const ISSUER: &str = "https://as.example/t";
const TOKEN: &str = r#"{"access_token":"t0ken-c4nary-0123456789","token_type":"Bearer","expires_in":3600}"#;

pub fn check(data: &[u8]) {
    let answer = parse(data);
    let metadata = serde_json::from_slice::<Value>(answer.body()).ok();
    let server = Scripted::new(move |request: &Request<Bytes>| match *request.method() {
        Method::GET => answer.clone(),
        _ => Response::new(Bytes::from_static(TOKEN.as_bytes())),
    });
    let outcome = attempt(builder(server.clone()).issuer(ISSUER));
    // A token endpoint is named as it is.
    let named = metadata.as_ref().map(|metadata| metadata["token_endpoint"].to_string()).unwrap_or_default();
    let secrets = SECRETS.map(|secret| if named.contains("cr3t") { "no such text" } else { secret });
    said::no_secret(&outcome.shown, &secrets);
    said::no_secret(&outcome.shown, &["t0ken-c4nary-0123456789"]);
    if let Err(error) = &outcome.token {
        said::check(error, &secrets);
    }
    for request in server.seen.lock().unwrap().iter() {
        if *request.method() == Method::GET {
            said::no_secret(&format!("{} {:?}", request.uri(), request.headers()), &SECRETS);
            assert!(request.body().is_empty() && request.uri().host() == Some("as.example"));
            continue;
        }
        // The secret goes where this issuer's metadata say, and nowhere in the clear but to this machine.
        let metadata = metadata.as_ref().expect("metadata that are JSON");
        assert_eq!(metadata["issuer"], ISSUER);
        let uri = request.uri();
        let host = uri.host().unwrap();
        let loopback = host == "localhost"
            || host.ends_with(".localhost")
            || host.starts_with("127.")
            || host == "[::1]";
        assert!(uri.scheme_str() == Some("https") || loopback, "{uri}");
        assert!(!uri.authority().unwrap().as_str().contains('@'), "{uri}");
        let plain = metadata["token_endpoint"].as_str().unwrap();
        let simple = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/-_".contains(&b);
        if plain.strip_prefix("https://as.example/").is_some_and(|path| path.bytes().all(simple)) {
            assert_eq!(uri, plain);
        }
    }
}
