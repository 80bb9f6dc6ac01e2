//! What somebody would send the gateway who means harm to the upstream, or to another caller.

use evertoken::http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Setting, gateway};

/// `app:secret`
const BASIC: &str = "Basic YXBwOnNlY3JldA==";

/// Sends a request as it is written here, and returns the answer: clients of libraries put much of it right first.
pub async fn exchange(address: &str, line: &str, headers: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n");
    for header in headers {
        head += header;
        head += "\r\n";
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn raw(setting: &Setting, line: &str, headers: &[&str]) -> (StatusCode, Value) {
    let answer = exchange(&setting.gateway.address.to_string(), line, headers).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn no_path_leaves_the_base_of_the_upstream() {
    let setting = Setting::with(|config| config.upstream += "v1").await;
    let basic = format!("Authorization: {BASIC}");
    for path in [
        "/../admin",
        "/..",
        "/.",
        "/x/./y",
        "/%2e%2e/admin",
        "/%2E%2e/admin",
        "/.%2e/admin",
        "/x/%2e%2e%2fadmin",
        "/x/..%2fadmin",
        "/x/..%2F..%2fadmin",
        "/x%2f..%2f..%2fadmin",
        "/..%5cadmin",
        "/..%5Cadmin",
        "/x\\admin",
        "/\\admin",
        "/x%5c..%5c..%5cadmin",
        "/%252e%252e/admin",
        "/%25252e%25252e/admin",
        "/%252e%252e%252fadmin",
        "/%25%32%65%25%32%65/admin",
        "/x/..%255cadmin",
        "/..;/admin",
        "/..;x=1/admin",
        "/..%3b/admin",
        "/%2e%2e;a=b/admin",
        "/.;/admin",
        "/..%20/admin",
        "/.../admin",
        "/%c0%ae%c0%ae/admin",
        "/x/%00",
        "/x%0d%0ahost:%20evil",
        "/x%09",
        "/x/%zz",
        "/x/%2",
        "//evil.example/x",
        "///x",
        "/%2fevil.example/x",
        "/%5cevil.example/x",
        "*",
        "http://evil.example/../admin",
        "http://evil.example//admin",
    ] {
        for method in ["GET", "POST"] {
            assert_eq!(raw(&setting, &format!("{method} {path}"), &[&basic]).await.0, 400, "{method} {path}");
        }
        // And without credentials, too.
        assert_eq!(raw(&setting, &format!("GET {path}"), &[]).await.0, 400, "{path}");
    }
    for path in [
        "/",
        "/a%2Fb",
        "/a;v=1/b",
        "/a//b/",
        "/100%25",
        "/caf%C3%A9",
        "/.well-known/x",
        "/a..b/..c/d../e.",
        "/x?to=/../y&a=%2e%2e\\",
        "/%20/x",
    ] {
        let (status, told) = raw(&setting, &format!("GET {path}"), &[&basic]).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(told["uri"], format!("/v1{path}"));
    }
    let (status, told) = raw(&setting, "GET http://evil.example/x", &[&basic]).await;
    assert_eq!((status.as_u16(), &told["uri"]), (200, &json!("/v1/x")), "only the path of it counts");
}

#[tokio::test]
async fn nobody_but_the_gateway_says_who_calls() {
    let setting = Setting::new(None, None).await;
    let anonymous = Setting::with(|config| config.anonymous = true).await;
    let forged = [
        "X-App-Id",
        "X_App_Id",
        "x-app_id",
        "X_APP-ID",
        "X.App.Id",
        "X-App-Id_",
        "X-Scopes",
        "X_Scopes",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Real-IP",
        "X_Real_Ip",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Proxy",
        "X_Api_Key",
        "Content_Length",
        "Transfer_Encoding",
    ];
    let mut headers: Vec<String> = forged.iter().map(|name| format!("{name}: root")).collect();
    headers.push("X-Request-Id: 7".to_owned());
    let mut headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let expected = |told: &Value, names: &[&str]| {
        let mut told: Vec<&str> =
            told["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, names);
    };
    let (status, told) = raw(&anonymous, "GET /x", &headers).await;
    assert_eq!((status.as_u16(), &told["for"]), (200, &json!(["127.0.0.1"])));
    expected(&told, &["accept", "host", "x-forwarded-for", "x-request-id"]);

    let basic = format!("Authorization: {BASIC}");
    headers.push(&basic);
    let (status, told) = raw(&setting, "GET /x", &headers).await;
    assert_eq!((status.as_u16(), &told["for"]), (200, &json!(["127.0.0.1"])));
    setting.assert_introduced(&told);
    let names =
        ["accept", "authorization", "host", "x-app-id", "x-forwarded-for", "x-request-id", "x-scopes"];
    expected(&told, &names);
}

#[tokio::test]
async fn a_client_does_not_name_what_the_gateway_puts_on() {
    let setting = Setting::new(None, None).await;
    let basic = format!("Authorization: {BASIC}");
    for named in [
        "Connection: authorization",
        "Connection: close, Authorization, X-App-Id, X-Scopes, X-Forwarded-For",
        "connection: x-gone,authorization ,te",
        "Connection: authorization\r\nConnection: x-app-id",
    ] {
        let (status, told) = raw(&setting, "GET /x", &[named, &basic, "X-Gone: 1"]).await;
        assert_eq!(status, 200, "{named}");
        setting.assert_introduced(&told);
        assert_eq!(told["for"], json!(["127.0.0.1"]), "{named}");
        assert_eq!(told["names"].as_array().unwrap().contains(&json!("x-gone")), !named.contains("x-gone"));
    }
}

#[tokio::test]
async fn methods_for_proxies_are_not_handed_on() {
    let setting = Setting::with(|config| config.anonymous = true).await;
    let basic = format!("Authorization: {BASIC}");
    for line in ["CONNECT evil.example:443", "CONNECT /x", "TRACE /x", "Trace /x", "TRACK /x", "TRACE *"] {
        for headers in [&[][..], &[&*basic]] {
            let (status, _) = raw(&setting, line, headers).await;
            assert!([400, 405].contains(&status.as_u16()), "{line}: {status}");
        }
    }
    assert_eq!(raw(&setting, "PROPFIND /x", &[&basic]).await.1["method"], "PROPFIND");
}

/// Whoever reads a header drops the spaces around it.
#[tokio::test]
async fn an_app_id_never_reads_as_another_one() {
    let setting = Setting::new(None, None).await;
    let ask = async |url: String, claims: Value| {
        let token = setting.server.sign(json!({}), claims).unwrap();
        setting.http.get(url).bearer_auth(token).send().await.unwrap()
    };
    for claims in [
        json!({ "client_id": " root" }),
        json!({ "client_id": "root " }),
        json!({ "client_id": "root\t" }),
        json!({ "client_id": " " }),
        json!({ "client_id": "root\u{a0}" }),
        json!({ "client_id": "ro\u{200b}ot" }),
        json!({ "client_id": "root\r\nX-Scopes: all" }),
        json!({ "client_id": "caf\u{e9}" }),
        json!({ "scope": "orders:read caf\u{e9}" }),
    ] {
        assert_eq!(ask(setting.front("/x"), claims.clone()).await.status(), 403, "{claims}");
        let answer = ask(setting.back("/auth"), claims.clone()).await;
        assert_eq!((answer.status().as_u16(), answer.headers().get("x-app-id")), (403, None), "{claims}");
    }
    let told: Value = ask(setting.front("/x"), json!({ "client_id": "ro  ot" })).await.json().await.unwrap();
    assert_eq!(told["app"], json!(["ro  ot"]));
}

/// A proxy asks about a request that cannot be read, or that the gateway itself would not hand on.
#[tokio::test]
async fn what_a_proxy_asks_is_not_judged_as_something_else() {
    let setting = Setting::new(None, None).await;
    for who in ["original", "forwarded"] {
        let ask = async |method: &str, uri: &[u8]| {
            let request = setting.http.get(setting.back("/auth")).basic_auth("app", Some("secret"));
            let request = request.header(format!("x-{who}-method"), method);
            request.header(format!("x-{who}-uri"), uri).send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask("GET", b"/orders?page=2").await, 200);
        for (method, uri) in [
            ("GET", &b"/%2e%2e/admin"[..]),
            ("GET", b"//evil.example/"),
            ("GET", b"/x y"),
            ("GET", b"/x\xff"),
            ("GET", b""),
            ("G E T", b"/orders"),
            ("", b"/orders"),
        ] {
            assert_eq!(ask(method, uri).await, 401, "{method} {uri:?}");
        }
        assert_eq!(ask("TRACE", b"/orders").await, 405);
    }
}

/// To decode it as often as it is encoded would take minutes.
#[test]
fn a_path_that_is_encoded_without_end_is_refused_at_once() {
    assert!(!gateway::target::is_plain(&format!("/%{}2e%2e/x", "25".repeat(100_000))));
    assert!(!gateway::target::is_plain(&format!("/%{}41/x", "25".repeat(100_000))));
    assert!(gateway::target::is_plain("/%252541/x"));
}
