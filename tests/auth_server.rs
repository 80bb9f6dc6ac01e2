//! The authorization server in a box, seen by plain HTTP clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evertoken::testing::{AuthServer, Discovery, Fault, Signing};
use http::StatusCode;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use url::Url;

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

async fn ask_with(server: &AuthServer, form: &[(&str, &str)]) -> reqwest::Response {
    let request = reqwest::Client::new().post(server.token_url());
    request.basic_auth(AuthServer::APP_ID, Some(AuthServer::APP_SECRET)).form(form).send().await.unwrap()
}

async fn ask(server: &AuthServer) -> reqwest::Response {
    ask_with(server, &[GRANT]).await
}

async fn token(server: &AuthServer) -> String {
    let answer: Value = ask(server).await.error_for_status().unwrap().json().await.unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn call(server: &AuthServer, path: &str, token: &str) -> reqwest::Response {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    http.get(format!("{}{path}", server.api_url())).bearer_auth(token).send().await.unwrap()
}

async fn json_of(url: &str) -> Value {
    reqwest::get(url).await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

fn address(url: &str) -> SocketAddr {
    Url::parse(url).unwrap().socket_addrs(|| None).unwrap()[0]
}

/// A connection on which a token request has been sent, nothing read yet.
async fn raw_request(server: &AuthServer) -> TcpStream {
    let mut stream = TcpStream::connect(address(&server.token_url())).await.unwrap();
    let basic = STANDARD.encode(format!("{}:{}", AuthServer::APP_ID, AuthServer::APP_SECRET));
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: as\r\nAuthorization: Basic {basic}\r\nContent-Length: 29\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=client_credentials"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn tokens_verify_against_the_published_keys_in_both_algorithms() {
    for (signing, alg) in [(Signing::Rs256, "RS256"), (Signing::Es256, "ES256")] {
        let server = AuthServer::builder().signing(signing).audience("https://a").start().await.unwrap();
        let old = token(&server).await;
        server.rotate_keys().unwrap();
        let new = token(&server).await;
        assert_ne!(part(&old, 0)["kid"], part(&new, 0)["kid"]);
        for token in [old, new] {
            let header = part(&token, 0);
            assert_eq!((&header["alg"], &header["typ"]), (&json!(alg), &json!("at+jwt")));
            let keys: JwkSet = serde_json::from_value(json_of(&server.jwks_url()).await).unwrap();
            let key = keys.find(header["kid"].as_str().unwrap()).unwrap();
            let algorithm = alg.parse().unwrap();
            let verifier =
                (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &DecodingKey::from_jwk(key).unwrap())
                    .unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            verifier
                .verify(message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap_or_else(|error| panic!("{alg}: {error}"));

            let claims = part(&token, 1);
            assert_eq!(claims["iss"], server.issuer());
            assert_eq!(claims["aud"], "https://a");
            assert_eq!((&claims["client_id"], &claims["sub"]), (&json!("app"), &json!("app")));
            assert_eq!(call(&server, "orders", &token).await.status(), 200);
        }
    }
}

#[tokio::test]
async fn the_answer_says_what_was_granted() {
    let server = AuthServer::builder().lifetime(Duration::from_millis(1500)).start().await.unwrap();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let response =
        ask_with(&server, &[GRANT, ("scope", "a b"), ("resource", "https://r"), ("audience", "https://s")])
            .await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["expires_in"], 1.5);
    assert_eq!((&answer["token_type"], &answer["scope"]), (&json!("Bearer"), &json!("a b")));
    let token = answer["access_token"].as_str().unwrap();
    let claims = part(token, 1);
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!(["https://s", "https://r"]), &json!("a b")));
    // `exp` is rounded up from the exact end.
    assert!(claims["exp"].as_f64().unwrap() >= before.as_secs_f64() + 1.5, "{claims}");
    assert!(!server.accepts(token), "the API is not in the audience");

    server.set_lifetime(Duration::from_secs(60));
    let answer: Value = ask(&server).await.json().await.unwrap();
    assert_eq!(answer["expires_in"].to_string(), "60");
    assert!(answer.get("scope").is_none());
    assert_eq!(server.issued_tokens(), [token, answer["access_token"].as_str().unwrap()]);
}

#[tokio::test]
async fn basic_is_form_encoded_by_default_and_raw_on_demand() {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let server = AuthServer::start().await.unwrap();
    let http = reqwest::Client::new();
    let send = async |id: &str, secret: &str| {
        let request = http.post(server.token_url()).basic_auth(id, Some(secret)).form(&[GRANT]);
        request.send().await.unwrap().status()
    };
    for (id, secret) in
        [("a:b", "c:d"), ("50%", "100%25"), ("a+b", "+"), ("a b", " c "), ("käse", "пароль🔑")]
    {
        server.register(id, secret);
        server.set_raw_basic(false);
        assert_eq!(send(&encode(id), &encode(secret)).await, 200, "{id}");
        assert_eq!(server.log().last().unwrap().client_id.as_deref(), Some(id));
        if id.is_ascii() && id != "a b" {
            assert_eq!(send(id, secret).await, 401, "{id} raw where it must be encoded");
        }
        server.set_raw_basic(true);
        assert_eq!(send(&encode(id), &encode(secret)).await, 401, "{id} encoded where it must be raw");
        // Raw, a colon in the id cannot be told from the separator.
        assert_eq!(send(id, secret).await, if id.contains(':') { 401 } else { 200 }, "{id} raw");
    }
}

#[tokio::test]
async fn refusals_are_those_of_the_standard() {
    let server = AuthServer::start().await.unwrap();
    let http = reqwest::Client::new();
    let post = |form: &[(&str, &str)]| http.post(server.token_url()).form(form).send();

    let good = [GRANT, ("client_id", "app"), ("client_secret", "secret")];
    assert_eq!(post(&good).await.unwrap().status(), 200);
    assert_eq!(server.log()[0].client_auth, Some("client_secret_post"));

    for form in [
        &[GRANT][..],
        &[GRANT, ("client_id", "app"), ("client_secret", "wrong")],
        &[GRANT, ("client_id", "nobody"), ("client_secret", "secret")],
    ] {
        let response = post(form).await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"], "invalid_client");
    }
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("scope", "a")], "invalid_request"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (&[GRANT, ("client_secret", "secret")], "invalid_request"),
        (&[GRANT, ("scope", "a"), ("scope", "b")], "invalid_request"),
    ];
    for (form, error) in cases {
        let response = ask_with(&server, form).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.json::<Value>().await.unwrap()["error"], error, "{form:?}");
    }
    let json = http.post(server.token_url()).basic_auth("app", Some("secret")).json(&json!({})).send().await;
    assert_eq!(json.unwrap().status(), 400);
}

#[tokio::test]
async fn clients_come_change_and_go() {
    let server = AuthServer::builder().client("other", "o").start().await.unwrap();
    let http = reqwest::Client::new();
    let status = async |id: &str, secret: &str| {
        let request = http.post(server.token_url()).basic_auth(id, Some(secret)).form(&[GRANT]);
        request.send().await.unwrap().status()
    };
    assert_eq!(status("other", "o").await, 200);
    let held = token(&server).await;
    server.rotate("app", "new");
    assert_eq!(status("app", "secret").await, 401);
    assert_eq!(status("app", "new").await, 200);
    server.remove("app");
    assert_eq!(status("app", "new").await, 401);
    assert!(server.accepts(&held), "tokens outlive the credential");
}

#[tokio::test]
async fn the_api_refuses_what_is_expired_revoked_forged_or_missing() {
    let server = AuthServer::start().await.unwrap();
    let first = token(&server).await;
    let second = token(&server).await;
    assert_eq!(call(&server, "x", &first).await.status(), 200);
    server.revoke(&first);
    let refused = call(&server, "x", &first).await;
    assert_eq!(refused.status(), 401);
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains("error=\"invalid_token\""));
    assert_eq!(call(&server, "x", &second).await.status(), 200);
    server.revoke_all();
    assert_eq!(call(&server, "x", &second).await.status(), 401);

    // Exact to the millisecond, though the JWT's own `exp` lies up to a second later.
    server.set_lifetime(Duration::from_millis(20));
    let short = token(&server).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(call(&server, "x", &short).await.status(), 401);

    server.set_lifetime(Duration::from_secs(60));
    let good = token(&server).await;
    let other = AuthServer::start().await.unwrap();
    let foreign = token(&other).await;
    let mut forged = good.clone();
    let last = if forged.ends_with('A') { 'Q' } else { 'A' };
    let kept = forged.len() - 10;
    forged.replace_range(kept..=kept, &last.to_string());
    for (bad, why) in [(&*foreign, "of another server"), (&*forged, "forged"), ("nonsense", "no JWT")] {
        assert_eq!(call(&server, "x", bad).await.status(), 401, "{why}");
    }
    let without = reqwest::get(format!("{}x", server.api_url())).await.unwrap();
    assert_eq!(without.status(), 401);
    assert!(!without.headers()["www-authenticate"].to_str().unwrap().contains("error"));
    assert_eq!((server.api_calls(), server.api_refused()), (9, 7));
}

#[tokio::test]
async fn the_api_says_what_it_got() {
    let server = AuthServer::start().await.unwrap();
    let token = token(&server).await;
    let http = reqwest::Client::new();
    let url = format!("{}orders/7?full=1", server.api_url());
    let echo: Value = http
        .patch(url)
        .bearer_auth(&token)
        .header("x-one", "1")
        .header("x-one", "2")
        .body("näh")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(echo["path"], "/v1/orders/7");
    assert_eq!((&echo["query"], &echo["method"]), (&json!("full=1"), &json!("PATCH")));
    assert_eq!((&echo["client_id"], &echo["body"]), (&json!("app"), &json!("näh")));
    assert_eq!(echo["headers"]["x-one"], "1, 2");
    assert!(!echo.to_string().contains(&token));

    assert_eq!(call(&server, "always-401", &token).await.status(), 401);
    assert_eq!(call(&server, "forbidden", &token).await.status(), 403);
    let redirect = call(&server, "redirect?to=http%3A%2F%2Felsewhere%2F", &token).await;
    assert_eq!(
        (redirect.status(), &redirect.headers()["location"]),
        (StatusCode::TEMPORARY_REDIRECT, &"http://elsewhere/".parse().unwrap())
    );
    let open = call(&server, "public", "nonsense").await.json::<Value>().await.unwrap();
    assert_eq!(open["authorization"], true);
    assert_eq!(json_of(&format!("{}public", server.api_url())).await["authorization"], false);

    server.fail_next_api(Fault::RetryAfterSeconds(503, 1));
    assert_eq!(call(&server, "x", &token).await.status(), 503);
    assert_eq!(call(&server, "x", &token).await.status(), 200);
}

#[tokio::test]
async fn discovery_at_every_place_that_servers_use() {
    let oauth = ".well-known/oauth-authorization-server";
    let openid = ".well-known/openid-configuration";
    let server = AuthServer::builder().path("/tenant/").start().await.unwrap();
    let issuer = server.issuer();
    let root = issuer.strip_suffix("/tenant").unwrap();
    let places =
        [format!("{root}/{oauth}/tenant"), format!("{issuer}/{openid}"), format!("{root}/{openid}/tenant")];
    let seen = async || {
        let mut seen = Vec::new();
        for place in &places {
            let response = reqwest::get(place).await.unwrap();
            let html =
                response.headers().get("content-type").is_some_and(|v| v.to_str().unwrap().contains("html"));
            seen.push(if html { 0 } else { response.status().as_u16() });
        }
        seen
    };
    for (discovery, expected) in [
        (Discovery::Both, [200, 200, 200]),
        (Discovery::OAuthOnly, [200, 404, 404]),
        (Discovery::OpenIdOnly, [404, 200, 200]),
        (Discovery::HtmlThenOpenId, [0, 200, 200]),
        (Discovery::None, [404, 404, 404]),
    ] {
        server.set_discovery(discovery);
        assert_eq!(seen().await, expected, "{discovery:?}");
    }
    assert_eq!(server.discovery_requests(), 15);

    server.set_discovery(Discovery::Both);
    let metadata = json_of(&places[0]).await;
    assert_eq!(metadata["issuer"], issuer);
    assert_eq!(metadata["token_endpoint"], server.token_url());
    assert_eq!(metadata["jwks_uri"], server.jwks_url());
    assert_eq!(
        metadata["token_endpoint_auth_methods_supported"],
        json!(["client_secret_basic", "client_secret_post"])
    );
    assert_eq!(ask(&server).await.status(), 200, "the announced endpoint is there");

    server.set_announced_issuer("https://evil.example");
    server.set_announced_auth_methods(&[]);
    let metadata = json_of(&places[1]).await;
    assert_eq!(metadata["issuer"], "https://evil.example");
    assert!(metadata.get("token_endpoint_auth_methods_supported").is_none());
    server.set_announced_auth_methods(&["client_secret_post"]);
    assert_eq!(
        json_of(&places[1]).await["token_endpoint_auth_methods_supported"],
        json!(["client_secret_post"])
    );

    let bad = AuthServer::builder().path("/{tenant}").start().await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::InvalidInput);

    let plain = AuthServer::start().await.unwrap();
    for place in [oauth, openid] {
        assert_eq!(json_of(&format!("{}/{place}", plain.issuer())).await["issuer"], plain.issuer());
    }
}

#[tokio::test]
async fn answers_can_be_bent_and_tokens_repeated() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "expires_in": "60", "token_type": null, "refresh_in": 7 }));
    let answer: Value = ask(&server).await.json().await.unwrap();
    assert_eq!((&answer["expires_in"], &answer["refresh_in"]), (&json!("60"), &json!(7)));
    assert!(answer.get("token_type").is_none() && answer["access_token"].is_string());
    server.heal();

    let first: Value = ask(&server).await.json().await.unwrap();
    assert_eq!(first["token_type"], "Bearer");
    server.set_same_token(true);
    let again: Value = ask(&server).await.json().await.unwrap();
    assert_eq!(again["access_token"], first["access_token"]);
    assert!(again["expires_in"].as_f64().unwrap() < 3600.0, "{again}");
    let scoped: Value = ask_with(&server, &[GRANT, ("scope", "a")]).await.json().await.unwrap();
    assert_ne!(scoped["access_token"], first["access_token"], "another scope is another token");
    server.set_same_token(false);
    assert_ne!(token(&server).await, first["access_token"].as_str().unwrap());
}

#[tokio::test]
async fn faults_with_an_answer() {
    let server = AuthServer::start().await.unwrap();
    server.fail_next(Fault::Status {
        status: 502,
        headers: vec![("X-Proxy".into(), "yes".into())],
        body: "<h1>Bad gateway</h1>".into(),
    });
    server.fail_next(Fault::RetryAfterSeconds(429, 9));
    server.fail_next(Fault::RetryAfterDate(503, Duration::from_secs(30)));
    server.fail_next(Fault::Oauth {
        status: 401,
        error: "invalid_client".into(),
        description: "gone".into(),
    });
    server.fail_next(Fault::Garbage);

    let proxy = ask(&server).await;
    assert_eq!((proxy.status().as_u16(), &proxy.headers()["x-proxy"]), (502, &"yes".parse().unwrap()));
    assert_eq!(proxy.text().await.unwrap(), "<h1>Bad gateway</h1>");

    let throttled = ask(&server).await;
    assert_eq!(
        (throttled.status().as_u16(), &throttled.headers()["retry-after"]),
        (429, &"9".parse().unwrap())
    );

    let asked = SystemTime::now();
    let down = ask(&server).await;
    assert_eq!(down.status(), 503);
    let date = httpdate::parse_http_date(down.headers()["retry-after"].to_str().unwrap()).unwrap();
    assert!(date >= asked + Duration::from_secs(30), "{date:?}");

    let refused = ask(&server).await;
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body, json!({ "error": "invalid_client", "error_description": "gone" }));

    let garbage = ask(&server).await;
    assert_eq!(garbage.status(), 200);
    assert!(garbage.json::<Value>().await.unwrap_err().is_decode());

    assert_eq!(ask(&server).await.status(), 200);
    server.fail_always(Fault::RetryAfterSeconds(500, 1));
    assert_eq!([ask(&server).await.status(), ask(&server).await.status()], [500, 500]);
    server.heal();
    assert_eq!(ask(&server).await.status(), 200);
    let statuses: Vec<_> = server.log().iter().filter_map(|entry| entry.status).collect();
    assert_eq!(statuses, [502, 429, 503, 401, 200, 200, 500, 500, 200]);
}

#[tokio::test]
async fn faults_of_the_connection() {
    let server = AuthServer::start().await.unwrap();
    let mut answer = Vec::new();

    server.fail_next(Fault::Reset);
    let error = raw_request(&server).await.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!((error.kind(), answer.len()), (ErrorKind::ConnectionReset, 0));

    server.fail_next(Fault::Close);
    assert_eq!(raw_request(&server).await.read_to_end(&mut answer).await.unwrap(), 0);

    server.fail_next(Fault::TornBody);
    let error = raw_request(&server).await.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\n\r\n{\"token_type\""), "{text}");

    server.fail_next(Fault::EndlessBody);
    let mut endless = ask(&server).await;
    let mut read = 0;
    while read < 4 << 20 {
        read += endless.chunk().await.unwrap().expect("it has no end").len();
    }
    drop(endless);

    let outcomes: Vec<_> = server.log().iter().map(|entry| entry.status).collect();
    assert_eq!(outcomes, [None, None, Some(200), Some(200)]);
    assert_eq!(ask(&server).await.status(), 200);
}

#[tokio::test]
async fn a_hanging_request_counts_for_as_long_as_its_client_stays() {
    let server = AuthServer::start().await.unwrap();
    server.fail_always(Fault::Hang);
    // One after another, each giving up before the next: never two at once.
    for n in 1..=20 {
        let stream = raw_request(&server).await;
        server.wait_for_token_requests(n).await;
        drop(stream);
    }
    assert_eq!(server.max_in_flight(), 1);

    let held = [raw_request(&server).await, raw_request(&server).await, raw_request(&server).await];
    server.wait_for_token_requests(23).await;
    assert_eq!(server.max_in_flight(), 3);
    assert!(server.log().iter().all(|entry| entry.status.is_none()));
    drop(held);

    server.heal();
    server.reset_counters();
    assert_eq!((server.max_in_flight(), server.token_requests(), server.log().len()), (0, 0, 0));
    assert_eq!(ask(&server).await.status(), 200);
    assert_eq!((server.max_in_flight(), server.token_requests()), (1, 1));
}

#[tokio::test]
async fn latency_delays_the_answer_and_not_the_decision() {
    let server = AuthServer::start().await.unwrap();
    server.set_latency(Duration::from_millis(30));
    server.fail_next(Fault::Latency(Duration::from_millis(30)));
    let asked = server.clone();
    let answer = tokio::spawn(async move { token(&asked).await });
    server.wait_for_token_requests(1).await;
    // What comes after the request does not change its outcome any more.
    server.rotate("app", "new");
    let token = answer.await.unwrap();
    assert!(server.accepts(&token));
    let entry = &server.log()[0];
    assert_eq!((entry.status, entry.client_id.as_deref()), (Some(200), Some("app")));
}

#[tokio::test]
async fn an_outage_closes_the_socket_and_ends_at_the_same_port() {
    let server = AuthServer::start().await.unwrap();
    let token = token(&server).await;
    server.fail_next(Fault::Hang);
    let mut hanging = raw_request(&server).await;
    server.wait_for_token_requests(2).await;
    let (url, auth) = (server.token_url(), address(&server.token_url()));

    for _ in 0..5 {
        server.outage();
        server.outage();
        assert!(server.is_out());
        let refused = TcpStream::connect(auth).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(call(&server, "x", &token).await.status(), 200, "the API stays");
        server.recover().await.unwrap();
        server.recover().await.unwrap();
        assert!(!server.is_out());
        assert_eq!(ask(&server).await.status(), 200);
    }
    assert_eq!(server.token_url(), url);
    // A connection from before the outage is gone.
    assert!(matches!(hanging.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn nobody_else_gets_the_port_during_an_outage() {
    let server = AuthServer::start().await.unwrap();
    server.outage();
    // No connection was ever made, so nothing but the server can hold it.
    let other = TcpSocket::new_v4().unwrap();
    assert_eq!(other.bind(address(&server.token_url())).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn the_last_handle_takes_everything_with_it() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let server = AuthServer::start().await.unwrap();
    let (auth, api) = (address(&server.token_url()), address(&server.api_url()));
    server.fail_always(Fault::Hang);
    let mut hanging = raw_request(&server).await;
    server.wait_for_token_requests(1).await;
    let mut idle = TcpStream::connect(api).await.unwrap();

    let other = server.clone();
    drop(server);
    assert!(TcpStream::connect(auth).await.is_ok(), "one handle is left");
    assert!(tasks() > before);
    drop(other);
    for address in [auth, api] {
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "at once");
    }
    assert!(matches!(hanging.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(matches!(idle.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    tokio::time::timeout(Duration::from_secs(10), async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all tasks end");
}

#[tokio::test]
async fn debug_and_log_show_no_secret_and_no_token() {
    let builder = AuthServer::builder().client("other", "cánary-secret");
    assert!(!format!("{builder:?}").contains("cánary"));
    let server = builder.start().await.unwrap();
    let token = token(&server).await;
    call(&server, &format!("x?access_token={token}"), &token).await;
    let shown = format!("{server:?} {server:#?} {:?}", server.log());
    for hidden in ["cánary", AuthServer::APP_SECRET, &token, token.rsplit('.').next().unwrap()] {
        // The method's name is no secret.
        assert!(!shown.replace("client_secret_basic", "").contains(hidden), "{hidden} in {shown}");
    }
    assert_eq!(server.log()[1].what, "GET /v1/x");
}
