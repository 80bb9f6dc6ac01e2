//! The authorization server on a thread of its own, and waiting that ends.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, clippy::unwrap_used, clippy::expect_used)]

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use evertoken::testing::AuthServer;
use evertoken::{Client, TokenSource};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Ends a wait for what will never come; nothing here is measured against it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The authorization server on a thread of its own, so that a test's runtime has the client's tasks alone.
pub struct Elsewhere {
    pub server: AuthServer,
    _until_dropped: oneshot::Sender<()>,
}

impl Elsewhere {
    pub fn new() -> Self {
        let (_until_dropped, dropped) = oneshot::channel::<()>();
        let (sender, started) = mpsc::channel();
        std::thread::spawn(move || {
            one_thread().block_on(async {
                sender.send(AuthServer::start().await.unwrap()).unwrap();
                let _ = dropped.await;
            });
        });
        Self { server: started.recv().unwrap(), _until_dropped }
    }

    pub fn source(&self) -> evertoken::Builder<TokenSource> {
        TokenSource::builder(AuthServer::APP_ID, AuthServer::APP_SECRET).token_url(self.server.token_url())
    }

    pub fn client(&self) -> evertoken::ClientBuilder {
        Client::builder(AuthServer::APP_ID, AuthServer::APP_SECRET)
            .token_url(self.server.token_url())
            .base_url(self.server.api_url())
    }

    /// Waits until the server knows that nobody waits for an answer any more.
    pub async fn wait_until_nobody_waits(&self) {
        let free = async || {
            self.server.reset_counters();
            self.server.heal();
            let other = self.source().build().unwrap();
            other.token().await.unwrap();
            self.server.max_in_flight() == 1
        };
        let waiting = async {
            while !free().await {
                yield_now().await;
            }
        };
        within(waiting).await;
    }
}

pub fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends")
}

pub async fn until(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            yield_now().await;
        }
    };
    within(waiting).await;
}

pub async fn until_no_task_is_left() {
    until(|| Handle::current().metrics().num_alive_tasks() == 0).await;
}
