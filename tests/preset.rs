//! An API provider's preset: what goes over the wire, what the customer can change, and what is told when it is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, ClientAuth, ClientBuilder, ErrorKind, Preset, blocking};
use serde_json::{Value, json};

const OURS: &str = concat!("evertoken/", env!("CARGO_PKG_VERSION"));

const ACME: Preset = Preset::new()
    .issuer("https://login.acme.example/")
    .audience("https://api.acme.example")
    .scope("orders:read orders:write")
    .base_url("https://api.acme.example/v1/")
    .key_prefix("acme_live")
    .env_prefix("ACME")
    .user_agent("acme-sdk/1.2");

/// The preset of the box, whose addresses are known only when it runs; the leak ends with the test.
fn preset_of(server: &AuthServer) -> Preset {
    let lasting = |text: String| -> &'static str { text.leak() };
    ACME.issuer(lasting(server.issuer()))
        .audience(lasting(server.audience()))
        .base_url(lasting(server.api_url()))
}

fn key_of(prefix: &str) -> ApiKey {
    ApiKey::issue(prefix, AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap()
}

fn assert_mistake(builder: ClientBuilder, said: &str) {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains(said), "{said:?}: {error}");
}

/// What the newest token says.
fn claims(server: &AuthServer) -> Value {
    let token = server.issued_tokens().pop().unwrap();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

fn user_agents(server: &AuthServer) -> Vec<(String, String)> {
    server.log().into_iter().map(|entry| (entry.what, entry.user_agent.unwrap())).collect()
}

#[tokio::test]
async fn a_preset_and_credentials_are_all_that_a_client_needs() {
    let server = AuthServer::start().await.unwrap();
    let api = preset_of(&server).client(AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    assert!(server.log().is_empty(), "nothing is asked before the first call");
    let answer: Value = api.get("orders").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["path"], "/v1/orders");
    let claims = claims(&server);
    assert_eq!(
        (&claims["aud"], &claims["scope"]),
        (&json!(server.audience()), &json!("orders:read orders:write"))
    );
    let agent = format!("acme-sdk/1.2 {OURS}");
    let asked = ["GET /.well-known/oauth-authorization-server", "POST /token", "GET /v1/orders"];
    assert_eq!(user_agents(&server), asked.map(|what| (what.to_owned(), agent.clone())));
}

#[tokio::test]
async fn a_key_is_enough_and_one_of_another_prefix_is_refused() {
    let server = AuthServer::start().await.unwrap();
    let acme = preset_of(&server);
    let key = key_of("acme_live");
    for builder in [acme.from_key(key.expose()), acme.from_key(key.clone())] {
        assert_eq!(builder.build().unwrap().get("orders").send().await.unwrap().status(), 200);
    }

    server.reset_counters();
    let test = key_of("acme_test");
    assert_mistake(
        acme.from_key(test.clone()),
        "the API key begins with `acme_test_`, not with `acme_live_`",
    );
    assert_mistake(acme.from_key(test.expose()), "another environment");
    assert_mistake(acme.from_key(&key.expose()[1..]), "typo");
    assert_mistake(acme.key_prefix("acme_live_").from_key(key), "the prefix of API keys is not usable");
    assert!(server.log().is_empty(), "nothing was sent");

    let any = Preset::new().token_url("https://login.acme.example/token");
    assert!(any.from_key(test).build().is_ok(), "no prefix is asked for");
}

#[tokio::test]
async fn what_the_customer_sets_wins() {
    let server = AuthServer::start().await.unwrap();
    // Each of the preset's addresses would fail.
    let api = ACME
        .builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .audience(server.audience())
        .scope("orders:read")
        .base_url(server.api_url())
        .user_agent("shop/3")
        .build()
        .unwrap();
    api.get("orders").send().await.unwrap();
    assert_eq!(claims(&server)["scope"], "orders:read");
    let agents = user_agents(&server);
    assert!(agents.iter().all(|(_, agent)| *agent == format!("shop/3 {OURS}")), "{agents:?}");
    api.get("orders").header("user-agent", "own").send().await.unwrap();
    assert_eq!(user_agents(&server).pop().unwrap().1, "own");

    // An issuer of the customer's is not outdone by the preset's token endpoint, nor the other way round.
    let by_url =
        Preset::new().token_url("https://login.acme.example/token").resource("https://api.acme.example");
    let source = by_url
        .builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .issuer(server.issuer())
        .base_url(server.api_url())
        .build()
        .unwrap();
    source.token().await.unwrap();
    assert_eq!(claims(&server)["aud"], "https://api.acme.example");
    let other = ACME.builder(AuthServer::APP_ID, AuthServer::APP_SECRET).token_url(server.token_url());
    other.build().unwrap().token().await.unwrap();
    assert_eq!(claims(&server)["aud"], "https://api.acme.example");
    let own = by_url.builder(AuthServer::APP_ID, AuthServer::APP_SECRET).resource("https://own.example");
    own.token_url(server.token_url()).build().unwrap().token().await.unwrap();
    assert_eq!(claims(&server)["aud"], "https://own.example");
}

#[tokio::test]
async fn other_options_are_preset_by_a_function() {
    let server = AuthServer::start().await.unwrap();
    let acme = preset_of(&server).configure(|builder| {
        builder.client_auth(ClientAuth::ClientSecretPost).http_client(evertoken::reqwest::Client::new())
    });
    let builder = || acme.builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
    builder().build().unwrap().get("orders").send().await.unwrap();
    let log = server.log();
    assert_eq!(log[1].client_auth, Some("client_secret_post"));
    assert_eq!(log[2].user_agent, Some(format!("acme-sdk/1.2 {OURS}")), "over a transport of its own, too");
    let api = builder().client_auth(ClientAuth::ClientSecretBasic).build().unwrap();
    api.token().await.unwrap();
    assert_eq!(server.log().pop().unwrap().client_auth, Some("client_secret_basic"));
}

#[tokio::test]
async fn a_replayed_call_and_another_audience_keep_the_user_agent() {
    let server = AuthServer::start().await.unwrap();
    let api = preset_of(&server).client(AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    api.get("orders").send().await.unwrap();
    server.revoke_all();
    assert_eq!(api.get("orders").send().await.unwrap().status(), 200);
    assert_eq!(api.post("orders").body("x").send().await.unwrap().status(), 200);
    let other = api.with(server.audience(), ["other"]).unwrap();
    assert_eq!(other.get("orders").send().await.unwrap().status(), 200);
    assert_eq!(server.token_requests(), 3);
    let agents = user_agents(&server);
    assert!(agents.iter().all(|(_, agent)| *agent == format!("acme-sdk/1.2 {OURS}")), "{agents:?}");
}

#[tokio::test]
async fn without_a_preset_the_user_agent_is_ours() {
    let server = AuthServer::start().await.unwrap();
    house::client(&server).build().unwrap().get("orders").send().await.unwrap();
    let agents = user_agents(&server);
    assert!(agents.len() == 2 && agents.iter().all(|(_, agent)| agent == OURS), "{agents:?}");
}

#[test]
fn a_preset_serves_blocking_programs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(AuthServer::start()).unwrap();
    let api: blocking::Client = preset_of(&server).from_key(key_of("acme_live")).blocking().build().unwrap();
    let answer: Value = api.get("orders").send().unwrap().json().unwrap();
    assert_eq!(answer["headers"]["user-agent"], format!("acme-sdk/1.2 {OURS}"));
}

#[test]
fn mistakes_are_told_when_building() {
    let builder = |preset: Preset| preset.builder("id", "secret");
    for (preset, said) in [
        (Preset::new(), "`issuer` or `token_url`"),
        (ACME.issuer("acme"), "issuer"),
        (ACME.token_url("https://login.acme.example/token"), "`issuer` and `token_url` are both set"),
        (Preset::new().token_url("http://login.acme.example/"), "token_url"),
        (ACME.base_url("http://api.acme.example/"), "base_url"),
        (ACME.scope("a\"b"), "`scope`"),
        (ACME.audience(""), "`audience`"),
        (ACME.resource("https://acme.example/#a"), "`resource`"),
        (ACME.user_agent("acme\r\nx: y"), "`user_agent`"),
        (ACME.user_agent(""), "`user_agent`"),
    ] {
        assert_mistake(builder(preset), said);
        let error = builder(preset).blocking().build().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let error = evertoken::TokenSource::builder("id", "secret")
        .token_url("https://login.acme.example/")
        .user_agent("ä")
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("`user_agent`"), "{error}");
    assert!(ACME.client("", "secret").unwrap_err().to_string().contains("app id"));
    assert!(ACME.client("id", "").unwrap_err().to_string().contains("app secret"));
}

const CHILD: &str = "PRESET_TEST_CHILD";

/// Builds a client in a process that has these variables and no others of the preset, and tells how it went.
fn in_environment(settings: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_environment_has_the_presets_prefix", "--nocapture"])
        .env(CHILD, "1")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

// The box goes on while this thread waits for the child.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_environment_has_the_presets_prefix() {
    if std::env::var_os(CHILD).is_some() {
        let answer = async |client: Client| client.get("orders").send().await?.json::<Value>().await;
        match ACME.from_env().build() {
            Ok(client) => println!("outcome: {:?}", answer(client).await),
            Err(error) => println!("outcome: {error}"),
        }
        return;
    }
    let server = AuthServer::start().await.unwrap();
    let (issuer, token_url, audience, base_url) =
        (server.issuer(), server.token_url(), server.audience(), server.api_url());
    let place =
        [("ACME_ISSUER", issuer.as_str()), ("ACME_AUDIENCE", &audience), ("ACME_BASE_URL", &base_url)];
    let with = |more: &[(&'static str, &'static str)]| in_environment(&[&place[..], more].concat());

    let said = with(&[("ACME_APP_ID", "app"), ("ACME_APP_SECRET", "secret")]);
    assert!(said.contains("outcome: Ok(") && said.contains("/v1/orders"), "{said}");
    assert_eq!(claims(&server)["scope"], "orders:read orders:write");
    let key: &str = key_of("acme_live").expose().to_owned().leak();
    let said = with(&[("ACME_API_KEY", key), ("ACME_SCOPE", "other"), ("EVERTOKEN_APP_ID", "x")]);
    assert!(said.contains("outcome: Ok("), "{said}");
    assert_eq!(claims(&server)["scope"], "other");
    let by_url = [("ACME_TOKEN_URL", token_url.as_str()), ("ACME_API_KEY", key), place[1], place[2]];
    assert!(in_environment(&by_url).contains("outcome: Ok("));
    assert_eq!((server.token_requests(), server.discovery_requests()), (3, 2));

    let foreign: &str = key_of("acme_test").expose().to_owned().leak();
    for (settings, told) in [
        (&[][..], "the environment variable ACME_APP_ID is not set"),
        (&[("ACME_APP_SECRET", "secret")], "the environment variable ACME_APP_ID is not set"),
        (&[("ACME_APP_ID", "app")], "the environment variable ACME_APP_SECRET is not set"),
        (&[("ACME_APP_ID", "app"), ("ACME_API_KEY", key)], "ACME_API_KEY is set, and ACME_APP_ID"),
        (&[("ACME_APP_SECRET", "s"), ("ACME_API_KEY", key)], "ACME_API_KEY is set, and ACME_APP_ID"),
        (&[("ACME_API_KEY", &key[1..])], "typo"),
        (&[("ACME_API_KEY", foreign)], "begins with `acme_test_`"),
        (&[("ACME_API_KEY", key), ("ACME_ISSUER", "x")], "ACME_ISSUER is not a URL"),
    ] {
        let said = in_environment(settings);
        assert!(said.contains("outcome: ") && said.contains(told), "{told}: {said}");
        assert!(!said.contains(&key[10..20]), "{said}");
    }
    assert_eq!(server.token_requests(), 3);
}
