//! The gateway as a process of its own: what its environment does to it, and how it ends.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use evertoken::reqwest;
use evertoken::server::{CallOutcome, StatusClass, UsageFile};
use evertoken::testing::AuthServer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::gateway::{self, Config};
use super::house::until;

const CHILD: &str = "EVERTOKEN_TEST_GATEWAY";

/// Runs the gateway by its environment, as `main` does, in a child of another test.
#[tokio::test]
async fn runs_in_a_child() {
    if std::env::var_os(CHILD).is_some() {
        gateway::serve(Config::from_env().unwrap(), gateway::interrupted()).await.unwrap();
    }
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    async fn start(server: &AuthServer, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        let mut child = command
            .args(["--exact", "process::runs_in_a_child", "--nocapture"])
            .env(CHILD, "1")
            .env("EVERTOKEN_ISSUER", server.issuer())
            .env("EVERTOKEN_AUDIENCE", server.audience())
            .envs([("LISTEN", "127.0.0.1:0"), ("ADMIN", "127.0.0.1:0")])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the gateway starts");
            if let Some((_, rest)) = line.split_once("clients: http://") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        // What it prints later must not stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    fn get(&self) -> reqwest::RequestBuilder {
        let url = format!("http://{}/x", self.address);
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).basic_auth("app", Some("secret"))
    }

    async fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id().unwrap());
        assert!(Command::new("sh").args(["-c", &command]).status().await.unwrap().success());
    }
}

/// An upstream that takes requests and never answers; and what it has been sent.
async fn mute() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let sent = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sent = sent.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    sent.lock().unwrap().extend(&buffer[..length]);
                }
            });
        }
    });
    (url, seen)
}

fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("evertoken-gateway-{name}-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// All calls of all batches in a file.
pub fn calls(file: &Path) -> Vec<(Option<String>, CallOutcome, u64)> {
    let mut calls = BTreeMap::new();
    for stored in UsageFile::read(file).unwrap_or_default() {
        assert!(stored.is_complete);
        for record in stored.batch.records {
            for (outcome, number) in record.calls {
                *calls.entry((record.app_id.clone(), outcome)).or_insert(0) += number;
            }
        }
    }
    calls.into_iter().map(|((app_id, outcome), number)| (app_id, outcome, number)).collect()
}

/// Whoever stops a gateway may not wait until it has drained.
#[tokio::test]
async fn usage_is_written_before_requests_are_drained() {
    let server = AuthServer::start().await.unwrap();
    let (upstream, seen) = mute().await;
    let file = file("before");
    let usage = file.to_str().unwrap();
    let mut settings = vec![("UPSTREAM", &*upstream), ("USAGE_FILE", usage)];
    settings.extend(["DRAIN_SECONDS", "USAGE_SECONDS"].map(|name| (name, "3600")));
    let mut process = Process::start(&server, &settings).await;
    let refused = reqwest::get(format!("http://{}/x", process.address));
    assert_eq!(refused.await.unwrap().status(), 401);
    let hanging = tokio::spawn(process.get().send());
    until("the request is under way", || !seen.lock().unwrap().is_empty()).await;
    process.signal("TERM").await;
    let refused = [(None, CallOutcome::Unauthorized, 1)];
    until("the refused call is in the file", || calls(&file) == refused).await;
    assert!(process.child.try_wait().unwrap().is_none() && !hanging.is_finished());
    process.child.kill().await.unwrap();
    assert_eq!(calls(&file), refused);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn neither_half_a_head_nor_a_mute_upstream_holds_up_the_end() {
    let server = AuthServer::start().await.unwrap();
    let (upstream, seen) = mute().await;
    let file = file("after");
    let usage = file.to_str().unwrap();
    let mut settings = vec![("UPSTREAM", &*upstream), ("USAGE_FILE", usage), ("DRAIN_SECONDS", "1")];
    settings.extend(["HEAD_SECONDS", "BODY_SECONDS", "UPSTREAM_SECONDS"].map(|name| (name, "3600")));
    let mut process = Process::start(&server, &settings).await;
    let mut half = TcpStream::connect(&process.address).await.unwrap();
    half.write_all(b"GET /x HTTP/1.1\r\nHost: api").await.unwrap();
    let hanging = tokio::spawn(process.get().send());
    until("the request is under way", || !seen.lock().unwrap().is_empty()).await;
    process.signal("TERM").await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(60), process.child.wait());
    assert!(end.await.expect("the gateway ends").unwrap().success());
    hanging.await.unwrap().unwrap_err();
    // The call that was cut is on the bill's file as one that nobody answered.
    let stored = UsageFile::read(&file).unwrap();
    let mut responses =
        stored.iter().flat_map(|stored| &stored.batch.records).map(|record| &record.responses);
    assert!(responses.any(|responses| responses.get(&StatusClass::Unanswered) == Some(&1)), "{stored:?}");
    std::fs::remove_file(&file).unwrap();
}

/// The upstream is beyond this machine: a proxy that the environment names would see every token.
#[tokio::test]
async fn proxies_of_the_environment_get_no_request_for_the_upstream() {
    let server = AuthServer::start().await.unwrap();
    let (proxy, seen) = mute().await;
    let upstream = ("UPSTREAM", "http://upstream.invalid");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let process = Process::start(&server, &[upstream, (name, &proxy), ("UPSTREAM_SECONDS", "1")]).await;
        assert_eq!(process.get().send().await.unwrap().status(), 502, "{name}");
        assert_eq!(seen.lock().unwrap().len(), 0, "{name}");
    }
    // Nor does one that is named, while plain http stays on this machine.
    let (local, reached) = mute().await;
    let settings = [("UPSTREAM", &*local), ("UPSTREAM_PROXY", &proxy), ("UPSTREAM_SECONDS", "1")];
    assert_eq!(Process::start(&server, &settings).await.get().send().await.unwrap().status(), 504);
    assert!(seen.lock().unwrap().is_empty() && !reached.lock().unwrap().is_empty());
    let told =
        Process::start(&server, &[upstream, ("UPSTREAM_PROXY", &proxy), ("UPSTREAM_SECONDS", "1")]).await;
    assert_eq!(told.get().send().await.unwrap().status(), 504);
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    assert!(seen.starts_with("GET http://upstream.invalid/x HTTP/1.1"), "{seen}");
}
