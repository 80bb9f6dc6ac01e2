//! Who used the API, how much, and to whom the bill goes.

mod batch;
mod builder;
mod file;
mod read;
mod sink;
mod table;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use http::StatusCode;
use table::{Table, add};
use task::Running;

use super::caller::Caller;
use crate::clock::{Clock, system_time};
use crate::error::Result;

pub use batch::{CallOutcome, StatusClass, UsageBatch, UsageRecord};
pub use builder::UsageBuilder;
pub use file::UsageFile;
pub use read::StoredBatch;
pub use sink::{UsageSink, Written};

/// Counts the use of an API by app id, and hands it on in numbered batches. A clone is a handle to the same count.
///
/// Every call counts, those that are refused included; what a call costs beside itself, a handler adds:
///
/// ```no_run
/// # async fn run(caller: evertoken::server::Caller) -> evertoken::Result<()> {
/// use evertoken::server::{Usage, UsageFile};
///
/// let usage = Usage::builder(UsageFile::new("usage.jsonl"))
///     .customer(|app_id| app_id.split_once('-').map(|(customer, _)| customer.to_owned()))
///     .start()?;
/// usage.record(&caller, "pages", 12);
/// usage.shutdown().await
/// # }
/// ```
///
/// # What is kept, and what may be lost
///
/// Memory is bounded: as many app ids as [`capacity`](UsageBuilder::capacity) says, of which those that were only ever
/// refused, and may be made up, have an eighth. What finds no room is counted all the same, in the record without an app
/// id, and [`UsageBatch::overflowed`] and a warning tell of it.
///
/// After [`shutdown`](Self::shutdown) nothing is lost. A process that dies loses what it counted since the last batch, and
/// with it a batch that the sink was still refusing. A batch is handed on again until the sink takes it, always the same
/// under the same number, so that nothing need be counted twice; what comes meanwhile waits for the next one.
///
/// With feature `metrics` the same is told in `evertoken_usage_calls_total`, `evertoken_usage_tokens_total` and
/// `evertoken_usage_units_total` with each batch, by customer (where there is none, by app id) and outcome or unit.
#[derive(Clone)]
pub struct Usage {
    count: Arc<Count>,
    running: Arc<Running>,
}

/// What is shared with the task.
pub(super) struct Count {
    table: Table,
    /// By app id, as [`Keys`](super::Keys) issued them.
    customers: RwLock<HashMap<String, String>>,
    clock: Clock,
}

impl Usage {
    /// Usage that goes to this sink.
    pub fn builder(sink: impl UsageSink) -> UsageBuilder {
        UsageBuilder::new(Arc::new(sink))
    }

    /// Counts one call: whose, as far as it said so, and what became of it. `scope` is what it needed. The layer does this
    /// for each call that it refuses; for one that it lets through, see [`answered`](Self::answered).
    pub fn call(&self, app_id: Option<&str>, outcome: CallOutcome, scope: Option<&str>) {
        self.count(app_id, outcome, scope, None);
    }

    /// Counts one call that was let through, by the status that it was answered with: as
    /// [`Accepted`](CallOutcome::Accepted), or as [`Failed`](CallOutcome::Failed) if that is a 5xx. `None` is for a caller
    /// that went away before there was an answer. The layer does this for each call that it lets through.
    pub fn answered(&self, app_id: Option<&str>, status: Option<StatusCode>, scope: Option<&str>) {
        let class = StatusClass::of(status);
        let outcome = match class {
            StatusClass::ServerError => CallOutcome::Failed,
            _ => CallOutcome::Accepted,
        };
        self.count(app_id, outcome, scope, Some(class));
    }

    fn count(
        &self,
        app_id: Option<&str>,
        outcome: CallOutcome,
        scope: Option<&str>,
        class: Option<StatusClass>,
    ) {
        self.count.count(app_id, outcome.is_authenticated(), |record| {
            *record.calls.entry(outcome).or_insert(0) += 1;
            if let Some(class) = class {
                *record.responses.entry(class).or_insert(0) += 1;
            }
            if let Some(scope) = scope.filter(|_| outcome == CallOutcome::Accepted) {
                add(&mut record.scopes, scope, 1);
            }
        });
    }

    /// Adds `number` of a unit of your own to the caller's account: pages, rows, seconds. An app has 32 units at most, and
    /// what is beyond goes to the unit `other`.
    pub fn record(&self, caller: &Caller, unit: &str, number: u64) {
        self.count.count(Some(caller.app_id()), true, |record| add(&mut record.units, unit, number));
    }

    /// Returns when this app id was last used, as far as this process has seen it and remembers. A refused secret or token
    /// is no use.
    pub fn last_used(&self, app_id: &str) -> Option<SystemTime> {
        self.count.table.last_used(app_id)
    }

    /// An access token was got on its behalf.
    pub(super) fn issued(&self, app_id: &str) {
        self.count.count(Some(app_id), true, |record| record.tokens_issued += 1);
    }

    /// Remembers to whom the bill for an app id goes.
    pub(super) fn note_customer(&self, app_id: &str, customer: &str) {
        let mut customers = self.count.customers.write().unwrap_or_else(PoisonError::into_inner);
        customers.insert(app_id.to_owned(), customer.to_owned());
    }

    /// Hands on all that was counted up to now, without waiting for the interval. The count goes on.
    ///
    /// # Errors
    /// [`Api`](crate::ErrorKind::Api) if the sink has not taken it. Nothing is lost: it is tried again, as after the
    /// interval.
    pub async fn flush(&self) -> Result<()> {
        self.running.flush().await
    }

    /// Hands on all that was counted, and ends. What is counted later is lost.
    ///
    /// # Errors
    /// [`Api`](crate::ErrorKind::Api) where the sink has not taken all of it within
    /// [`patience`](UsageBuilder::patience).
    pub async fn shutdown(&self) -> Result<()> {
        self.running.end().await
    }
}

impl Count {
    /// Counts something for an app id, which `is_use` of it or not.
    fn count(&self, app_id: Option<&str>, is_use: bool, count: impl FnOnce(&mut UsageRecord)) {
        let used = is_use.then(|| system_time(self.clock.coarse().1));
        self.table.count(app_id, used, count);
    }

    fn customer(&self, app_id: &str) -> Option<String> {
        self.customers.read().unwrap_or_else(PoisonError::into_inner).get(app_id).cloned()
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").finish_non_exhaustive()
    }
}
