//! What somebody would send who means harm, and what it comes to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../house/mod.rs"]
mod house;
mod new_keys;
mod revoked;
mod withdrawn;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use evertoken::http::{Request, header};
use evertoken::server::{Introspection, Refusal, RefusalKind, TokenAlgorithm, Verifier, VerifierBuilder};
use evertoken::testing::{AuthServer, Fault, ManualClock, Signing};
use house::{at_once, until};
use serde_json::{Value, json};

fn builder(server: &AuthServer) -> VerifierBuilder {
    Verifier::builder(server.issuer()).audience(server.audience())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

/// A token's header and claims.
fn parts(token: &str) -> [Value; 2] {
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&BASE64.decode(part).unwrap()).ok());
    [parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap()]
}

fn refused(outcome: Result<evertoken::server::Caller, Refusal>) -> Refusal {
    match outcome {
        Ok(caller) => panic!("this was let through: {caller:?}"),
        Err(refusal) => refusal,
    }
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused_by_their_own_check() {
    let server = AuthServer::start().await.unwrap();
    let verifier = builder(&server).build().unwrap();
    let good = server.sign(json!({}), json!({})).unwrap();
    verifier.verify(&good).await.unwrap();
    let now = now();
    for (claims, said) in [
        (json!({ "iss": "https://evil.example" }), "it is of another issuer"),
        (json!({ "iss": server.issuer() + "/" }), "it is of another issuer"),
        (json!({ "iss": [server.issuer()] }), "it is of another issuer"),
        (json!({ "aud": "https://other.example" }), "it is for another audience"),
        (json!({ "aud": [] }), "it is for another audience"),
        (json!({ "aud": format!("x {}", server.audience()) }), "it is for another audience"),
        (json!({ "aud": server.audience().to_uppercase() }), "it is for another audience"),
        (json!({ "aud": { "a": server.audience() } }), "it is for another audience"),
        (json!({ "exp": now - 31 }), "it has expired"),
        (json!({ "exp": 0 }), "it has expired"),
        (json!({ "exp": "9999999999" }), "a time in it is none"),
        (json!({ "exp": -1 }), "a time in it is none"),
        (json!({ "exp": 1e300 }), "a time in it is none"),
        (json!({ "nbf": now + 60 }), "it is not valid yet"),
        (json!({ "nbf": "soon" }), "a time in it is none"),
        (json!({ "iat": now + 60 }), "it is not valid yet"),
        (json!({ "client_id": "" }), "it does not name its app"),
        (json!({ "client_id": 7 }), "it does not name its app"),
        (json!({ "cnf": { "kid": "x" } }), "it is bound in a way that is not known here"),
        (json!({ "cnf": { "jkt": 1 } }), "it is bound in a way that is not known here"),
        (json!({ "cnf": {} }), "it is bound in a way that is not known here"),
        (json!({ "cnf": "x" }), "it is bound in a way that is not known here"),
    ] {
        let refusal = refused(verifier.verify(&server.sign(json!({}), claims.clone()).unwrap()).await);
        assert_eq!((refusal.kind(), refusal.reason()), (RefusalKind::InvalidToken, said), "{claims}");
    }
    for missing in ["iss", "sub", "client_id", "aud", "iat", "exp", "jti"] {
        let refusal =
            refused(verifier.verify(&server.sign(json!({}), json!({ missing: null })).unwrap()).await);
        assert_eq!(refusal.reason(), "a claim is missing", "{missing}");
    }
    // What may differ without harm.
    for claims in [
        json!({ "aud": ["https://other.example", server.audience()] }),
        json!({ "exp": now - 20 }),
        json!({ "exp": now as f64 + 60.5 }),
        json!({ "nbf": now + 20 }),
        json!({ "cnf": null }),
    ] {
        let token = server.sign(json!({}), claims.clone()).unwrap();
        assert!(verifier.verify(&token).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys_and_never_the_tokens_choice() {
    let server = AuthServer::start().await.unwrap();
    let verifier = builder(&server).build().unwrap();
    let good = server.sign(json!({}), json!({})).unwrap();
    let [header, claims] = parts(&good);
    let signature = good.rsplit('.').next().unwrap();
    verifier.verify(&good).await.unwrap();

    // Not signed, in every spelling.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let mut header = header.clone();
        header["alg"] = none.into();
        for signature in ["", signature, "AA"] {
            let forged = format!("{}.{}.{signature}", part(&header), part(&claims));
            assert_eq!(
                refused(verifier.verify(&forged).await).reason(),
                "its algorithm is not allowed",
                "{none}"
            );
        }
    }
    // The public key as the secret of an HMAC, in the forms that libraries have taken for one.
    let jwk = &server.jwks()["keys"][0];
    for secret in [jwk["n"].as_str().unwrap().to_owned(), jwk.to_string(), server.jwks().to_string()] {
        for name in ["HS256", "HS384", "HS512"] {
            let mut header = header.clone();
            header["alg"] = name.into();
            let message = format!("{}.{}", part(&header), part(&claims));
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let forged = format!("{message}.{}", BASE64.encode(hmac::sign(&key, message.as_bytes())));
            assert_eq!(refused(verifier.verify(&forged).await).reason(), "its algorithm is not allowed");
        }
    }
    // Right key, right signature, another name on it: the key says by which algorithm it signs.
    for name in ["PS256", "ES256", "EdDSA", "RS384"] {
        let relabelled = server.sign(json!({ "alg": name }), json!({})).unwrap();
        let refusal = refused(verifier.verify(&relabelled).await);
        let said = if name == "RS384" { "its algorithm is not allowed" } else { "its signature is wrong" };
        assert_eq!(refusal.reason(), said, "{name}");
    }
    // A secret among the published keys signs nothing.
    let mut keys = server.jwks();
    keys["keys"].as_array_mut().unwrap().push(json!({ "kty": "oct", "kid": "shared", "k": "c2VjcmV0" }));
    server.set_jwks(Some(keys));
    let fresh = builder(&server).build().unwrap();
    fresh.prefetch().await.unwrap();
    assert_eq!(fresh.condition().keys, 1);
    // And what the builder leaves out is not taken.
    let strict = builder(&server).algorithms([TokenAlgorithm::Es256]).build().unwrap();
    assert_eq!(refused(strict.verify(&good).await).reason(), "its algorithm is not allowed");
    assert_eq!(server.jwks_requests(), 2);
}

#[tokio::test]
async fn what_is_not_signed_by_the_issuer_is_refused() {
    let server = AuthServer::start().await.unwrap();
    let other = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
    let verifier = builder(&server).build().unwrap();
    let good = server.sign(json!({}), json!({})).unwrap();
    verifier.verify(&good).await.unwrap();
    let [header, mut claims] = parts(&good);
    let signature = good.rsplit('.').next().unwrap();

    claims["client_id"] = "root".into();
    let tampered = format!("{}.{}.{signature}", part(&header), part(&claims));
    assert_eq!(refused(verifier.verify(&tampered).await).reason(), "its signature is wrong");
    let foreign = other.sign(json!({}), json!({ "iss": server.issuer() })).unwrap();
    assert_eq!(refused(verifier.verify(&foreign).await).reason(), "its signature is wrong");
    // Keys that a token brings along, or says where to find, do not count; nobody is asked for them.
    for (name, value) in [
        ("jwk", other.jwks()["keys"][0].clone()),
        ("jku", other.jwks_url().into()),
        ("x5u", other.jwks_url().into()),
        ("x5c", json!(["AAAA"])),
    ] {
        let token =
            other.sign(json!({ name: value, "kid": null }), json!({ "iss": server.issuer() })).unwrap();
        assert_eq!(refused(verifier.verify(&token).await).reason(), "its signature is wrong", "{name}");
        // On a good token they do no harm either.
        verifier.verify(&server.sign(json!({ name: value }), json!({})).unwrap()).await.unwrap();
    }
    assert_eq!(other.jwks_requests(), 0);
    for (header, said) in [
        (json!({ "crit": ["b64"], "b64": false }), "its header has an extension that is not known here"),
        (json!({ "crit": [] }), "its header has an extension that is not known here"),
        (json!({ "typ": "JWT" }), "its type is not that of an access token"),
        (json!({ "typ": "dpop+jwt" }), "its type is not that of an access token"),
        (json!({ "typ": null }), "its type is not that of an access token"),
        (json!({ "alg": null }), "it is no signed JWT"),
        (json!({ "kid": 1 }), "it is no signed JWT"),
    ] {
        let refusal = refused(verifier.verify(&server.sign(header.clone(), json!({})).unwrap()).await);
        assert_eq!(refusal.reason(), said, "{header}");
    }
    verifier.verify(&server.sign(json!({ "typ": "application/AT+jwt" }), json!({})).unwrap()).await.unwrap();

    let header_twice = BASE64.encode(r#"{"typ":"at+jwt","alg":"RS256","alg":"none"}"#);
    let middle = good.split('.').nth(1).unwrap();
    // The last character of a signature has bits that count for nothing: another one is another token all the same.
    let last = signature.chars().last().unwrap();
    let twin =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| *c != last);
    let twins: Vec<String> = twin.map(|c| format!("{}{c}", &good[..good.len() - 1])).collect();
    let mut odd: Vec<String> = [
        "",
        ".",
        "..",
        "ey..",
        "e30.e30.e30",
        "eyJ9.e30.",
        &format!("{good}."),
        &format!("{good}="),
        &good.replacen('.', " .", 1),
        &good.replacen('.', ".\n", 1),
        &format!("{header_twice}.{middle}.{signature}"),
        &good.replace('.', ".."),
        &good.replace('_', "/"),
        &"ey".repeat(100_000),
    ]
    .map(str::to_owned)
    .into();
    odd.extend(twins);
    for token in odd.iter().filter(|token| **token != good) {
        let refusal = refused(verifier.verify(token).await);
        assert_eq!(refusal.kind(), RefusalKind::InvalidToken, "{}", &token[..token.len().min(80)]);
    }
    assert_eq!(refused(verifier.verify(&"ey.a.b".repeat(3000)).await).reason(), "it is too long");
    // Tokens that name no key had them read once more, and that has to do for a while.
    assert_eq!(server.jwks_requests(), 2);
}

#[tokio::test]
async fn a_kid_is_a_name_and_leads_nowhere() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = builder(&server).clock(clock.clone()).build().unwrap();
    verifier.verify(&server.sign(json!({}), json!({})).unwrap()).await.unwrap();
    let long = "k".repeat(5000);
    for kid in [
        "../../etc/passwd",
        "/dev/null",
        "' OR 1=1 --",
        "http://evil.example/jwks",
        "key-1\0",
        "",
        "KEY-1",
        &long,
    ] {
        clock.advance(Duration::from_secs(20));
        let token = server.sign(json!({ "kid": kid }), json!({})).unwrap();
        let refusal = refused(verifier.verify(&token).await);
        assert_eq!(refusal.reason(), "it is signed with a key that its issuer does not publish", "{kid}");
    }
    assert!(
        server
            .log()
            .iter()
            .all(|entry| ["/jwks", "/.well-known/"].iter().any(|path| entry.what.contains(path)))
    );
    // The longest is not even looked for.
    assert_eq!(server.jwks_requests(), 8);
}

/// The flood of go-oidc's and jwtk's bugs: 100,000 names in a minute.
#[tokio::test]
async fn a_flood_of_unknown_kids_is_no_flood_at_the_issuer() {
    let server = AuthServer::builder().signing(Signing::Es256).start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = builder(&server).clock(clock.clone()).build().unwrap();
    let exp = now() + 100_000;
    let sign = |kid: &str| server.sign(json!({ "kid": kid }), json!({ "exp": exp })).unwrap();
    let good = |n: u64| server.sign(json!({}), json!({ "exp": exp, "jti": n.to_string() })).unwrap();
    verifier.verify(&good(0)).await.unwrap();
    let [_, claims] = parts(&sign("x"));
    let claims = part(&claims);
    for n in 0..100_000_u64 {
        // Not signed: that would be looked at last.
        let header = part(&json!({ "typ": "at+jwt", "alg": "ES256", "kid": format!("kid-{n}") }));
        let refusal = verifier.verify(&format!("{header}.{claims}.AAAA")).await.unwrap_err();
        // Any of them may be the name of a key that was made just now.
        match refusal.kind() {
            RefusalKind::Unavailable => assert!(refusal.retry_after().unwrap() <= Duration::from_secs(10)),
            kind => assert_eq!(kind, RefusalKind::InvalidToken),
        }
        if n % 100 == 0 {
            clock.advance(Duration::from_millis(60));
        }
        if n % 10_000 == 0 {
            at_once(verifier.verify(&good(n))).expect("a good token does not wait").unwrap();
        }
    }
    // One at the start, then one every ten seconds.
    let requests = server.jwks_requests();
    assert!((6..=8).contains(&requests), "{requests}");

    // Failed readings count, too.
    server.fail_always_jwks(Fault::RetryAfterSeconds(500, 0));
    for n in 0..10_000_u64 {
        let refusal = verifier.verify(&sign(&format!("late-{n}"))).await.unwrap_err();
        assert!(matches!(refusal.kind(), RefusalKind::Unavailable | RefusalKind::InvalidToken));
        if n % 100 == 0 {
            clock.advance(Duration::from_millis(600));
        }
    }
    let failed = server.jwks_requests() - requests;
    assert!((3..=12).contains(&failed), "{failed} in a minute of failures");
    at_once(verifier.verify(&good(1_000_000))).expect("a good token does not wait").unwrap();
}

#[tokio::test]
async fn the_same_unknown_kid_is_looked_for_once_a_minute() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = builder(&server).clock(clock.clone()).build().unwrap();
    let sign = |kid: Value, n: u64| {
        server.sign(json!({ "kid": kid }), json!({ "jti": n.to_string(), "exp": now() + 9000 })).unwrap()
    };
    verifier.verify(&server.sign(json!({}), json!({})).unwrap()).await.unwrap();
    for n in 0..6 {
        refused(verifier.verify(&sign("gone".into(), n)).await);
        clock.advance(Duration::from_secs(11));
    }
    assert_eq!(server.jwks_requests(), 2);
    refused(verifier.verify(&sign("gone".into(), 9)).await);
    assert_eq!(server.jwks_requests(), 3);
}

#[tokio::test]
async fn ten_thousand_keys_are_too_many_and_the_old_ones_serve_on() {
    let server = AuthServer::start().await.unwrap();
    let clock = Arc::new(ManualClock::default());
    let verifier = builder(&server).clock(clock.clone()).build().unwrap();
    let token =
        |n: u64| server.sign(json!({}), json!({ "jti": n.to_string(), "exp": now() + 9000 })).unwrap();
    verifier.verify(&token(0)).await.unwrap();
    let key = server.jwks()["keys"][0].clone();
    let many = |count: usize| {
        let keys = (0..count).map(|n| {
            let mut key = key.clone();
            key["kid"] = format!("many-{n}").into();
            key
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    };
    for (count, said) in [(101, "101 keys"), (10_000, "longer than 1 MiB")] {
        server.set_jwks(Some(many(count)));
        let before = server.jwks_requests();
        clock.advance(Duration::from_secs(541));
        until("they are read", || {
            let error = verifier.condition().last_error;
            let text = error.map(|error| format!("{error} {:?}", std::error::Error::source(&error)));
            server.jwks_requests() > before && text.is_some_and(|text| text.contains(said))
        })
        .await;
        at_once(verifier.verify(&token(count as u64))).expect("held keys do not wait").unwrap();
        assert_eq!(verifier.condition().keys, 1);
    }
}

#[tokio::test]
async fn a_bound_token_is_no_bearer_token() {
    let server = AuthServer::start().await.unwrap();
    let verifier = builder(&server).public_url("https://api.example").build().unwrap();
    for confirmation in
        [json!({ "jkt": "x" }), json!({ "x5t#S256": "x" }), json!({ "jkt": "x", "x5t#S256": "y" })]
    {
        let token = server.sign(json!({}), json!({ "cnf": confirmation })).unwrap();
        let refusal = refused(verifier.verify(&token).await);
        assert_eq!(refusal.kind(), RefusalKind::InvalidToken);
        let (parts, ()) = Request::get("/x")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(refused(verifier.verify_request(&parts).await).kind(), RefusalKind::InvalidToken);
    }
    // And the other way round.
    let plain = server.sign(json!({}), json!({})).unwrap();
    let (parts, ()) = Request::get("/x")
        .header(header::AUTHORIZATION, format!("DPoP {plain}"))
        .body(())
        .unwrap()
        .into_parts();
    assert_eq!(
        refused(verifier.verify_request(&parts).await).reason(),
        "it is not bound to a key: send it as Bearer"
    );
}

#[tokio::test]
async fn headers_that_are_not_one_token_are_refused_without_asking_anybody() {
    let server = AuthServer::start().await.unwrap();
    let verifier = builder(&server).build().unwrap();
    let good = server.sign(json!({}), json!({})).unwrap();
    let judge = async |uri: &str, lines: &[&[u8]]| {
        let mut request = Request::get(uri);
        for line in lines {
            request = request.header(header::AUTHORIZATION, *line);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        verifier.verify_request(&parts).await
    };
    let bearer = format!("Bearer {good}");
    let invalid = RefusalKind::InvalidRequest;
    for (lines, kind) in [
        (vec![], RefusalKind::NoCredentials),
        (vec![&b"Negotiate abc"[..]], RefusalKind::NoCredentials),
        (vec![bearer.as_bytes(), bearer.as_bytes()], invalid),
        (vec![bearer.as_bytes(), &b"Basic YTpi"[..]], invalid),
        (vec![&b"Bearer"[..]], invalid),
        (vec![&b"Bearer "[..]], invalid),
        (vec![good.as_bytes()], invalid),
        (vec![&b"Bearer a b"[..]], invalid),
        (vec![&b"Bearer a,b"[..]], invalid),
        (vec![&b"Bearer \"a\""[..]], invalid),
        (vec![&b"Bearer a=b"[..]], invalid),
        (vec![&b"Bearer t\xF6k\xE9n"[..]], invalid),
        (vec![&b"Bearer a\tX-Injected: b"[..]], invalid),
        (vec![format!("Bearer {good}, Bearer {good}").as_bytes()], invalid),
    ] {
        assert_eq!(refused(judge("/x", &lines).await).kind(), kind, "{lines:?}");
    }
    // A token in the query is not looked at.
    let refusal = refused(judge(&format!("/x?access_token={good}"), &[]).await);
    assert_eq!(refusal.kind(), RefusalKind::NoCredentials);
    assert_eq!(server.jwks_requests(), 0);
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        judge("/x", &[format!("{scheme} {good}").as_bytes()]).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_that_does_not_look_like_one_of_the_issuers_is_not_introspected_for_nothing() {
    let server = AuthServer::start().await.unwrap();
    let introspection = Introspection::new(AuthServer::APP_ID, AuthServer::APP_SECRET);
    let verifier = builder(&server).introspection(introspection).build().unwrap();
    // A forged JWT is judged by its signature alone.
    let forged = format!("{}x", server.sign(json!({}), json!({})).unwrap());
    refused(verifier.verify(&forged).await);
    assert_eq!(server.introspections(), 0);
    for _ in 0..100 {
        refused(verifier.verify("garbage").await);
    }
    assert_eq!(server.introspections(), 1);
}
