//! What servers and machines do off the standards, and what is made of it: odd token types, padded tokens, and clocks that are
//! off. The server is scripted, and judges times strictly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use evertoken::http::{HeaderMap, Method, Request, Response, StatusCode};
use evertoken::reqwest::Url;
use evertoken::testing::{ManualClock, Transport, TransportError};
use evertoken::{
    Builder, ClientAuth, Dpop, ErrorKind, Level, PrivateKeyJwt, SecretJwt, SigningKey, TokenSource,
};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

const HOUR: i64 = 3_600;

/// What all tests of this file log. A test finds its lines by the host of its server.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::WARN);
    subscriber.with_ansi(false).with_writer(log.clone()).init();
    log
});

fn warnings(host: &str) -> Vec<String> {
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    text.lines().filter(|line| line.contains(host)).map(str::to_owned).collect()
}

/// An authorization server whose clock is ahead of the client's by `ahead` seconds, and which takes no time from its future.
struct Server {
    clock: Arc<ManualClock>,
    ahead: Mutex<i64>,
    /// Members of its answers.
    token: Value,
    nonce: Option<&'static str>,
    sends_date: bool,
    /// The times that came: the `iat` less the server's time, of each assertion and proof.
    seen: Mutex<Vec<i64>>,
    requests: Mutex<usize>,
}

impl Server {
    fn new(ahead: i64, token: Value) -> Self {
        LazyLock::force(&LOG);
        // Not at a whole second.
        let clock = ManualClock::new(UNIX_EPOCH + Duration::from_millis(1_900_000_000_700));
        Self {
            clock: Arc::new(clock),
            ahead: Mutex::new(ahead),
            token,
            nonce: None,
            sends_date: true,
            seen: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    fn ahead_by(ahead: i64) -> Self {
        Self::new(ahead, json!({ "access_token": "t0ken", "token_type": "Bearer", "expires_in": 600 }))
    }

    fn bound(ahead: i64) -> Self {
        Self::new(ahead, json!({ "access_token": "t0ken", "token_type": "DPoP", "expires_in": 600 }))
    }

    fn now(&self) -> f64 {
        let wall = self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        wall + *self.ahead.lock().unwrap() as f64
    }

    fn date(&self) -> String {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.now()))
    }

    /// How often it was asked since the last call of this.
    fn requests(&self) -> usize {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn source(self: &Arc<Self>, host: &str) -> Builder<TokenSource> {
        TokenSource::builder("app", "a secret of no less than thirty-two bytes")
            .token_url(format!("https://{host}/token"))
            .base_url("https://api.example/")
            .clock(self.clock.clone())
            .transport(Arc::new(Endpoint(self.clone())))
    }

    fn judged(&self, request: &Request<Bytes>) -> (u16, Value) {
        let form = format!("http://x/?{}", str::from_utf8(request.body()).unwrap());
        let form = Url::parse(&form).unwrap();
        let assertion = form.query_pairs().find(|(name, _)| name == "client_assertion");
        let now = self.now();
        let mut seen = self.seen.lock().unwrap();
        if let Some((_, assertion)) = assertion {
            let claims = claims(&assertion);
            let number = |name: &str| claims[name].as_f64().unwrap();
            seen.push((number("iat") - now).ceil() as i64);
            assert!(number("exp") - number("iat") <= 300.0 && number("nbf") <= number("iat"), "{claims}");
            if number("iat") > now || number("nbf") > now || number("exp") <= now {
                return (401, json!({ "error": "invalid_client", "error_description": "bad assertion" }));
            }
        }
        if let Some(proof) = request.headers().get("dpop") {
            let claims = claims(proof.to_str().unwrap());
            let age = now - claims["iat"].as_f64().unwrap();
            seen.push((-age).ceil() as i64);
            if self.nonce.is_some() && claims["nonce"].as_str() != self.nonce {
                return (400, json!({ "error": "use_dpop_nonce" }));
            }
            if !(0.0..=10.0).contains(&age) {
                return (400, json!({ "error": "invalid_dpop_proof" }));
            }
        }
        (200, self.token.clone())
    }
}

fn claims(jwt: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

struct Endpoint(Arc<Server>);

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + 'a>>;

impl Transport for Endpoint {
    fn send(&self, request: Request<Bytes>) -> Answer<'_> {
        *self.0.requests.lock().unwrap() += 1;
        let (status, body) = self.0.judged(&request);
        let mut answer = Response::builder().status(status);
        if self.0.sends_date {
            answer = answer.header("date", self.0.date());
        }
        if let Some(nonce) = self.0.nonce {
            answer = answer.header("dpop-nonce", nonce);
        }
        Box::pin(async move { Ok(answer.body(body.to_string().into()).unwrap()) })
    }
}

fn signed() -> ClientAuth {
    PrivateKeyJwt::new(SigningKey::generate().unwrap()).into()
}

/// Waits for no longer than a test may take: by the manual clock a wait has no end.
async fn soon<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), answer).await.expect("no answer")
}

/// Renews the held token, and waits until that is done.
async fn renew(source: &TokenSource, server: &Server) {
    server.clock.advance(Duration::from_secs(700));
    soon(source.token()).await.unwrap();
}

#[tokio::test]
async fn takes_tokens_of_invented_types_as_bearer_with_one_warning() {
    for (host, given) in [
        ("apigee.example", "BearerToken"),
        ("ebay.example", "Application Access Token"),
        ("jwt.example", "JWT"),
        ("name.example", "access_token"),
        ("space.example", "Bearer "),
    ] {
        let token = json!({ "access_token": "t0ken", "token_type": given, "expires_in": 600 });
        let server = Arc::new(Server::new(0, token));
        let source = server.source(host).build().unwrap();
        assert_eq!(soon(source.authorization()).await.unwrap(), "Bearer t0ken", "{given}");
        for _ in 0..3 {
            renew(&source, &server).await;
        }
        let other = source.with("another", ["read"]).unwrap();
        soon(other.token()).await.unwrap();
        let warnings = warnings(host);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(given.trim()), "{warnings:?}");
    }
}

#[tokio::test]
async fn trims_a_padded_token_with_one_warning() {
    for (host, given) in [("newline.example", "t0ken\n"), ("spaces.example", " t0ken\r\n ")] {
        let token = json!({ "access_token": given, "token_type": "Bearer", "expires_in": 600 });
        let server = Arc::new(Server::new(0, token));
        let source = server.source(host).build().unwrap();
        assert_eq!(soon(source.authorization()).await.unwrap(), "Bearer t0ken", "{given:?}");
        renew(&source, &server).await;
        let warnings = warnings(host);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(!warnings[0].contains("t0ken"), "{warnings:?}");
    }
}

#[tokio::test]
async fn issues_assertions_so_that_a_clock_some_seconds_ahead_costs_nothing() {
    for ahead in [-9, -3, 0, 3, 9, 45] {
        for auth in [signed(), SecretJwt::new().into()] {
            let server = Arc::new(Server::ahead_by(ahead));
            let source = server.source("near.example").client_auth(auth).build().unwrap();
            soon(source.token()).await.unwrap();
            assert_eq!(server.requests(), 1, "{ahead}");
        }
    }
}

#[tokio::test]
async fn learns_the_servers_time_from_a_refusal_and_tries_once_more() {
    for ahead in [-14 * HOUR, -HOUR, -90, -12, 70, 600, HOUR, 14 * HOUR] {
        for auth in [signed(), SecretJwt::new().into()] {
            let server = Arc::new(Server::ahead_by(ahead));
            let source = server.source("far.example").client_auth(auth).build().unwrap();
            soon(source.token()).await.unwrap();
            assert_eq!(server.requests(), 2, "{ahead}");
            let last = *server.seen.lock().unwrap().last().unwrap();
            assert!((-15..=-5).contains(&last), "{ahead}: {last}");
            // What was learned holds, also for others of the family.
            renew(&source, &server).await;
            let other = source.with("another", ["read"]).unwrap();
            soon(other.token()).await.unwrap();
            assert_eq!(server.requests(), 2, "{ahead}");
        }
    }
}

#[tokio::test]
async fn proofs_to_the_token_endpoint_bear_the_servers_time() {
    for (ahead, nonce, requests) in [
        (-1, None, 1),
        (-2, None, 1),
        (5, None, 1),
        (-4, None, 2),
        (-HOUR, None, 2),
        (40, None, 2),
        // The first answer brings the nonce and the time.
        (-4, Some("n0nce"), 2),
        (HOUR, Some("n0nce"), 2),
    ] {
        let server = Arc::new(Server { nonce, ..Server::bound(ahead) });
        let source = server.source("proof.example").dpop(Dpop::new()).build().unwrap();
        soon(source.token()).await.unwrap();
        assert_eq!(server.requests(), requests, "{ahead} {nonce:?}");
        renew(&source, &server).await;
        assert_eq!(server.requests(), 1, "{ahead} {nonce:?}");
    }
}

#[tokio::test]
async fn believes_no_offset_that_no_clock_can_have() {
    for (host, ahead, sends_date) in [
        ("years.example", 40 * 365 * 24 * HOUR, true),
        ("day.example", -24 * HOUR, true),
        ("undated.example", HOUR, false),
    ] {
        let server = Arc::new(Server { sends_date, ..Server::ahead_by(ahead) });
        let source = server.source(host).client_auth(signed()).build().unwrap();
        let error = soon(source.token()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.oauth_error()),
            (ErrorKind::CredentialsRejected, Some("invalid_client"))
        );
        assert_eq!(server.requests(), 1, "{host}");
        let warned = warnings(host).iter().filter(|line| line.contains("too much to be corrected")).count();
        assert_eq!(warned, usize::from(sends_date), "{:?}", warnings(host));
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_about_time_is_not_tried_again() {
    struct Refusing(Arc<Server>, Value);
    impl Transport for Refusing {
        fn send(&self, _: Request<Bytes>) -> Answer<'_> {
            *self.0.requests.lock().unwrap() += 1;
            let answer = Response::builder().status(400).header("date", self.0.date());
            Box::pin(async move { Ok(answer.body(self.1.to_string().into()).unwrap()) })
        }
    }
    for (ahead, code, auth, requests) in [
        (HOUR, "invalid_scope", signed(), 1),
        (HOUR, "unsupported_grant_type", signed(), 1),
        (HOUR, "invalid_request", ClientAuth::ClientSecretPost, 1),
        (1, "invalid_request", signed(), 1),
        (HOUR, "invalid_request", signed(), 2),
        (HOUR, "invalid_grant", signed(), 2),
    ] {
        let server = Arc::new(Server::ahead_by(ahead));
        let transport = Refusing(server.clone(), json!({ "error": code }));
        let source =
            server.source("no.example").client_auth(auth).transport(Arc::new(transport)).build().unwrap();
        assert_eq!(soon(source.token()).await.unwrap_err().oauth_error(), Some(code));
        assert_eq!(server.requests(), requests, "{code} {ahead}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_right_is_noticed_without_a_refusal() {
    let server = Arc::new(Server::ahead_by(-HOUR));
    let source = server.source("set.example").client_auth(signed()).build().unwrap();
    soon(source.token()).await.unwrap();
    assert_eq!(server.requests(), 2);
    // This machine's clock is set back by an hour.
    server.clock.set_wall(server.clock.wall() - Duration::from_secs(3600));
    *server.ahead.lock().unwrap() = 0;
    renew(&source, &server).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn warns_once_of_a_clock_that_is_off_by_more_than_some_seconds() {
    for (host, ahead, said) in [
        ("agree.example", 0, None),
        ("little.example", -4, None),
        ("behind.example", 90, Some("behind the server's")),
        ("ahead.example", -90, Some("ahead of the server's")),
    ] {
        let server = Arc::new(Server::ahead_by(ahead));
        let source = server.source(host).client_auth(signed()).build().unwrap();
        soon(source.token()).await.unwrap();
        renew(&source, &server).await;
        let warnings = warnings(host);
        assert_eq!(warnings.len(), usize::from(said.is_some()), "{warnings:?}");
        if let Some(said) = said {
            assert!(warnings[0].contains(said) && warnings[0].contains("NTP"), "{warnings:?}");
        }
    }
}

fn proof_age(headers: &HeaderMap, now: f64) -> f64 {
    now - claims(headers["dpop"].to_str().unwrap())["iat"].as_f64().unwrap()
}

#[tokio::test]
async fn proofs_to_an_api_bear_the_time_of_the_authorization_server_or_of_the_api() {
    let url: Url = "https://api.example/orders".parse().unwrap();
    for (server_ahead, api_ahead, sendings) in
        [(0, 0, 1), (-HOUR, -HOUR, 1), (0, -30, 2), (0, HOUR, 2), (-HOUR, 0, 2), (0, -20 * HOUR, 1)]
    {
        let server = Arc::new(Server::bound(server_ahead));
        let source = server.source("as.example").dpop(Dpop::new()).build().unwrap();
        let api_now = || server.now() + (api_ahead - server_ahead) as f64;
        for sendings in [sendings, 1] {
            let mut pass = soon(source.pass()).await.unwrap();
            let mut sent = 0;
            loop {
                sent += 1;
                let age = proof_age(&pass.headers(&Method::GET, &url).unwrap(), api_now());
                if (0.0..=10.0).contains(&age) {
                    break;
                }
                let mut answer = HeaderMap::new();
                let date = UNIX_EPOCH + Duration::from_secs_f64(api_now());
                answer.insert("date", httpdate::fmt_http_date(date).parse().unwrap());
                answer.insert("www-authenticate", r#"DPoP error="invalid_dpop_proof""#.parse().unwrap());
                if !pass.repeats(&url, StatusCode::UNAUTHORIZED, &answer, true).await {
                    break;
                }
            }
            assert_eq!(sent, sendings, "{server_ahead} {api_ahead}");
        }
    }
}

#[tokio::test]
async fn check_names_a_resource_that_is_no_uri_and_a_clock_that_is_corrected() {
    let server = Arc::new(Server::ahead_by(HOUR));
    let source = server.source("check.example").resource("00000003-0000-0ff1-ce00-000000000000");
    let diagnosis = source.client_auth(signed()).check().await;
    // The API is none.
    let mut failed = diagnosis.findings().iter().filter(|finding| finding.level == Level::Fail);
    assert!(failed.all(|finding| finding.check == "api"), "{diagnosis}");
    let find = |check: &str, said: &str| {
        let mut findings = diagnosis.findings().iter();
        findings
            .find(|finding| finding.check == check && format!("{finding:?}").contains(said))
            .map(|found| found.level)
    };
    assert_eq!(find("audience", "is no absolute URI"), Some(Level::Warn));
    assert_eq!(find("clock", "are corrected"), Some(Level::Warn), "{diagnosis}");
}

#[tokio::test]
async fn reads_an_expiry_on_the_servers_clock() {
    for (ahead, sends_date, lifetime) in
        [(0, true, 600), (-2 * HOUR, true, 600), (3, false, 603), (-2 * HOUR, false, 300)]
    {
        let server = Server::ahead_by(ahead);
        let expiry = server.now().floor() as i64 + 600;
        let token =
            json!({ "access_token": "t0ken", "token_type": "Bearer", "expires_on": expiry.to_string() });
        let server = Arc::new(Server { token, sends_date, ..server });
        let source = server.source("expiry.example").build().unwrap();
        let token = soon(source.token()).await.unwrap();
        let left = token.expires_at().duration_since(server.clock.wall()).unwrap().as_secs_f64();
        assert!((left - f64::from(lifetime)).abs() <= 1.0, "{ahead} {sends_date}: {left}");
    }
}
