//! What the environment says holds for a whole process, so this is told to one of its own.

use evertoken::ClientBuilder;
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
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in NAMES {
        child.env_remove(name).env_remove(name.to_lowercase());
    }
    child
        .args(["--exact", "environment::it_is_honoured", "--nocapture"])
        .env(CHILD, "1")
        .env("EVERTOKEN_APP_ID", "app")
        .env("EVERTOKEN_APP_SECRET", "s3cret")
        .env("EVERTOKEN_TOKEN_URL", server.url("/token"))
        .env("EVERTOKEN_BASE_URL", format!("https://127.0.0.1:{}/v1/", server.port()))
        .envs(settings.iter().copied());
    String::from_utf8(child.output().await.unwrap().stdout).unwrap()
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
        // The star is for names only.
        ("ALL_PROXY", Some(("NO_PROXY", "*")), vec![&*api]),
        ("ALL_PROXY", Some(("NO_PROXY", "*,0.0.0.0/0")), neither.clone()),
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

    let proxy = Proxy::start(server.port()).await;
    child(&server, &[("HTTP_PROXY", &proxy.url("")), ("EVERTOKEN_TOKEN_URL", "http://localhost:9/token")])
        .await;
    assert_eq!(proxy.hosts(), ["http://localhost:9/token"]);

    let said = child(&server, &[("SSL_CERT_DIR", folder)]).await;
    assert!(said.contains("outcome: Ok(200)"), "{said}");
    let said = child(&server, &[]).await;
    assert!(said.contains("outcome: Err") && said.contains("UnknownIssuer"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}
