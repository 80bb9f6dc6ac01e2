//! The secret is rotated while fifty tasks call the API, from every source and in every order: no call fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod folder;
mod house;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evertoken::testing::AuthServer;
use evertoken::{AppCredentials, Client, ClientBuilder, CredentialSource, Event, Events, RenewalPolicy};
use folder::Folder;
use house::{box_of, until};
use tokio::task::{AbortHandle, JoinSet};

/// So long that a busy machine brings no call to the API with a token that has expired on the way.
const LIFETIME: Duration = Duration::from_secs(120);
const FIRST: &str = AuthServer::APP_SECRET;
const SECOND: &str = "the second secret";

fn client(builder: ClientBuilder, server: &AuthServer) -> Client {
    // Each token is renewed after 1.2 s.
    let builder = builder.renewal(RenewalPolicy::default().renew_at(0.01).jitter(0.0));
    let builder = builder.token_url(server.token_url()).audience(server.audience());
    builder.base_url(server.api_url()).build().unwrap()
}

fn json(secret: &str, next: Option<&str>) -> String {
    serde_json::json!({ "app_id": AuthServer::APP_ID, "app_secret": secret, "next_app_secret": next })
        .to_string()
}

/// Fifty tasks that call the API until they are told to stop.
struct Callers {
    stop: Arc<AtomicBool>,
    /// How many calls each has made.
    calls: Vec<(Arc<AtomicU32>, AbortHandle)>,
    tasks: JoinSet<Option<String>>,
}

impl Callers {
    fn of(api: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut calls, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..50 {
            let made = Arc::<AtomicU32>::default();
            let (api, stop, count) = (api.clone(), stop.clone(), made.clone());
            let task = tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match api.get("orders").send().await {
                        Ok(answer) if answer.status() == 200 => count.fetch_add(1, Ordering::Relaxed),
                        Ok(answer) => return Some(answer.status().to_string()),
                        Err(error) => return Some(error.to_string()),
                    };
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                None
            });
            calls.push((made, task));
        }
        Self { stop, calls, tasks }
    }

    /// Waits until each has begun and ended a call since now, or has failed.
    async fn have_all_called(&self) {
        // One call may be under way already.
        let enough: Vec<_> = self.calls.iter().map(|(made, _)| made.load(Ordering::Relaxed) + 2).collect();
        for ((made, task), enough) in self.calls.iter().zip(enough) {
            until("each has called", || made.load(Ordering::Relaxed) >= enough || task.is_finished()).await;
        }
    }

    async fn all_went_well(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(outcome) = self.tasks.join_next().await {
            assert_eq!(outcome.unwrap(), None);
        }
    }
}

async fn seen(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) {
    let seen = async { while !wanted(&events.next().await.expect("the source lives")) {} };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap_or_else(|_| panic!("no {what}"));
}

async fn renewed(events: &mut Events) {
    seen(events, "renewal", |event| matches!(event, Event::Renewed { .. })).await;
}

async fn rotated(events: &mut Events) {
    seen(events, "rotation", |event| matches!(event, Event::CredentialsRotated)).await;
}

/// Has `rotate` rotate the secret among the calls, and sees tokens come by the second secret alone afterwards.
async fn no_call_fails(server: &AuthServer, builder: ClientBuilder, rotate: impl AsyncFnOnce(&mut Events)) {
    let api = client(builder, server);
    let mut events = api.events();
    let callers = Callers::of(&api);
    renewed(&mut events).await;
    renewed(&mut events).await;
    callers.have_all_called().await;
    rotate(&mut events).await;
    server.rotate(AuthServer::APP_ID, SECOND);
    let before = server.issued_tokens().len();
    until("tokens come by the second secret", || server.issued_tokens().len() >= before + 2).await;
    callers.have_all_called().await;
    callers.all_went_well().await;
    assert_eq!(server.max_in_flight(), 1, "one token request at a time");
    assert_eq!(server.api_refused(), 0, "no call was sent twice");
}

/// Both secrets are there from the start; the server changes from one to the other, at once or with both for a while.
async fn both_known_beforehand(builder: impl Fn() -> ClientBuilder) {
    for overlap in [true, false] {
        let server = box_of(LIFETIME).await;
        no_call_fails(&server, builder(), async |events| {
            if overlap {
                server.add_secret(AuthServer::APP_ID, SECOND);
                renewed(events).await;
            }
            server.rotate(AuthServer::APP_ID, SECOND);
            rotated(events).await;
        })
        .await;
        // A process that starts in the middle of it notices as little.
        let before = server.token_requests();
        let late = client(builder(), &server);
        assert_eq!(late.get("orders").send().await.unwrap().status(), 200);
        assert_eq!(server.token_requests() - before, 2, "the first secret, and at once the second");
    }
}

#[tokio::test]
async fn given_with_the_next_secret() {
    let given = || AppCredentials::new(AuthServer::APP_ID, FIRST).next_secret(SECOND);
    both_known_beforehand(|| Client::builder_with(given())).await;
}

/// The environment of this process is not to be touched, hence another one.
#[test]
fn from_the_environment() {
    const ALONE: &str = "EVERTOKEN_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let test = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(ALONE, "1")
            .env("EVERTOKEN_APP_ID", AuthServer::APP_ID)
            .env("EVERTOKEN_APP_SECRET", FIRST)
            .env("EVERTOKEN_APP_SECRET_NEXT", SECOND)
            .env("ACME_CREDENTIALS_FILE", Folder::new("nothing").path("there"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&test.stdout);
        let complained = String::from_utf8_lossy(&test.stderr);
        assert!(test.status.success() && told.contains("1 passed"), "{told}{complained}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        both_known_beforehand(ClientBuilder::from_env).await;
        let server = box_of(LIFETIME).await;
        let api = client(Client::builder_with(CredentialSource::env()), &server);
        assert!(api.token().await.is_ok());
        let acme = Client::builder_with(CredentialSource::env_prefix("ACME")).token_url(server.token_url());
        let acme = acme.token_timeout(Duration::from_millis(100)).build().unwrap();
        let error = acme.token().await.unwrap_err().to_string();
        assert!(error.contains("there") && error.contains("cannot be read"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_file_with_the_next_secret() {
    let folder = Folder::new("next");
    let path = folder.put("secret.json", &json(FIRST, Some(SECOND)));
    both_known_beforehand(|| Client::builder_with(CredentialSource::file(&path))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_file_that_is_replaced() {
    let folder = Folder::new("replaced");
    // With overlap: both secrets are good until the file has changed.
    let server = box_of(LIFETIME).await;
    let path = folder.put("secret.json", &json(FIRST, None));
    let builder = Client::builder_with(CredentialSource::file(&path));
    no_call_fails(&server, builder, async |events| {
        server.add_secret(AuthServer::APP_ID, SECOND);
        folder.put("secret.json", &json(SECOND, None));
        rotated(events).await;
    })
    .await;

    // Without: the server is first, and the next renewal reads what is there by then.
    let server = box_of(LIFETIME).await;
    let path = folder.put("secret.env", &format!("APP_ID={}\nAPP_SECRET={FIRST}\n", AuthServer::APP_ID));
    let builder = Client::builder_with(CredentialSource::file(&path));
    no_call_fails(&server, builder, async |events| {
        server.rotate(AuthServer::APP_ID, SECOND);
        folder.put("secret.env", &format!("APP_ID={}\nAPP_SECRET={SECOND}\n", AuthServer::APP_ID));
        rotated(events).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_provider_of_ones_own() {
    let vault = Arc::new(Mutex::new(AppCredentials::new(AuthServer::APP_ID, FIRST)));
    let source = || {
        let vault = vault.clone();
        CredentialSource::provider(move || {
            let given = vault.lock().unwrap().clone();
            async move {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(given)
            }
        })
    };
    for overlap in [true, false] {
        *vault.lock().unwrap() = AppCredentials::new(AuthServer::APP_ID, FIRST);
        let server = box_of(LIFETIME).await;
        no_call_fails(&server, Client::builder_with(source()), async |events| {
            match overlap {
                true => server.add_secret(AuthServer::APP_ID, SECOND),
                false => server.rotate(AuthServer::APP_ID, SECOND),
            }
            *vault.lock().unwrap() = AppCredentials::new(AuthServer::APP_ID, SECOND);
            rotated(events).await;
        })
        .await;
    }
    *vault.lock().unwrap() = AppCredentials::new(AuthServer::APP_ID, FIRST).next_secret(SECOND);
    both_known_beforehand(|| Client::builder_with(source())).await;
}
