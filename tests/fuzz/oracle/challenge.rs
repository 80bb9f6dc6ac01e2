//! `WWW-Authenticate` in the API's 401 (RFC 9110 11.6.1, RFC 6750 3), one header a line.

use std::convert::Infallible;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use evertoken::TokenLayer;
use evertoken::testing::ManualClock;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};

use super::answer::{Scripted, block_on, builder};

pub fn check(data: &[u8]) {
    let lines: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .take(20)
        .filter_map(|line| HeaderValue::from_bytes(line.trim_ascii()).ok())
        .collect();
    let asked = repeats(&lines);
    let text = String::from_utf8_lossy(data).to_ascii_lowercase();
    if lines.iter().all(HeaderValue::is_empty) {
        assert!(asked, "a 401 without a challenge");
    }
    // One more challenge of ours can only help.
    if !["dpop", "\""].iter().any(|word| text.contains(word)) {
        let more: Vec<_> = lines.iter().cloned().chain([HeaderValue::from_static("Bearer")]).collect();
        assert!(repeats(&more), "{more:?}");
    }
    // What stands in quotes is no challenge, whatever it says.
    let quoted: Vec<u8> = data
        .iter()
        .filter(|byte| **byte == b'\t' || (**byte >= b' ' && **byte != 127))
        .flat_map(|byte| if b"\"\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] })
        .collect();
    for (before, after, right) in [
        ("Basic realm=\"", "\"", true),
        ("Bearer realm=\"", "\"", true),
        ("Basic realm=\"", "\", Bearer error=\"invalid_token\"", true),
        ("Bearer realm=\"", "\", error=\"insufficient_scope\"", false),
    ] {
        let value = [before.as_bytes(), &quoted, after.as_bytes()].concat();
        let value = HeaderValue::from_bytes(&value).unwrap();
        assert_eq!(repeats(std::slice::from_ref(&value)), right, "{value:?}");
    }
}

/// Whether a call is sent once more, with another token, after a 401 with these challenges.
fn repeats(challenges: &[HeaderValue]) -> bool {
    let count = AtomicUsize::new(0);
    let server = Scripted::new(move |_: &Request<Bytes>| {
        let nth = count.fetch_add(1, Ordering::Relaxed);
        Response::new(Bytes::from(format!(
            r#"{{"access_token":"t{nth}","token_type":"Bearer","expires_in":3600}}"#
        )))
    });
    // The token is a minute old when it is refused: one just received is not renewed at once.
    let clock = Arc::new(ManualClock::default());
    let source = builder(server)
        .clock(clock.clone())
        .token_url("https://as.example/token")
        .trusted_origin("https://api.example/");
    let layer = TokenLayer::new(source.build().unwrap()).unwrap();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (seen, challenges) = (sent.clone(), challenges.to_vec());
    let api = layer.layer(service_fn(move |request: Request<String>| {
        let mut seen = seen.lock().unwrap();
        seen.push(request.headers()[AUTHORIZATION].clone());
        let mut answer = Response::new(());
        if seen.len() == 1 {
            clock.advance(Duration::from_secs(60));
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            for challenge in &challenges {
                answer.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
            }
        }
        ready(Ok::<_, Infallible>(answer))
    }));
    let call = Request::get("https://api.example/orders").body(String::new()).unwrap();
    let answer = block_on(api.oneshot(call)).unwrap();
    let sent = sent.lock().unwrap();
    match sent[..] {
        [_] => assert_eq!(answer.status(), StatusCode::UNAUTHORIZED),
        [ref first, ref second] => assert!(answer.status() == StatusCode::OK && first != second),
        _ => panic!("sent {} times", sent.len()),
    }
    sent.len() == 2
}
