//! What the environment says holds for a whole process, so this is told to one of its own.

use std::process::Output;

use evertoken::server::{Introspection, Verifier};
use evertoken::testing::AuthServer;
use evertoken::{ClientBuilder, TokenSource};
use tokio::process::Command;

use super::authority::Authority;
use super::called;
use super::proxy::Proxy;
use super::tls::Server;

const CHILD: &str = "EVERTOKEN_TEST_CHILD";
const NAMES: [&str; 6] =
    ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE"];

/// What a client comes to that gets its token from `localhost` and then calls the API at 127.0.0.1.
async fn child(server: &Server, settings: &[(&str, &str)]) -> String {
    let (token_url, base_url) = (server.url("/token"), format!("https://127.0.0.1:{}/v1/", server.port()));
    let mut all = vec![("EVERTOKEN_TOKEN_URL", &*token_url), ("EVERTOKEN_BASE_URL", &*base_url)];
    all.extend(settings);
    let output = run("environment::it_is_honoured", &all).await;
    String::from_utf8(output.stdout).unwrap()
}

/// What the parent of a child told it, None in the parent itself.
pub fn told() -> Option<String> {
    std::env::var_os(CHILD)?;
    std::env::var("EVERTOKEN_TEST_TOLD").ok()
}

/// Runs one test of this binary again, in a process of its own with these variables.
pub async fn run(test: &str, settings: &[(&str, &str)]) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in NAMES {
        child.env_remove(name).env_remove(name.to_lowercase());
    }
    child
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env("EVERTOKEN_APP_ID", "app")
        .env("EVERTOKEN_APP_SECRET", "s3cret")
        .envs(settings.iter().copied());
    child.output().await.unwrap()
}

#[tokio::test]
async fn it_is_honoured() {
    if std::env::var_os(CHILD).is_some() {
        let client = ClientBuilder::from_env().build().unwrap();
        println!("outcome: {:?}", called(&client).await);
        return;
    }
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let folder = std::env::temp_dir().join(format!("evertoken-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // Named as `openssl rehash` would.
    let file = folder.join("0a1b2c3d.0");
    std::fs::write(&file, authority.pem()).unwrap();
    let (folder, file) = (folder.to_str().unwrap(), file.to_str().unwrap());

    let (auth, api) = (format!("localhost:{}", server.port()), format!("127.0.0.1:{}", server.port()));
    let [both, neither] = [vec![&*auth, &*api], vec![]];
    for (proxied_by, no_proxy, hosts) in [
        ("HTTPS_PROXY", None, both.clone()),
        ("https_proxy", None, both.clone()),
        ("ALL_PROXY", None, both.clone()),
        ("all_proxy", None, both.clone()),
        ("HTTPS_PROXY", Some(("NO_PROXY", "localhost")), vec![&*api]),
        ("HTTPS_PROXY", Some(("no_proxy", "example.com, 127.0.0.0/8")), vec![&*auth]),
        ("ALL_PROXY", Some(("NO_PROXY", "*")), neither.clone()),
        ("https_proxy", Some(("no_proxy", "example.com, *")), neither.clone()),
        // That is for http:// only.
        ("HTTP_PROXY", None, neither.clone()),
    ] {
        let proxy = Proxy::start(server.port()).await;
        let url = proxy.url("");
        let mut settings = vec![("SSL_CERT_FILE", file), (proxied_by, &*url)];
        settings.extend(no_proxy);
        let said = child(&server, &settings).await;
        assert!(said.contains("outcome: Ok(200)"), "{settings:?}: {said}");
        assert_eq!(proxy.hosts(), hosts, "{settings:?}");
    }

    let said = child(&server, &[("SSL_CERT_DIR", folder)]).await;
    assert!(said.contains("outcome: Ok(200)"), "{said}");
    let said = child(&server, &[]).await;
    assert!(said.contains("outcome: Err") && said.contains("UnknownIssuer"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Everything that a client and a verifier ask of servers at `http://127.0.0.1`.
async fn ask_all(server: &str) {
    let client = ClientBuilder::from_env().revoke_on_shutdown(true).build().unwrap();
    assert_eq!(called(&client).await.unwrap(), 200);
    let token = client.token().await.unwrap();
    let introspection = Introspection::new("app", "s3cret");
    let verifier = || Verifier::builder(server).audience("https://api.example");
    let keys = verifier().build().unwrap();
    let asking = verifier().introspection(introspection).build().unwrap();
    // Whether the tokens are good does not matter here, only that the server was asked.
    let _ = keys.verify(token.as_str()).await;
    let _ = asking.verify("opaque").await;
    client.shutdown().await.unwrap();
}

#[tokio::test]
async fn plain_http_on_loopback_bypasses_the_proxy() {
    if std::env::var_os(CHILD).is_some() {
        return ask_all(&std::env::var("EVERTOKEN_ISSUER").unwrap()).await;
    }
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let server = AuthServer::start().await.unwrap();
        server.register("app", "s3cret");
        let proxy = Proxy::refusing().await;
        let settings = [
            (name, &*proxy.url("")),
            ("EVERTOKEN_ISSUER", &*server.issuer()),
            ("EVERTOKEN_BASE_URL", &*server.api_url()),
        ];
        let output = run("environment::plain_http_on_loopback_bypasses_the_proxy", &settings).await;
        assert_eq!(proxy.asked(), [""; 0], "{name}");
        assert!(output.status.success(), "{name}: {output:?}");
        let asked = (server.revocations(), server.introspections(), server.jwks_requests());
        assert!(asked.0 > 0 && asked.1 > 0 && asked.2 > 0, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn plain_http_on_loopback_bypasses_a_given_proxy() {
    let server = AuthServer::start().await.unwrap();
    let proxy = Proxy::refusing().await;
    let builder = evertoken::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
    let client = builder.issuer(server.issuer()).base_url(server.api_url()).proxy(proxy.url("")).build();
    assert_eq!(called(&client.unwrap()).await.unwrap(), 200);
    assert_eq!(proxy.asked(), [""; 0]);
    // What is plain http only because that was opted out of goes through the proxy.
    let source = TokenSource::builder("app", "s3cret")
        .token_url("http://auth.test/token")
        .allow_insecure_http()
        .proxy(proxy.url(""));
    source.build().unwrap().token().await.unwrap_err();
    assert!(proxy.asked()[0].starts_with("POST http://auth.test/token "), "{:?}", proxy.asked());
}

#[tokio::test]
async fn white_space_and_quotes_around_urls_do_not_count() {
    let padded = |url: &str| format!(" \"{url}\"\r\n");
    let server = AuthServer::start().await.unwrap();
    let proxy = Proxy::refusing().await;
    let client = evertoken::Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
        .token_url(padded(&server.token_url()))
        .trusted_origin(padded(&server.api_url()))
        .revocation_url(padded(&server.revocation_url()))
        .revoke_on_shutdown(true)
        .proxy(padded(&proxy.url("")))
        .build()
        .unwrap();
    let token = client.token().await.unwrap();
    assert_eq!(client.get(server.api_url()).send().await.unwrap().status(), 200);
    client.shutdown().await.unwrap();
    assert_eq!(server.revocations(), 1);
    let verifier =
        Verifier::builder(padded(&server.issuer())).audience("https://api.example").build().unwrap();
    assert!(verifier.verify(token.as_str()).await.is_ok());
    let far = TokenSource::builder("app", "s3cret")
        .token_url("https://auth.test/token")
        .proxy(padded(&proxy.url("")));
    far.build().unwrap().token().await.unwrap_err();
    assert!(proxy.asked()[0].starts_with("CONNECT auth.test:443 "), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_password_with_an_at_sign_reaches_the_proxy() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let proxy = Proxy::start(server.port()).await;
    child(&server, &[("HTTPS_PROXY", &proxy.url("user:p@ss@"))]).await;
    let asked = proxy.asked();
    // Base64 of `user:p@ss`.
    assert!(asked[0].to_lowercase().contains("proxy-authorization: basic dxnlcjpwqhnz"), "{asked:?}");
}

#[tokio::test]
async fn an_unusable_proxy_variable_is_named() {
    if std::env::var_os(CHILD).is_some() {
        println!("outcome: {:?}", ClientBuilder::from_env().build().err());
        return;
    }
    for (name, value) in [("ALL_PROXY", "ftp://canary:1"), ("https_proxy", "http://user:can/ary@proxy:1")] {
        let settings = [(name, value), ("EVERTOKEN_TOKEN_URL", "https://as.example/token")];
        let output = run("environment::an_unusable_proxy_variable_is_named", &settings).await;
        let said = String::from_utf8(output.stdout).unwrap();
        let named = format!("the environment variable `{name}` names no usable proxy");
        assert!(said.contains(&named) && !said.contains("canary") && !said.contains("ary@"), "{said}");
    }
}
