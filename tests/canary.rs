//! The canary: a secret and tokens are planted, and everything that is put out is searched for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod folder;

use std::error::Error as StdError;
use std::fmt::{Debug, Write as _};
use std::io;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use evertoken::http::{Method, Request, Response};
use evertoken::reqwest;
use evertoken::server::{Caller, CallerLayer, Exchange, Introspection, Verifier};
use evertoken::testing::{AuthServer, Fault, fixed_client};
use evertoken::{
    ApiKey, AppCredentials, Client, ClientAuth, ClientBuilder, CredentialSource, Dpop, Error, ErrorKind,
    Preset, RenewalPolicy, SecretString, SigningKey, TokenLayer, TokenMiddleware, TokenSource,
};
use metrics_util::debugging::DebuggingRecorder;
use serde_json::{Value, json};
use tower::Layer;
use tracing_subscriber::fmt::format::FmtSpan;

/// What is searched for: it stays itself when its surroundings are encoded or escaped.
const CANARY: &str = "C4n4ryInTheCoalMine";
/// A secret that looks different in every encoding.
const SECRET: &str = r#"p w:%+/"C4n4ryInTheCoalMine'\&="#;
const APP_ID: &str = "app id:1";

/// All that was put out, by whomever.
static OUTPUT: Mutex<String> = Mutex::new(String::new());

fn put_out(text: &str) {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
}

/// What of our secrets is in `text`, in any form that somebody could turn back.
fn forbidden_in(text: &str) -> Option<String> {
    let decimal = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    let hex = CANARY.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let mut forms = vec![CANARY.to_owned(), decimal(CANARY), hex];
    // Base64 of whatever it stands in: by its place there are three ways, alike but for the ends.
    for place in 0..3 {
        let encoded = STANDARD.encode(format!("{}{CANARY}", "x".repeat(place)));
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    // Every JWT begins so, and so does the part with its claims.
    forms.extend(["eyJ".to_owned(), decimal("eyJ")]);
    forms.into_iter().find(|form| text.contains(form.as_str()))
}

/// The forms in which a server could echo what it was sent.
fn echoes() -> Vec<String> {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let [plus, id] = [SECRET, APP_ID].map(encode);
    let percent = plus.replace('+', "%20").replace('*', "%2A");
    let pair = format!("{}:{percent}", id.replace('+', "%20"));
    vec![
        SECRET.to_owned(),
        plus,
        percent,
        format!("Basic {}", STANDARD.encode(pair)),
        format!("Basic {}", STANDARD.encode(format!("{APP_ID}:{SECRET}"))),
    ]
}

/// Puts a value out as a program would that logs it.
fn show(what: impl Debug) {
    put_out(&format!("{what:?}\n{what:#?}\n"));
}

/// Clients that end by revoking their token: it works, or the server says everything that it should not.
async fn endings(server: &AuthServer) {
    // An answer that repeats the very token, which is known only once it is there.
    let echo = |status| {
        let description = "cannot revoke TOKEN".to_owned();
        Fault::Oauth { status, error: "TOKEN".into(), description }
    };
    // Tokens that we never had are none of ours, and no answer of this endpoint has one.
    let grants = |fault: &Fault| matches!(fault, Fault::Status { body, .. } if body.contains("access_token"));
    let answers = indiscretions().into_iter().filter(|fault| !grants(fault));
    let answers = answers.chain([echo(400), echo(401), echo(503)]).map(Some);
    for fault in answers.chain([None]) {
        if let Some(fault) = &fault {
            server.fail_next_revocation(fault.clone());
            let diagnosis = impatient(server).revoke_on_shutdown(true).check().await;
            put_out(&diagnosis.to_string());
            show(diagnosis);
            server.heal();
        }
        let client = impatient(server).revoke_on_shutdown(true);
        show(&client);
        let client = client.build().unwrap();
        let token = client.token().await.unwrap();
        match fault {
            Some(Fault::Oauth { status, error, description }) => {
                let [error, description] =
                    [error, description].map(|text| text.replace("TOKEN", token.as_str()));
                server.fail_next_revocation(Fault::Oauth { status, error, description });
            }
            Some(fault) => server.fail_next_revocation(fault),
            None => {}
        }
        match client.shutdown().await {
            Ok(()) => put_out("revoked\n"),
            Err(error) => show_error(&error),
        }
        show_all(&client);
        server.heal();
    }
    let without = impatient(server).token_url(server.token_url()).revoke_on_shutdown(true);
    show_error(&without.build().unwrap_err());
    let mistaken = impatient(server).revocation_url(format!("https://app:{CANARY}@as.example/"));
    show_error(&mistaken.build().unwrap_err());
}

fn show_error(error: &Error) {
    show(error);
    show((error.kind(), error.status(), error.oauth_error(), error.description(), error.server()));
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(error) = cause {
        put_out(&format!("{error}\n{error:#}\n{error:?}\n{error:#?}\n"));
        cause = error.source();
    }
}

fn show_all(client: &Client) {
    show(client);
    show(client.token_source());
    show(client.status());
    show(client.current_token());
    show(client.prefetch());
    show(client.events());
    show(client.get("orders"));
}

fn show_events(events: &mut evertoken::Events) {
    while let Some(event) = events.try_next() {
        show(&event);
    }
}

struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        put_out(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For those who write to `log` instead of `tracing`: reqwest and rustls.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        put_out(&format!("{} {}: {}\n", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

fn listen_to_everything() -> metrics_util::debugging::Snapshotter {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(|| Lines)
        .init();
    log::set_logger(&Log).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        put_out(&format!("{panic}\n{panic:?}\n"));
        usual(panic);
    }));
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    recorder.install().unwrap();
    metrics
}

async fn server() -> AuthServer {
    AuthServer::builder().client(APP_ID, SECRET).start().await.unwrap()
}

fn builder(server: &AuthServer) -> ClientBuilder {
    Client::builder(APP_ID, SECRET).issuer(server.issuer()).base_url(server.api_url()).scope("read")
}

/// The same with little patience for a server that does not answer.
fn impatient(server: &AuthServer) -> ClientBuilder {
    builder(server)
        .token_timeout(Duration::from_millis(500))
        .renewal(RenewalPolicy::default().request_timeout(Duration::from_millis(300)))
}

/// A client's life: made, used, refused, mended, closed.
async fn success(server: &AuthServer) {
    let diagnosis = builder(server).check().await;
    show(&diagnosis);
    put_out(&diagnosis.to_string());
    show(builder(server));
    show(AuthServer::builder().client(APP_ID, SECRET));
    show(SecretString::from(SECRET));
    show((ClientAuth::ClientSecretPost, RenewalPolicy::default()));
    for auth in [ClientAuth::ClientSecretBasic, ClientAuth::ClientSecretPost] {
        let client = builder(server).client_auth(auth).build().unwrap();
        let mut events = client.events();
        show_all(&client);
        client.prefetch().await.unwrap();
        let token = client.token().await.unwrap();
        show((&token, client.authorization().await.unwrap()));
        show(client.headers(&Method::GET, &server.api_url().parse().unwrap()).await.unwrap());
        show(client.get("orders").send().await.unwrap());
        show(client.post("orders").json(&json!({ "n": 1 })).send().await.unwrap());

        // 401, recovered; and 401 in the cooldown, handed on.
        server.revoke_all();
        show(client.get("orders").send().await.unwrap());
        server.revoke_all();
        show(client.get("orders").send().await.unwrap());
        client.invalidate(&token);
        show_all(&client);

        show_error(&client.get("https://elsewhere.example/").send().await.unwrap_err());
        show_error(&client.get("../up").send().await.unwrap_err());
        server.fail_next_api(Fault::Reset);
        show(client.get("orders").send().await.map_err(|error| show_error(&error)));

        client.set_credentials(APP_ID, format!("{SECRET}2")).unwrap();
        show_all(&client);
        client.shutdown().await.unwrap();
        show_error(&client.token().await.unwrap_err());
        show_all(&client);
        show_events(&mut events);
    }
}

/// Tokens that are bound to a key: the key, the proofs and the tokens. Gives what may not show.
async fn bound(server: &AuthServer) -> Vec<String> {
    /// RFC 8037 A.1.
    const D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "k1", "d": D, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let dpop = || Dpop::with_key(SigningKey::from_jwk(jwk.to_string()).unwrap());
    let bound = || builder(server).dpop(dpop());
    show((dpop(), Dpop::new(), bound()));
    server.set_token_nonce(Some("n1"));
    server.set_api_nonce(Some("n2"));
    let client = bound().build().unwrap();
    let mut events = client.events();
    show_all(&client);
    show_error(&client.authorization().await.unwrap_err());
    show(client.get("orders").send().await.unwrap());
    let headers = client.headers(&Method::GET, &server.api_url().parse().unwrap()).await.unwrap();
    show(&headers);
    show((client.token().await.unwrap(), client.token().await.unwrap().authorization()));
    let layered = TokenLayer::new(client.token_source().clone()).unwrap();
    show((&layered, layered.layer(())));
    let reached = reqwest_middleware::ClientBuilder::new(reqwest::Client::new());
    let reached = reached.with(TokenMiddleware::new(client.token_source().clone()).unwrap()).build();
    show(reached.get(server.api_url()).send().await.unwrap());
    server.revoke_all();
    show(client.get("orders").send().await.unwrap());
    show_events(&mut events);
    server.answer_with(json!({ "token_type": "Bearer" }));
    show_error(&bound().build().unwrap().token().await.unwrap_err());
    server.heal();
    server.set_token_nonce(None);
    server.set_api_nonce(None);
    let proof = headers["dpop"].to_str().unwrap();
    assert!(proof.starts_with("eyJ"));
    vec![D.to_owned(), proof.rsplit('.').next().unwrap().to_owned()]
}

async fn middlewares_and_blocking(server: &AuthServer) {
    let source = TokenSource::builder(APP_ID, SECRET).issuer(server.issuer()).base_url(server.api_url());
    show(&source);
    let source = source.build().unwrap();
    source.token().await.unwrap();
    let layer = TokenLayer::new(source.clone()).unwrap();
    show((&layer, layer.layer(())));
    let middleware = TokenMiddleware::new(source).unwrap();
    show(&middleware);
    let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new()).with(middleware).build();
    show(&http);
    show(http.get(server.api_url()).send().await.unwrap());

    let builder = evertoken::blocking::Client::builder(APP_ID, SECRET)
        .issuer(server.issuer())
        .base_url(server.api_url());
    show(&builder);
    let client = builder.build().unwrap();
    tokio::task::spawn_blocking(move || {
        show((&client, client.token().unwrap(), client.get("orders")));
        show(client.get("orders").send().unwrap());
        client.shutdown().unwrap();
        show_error(&client.get("orders").send().unwrap_err());
    })
    .await
    .unwrap();
}

/// Everything that a token endpoint could say with our secret or a token in it.
fn indiscretions() -> Vec<Fault> {
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln";
    let answer = |status, content: &str, body: String| Fault::Status {
        status,
        headers: vec![("content-type".into(), content.into())],
        body,
    };
    let json = |status, body: Value| answer(status, "application/json", body.to_string());
    let mut faults = vec![
        Fault::Hang,
        Fault::Reset,
        Fault::Close,
        Fault::TornBody,
        Fault::EndlessBody,
        Fault::Garbage,
        Fault::RetryAfterSeconds(429, 7),
        answer(200, "application/json", format!(r#"{{"access_token":"{TOKEN}","expires_in":3600"#)),
        answer(200, "application/json", format!(r#"{{"access_token":"{TOKEN}","expires_in":[{TOKEN}]}}"#)),
        json(200, json!({ "access_token": format!("{TOKEN}\r\nX: y") })),
        json(200, json!({ "access_token": TOKEN, "token_type": TOKEN })),
        json(200, json!({ "access_token": TOKEN, "token_type": format!("x {TOKEN} y") })),
        json(200, json!({ "access_token": TOKEN, "expires_in": TOKEN })),
        json(200, json!({ "access_token": TOKEN, "expires_in": 0 })),
        json(200, json!({ "access_token": [TOKEN] })),
        json(200, json!([TOKEN])),
        json(400, json!({ "access_token": TOKEN, "error": TOKEN, "error_description": TOKEN })),
        answer(200, "text/plain", TOKEN.to_owned()),
    ];
    for echo in echoes() {
        for (status, error) in
            [(401, "invalid_client"), (400, "invalid_scope"), (400, &echo), (500, &echo), (429, "slow_down")]
        {
            faults.push(Fault::Oauth {
                status,
                error: error.to_owned(),
                description: format!("wrong secret {echo}, sent by {APP_ID}"),
            });
        }
        faults.push(json(403, json!({ "message": echo, "title": echo, "detail": echo })));
        faults.push(json(200, json!({ "access_token": TOKEN, "token_type": echo })));
        faults.push(answer(500, "text/html", format!("<html><p>{echo}</p></html>")));
        faults.push(answer(404, "text/plain", echo.clone()));
        for target in [format!("/to/{echo}"), format!("https://{CANARY}@as.example/?secret={echo}")] {
            let headers = vec![("location".into(), target)];
            faults.push(Fault::Status { status: 307, headers, body: String::new() });
        }
    }
    // As a URL's path has it, which lets `:`, `+`, `/`, `&` and `=` stand.
    let path = SECRET.replace('%', "%25").replace(' ', "%20").replace('"', "%22").replace('\\', "%5C");
    let headers = vec![("location".into(), format!("/to/{path}"))];
    faults.push(Fault::Status { status: 302, headers, body: String::new() });
    faults
}

async fn failures(server: &AuthServer) {
    for fault in indiscretions() {
        server.fail_always(fault);
        let diagnosis = impatient(server).check().await;
        put_out(&diagnosis.to_string());
        show(diagnosis);
        let client = impatient(server).build().unwrap();
        let mut events = client.events();
        match client.token().await {
            Ok(token) => show(token),
            Err(error) => show_error(&error),
        }
        show_all(&client);
        show_events(&mut events);
        server.heal();
    }
    // Nothing that speaks TLS.
    let url = server.token_url().replace("http:", "https:");
    let source = TokenSource::builder(APP_ID, SECRET).token_url(url).build().unwrap();
    source.prefetch();
    while source.status().consecutive_failures == 0 {
        tokio::task::yield_now().await;
    }
    show_error(&source.status().last_error.unwrap());
    // Mistakes of whoever builds it.
    for builder in [
        Client::builder(APP_ID, SECRET),
        Client::builder("", SECRET).issuer("https://as.example"),
        Client::builder(APP_ID, SECRET).token_url(format!("https://app:{CANARY}@as.example/")),
        Client::builder(APP_ID, SECRET).issuer(format!("https://app:{CANARY}@as.example/")),
        Client::builder(APP_ID, SECRET)
            .issuer("https://as.example")
            .base_url(format!("https://{CANARY}@as.example/")),
        Client::builder(APP_ID, SECRET)
            .issuer("https://as.example")
            .base_url(format!("ftp://as.example/?{CANARY}")),
        Client::builder(APP_ID, SECRET).issuer("https://as.example").token_param("client_secret", SECRET),
    ] {
        show(&builder);
        match builder.build() {
            Ok(client) => show(client),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Configuration);
                show_error(&error);
            }
        }
    }
}

/// One string for app id and secret, whole and mistyped; and the client of unit tests. Gives what may not show.
fn keys_and_fixed_clients() -> Vec<String> {
    let key = ApiKey::issue("acme_live", "app", SECRET).unwrap();
    show((&key, Client::builder_from(key.expose())));
    put_out(&format!("{key}\n"));
    let mistyped = format!("{}x", key.expose());
    show_error(&ApiKey::parse(&mistyped).unwrap_err());
    show_error(&Client::builder_from(&mistyped).build().unwrap_err());

    const ACME: Preset = Preset::new().token_url("https://as.example/token").key_prefix("acme_test");
    show((ACME, ACME.from_key(key.expose()), ACME.builder("app", SECRET).user_agent(CANARY)));
    for mistaken in [
        ACME.from_key(key.expose()),
        ACME.from_key(&mistyped),
        ACME.builder("app", SECRET).user_agent(format!("{CANARY}\n")),
    ] {
        show_error(&mistaken.build().unwrap_err());
    }

    let token = format!("eyJ{CANARY}");
    let fixed = fixed_client(&token, "https://api.example/").unwrap();
    show((&fixed, fixed.current_token()));
    show_error(&fixed_client(&format!("{token} {SECRET}"), "https://api.example/").unwrap_err());
    let whole = key.expose();
    // Its own encoding of the secret, without what stands before and the checksum at the end.
    vec![whole[whole.len() - 29..whole.len() - 7].to_owned()]
}

/// Credentials from everywhere, good and spoilt; and rotations, in which both secrets are about.
async fn sources(server: &AuthServer) {
    let over = |source: CredentialSource| Client::builder_with(source).token_url(server.token_url());
    let both = || AppCredentials::new(APP_ID, format!("{SECRET}, the old one")).next_secret(SECRET);
    show(both());
    show(CredentialSource::from(both()));
    let client = over(both().into()).build().unwrap();
    let mut events = client.events();
    client.token().await.unwrap();
    show_all(&client);
    show_events(&mut events);
    let wrong = AppCredentials::new(APP_ID, format!("{SECRET}, 1")).next_secret(format!("{SECRET}, 2"));
    let client = over(wrong.into()).build().unwrap();
    show_error(&client.token().await.unwrap_err());
    show_all(&client);

    // Warnings about what is odd in them.
    let odd = AppCredentials::new(APP_ID, format!("\"{SECRET}\" \r\n")).next_secret(format!("{SECRET}\n"));
    show(over(odd.clone().into()).check().await);
    let client = over(odd.into()).build().unwrap();
    client.token().await.unwrap();
    client.set_credentials(APP_ID, format!("'{SECRET}")).unwrap();
    show_error(&client.with("https://odd.example", ["read"]).unwrap().token().await.unwrap_err());
    show_all(&client);

    let path = std::env::temp_dir().join(format!("evertoken-canary-{}", std::process::id()));
    std::fs::write(&path, "").unwrap();
    folder::set_mode(&path, 0o600);
    for text in [
        format!("APP_ID={APP_ID}\n{CANARY}"),
        format!("APP_ID={APP_ID}\nAPP_SECRET={SECRET}\nAPP_SECRET={SECRET}2"),
        format!("API_KEY=acme_live_{CANARY}"),
        format!("{{\"app_id\": \"a\", \"app_secret\": \"{CANARY}"),
        format!("{{\"app_secret\": [\"{CANARY}\"]}}"),
        format!("{{\"app_secret\": \"{CANARY}\"}}"),
    ] {
        show_error(&text.parse::<AppCredentials>().unwrap_err());
        std::fs::write(&path, &text).unwrap();
        let builder = over(CredentialSource::file(&path)).token_timeout(Duration::from_millis(100));
        show(&builder);
        let client = builder.build().unwrap();
        show_error(&client.token().await.unwrap_err());
        show_all(&client);
    }
    // A file for each value, of which one contradicts another; and a secret where a path should be.
    let directory = std::env::temp_dir().join(format!("evertoken-canaries-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in [("client_id", APP_ID), ("client_secret", SECRET), ("app_secret", CANARY)] {
        std::fs::write(directory.join(name), text).unwrap();
        folder::set_mode(&directory.join(name), 0o600);
    }
    let mistaken = |name: &str| match name {
        "X_APP_ID" => Some(APP_ID.into()),
        "X_APP_SECRET_FILE" => Some(SECRET.into()),
        _ => None,
    };
    for source in
        [CredentialSource::directory(&directory), CredentialSource::from_lookup("X", None, mistaken)]
    {
        show(&source);
        let client = over(source).token_timeout(Duration::from_millis(100)).build().unwrap();
        show_error(&client.token().await.unwrap_err());
        show_all(&client);
    }
    let files = CredentialSource::files(directory.join("client_id"), directory.join("client_secret"));
    show(&files);
    let client = over(files).build().unwrap();
    client.token().await.unwrap();
    show_all(&client);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::write(&path, json!({ "app_id": APP_ID, "app_secret": SECRET }).to_string()).unwrap();
    show(CredentialSource::file(&path));
    let client = over(CredentialSource::file(&path)).build().unwrap();
    client.token().await.unwrap();
    // Torn from now on, which is told when the next token is asked for.
    std::fs::write(&path, format!("{{\"app_secret\": \"{CANARY}")).unwrap();
    client.with("https://torn.example", ["read"]).unwrap().token().await.unwrap();
    show_all(&client);
    std::fs::remove_file(&path).unwrap();

    let asked = Arc::new(AtomicUsize::new(0));
    let indiscreet = CredentialSource::provider(move || {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            match first {
                true => Ok(AppCredentials::new(APP_ID, SECRET)),
                false => Err(io::Error::other(format!("the vault has {SECRET} and will not give it"))),
            }
        }
    });
    show(&indiscreet);
    let client = over(indiscreet).build().unwrap();
    client.token().await.unwrap();
    server.rotate(APP_ID, "another");
    show_error(&client.with("https://other.example", ["read"]).unwrap().token().await.unwrap_err());
    server.rotate(APP_ID, SECRET);
    show_all(&client);
}

/// The same credentials, sent by a customer to an API that exchanges them.
async fn exchanges(server: &AuthServer) {
    let builder = || {
        Exchange::builder(server.issuer())
            .token_timeout(Duration::from_millis(500))
            .renewal(RenewalPolicy::default().request_timeout(Duration::from_millis(300)))
    };
    show(builder().token_param("key", SECRET));
    for fault in indiscretions().into_iter().map(Some).chain([None]) {
        if let Some(fault) = fault {
            server.fail_always(fault);
        }
        let exchange = builder().build().unwrap();
        for _ in 0..2 {
            match exchange.token(APP_ID, &SECRET.into(), Some([192, 0, 2, 1].into())).await {
                Ok(token) => show((&token, token.authorization())),
                Err(error) => show_error(&error),
            }
        }
        show((&exchange, exchange.status()));
        exchange.purge(APP_ID);
        server.heal();
    }
    let mistaken = Exchange::builder(format!("https://app:{CANARY}@as.example/"));
    show(&mistaken);
    show_error(&mistaken.build().unwrap_err());
}

/// The API itself, that is sent tokens and secrets, good and bad, and asks about them at a server that repeats everything.
async fn verifications(server: &AuthServer) {
    let builder = || Verifier::builder(server.issuer()).audience(server.audience());
    let introspection = || Introspection::new(APP_ID, SECRET).max_age(Duration::ZERO);
    show((builder().introspection(introspection()), introspection()));
    show_error(&builder().jwks_url(format!("https://app:{CANARY}@as.example/")).build().unwrap_err());
    let source = self::builder(server).audience(server.audience()).build().unwrap();
    let jwt = source.token().await.unwrap();
    server.set_opaque(true);
    source.invalidate(&jwt);
    let exchange = Exchange::builder(server.issuer()).audience(server.audience()).build().unwrap();
    let opaque = exchange.token(APP_ID, &SECRET.into(), None).await.unwrap();
    server.set_opaque(false);
    let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("id:{secret}")));
    let key = ApiKey::issue("acme", APP_ID, SECRET).unwrap();
    let sent = [
        ("authorization", format!("Bearer {}", jwt.as_str())),
        ("authorization", format!("Bearer {}x", jwt.as_str())),
        ("authorization", format!("DPoP {}", jwt.as_str())),
        ("authorization", format!("Bearer {}", opaque.as_str())),
        ("authorization", format!("Bearer {CANARY}")),
        ("authorization", format!("Nonsense {CANARY}")),
        ("authorization", basic(SECRET)),
        ("authorization", basic(CANARY)),
        ("x-api-key", key.expose().to_owned()),
        ("x-api-key", format!("acme_{CANARY}_000000")),
    ];
    for fault in indiscretions().into_iter().map(Some).chain([None]) {
        let verifier = builder().introspection(introspection()).build().unwrap();
        let layer = CallerLayer::new(verifier.clone()).exchange(exchange.clone()).forward_token();
        show((&verifier, &layer));
        // With a fault, what has the server asked.
        let sent = if fault.is_some() { &sent[..4] } else { &sent[..] };
        for (name, value) in sent {
            if let Some(fault) = &fault {
                server.fail_next_introspection(fault.clone());
                server.fail_next_jwks(fault.clone());
            }
            let inner = tower::service_fn(async |request: Request<()>| {
                show(request.extensions().get::<Caller>());
                Ok::<_, std::convert::Infallible>(Response::new(axum::body::Body::empty()))
            });
            let request = Request::get("/orders").header(*name, value).body(()).unwrap();
            let answer = tower::ServiceExt::oneshot(layer.layer(inner), request).await.unwrap();
            show(&answer);
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            put_out(&format!("{}\n", String::from_utf8_lossy(&body)));
            let (parts, ()) = Request::get("/").header(*name, value).body(()).unwrap().into_parts();
            let judged = verifier.verify_request(&parts).await;
            show(&judged);
            put_out(&judged.map_or_else(|refusal| format!("{refusal}\n"), |_| String::new()));
            show(verifier.condition());
            server.heal();
        }
    }
}

/// A program that falls over with our things in its hands.
async fn panics(server: &AuthServer) {
    let client = builder(server).build().unwrap();
    let token = client.token().await.unwrap();
    let fallen = tokio::spawn(async move {
        panic!("fell over with {client:?}, {:?}, {:?} and {token:?}", client.token_source(), client.status())
    });
    let error = fallen.await.unwrap_err();
    show(&error);
    put_out(&format!("{error}\n"));
    let message = error.into_panic();
    put_out(message.downcast_ref::<String>().unwrap());
}

#[tokio::test]
async fn nothing_secret_is_put_out() {
    let metrics = listen_to_everything();
    let server = server().await;
    success(&server).await;
    middlewares_and_blocking(&server).await;
    failures(&server).await;
    endings(&server).await;
    let mut unsearchable = keys_and_fixed_clients();
    unsearchable.extend(bound(&server).await);
    sources(&server).await;
    exchanges(&server).await;
    verifications(&server).await;
    panics(&server).await;
    show((&server, server.log()));
    show(metrics.snapshot().into_vec());

    let output = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (number, line) in output.lines().enumerate() {
        if let Some(form) = forbidden_in(line) {
            panic!("{form:?} in line {number}: {line}");
        }
    }
    // A JWT's last part on its own is caught here, and what no encoding of the canary is like.
    unsearchable.extend(
        server.issued_tokens().iter().filter_map(|token| token.rsplit('.').next().map(str::to_owned)),
    );
    for part in unsearchable {
        assert!(!output.contains(&part), "{part} was put out");
    }
    // It was put out at all: each kind of output has its word.
    for word in [
        "token renewed",
        "token refused by the API",
        "renewal failed; no token is held",
        "hyper_util::client",
        "reqwest::",
        "evertoken_renewals_total",
        "evertoken_wait_seconds",
        "CredentialsRejected",
        "[redacted]",
        "UntrustedOrigin",
        "AccessToken {",
        "Sensitive",
        "RenewalFailed {",
        "fell over with Client {",
        "POST /token",
        "POST /revoke",
        "answered about a token",
        "tokens could not be revoked",
        "the next secret was refused, too",
        "credential refused; trying what comes next",
        "the credential provider failed: the vault has [redacted]",
        "is no valid JSON",
        "token got for an app",
        "no token for an app",
        "evertoken_exchange_requests_total",
        "Exchange {",
        "Caller {",
        "a request is refused",
        "the access token is refused",
        "introspection failed",
        "the issuer's keys could not be read",
        "invalid_client",
    ] {
        assert!(output.contains(word), "{word:?} is nowhere in the output");
    }
}

#[test]
fn the_search_finds_what_it_should() {
    let mut planted = echoes();
    planted.extend([
        format!("{SECRET:?}"),
        format!("{:?}", SECRET.as_bytes()),
        format!("{:?}", SECRET.to_owned()),
        STANDARD.encode(SECRET),
        URL_SAFE_NO_PAD.encode(format!("a{SECRET}")),
        URL_SAFE_NO_PAD.encode(format!("ab{SECRET}")),
        SECRET.bytes().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        }),
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
        format!("{:?}", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#).as_bytes()),
    ]);
    for planted in planted {
        assert!(forbidden_in(&format!("so {planted} it goes")).is_some(), "{planted}");
    }
    assert_eq!(forbidden_in("Client { base_url: Some(\"http://127.0.0.1:1/v1/\"), .. } [redacted]"), None);
}
