//! Own certificate authorities, proxies, client certificates, time to connect: through a real proxy and real TLS.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]
#[path = "../house/authority.rs"]
mod authority;
mod causes;
mod environment;
#[path = "../house/mod.rs"]
mod house;
mod proxy;
mod socks;
mod tls;

use std::time::Duration;

use authority::Authority;
use evertoken::{Client, ClientAuth, ClientBuilder, ErrorKind, Event, TokenSource, blocking, reqwest};
use house::at_once;
use proxy::Proxy;
use tls::Server;

/// A client whose hosts exist for those only who go through the proxy.
fn far_away(authority: &Authority) -> ClientBuilder {
    Client::builder("app", "s3cret")
        .token_url("https://auth.test/token")
        .base_url("https://api.test/v1/")
        .root_certificate(authority.pem())
}

/// What the first attempt to get a token comes to, and then a call.
async fn called(client: &Client) -> evertoken::Result<reqwest::StatusCode> {
    let mut events = client.events();
    client.prefetch();
    match events.next().await {
        Some(Event::Renewed { .. }) => Ok(client.get("orders").send().await?.status()),
        Some(Event::RenewalFailed { error, .. }) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_given() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let client =
        || Client::builder("app", "s3cret").token_url(server.url("/token")).base_url(server.url("/v1/"));
    let error = called(&client().build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");

    let trusting = client().root_certificate(authority.pem()).build().unwrap();
    assert_eq!(called(&trusting).await.unwrap(), 200);
    // Beside those of the system, and one after the other.
    let two = client().root_certificate(Authority::new().pem()).root_certificate(authority.pem());
    assert_eq!(called(&two.build().unwrap()).await.unwrap(), 200);
}

#[tokio::test]
async fn complete_document_needs_no_close_notify() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let client = |server: &Server| {
        TokenSource::builder("app", "s3cret")
            .token_url(server.url("/token"))
            .root_certificate(authority.pem())
            .build()
            .unwrap()
    };
    let half = &tls::TOKEN[..tls::TOKEN.len() - 1];
    for (torn, is_whole) in [
        (format!("\r\n{}\n", tls::TOKEN), true),
        (format!("\r\n{half}"), false),
        (format!("content-length: {}\r\n\r\n{}", tls::TOKEN.len() + 1, tls::TOKEN), false),
        (format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", tls::TOKEN.len(), tls::TOKEN), false),
    ] {
        server.tear(&torn);
        let source = client(&server);
        let mut events = source.events();
        source.prefetch();
        match events.next().await {
            Some(Event::Renewed { .. }) => assert!(is_whole, "{torn:?}"),
            Some(Event::RenewalFailed { error, .. }) => assert!(!is_whole, "{torn:?}: {error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_http_client_of_ones_own_is_left_as_it_is() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let client = Client::builder("app", "s3cret")
        .token_url(server.url("/token"))
        .base_url(server.url("/v1/"))
        .root_certificate(authority.pem())
        .http_client(reqwest::Client::new())
        .build()
        .unwrap();
    assert_eq!(called(&client).await.unwrap_err().kind(), ErrorKind::Api);
    assert!(client.current_token().is_some());
}

#[tokio::test]
async fn the_proxy_carries_token_requests_and_calls() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let proxy = Proxy::start(server.port()).await;
    let client = far_away(&authority).proxy(proxy.url("user:p%40ss@")).build().unwrap();
    assert_eq!(called(&client).await.unwrap(), 200);
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].starts_with("CONNECT auth.test:443 ") && asked[1].starts_with("CONNECT api.test:443 "));
    // user:p@ss
    assert!(asked.iter().all(|asked| asked.contains("Basic dXNlcjpwQHNz")), "{asked:?}");

    // Plain http goes through it unwrapped.
    let plain = TokenSource::builder("app", "s3cret")
        .token_url("http://auth.test/token")
        .allow_insecure_http()
        .proxy(proxy.url(""))
        .build()
        .unwrap();
    let error = plain.token().await.unwrap_err().to_string();
    assert!(error.contains(&format!("through the proxy {}", proxy.url(""))), "{error}");
    assert!(proxy.asked()[2].starts_with("POST http://auth.test/token "), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let authority = Authority::new();
    let proxy = Proxy::refusing().await;
    let client = far_away(&authority).proxy(proxy.url("user:canary@"));
    assert!(!format!("{client:?}").contains("canary"));
    let client = client.build().unwrap();
    let error = called(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
    let shown = format!("{error} {error:?} {client:?}");
    assert!(shown.contains("the proxy wants a user and a password") && !shown.contains("canary"), "{shown}");
    let named =
        format!("authorization server, through the proxy {} (by `proxy`): the proxy wants", proxy.url(""));
    assert!(error.to_string().contains(&named), "{error}");
}

#[tokio::test]
async fn a_blocking_client_takes_the_same_way() {
    let authority = Authority::new();
    let server = Server::start(&authority, None).await;
    let proxy = Proxy::start(server.port()).await;
    let client = blocking::Client::builder("app", "s3cret")
        .token_url("https://auth.test/token")
        .base_url("https://api.test/v1/")
        .root_certificate(authority.pem())
        .proxy(proxy.url(""))
        .build()
        .unwrap();
    let answer = tokio::task::spawn_blocking(move || client.get("orders").send().unwrap().status());
    assert_eq!(answer.await.unwrap(), 200);
    let hosts: Vec<_> = proxy.hosts();
    assert_eq!(hosts, ["auth.test:443", "api.test:443"]);
}

#[tokio::test]
async fn a_server_that_accepts_and_is_silent_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = TokenSource::builder("app", "s3cret")
        .token_url(format!("https://{}/token", listener.local_addr().unwrap()))
        .connect_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let mut events = source.events();
    source.prefetch();
    let Some(evertoken::Event::RenewalFailed { error, .. }) = events.next().await else {
        panic!("no failure");
    };
    // Not by the 10 s that an attempt may take.
    assert!(error.to_string().starts_with("could not connect"), "{error}");
}

#[tokio::test]
async fn mutual_tls_stands_for_the_secret() {
    let authority = Authority::new();
    let own = authority.client();
    let alone = Authority::self_signed();
    for (method, pem, trusted) in [
        (ClientAuth::TlsClientAuth, &own, authority.pem()),
        (ClientAuth::SelfSignedTlsClientAuth, &alone, alone.clone()),
    ] {
        let guarded = Server::start(&authority, Some(&trusted)).await;
        let open = Server::start(&authority, None).await;
        open.announce(&guarded);
        let client = |pem: &str| {
            Client::builder("app", "s3cret")
                .issuer(open.url(""))
                .base_url(guarded.url("/v1/"))
                .root_certificate(authority.pem())
                .client_certificate(pem)
                .client_auth(method.clone())
                .build()
                .unwrap()
        };
        let good = client(pem);
        assert_eq!(called(&good).await.unwrap(), 200);
        let asked = guarded.asked();
        // At the alias, and the call of the API shows the certificate, too.
        assert!(
            asked[0].starts_with("POST /mtls/token ") && asked[1].starts_with("GET /v1/orders "),
            "{asked:?}"
        );
        assert!(asked[0].ends_with("grant_type=client_credentials&client_id=app"), "{}", asked[0]);
        assert!(!asked[0].to_lowercase().contains("authorization"), "{}", asked[0]);

        let stranger = client(&Authority::new().client());
        let error = called(&stranger).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthServerUnavailable);
        assert_eq!(guarded.asked().len(), 2);
    }
}

/// Tokens can be bound to the certificate (RFC 8705 3) however the client authenticates.
#[tokio::test]
async fn with_a_secret_too_the_certificate_goes_to_the_alias_and_to_the_api() {
    let authority = Authority::new();
    let guarded = Server::start(&authority, Some(&authority.pem())).await;
    let open = Server::start(&authority, None).await;
    open.announce(&guarded);
    let client = Client::builder("app", "s3cret")
        .issuer(open.url(""))
        .base_url(guarded.url("/v1/"))
        .root_certificate(authority.pem())
        .client_certificate(authority.client())
        .build()
        .unwrap();
    assert_eq!(called(&client).await.unwrap(), 200);
    let asked = guarded.asked();
    assert!(asked[0].starts_with("POST /mtls/token ") && asked[0].contains("Basic "), "{asked:?}");
    assert!(asked[1].starts_with("GET /v1/orders "), "{asked:?}");
}

#[tokio::test]
async fn mistakes_are_told_by_build() {
    let builder = || TokenSource::builder("app", "").token_url("https://auth.test/token");
    for (builder, said) in [
        (builder().client_auth(ClientAuth::TlsClientAuth), "no certificate"),
        (builder().client_auth(ClientAuth::SelfSignedTlsClientAuth), "no certificate"),
        (builder().root_certificate("-").proxy("-"), "`root_certificate`"),
        (builder().client_certificate("-"), "`client_certificate`"),
        (builder().proxy("user:canary@proxy"), "`proxy`"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(said) && !shown.contains("canary"), "{shown}");
    }
    // Nothing of the network is touched by a client that is all set.
    let authority = Authority::new();
    let source = builder().client_certificate(authority.client()).client_auth(ClientAuth::TlsClientAuth);
    assert!(at_once(source.build().unwrap().token()).is_none());
}
