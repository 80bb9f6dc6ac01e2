//! The gateway behind a real nginx, with the configuration that is shipped as `examples/nginx.conf`.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evertoken::testing::AuthServer;
use evertoken::{ApiKey, reqwest};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Setting;

/// nginx, with a folder of its own, until this is dropped.
struct Nginx {
    process: Child,
    folder: std::path::PathBuf,
    address: String,
}

impl Nginx {
    async fn start(setting: &Setting) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("evertoken-nginx-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut config = include_str!("../../examples/nginx.conf").to_owned();
        let shown = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {shown}/{kind};\n"))
            .concat();
        for (shipped, here) in [
            ("server 127.0.0.1:9090;", format!("server {};", setting.gateway.admin)),
            ("server 127.0.0.1:3000;", format!("server {};", setting.upstream)),
            ("listen 127.0.0.1:8080;", format!("listen 127.0.0.1:{port};")),
            ("    access_log off;\n", format!("    access_log off;\n{temporary}")),
        ] {
            assert_eq!(config.matches(shipped).count(), 1, "{shipped}");
            config = config.replace(shipped, &here);
        }
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf"));
        command.args(["-g", "daemon off; master_process off;"]).stdin(Stdio::null());
        // Debian's lies where only root looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin"));
        let process = command.spawn().expect("nginx must be installed for this test: `make nginx`");
        let this = Self { process, folder, address: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while reqwest::get(&this.address).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nginx does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn behind_a_real_nginx_the_upstream_gets_the_same() {
    let setting = Setting::new(None, None).await;
    let nginx = Nginx::start(&setting).await;
    let url = format!("{}/orders?page=2", nginx.address);
    let key = ApiKey::issue("acme", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let sdk = setting.client(&nginx.address).build().unwrap();
    let http = &setting.http;
    for answer in [
        http.post(&url)
            .basic_auth("app", Some("secret"))
            .header("x-app-id", "root")
            .body("twelve bytes")
            .send()
            .await
            .unwrap(),
        http.post(&url).header("x-api-key", key.expose()).body("twelve bytes").send().await.unwrap(),
        sdk.post("orders?page=2").body("twelve bytes").send().await.unwrap().into_inner(),
    ] {
        assert_eq!(answer.status(), 200);
        let told: Value = answer.json().await.unwrap();
        setting.assert_introduced(&told);
        assert_eq!((&told["uri"], &told["body"]), (&json!("/orders?page=2"), &json!(12)));
        assert!(!told["names"].as_array().unwrap().contains(&json!("x-api-key")));
    }
    setting.server.outage();
    assert_eq!(http.get(&url).basic_auth("app", Some("secret")).send().await.unwrap().status(), 200);
    assert_eq!(http.get(&url).basic_auth("new", Some("secret")).send().await.unwrap().status(), 503);
}

/// What a client sees of a refusal.
#[derive(Debug, PartialEq)]
struct Shown {
    status: u16,
    challenges: String,
    has_retry_after: bool,
    cache_control: Vec<String>,
    body: String,
}

async fn shown(request: reqwest::RequestBuilder) -> Shown {
    let answer = request.send().await.unwrap();
    assert!(!answer.headers().contains_key("x-refusal"));
    let all = |name: &str| -> Vec<String> {
        let lines = answer.headers().get_all(name).iter();
        lines.map(|line| line.to_str().unwrap().to_owned()).collect()
    };
    let retry_after = all("retry-after");
    assert!(retry_after.iter().all(|seconds| (1..=60).contains(&seconds.parse::<u64>().unwrap())));
    Shown {
        status: answer.status().as_u16(),
        challenges: all("www-authenticate").join(", "),
        has_retry_after: retry_after.len() == 1,
        cache_control: all("cache-control"),
        body: answer.text().await.unwrap(),
    }
}

/// Status, challenges, `Retry-After` and body, as from the gateway itself.
#[tokio::test]
async fn behind_a_real_nginx_refusals_stay_what_they_are() {
    let setting = Setting::new(Some("https://api.example".into()), None).await;
    let nginx = Nginx::start(&setting).await;
    let http = &setting.http;
    let both = async |change: &dyn Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder| {
        let direct = shown(change(http.get(setting.front("/orders")))).await;
        let by_nginx = shown(change(http.get(format!("{}/orders", nginx.address)))).await;
        assert_eq!(direct, by_nginx);
        by_nginx
    };
    let none = both(&|request| request).await;
    assert_eq!((none.status, none.body.as_str()), (401, ""));
    for scheme in ["Bearer realm=", "DPoP realm=", "Basic realm="] {
        assert!(none.challenges.contains(scheme), "{}", none.challenges);
    }
    let wrong = both(&|request| request.basic_auth("app", Some("wrong"))).await;
    assert!(wrong.status == 401 && wrong.body.contains("\"invalid_client\""), "{wrong:?}");
    let token = both(&|request| request.bearer_auth("abc")).await;
    assert!(token.status == 401 && token.challenges.contains("error=\"invalid_token\""), "{token:?}");
    let malformed = both(&|request| request.header("authorization", "Bearer")).await;
    assert!(malformed.status == 400 && malformed.body.contains("\"invalid_request\""), "{malformed:?}");
    let away = both(&|request| request.basic_auth("new", Some("secret"))).await;
    setting.server.outage();
    assert_eq!(away.status, 401, "{away:?}");
    let away = both(&|request| request.basic_auth("newer", Some("secret"))).await;
    assert_eq!((away.status, away.has_retry_after), (503, true));
}

/// Whoever tries secrets is slowed down, and told for how long.
#[tokio::test]
async fn behind_a_real_nginx_a_429_stays_one() {
    let setting = Setting::new(None, None).await;
    let nginx = Nginx::start(&setting).await;
    let mut tries = 0;
    let throttled = loop {
        let secret = format!("wrong-{tries}");
        let request = setting.http.get(format!("{}/orders", nginx.address)).basic_auth("app", Some(secret));
        let refused = shown(request).await;
        if refused.status == 429 {
            break refused;
        }
        tries += 1;
        assert!(tries < 1_000, "{refused:?}");
    };
    assert!(throttled.has_retry_after && throttled.body.contains("\"error\""), "{throttled:?}");
}

/// nginx hands the path on as the client wrote it, and drops names with underscores.
#[tokio::test]
async fn behind_a_real_nginx_attacks_fail_as_well() {
    let setting = Setting::new(None, None).await;
    let nginx = Nginx::start(&setting).await;
    let address = nginx.address.strip_prefix("http://").unwrap();
    let basic = "Authorization: Basic YXBwOnNlY3JldA==";
    for path in
        ["/%2e%2e/admin", "/x/%2e%2e/admin", "/x/..%2fadmin", "/x/..%5cadmin", "/..;/admin", "//evil/x"]
    {
        let answer = super::attacks::exchange(address, &format!("GET {path}"), &[basic]).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    for method in ["TRACE", "CONNECT"] {
        let answer = super::attacks::exchange(address, &format!("{method} /x"), &[basic]).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let forged = ["X_App_Id: root", "X-App-Id: root", "X_Scopes: all", "Forwarded: for=root", "Proxy: evil"];
    let forged = [&forged[..], &["Connection: authorization, x-app-id", basic]].concat();
    let answer = super::attacks::exchange(address, "GET /x", &forged).await;
    let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    setting.assert_introduced(&told);
    let names = ["authorization", "connection", "host", "x-app-id", "x-forwarded-for", "x-scopes"];
    let mut seen: Vec<_> =
        told["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, names);
    let token = setting.server.sign(json!({}), json!({ "client_id": " root" })).unwrap();
    let refused = setting.http.get(format!("{}/x", nginx.address)).bearer_auth(token);
    assert_eq!(shown(refused).await.status, 403);
    // What the upstream itself answers stays as it is.
    for status in [401, 403, 429, 500] {
        let url = format!("{}/status/{status}", nginx.address);
        let its_own = shown(setting.http.get(url).basic_auth("app", Some("secret"))).await;
        assert_eq!(
            (its_own.status, &*its_own.body, &*its_own.challenges),
            (status, "its own words", "Upstream")
        );
    }
    let Setting { gateway, http, .. } = setting;
    gateway.stop().await.unwrap();
    let away = shown(http.get(format!("{}/x", nginx.address))).await;
    assert_eq!((away.status, away.has_retry_after), (503, true), "{away:?}");
}
