//! Who used the API, how much, and to whom the bill goes.

mod batch;
mod builder;
mod file;
mod sink;
mod table;
mod task;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use table::{Table, add};
use task::Running;

use super::caller::Caller;
use crate::clock::{Clock, system_time};
use crate::error::Result;

pub use batch::{CallOutcome, UsageBatch, UsageRecord};
pub use builder::UsageBuilder;
pub use file::UsageFile;
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
    clock: Clock,
}

impl Usage {
    /// Usage that goes to this sink.
    pub fn builder(sink: impl UsageSink) -> UsageBuilder {
        UsageBuilder::new(Arc::new(sink))
    }

    /// One call: whose, as far as it said so, and what became of it. `scope` is what it needed. The layer does this for
    /// each call that it sees.
    pub fn call(&self, app_id: Option<&str>, outcome: CallOutcome, scope: Option<&str>) {
        self.count.count(app_id, |record| {
            *record.calls.entry(outcome).or_insert(0) += 1;
            if let Some(scope) = scope.filter(|_| outcome == CallOutcome::Accepted) {
                add(&mut record.scopes, scope, 1);
            }
        });
    }

    /// Adds `number` of a unit of your own to the caller's account: pages, rows, seconds. An app has 32 units at most, and
    /// what is beyond goes to the unit `other`.
    pub fn record(&self, caller: &Caller, unit: &str, number: u64) {
        self.count.count(Some(caller.app_id()), |record| add(&mut record.units, unit, number));
    }

    /// When this app id was last used, as far as this process has seen it and remembers.
    pub fn last_used(&self, app_id: &str) -> Option<SystemTime> {
        self.count.table.last_used(app_id)
    }

    /// An access token was got on its behalf.
    pub(super) fn issued(&self, app_id: &str) {
        self.count.count(Some(app_id), |record| record.tokens_issued += 1);
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
    fn count(&self, app_id: Option<&str>, count: impl FnOnce(&mut UsageRecord)) {
        let (_, wall) = self.clock.coarse();
        self.table.count(app_id, system_time(wall), count);
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").finish_non_exhaustive()
    }
}
