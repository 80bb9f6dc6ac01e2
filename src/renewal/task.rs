use std::sync::Arc;
use std::time::Duration;

use super::attempt::attempt;
use super::outcome::Step;
use super::refresher::Refresher;
use crate::clock::Clock;

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
        let watch = refresher.credentials.watch(&refresher.clock, || refresher.is_refused());
        tokio::pin!(watch);
        loop {
            changes.mark_unchanged();
            match refresher.next_step(epoch) {
                Step::Stop => return,
                // In a fixed order, so that a failure can be replayed.
                Step::Sleep(length) => tokio::select! {
                    biased;
                    () = sleep(&refresher.clock, length) => {}
                    () = refresher.wake.notified() => {}
                    _ = changes.changed() => {}
                    never = &mut watch => match never {},
                },
                Step::Attempt(timeout) => {
                    let attempt = attempt(refresher, &mut changes, timeout);
                    tokio::pin!(attempt);
                    loop {
                        tokio::select! {
                            biased;
                            attempted = &mut attempt => {
                                // What was asked with an old credential is dropped, and asked anew at once.
                                if let Some(attempted) = attempted {
                                    refresher.settle(epoch, attempted);
                                }
                                break;
                            }
                            () = refresher.wake.notified() => if !refresher.beat(epoch) { return },
                            never = &mut watch => match never {},
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
