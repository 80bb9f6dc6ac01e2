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
        let shown = folder.display();
        let (auth, upstream) = (setting.back("/auth"), setting.upstream);
        let config = format!(
            r#"
daemon off; master_process off; worker_processes 1; pid {shown}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {shown}/a; proxy_temp_path {shown}/b; fastcgi_temp_path {shown}/c;
  uwsgi_temp_path {shown}/d; scgi_temp_path {shown}/e;
  server {{
    listen 127.0.0.1:{port};
    location = /_auth {{
      internal;
      proxy_pass {auth};
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Original-URI $request_uri;
      proxy_set_header X-Forwarded-Method "";
      proxy_set_header X-Forwarded-Uri "";
      proxy_set_header X-Real-IP $remote_addr;
    }}
    location / {{
      auth_request /_auth;
      auth_request_set $token $upstream_http_authorization;
      auth_request_set $app_id $upstream_http_x_app_id;
      auth_request_set $scopes $upstream_http_x_scopes;
      proxy_pass http://{upstream};
      proxy_set_header Authorization $token;
      proxy_set_header X-App-Id $app_id;
      proxy_set_header X-Scopes $scopes;
      proxy_set_header X-Api-Key "";
      proxy_set_header X-Forwarded-For $remote_addr;
      error_page 500 =503 /_away;
    }}
    location = /_away {{ internal; return 503; }}
  }}
}}
"#
        );
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null());
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
    for refused in [
        http.get(&url).send().await.unwrap(),
        http.get(&url).basic_auth("app", Some("wrong")).send().await.unwrap(),
        http.get(&url).header("authorization", "Bearer").send().await.unwrap(),
    ] {
        assert_eq!(refused.status(), 401);
        assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer realm="));
    }
    setting.server.outage();
    assert_eq!(http.get(&url).basic_auth("app", Some("secret")).send().await.unwrap().status(), 200);
    assert_eq!(http.get(&url).basic_auth("new", Some("secret")).send().await.unwrap().status(), 503);
}
