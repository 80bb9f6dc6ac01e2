use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::outcome::Step;
use super::refresher::Refresher;
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::TokenResponse;

/// Tells the readers when the task is gone, however it went.
struct Guard {
    refresher: Arc<Refresher>,
    epoch: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.refresher.died(self.epoch);
    }
}

/// The one task. It ends when it is superseded or the source is closed, and for no other reason.
pub(super) fn run(refresher: Arc<Refresher>, epoch: u64) -> impl Future<Output = ()> + Send + 'static {
    // Made here and not in the future's body, so that a task that never ran is told of, too.
    let guard = Guard { refresher, epoch };
    async move {
        let refresher = &guard.refresher;
        let mut changes = refresher.credentials.subscribe();
        loop {
            changes.mark_unchanged();
            match refresher.next_step(epoch) {
                Step::Stop => return,
                Step::Sleep(length) => tokio::select! {
                    () = sleep(&refresher.clock, length) => {}
                    () = refresher.wake.notified() => {}
                    _ = changes.changed() => {}
                },
                Step::Attempt { credentials, timeout } => {
                    let attempt = attempt(refresher, &credentials, timeout);
                    tokio::pin!(attempt);
                    loop {
                        tokio::select! {
                            outcome = &mut attempt => {
                                refresher.settle(epoch, &credentials, outcome);
                                break;
                            }
                            () = refresher.wake.notified() => if !refresher.beat(epoch) { return },
                            // What was asked with the old credential is dropped, and asked anew at once.
                            _ = changes.changed() => break,
                        }
                    }
                }
            }
        }
    }
}

async fn sleep(clock: &Clock, length: Option<Duration>) {
    match length {
        Some(length) => clock.sleep(length).await,
        None => std::future::pending().await,
    }
}

async fn attempt(
    refresher: &Refresher,
    credentials: &Credentials,
    timeout: Duration,
) -> Result<TokenResponse> {
    let span = tracing::debug_span!(target: "evertoken", "renewal", server = refresher.endpoint.server());
    tokio::select! {
        outcome = refresher.endpoint.request(&refresher.clock, credentials).instrument(span) => outcome,
        () = refresher.clock.wait(timeout) => Err(Error::new(
            ErrorKind::AuthServerUnavailable,
            format!("the authorization server did not answer within {:.1} s", timeout.as_secs_f64()),
        )
        .with_server(refresher.endpoint.server())),
    }
}
