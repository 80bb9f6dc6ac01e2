//! What `check` says of settings, servers and clocks, good and bad.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evertoken::testing::{AuthServer, Fault, ManualClock};
use evertoken::{
    AppCredentials, Builder, ClientAuth, CredentialSource, Diagnosis, Dpop, Finding, Level, TokenSource,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

fn builder(server: &AuthServer) -> Builder<TokenSource> {
    TokenSource::builder(AuthServer::APP_ID, "secret")
        .issuer(server.issuer())
        .audience(server.audience())
        .scope("read")
}

/// The findings of this kind, which together must have this in them; and no token or secret may show.
fn assert_finds(server: &AuthServer, diagnosis: &Diagnosis, check: &str, level: Level, words: &[&str]) {
    let shown = format!("{diagnosis}\n{diagnosis:?}");
    for token in server.issued_tokens() {
        assert!(!shown.contains(&token), "{shown}");
    }
    assert!(!shown.contains("eyJ") && !shown.contains("wr0ng"), "{shown}");
    let found: Vec<_> = diagnosis.findings().iter().filter(|finding| finding.check == check).collect();
    assert_eq!(found.iter().map(|finding| finding.level).max(), Some(level), "{check}: {shown}");
    for word in words {
        let said = |finding: &&&Finding| {
            finding.text.contains(word) || finding.advice.as_ref().is_some_and(|advice| advice.contains(word))
        };
        assert!(found.iter().any(|finding| said(&finding)), "{word:?} is not in {shown}");
    }
    // Facts first, and the advice on a line of its own.
    for Finding { text, advice, .. } in diagnosis.findings() {
        let lines: Vec<_> = diagnosis.to_string().lines().map(str::to_owned).collect();
        let at = lines.iter().position(|line| line.ends_with(text)).expect(&shown);
        let below = advice.as_ref().map(|advice| lines[at + 1].ends_with(&format!("advice:  {advice}")));
        assert!(below.unwrap_or(true), "{shown}");
    }
    let failed = diagnosis.findings().iter().any(|finding| finding.level == Level::Fail);
    assert_eq!(diagnosis.is_ok(), !failed, "{shown}");
}

#[tokio::test]
async fn a_good_set_up_is_told_step_by_step() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(100, HOUR);
    let diagnosis = builder(&server).check().await;
    let endpoint = server.token_url();
    for (check, words) in [
        ("settings", &[AuthServer::APP_ID][..]),
        ("discovery", &[".well-known/oauth-authorization-server says", &endpoint, "client_secret_post"]),
        ("token", &[&endpoint, "answered 200"]),
        ("auth", &["accepted by client_secret_basic"]),
        ("lifetime", &["3600.0 s", "between 2412.0 s and 3240.0 s", "until 3570.0 s"]),
        ("scope", &["asked \"read\""]),
        ("audience", &["https://api.example", &server.issuer()]),
        ("clock", &["within"]),
        ("quota", &["99 of 100"]),
    ] {
        assert_finds(&server, &diagnosis, check, Level::Ok, words);
    }
    assert!(diagnosis.is_ok() && diagnosis.to_string().ends_with("all is well"), "{diagnosis}");
    assert_eq!((server.token_requests(), diagnosis.findings().len()), (1, 12));
}

#[tokio::test]
async fn mistakes_in_the_settings_are_findings() {
    let server = AuthServer::start().await.unwrap();
    let diagnosis = TokenSource::builder("app", "wr0ng").check().await;
    assert_finds(&server, &diagnosis, "settings", Level::Fail, &["give `issuer` or `token_url`"]);
    assert!(diagnosis.to_string().ends_with("it does not work; 1 to mend"), "{diagnosis}");
}

#[tokio::test]
async fn a_wrong_secret() {
    let server = AuthServer::start().await.unwrap();
    let diagnosis = TokenSource::builder(AuthServer::APP_ID, "wr0ng").issuer(server.issuer()).check().await;
    assert_finds(&server, &diagnosis, "discovery", Level::Ok, &[]);
    let words = ["invalid_client", "HTTP 401", "check app id and app secret"];
    assert_finds(&server, &diagnosis, "token", Level::Fail, &words);
    assert_finds(
        &server,
        &diagnosis,
        "auth",
        Level::Ok,
        &["sent by client_secret_basic, then by client_secret_post"],
    );
    assert_eq!(server.token_requests(), 2, "in the body as well, once");
}

#[tokio::test]
async fn says_what_looks_odd_in_a_refused_secret() {
    let server = AuthServer::start().await.unwrap();
    for (secret, said) in [
        ("'wr0ng'", "the app secret begins and ends with a quote"),
        ("wr0ng \n", "the app secret ends with white space"),
        ("wr\n0ng", "the app secret has a control character or a line end within"),
    ] {
        let builder = TokenSource::builder(AuthServer::APP_ID, secret).issuer(server.issuer());
        assert_finds(&server, &builder.check().await, "credential", Level::Warn, &[said]);
    }
    let odd = AppCredentials::new(AuthServer::APP_ID, "wr0ng").next_secret("\"wr0ng");
    let diagnosis = TokenSource::builder_with(odd).issuer(server.issuer()).check().await;
    assert!(diagnosis.to_string().contains("the app secret begins with a quote"), "{diagnosis}");
    // What works is left alone, and what is plain has no such line.
    server.rotate(AuthServer::APP_ID, " secret ");
    let fine = TokenSource::builder(AuthServer::APP_ID, " secret ").issuer(server.issuer()).check().await;
    let plain = TokenSource::builder(AuthServer::APP_ID, "wr0ng").issuer(server.issuer()).check().await;
    for diagnosis in [fine, plain] {
        assert!(diagnosis.findings().iter().all(|one| one.check != "credential"), "{diagnosis}");
    }
}

#[tokio::test]
async fn a_wrong_issuer() {
    let server = AuthServer::start().await.unwrap();
    let elsewhere = builder(&server).issuer(format!("{}/elsewhere", server.issuer())).check().await;
    assert_finds(&server, &elsewhere, "discovery", Level::Fail, &["404", "check `issuer`"]);
    assert!(elsewhere.findings().iter().all(|finding| finding.check != "token"), "{elsewhere}");
    server.set_announced_issuer("https://other.example/");
    let other = builder(&server).check().await;
    assert_finds(&server, &other, "discovery", Level::Fail, &["https://other.example/"]);
    assert_eq!(server.token_requests(), 0);
}

#[tokio::test]
async fn a_server_that_is_away() {
    let server = AuthServer::start().await.unwrap();
    server.outage();
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "discovery", Level::Fail, &["could not connect", "firewall"]);
    let by_url = TokenSource::builder(AuthServer::APP_ID, "secret").token_url(server.token_url());
    let diagnosis = by_url.check().await;
    assert_finds(&server, &diagnosis, "token", Level::Fail, &["could not connect", "firewall"]);
    server.recover().await.unwrap();
    server.fail_next(Fault::Hang);
    // The time of an attempt begins to pass once the server has the request.
    let clock = Arc::new(ManualClock::default());
    let checking = tokio::spawn(builder(&server).clock(clock.clone()).check());
    server.wait_for_token_requests(1).await;
    clock.advance(Duration::from_secs(10));
    let diagnosis = checking.await.unwrap();
    assert_finds(&server, &diagnosis, "token", Level::Fail, &["did not answer within 10.0 s"]);
}

#[tokio::test]
async fn less_scope_than_asked() {
    let server = AuthServer::start().await.unwrap();
    server.answer_with(json!({ "scope": "read" }));
    let diagnosis = builder(&server).scope("write").check().await;
    assert_finds(
        &server,
        &diagnosis,
        "scope",
        Level::Warn,
        &["asked \"read write\"", "not granted: \"write\""],
    );
    assert!(diagnosis.to_string().ends_with("it works; 1 to look at"), "{diagnosis}");
}

#[tokio::test]
async fn a_token_for_somebody_else_or_of_no_kind_we_can_read() {
    let server = AuthServer::start().await.unwrap();
    let token = |claims: Value| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let other = token(json!({ "aud": ["https://other.example/"] }));
    server.answer_with(json!({ "access_token": other }));
    let diagnosis = builder(&server).check().await;
    let words = ["asked \"https://api.example\"", "for [\"https://other.example/\"]"];
    assert_finds(&server, &diagnosis, "audience", Level::Warn, &words);
    assert!(!format!("{diagnosis:?}").contains(&other));

    let basic = STANDARD.encode("app:wr0ng");
    server.register("app", "wr0ng");
    server.answer_with(json!({ "access_token": token(json!({ "aud": "x wr0ng", "iss": &basic })) }));
    let diagnosis = TokenSource::builder("app", "wr0ng").issuer(server.issuer()).check().await;
    assert_finds(&server, &diagnosis, "audience", Level::Ok, &["x [redacted]", "issued by [redacted]"]);
    server.register("app", "secret");

    server.answer_with(json!({ "access_token": token(json!({})) }));
    let diagnosis = TokenSource::builder("app", "secret").issuer(server.issuer()).check().await;
    assert_finds(&server, &diagnosis, "audience", Level::Warn, &["none", "set `audience`"]);

    server.answer_with(json!({ "access_token": "0paque" }));
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "audience", Level::Ok, &["no JWT"]);
    assert!(!format!("{diagnosis:?}").contains("0paque"));
}

#[tokio::test]
async fn clocks_that_differ() {
    let server = AuthServer::start().await.unwrap();
    for (ours, word) in [(SystemTime::now() + 2 * HOUR, "behind"), (SystemTime::now() - 2 * HOUR, "ahead of")]
    {
        let clock = || Arc::new(ManualClock::new(ours));
        let diagnosis = builder(&server).clock(clock()).check().await;
        assert_finds(&server, &diagnosis, "clock", Level::Warn, &["s ", word, "NTP"]);
        assert!(diagnosis.is_ok());
        // Proofs bear the server's time.
        let diagnosis = builder(&server).clock(clock()).dpop(Dpop::new()).check().await;
        assert_finds(&server, &diagnosis, "clock", Level::Warn, &[word, "are corrected"]);
        assert!(diagnosis.is_ok());
    }
    let far = Arc::new(ManualClock::new(SystemTime::now() + 30 * HOUR));
    let diagnosis = builder(&server).clock(far).dpop(Dpop::new()).check().await;
    assert_finds(&server, &diagnosis, "clock", Level::Fail, &["behind", "are refused"]);
}

#[tokio::test]
async fn short_lives_and_such_as_nobody_tells() {
    let server = AuthServer::builder().lifetime(Duration::from_secs(10)).start().await.unwrap();
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "lifetime", Level::Warn, &["10.0 s", "short"]);
    server.answer_with(json!({ "expires_in": 3600 }));
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "lifetime", Level::Warn, &["the token itself says 1"]);
    server.answer_with(json!({ "expires_in": null }));
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "lifetime", Level::Warn, &["a guess"]);
}

#[tokio::test]
async fn little_quota() {
    let server = AuthServer::start().await.unwrap();
    server.set_quota(10, HOUR);
    for _ in 0..8 {
        builder(&server).check().await;
    }
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "quota", Level::Warn, &["1 of 10"]);
    builder(&server).check().await;
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "token", Level::Fail, &["HTTP 429", "how many processes"]);
}

#[tokio::test]
async fn a_server_that_takes_only_the_raw_form() {
    let server = AuthServer::builder().client("app", "a/b c").start().await.unwrap();
    server.set_raw_basic(true);
    let diagnosis = TokenSource::builder("app", "a/b c").issuer(server.issuer()).check().await;
    assert_finds(&server, &diagnosis, "token", Level::Warn, &["ClientSecretBasicRaw"]);
}

#[tokio::test]
async fn a_token_from_the_future() {
    let server = AuthServer::start().await.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "aud": server.audience(), "iat": now + 500, "exp": now + 4100 });
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    server.answer_with(json!({ "access_token": token }));
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "clock", Level::Warn, &["`iat`", "ahead of our clock"]);
}

#[tokio::test]
async fn what_a_server_says_stays_on_its_line() {
    let server = AuthServer::start().await.unwrap();
    server.set_announced_auth_methods(&["client_secret_basic", "x\nFAIL\u{202E}y"]);
    let diagnosis = builder(&server).check().await;
    assert_finds(&server, &diagnosis, "discovery", Level::Ok, &["xFAILy"]);
    assert_eq!(diagnosis.to_string().lines().count(), 13);
}

#[tokio::test]
async fn a_secret_that_is_replaced_or_not_to_be_had() {
    let server = AuthServer::start().await.unwrap();
    let of = |next: &str| {
        let given = AppCredentials::new(AuthServer::APP_ID, "wr0ng-first").next_secret(next);
        TokenSource::builder_with(given).issuer(server.issuer())
    };
    let diagnosis = of(AuthServer::APP_SECRET).revoke_on_shutdown(true).check().await;
    assert_finds(&server, &diagnosis, "credential", Level::Warn, &["took the next one"]);
    assert_finds(&server, &diagnosis, "discovery", Level::Ok, &["says: issuer", &server.token_url()]);
    assert_finds(&server, &diagnosis, "token", Level::Ok, &["answered 200"]);
    assert_finds(&server, &diagnosis, "revocation", Level::Ok, &[]);
    let diagnosis = of("wr0ng-next").check().await;
    assert_finds(&server, &diagnosis, "credential", Level::Warn, &["no token either"]);
    assert_finds(&server, &diagnosis, "token", Level::Fail, &["invalid_client"]);

    let away = CredentialSource::provider(|| async { Err::<AppCredentials, _>("sealed") });
    let diagnosis = TokenSource::builder_with(away).issuer(server.issuer()).check().await;
    assert_finds(&server, &diagnosis, "credential", Level::Fail, &["sealed"]);
    let given = || async { Ok::<_, String>(AppCredentials::new(AuthServer::APP_ID, AuthServer::APP_SECRET)) };
    let provided = TokenSource::builder_with(CredentialSource::provider(given)).issuer(server.issuer());
    assert_finds(&server, &provided.check().await, "token", Level::Ok, &["answered 200"]);
}

#[tokio::test]
async fn its_own_token_is_revoked_where_shutdown_would() {
    let server = AuthServer::start().await.unwrap();
    builder(&server).check().await;
    assert_eq!(server.revocations(), 0);
    let diagnosis = builder(&server).revoke_on_shutdown(true).check().await;
    assert_finds(&server, &diagnosis, "revocation", Level::Ok, &["of no use any more"]);
    assert_eq!(server.revocations(), 1);
    let nowhere = format!("{}/nowhere", server.issuer());
    let diagnosis = builder(&server).revoke_on_shutdown(true).revocation_url(nowhere).check().await;
    assert_finds(&server, &diagnosis, "revocation", Level::Warn, &["/nowhere"]);
    assert!(diagnosis.is_ok());
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status { status, headers, body: String::new() }
}

fn with_api(server: &AuthServer, base_url: &str) -> Builder<TokenSource> {
    builder(server).base_url(base_url)
}

#[tokio::test]
async fn one_call_shows_whether_the_api_takes_the_token() {
    let server = AuthServer::start().await.unwrap();
    let url = server.api_url();
    let diagnosis = with_api(&server, &url).check().await;
    assert_finds(&server, &diagnosis, "api", Level::Ok, &[&url, "answered 200"]);
    assert_eq!(server.api_calls(), 1);
    let call = server.log().into_iter().rfind(|entry| entry.what.contains("/v1")).unwrap();
    assert!(call.what.starts_with("GET "), "{}", call.what);
    for (status, level) in [(404, Level::Ok), (403, Level::Ok), (405, Level::Ok), (503, Level::Warn)] {
        server.fail_next_api(answer(status, &[]));
        let diagnosis = with_api(&server, &url).check().await;
        assert_finds(&server, &diagnosis, "api", level, &[&format!("answered {status}")]);
        assert!(diagnosis.is_ok());
    }
    // A redirect is an answer, and is not followed.
    let calls = server.api_calls();
    server.fail_next_api(answer(302, &[("location", "https://elsewhere.example/")]));
    let diagnosis = with_api(&server, &url).check().await;
    assert_finds(&server, &diagnosis, "api", Level::Ok, &["answered 302"]);
    assert_eq!(server.api_calls(), calls + 1);
    // Without a base URL there is nothing to call.
    let diagnosis = builder(&server).check().await;
    assert!(diagnosis.findings().iter().all(|finding| finding.check != "api"), "{diagnosis}");
    assert_eq!(server.api_calls(), calls + 1);
}

#[tokio::test]
async fn an_api_that_refuses_the_token_or_is_dead() {
    let server = AuthServer::start().await.unwrap();
    let url = server.api_url();
    server.fail_next_api(answer(401, &[("www-authenticate", "Bearer error=\"invalid_token\"")]));
    let diagnosis = with_api(&server, &url).check().await;
    assert_finds(
        &server,
        &diagnosis,
        "api",
        Level::Fail,
        &["answered 401", "invalid_token", "check `audience`"],
    );
    assert!(diagnosis.to_string().ends_with("it does not work; 1 to mend"), "{diagnosis}");
    server.fail_next_api(Fault::Reset);
    let diagnosis = with_api(&server, &url).check().await;
    assert_finds(
        &server,
        &diagnosis,
        "api",
        Level::Fail,
        &["the connection was closed before the answer came"],
    );
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("http://127.0.0.1:{port}/v1/");
    let diagnosis = with_api(&server, &dead).check().await;
    let words = [&*format!("127.0.0.1:{port}"), "the connection was refused", "whether the server runs"];
    assert_finds(&server, &diagnosis, "api", Level::Fail, &words);
    // It takes the call and says nothing.
    server.fail_next_api(Fault::Hang);
    let clock = Arc::new(ManualClock::default());
    let checking = tokio::spawn(with_api(&server, &url).clock(clock.clone()).check());
    let calls = server.api_calls();
    while server.api_calls() == calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    clock.advance(Duration::from_secs(10));
    let diagnosis = checking.await.unwrap();
    assert_finds(&server, &diagnosis, "api", Level::Fail, &["did not answer within 10.0 s"]);
}

#[tokio::test]
async fn the_call_to_the_api_is_proved_and_proved_again_with_its_nonce() {
    let server = AuthServer::start().await.unwrap();
    server.set_dpop_required(true);
    server.set_api_nonce(Some("n0nce"));
    let diagnosis = with_api(&server, &server.api_url()).dpop(Dpop::new()).check().await;
    assert_finds(&server, &diagnosis, "api", Level::Ok, &["answered 200"]);
    assert_eq!(server.api_calls(), 2);
}

#[tokio::test]
async fn says_which_way_of_authenticating_works() {
    let server = AuthServer::start().await.unwrap();
    let refusal = Fault::Oauth { status: 401, error: "invalid_client".into(), description: String::new() };
    for (set, refused, works) in [
        (ClientAuth::ClientSecretBasic, "client_secret_basic", "client_secret_post"),
        (ClientAuth::ClientSecretPost, "client_secret_post", "client_secret_basic"),
    ] {
        server.fail_next(refusal.clone());
        let diagnosis = builder(&server).client_auth(set.clone()).check().await;
        let words =
            [&*format!("{refused} is refused, and {works} works"), &format!("set `client_auth` to {works}")];
        assert_finds(&server, &diagnosis, "auth", Level::Fail, &words);
        assert_finds(&server, &diagnosis, "token", Level::Ok, &["answered 200"]);
        // What the server says that it does not know is not tried.
        server.set_announced_auth_methods(&[refused]);
        server.reset_counters();
        server.fail_next(refusal.clone());
        let diagnosis = builder(&server).client_auth(set).check().await;
        assert_finds(&server, &diagnosis, "token", Level::Fail, &["invalid_client"]);
        assert_eq!(server.token_requests(), 1);
        server.set_announced_auth_methods(&["client_secret_basic", "client_secret_post"]);
    }
}

#[tokio::test]
async fn variables_that_are_wrong_are_findings_and_named() {
    let server = AuthServer::start().await.unwrap();
    let with = |more: &[(&str, &str)]| {
        let basis = [("APP_ID", AuthServer::APP_ID), ("APP_SECRET", "secret"), ("ISSUER", &server.issuer())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all = basis.into_iter().chain(more);
        let all = all.map(|(name, value)| (format!("EVERTOKEN_{name}").into(), value.into()));
        Builder::<TokenSource>::from_variables("EVERTOKEN", None, all)
    };
    let diagnosis = with(&[("SCOPES", "wr0ng"), ("BASE_URL", &server.api_url())]).check().await;
    let words = ["EVERTOKEN_SCOPES is not read; did you mean EVERTOKEN_SCOPE?", "app id"];
    assert_finds(&server, &diagnosis, "settings", Level::Warn, &words);
    assert_finds(&server, &diagnosis, "api", Level::Ok, &["answered 200"]);
    let diagnosis = with(&[("CLIENT_AUTH", "wr0ng")]).check().await;
    assert_finds(&server, &diagnosis, "settings", Level::Fail, &["EVERTOKEN_CLIENT_AUTH is not known"]);
    server.fail_next(Fault::Oauth {
        status: 401,
        error: "invalid_client".into(),
        description: String::new(),
    });
    let diagnosis = with(&[("CLIENT_AUTH", "client_secret_basic")]).check().await;
    assert_finds(
        &server,
        &diagnosis,
        "auth",
        Level::Fail,
        &["set EVERTOKEN_CLIENT_AUTH to client_secret_post"],
    );
}
