//! Every way in which a connection fails to come about, provoked by a real one, and what the error then says. The table in
//! `docs/connection-errors.md` is made of it: with `EVERTOKEN_WRITE_DOCS=1` the test writes it, otherwise it compares.

use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evertoken::testing::AuthServer;
use evertoken::{Client, ClientBuilder, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::authority::Authority;
use super::environment;
use super::proxy::Proxy;
use super::socks::Socks;
use super::tls::Server;

const INTRODUCTION: &str = "# Errors of connections

What the error of a token request says if no connection comes about, after `could not connect to the authorization server`, or
after `broke off its answer` if the server refuses only behind the handshake. Errors of discovery, of key sets and of calls to the
API say the same about their servers. Python and Node.js write the names of options as they have them. A proxy is named with its
origin, which is left out here, and with the option or the variable that it comes from.

This table is written by the test that provokes each of these errors.

| What happens | What the error says | What to do |
|---|---|---|
";

/// What the first attempt to get a token says.
async fn said(builder: ClientBuilder) -> String {
    let client = builder.build().unwrap();
    let mut events = client.events();
    client.prefetch();
    match events.next().await {
        Some(Event::RenewalFailed { error, .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn asking(url: impl Into<String>) -> ClientBuilder {
    Client::builder("app", "s3cret").token_url(url)
}

/// A server that reads what comes first, answers this and closes.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(bytes).await;
        }
    });
    format!("https://localhost:{port}/token")
}

/// A port of loopback at which nobody listens.
async fn unused() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A real forward proxy, with these lines in its configuration.
struct Tinyproxy(Child, u16);

impl Tinyproxy {
    async fn start(lines: &str) -> Self {
        let port = unused().await;
        let folder = std::env::temp_dir();
        let file = folder.join(format!("evertoken-tinyproxy-{}-{port}", std::process::id()));
        std::fs::write(&file, format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 10\n{lines}\n"))
            .unwrap();
        let mut child = Command::new("tinyproxy");
        child.arg("-d").arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let this = Self(child.spawn().unwrap_or_else(|error| panic!("install tinyproxy: {error}")), port);
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::fs::remove_file(file).unwrap();
        this
    }

    fn url(&self, user: &str) -> String {
        format!("http://{user}127.0.0.1:{}", self.1)
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What happens in the process of a machine without certificates.
#[tokio::test]
async fn machine_without_certificates() {
    let Some(url) = environment::told() else { return };
    // Plain http to loopback works as ever.
    let server = AuthServer::start().await.unwrap();
    let plain = Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET);
    let plain = plain.issuer(server.issuer()).base_url(server.api_url()).build().unwrap();
    assert_eq!(plain.get("orders").send().await.unwrap().status(), 200);
    println!("outcome: {}", said(asking(url)).await);
}

/// An error's text in which ports and proxies are as in the documentation.
fn shown(text: &str) -> (String, String) {
    let text = text.split_once(", through the proxy ").map_or_else(
        || text.to_owned(),
        |(before, after)| {
            let (proxy, after) = after.split_once(")").unwrap();
            assert!(proxy.contains("127.0.0.1") && !proxy.contains('@'), "{proxy}");
            format!("{before}{after}")
        },
    );
    let start = [
        "could not connect to the authorization server: ",
        "the authorization server broke off its answer: ",
    ];
    let what = start.iter().find_map(|start| text.strip_prefix(start)).unwrap_or_else(|| panic!("{text}"));
    let (what, rest) = what.split_once(" [https://").unwrap_or_else(|| panic!("{text}"));
    let advice = rest.split_once("; tried again in ").unwrap().1.split_once(" s: ");
    (what.to_owned(), advice.map(|(_, advice)| advice.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn each_connection_error_names_cause_and_remedy() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let trusting = |url: String| asking(url).root_certificate(authority.pem());
    let with = |years| authority.issue_for_years("localhost", years);
    let expired = Server::showing(with([2019, 2020]), None).await;
    let early = Server::showing(with([2090, 2099]), None).await;
    let other = Server::showing(authority.issue(&["auth.example", "auth.test"]), None).await;
    let guarded = Server::start(&authority, Some(&authority.pem())).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = || server.url("/token");
    let (closed, unused) = (answering(b"").await, unused().await);
    // Alerts (RFC 8446 6): protocol_version and handshake_failure, as a server of TLS 1.1 sends them.
    let [old, other_ciphers] = [70, 40].map(|alert| [0x15, 3, 1, 0, 2, 2, alert]);
    let (old, other_ciphers) =
        (answering(old.to_vec().leak()).await, answering(other_ciphers.to_vec().leak()).await);
    let plain = answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let proxy = Tinyproxy::start("BasicAuth user secret").await;
    let strict = Tinyproxy::start("ConnectPort 1").await;
    let wants_user = Socks::start(Ok(server.port()), Some(("user", "secret"))).await;
    let refusing = Socks::start(Err(2), None).await;
    let unused_proxy = format!("http://127.0.0.1:{unused}");
    let settings = [
        ("EVERTOKEN_TEST_TOLD", url()),
        ("SSL_CERT_FILE", "/nowhere".into()),
        ("SSL_CERT_DIR", "/nowhere".into()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let without_store = environment::run("causes::machine_without_certificates", &settings).await;
    let without_store = String::from_utf8(without_store.stdout).unwrap();
    let without_store = without_store.lines().find_map(|line| line.split_once("outcome: "));
    let without_store = without_store.unwrap().1.to_owned();

    let mut page = INTRODUCTION.to_owned();
    for (what, text, said) in [
        ("the host is not in DNS", said(asking("https://auth.invalid/token")).await, "does not resolve"),
        (
            "nobody listens at the port",
            said(asking(format!("https://localhost:{unused}/token"))).await,
            "refused",
        ),
        ("no route leads there", said(asking("https://224.0.0.1/token")).await, "no route"),
        (
            "a firewall drops what is sent, or the server does not answer",
            said(
                asking(format!("https://localhost:{}/token", silent.local_addr().unwrap().port()))
                    .connect_timeout(Duration::from_millis(50)),
            )
            .await,
            "no answer in the time for connecting",
        ),
        (
            "the server closes the connection during the handshake",
            said(asking(closed)).await,
            "during the TLS handshake",
        ),
        ("the server speaks plain http at this port", said(asking(plain)).await, "does not speak TLS"),
        ("the server speaks TLS 1.1 at most", said(asking(old)).await, "neither TLS 1.2 nor 1.3"),
        ("no cipher suite in common, or the like", said(asking(other_ciphers)).await, "HandshakeFailure"),
        ("a certificate of an authority of one's own", said(asking(url())).await, "unknown issuer"),
        ("a machine or container without certificates", without_store, "`ca-certificates`"),
        (
            "an expired certificate",
            said(trusting(expired.url("/token"))).await,
            "expired on Wed, 01 Jan 2020",
        ),
        (
            "a certificate for later, or a clock that is behind",
            said(trusting(early.url("/token"))).await,
            "not valid before",
        ),
        (
            "a certificate for another host",
            said(trusting(other.url("/token"))).await,
            "auth.example, auth.test, not for localhost",
        ),
        (
            "mutual TLS without a certificate",
            said(trusting(guarded.url("/token"))).await,
            "client's certificate",
        ),
        (
            "the proxy does not run",
            said(trusting(url()).proxy(unused_proxy)).await,
            "proxy cannot be reached: the connection was refused",
        ),
        (
            "a proxy with a password, of which none was given",
            said(trusting(url()).proxy(proxy.url(""))).await,
            "wants a user",
        ),
        (
            "the proxy forbids the connection",
            said(trusting(url()).proxy(strict.url(""))).await,
            "did not connect",
        ),
        (
            "a SOCKS proxy with a password, of which none was given",
            said(trusting(url()).proxy(wants_user.url("socks5h", ""))).await,
            "wants a user",
        ),
        (
            "a SOCKS proxy with another password",
            said(trusting(url()).proxy(wants_user.url("socks5h", "user:canary@"))).await,
            "refused user and password",
        ),
        (
            "a SOCKS proxy that forbids the connection",
            said(trusting(url()).proxy(refusing.url("socks5", ""))).await,
            "did not connect",
        ),
        (
            "a SOCKS proxy that does not run",
            said(trusting(url()).proxy(format!("socks5h://127.0.0.1:{unused}"))).await,
            "proxy cannot be reached",
        ),
    ] {
        assert!(text.contains(said) && !text.contains("canary"), "{what}: {text}");
        let (cause, advice) = shown(&text);
        assert!(!advice.is_empty(), "{text}");
        writeln!(page, "| {what} | {cause} | {advice} |").unwrap();
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/connection-errors.md");
    if std::env::var_os("EVERTOKEN_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap_or_default(),
        page,
        "set EVERTOKEN_WRITE_DOCS=1 to have it written"
    );

    // The same proxy with what it wants lets both requests through.
    let client =
        trusting(url()).base_url(server.url("/v1/")).proxy(proxy.url("user:secret@")).build().unwrap();
    assert_eq!(super::called(&client).await.unwrap(), 200);
}

#[tokio::test]
async fn socks_proxy_carries_token_requests_and_calls() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let socks = Socks::start(Ok(server.port()), Some(("user", "p@ss:w"))).await;
    // The proxy looks the names up with `socks5h`, which nobody else could.
    let client = super::far_away(&authority).proxy(socks.url("socks5h", "user:p%40ss%3Aw@")).build().unwrap();
    assert_eq!(super::called(&client).await.unwrap(), 200);
    assert_eq!(socks.asked(), ["auth.test:443", "api.test:443"]);
    // By the environment as well, with a password that is not encoded.
    let url = socks.url("socks5h", "user:p@ss:w@");
    let file = std::env::temp_dir().join(format!("evertoken-socks-{}", std::process::id()));
    std::fs::write(&file, authority.pem()).unwrap();
    let settings = [
        ("ALL_PROXY", &*url),
        ("SSL_CERT_FILE", file.to_str().unwrap()),
        ("EVERTOKEN_TOKEN_URL", "https://auth.test/token"),
        ("EVERTOKEN_BASE_URL", "https://api.test/v1/"),
    ];
    let output = environment::run("environment::it_is_honoured", &settings).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("outcome: Ok(200)"), "{output:?}");
    assert_eq!(socks.asked().len(), 4);
    std::fs::remove_file(file).unwrap();
}

/// Whoever reads the log must know which of several settings it was.
#[tokio::test]
async fn proxy_is_named_with_what_sets_it() {
    let proxy = Proxy::refusing().await;
    let text = said(asking("https://auth.test/token").proxy(proxy.url(""))).await;
    assert!(text.contains(&format!("through the proxy {} (by `proxy`): ", proxy.url(""))), "{text}");
    for (set, named) in [("HTTPS_PROXY", true), ("all_proxy", true), ("HTTP_PROXY", false)] {
        let url = proxy.url("user:canary@");
        let settings = [
            (set, &*url),
            ("EVERTOKEN_TOKEN_URL", "https://localhost:1/token"),
            ("EVERTOKEN_BASE_URL", "https://localhost/"),
        ];
        let output = environment::run("environment::it_is_honoured", &settings).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains(&format!("{} (by `{set}`)", proxy.url(""))), named, "{text}");
        assert!(text.contains("outcome: Err") && !text.contains("canary"), "{text}");
    }
}
