use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use super::sink::UsageSink;
use super::table::Table;
use super::task::{Running, Task};
use super::{Count, Usage};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// To whom the bill for an app id goes.
pub(super) type Customers = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Sets up a [`Usage`].
pub struct UsageBuilder {
    sink: Arc<dyn UsageSink>,
    customers: Customers,
    interval: Duration,
    patience: Duration,
    capacity: usize,
    clock: Clock,
}

impl UsageBuilder {
    pub(super) fn new(sink: Arc<dyn UsageSink>) -> Self {
        Self {
            sink,
            customers: Arc::new(|_| None),
            interval: Duration::from_secs(60),
            patience: Duration::from_secs(10),
            capacity: 100_000,
            clock: Clock::System,
        }
    }

    /// To whom the bill for an app id goes. It is asked once for each app id and batch. Where it returns `None`, and by
    /// default, it is the customer that the key was issued with, as far as [`Keys`](crate::server::Keys) with this usage
    /// issued or listed it.
    pub fn customer(mut self, of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.customers = Arc::new(of);
        self
    }

    /// How often a batch is made: every 60 s by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long the sink may take for a batch, and [`shutdown`](Usage::shutdown) goes on trying: 10 s by default.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many app ids are counted on their own between two batches: about 100,000 by default.
    pub fn capacity(mut self, app_ids: usize) -> Self {
        self.capacity = app_ids;
        self
    }

    /// Replaces the clocks.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: Arc<dyn crate::clock::TimeSource>) -> Self {
        self.clock = Clock::Injected(clock);
        self
    }

    /// Begins to count, in a task of the tokio runtime that it is called in.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) outside of a tokio runtime, or where the interval is zero.
    pub fn start(self) -> Result<Usage> {
        if self.interval.is_zero() || self.patience.is_zero() || self.capacity == 0 {
            return Err(Error::configuration(
                "`interval`, `patience` and `capacity` of usage must be above 0",
            ));
        }
        let count = Arc::new(Count {
            table: Table::new(self.capacity),
            customers: RwLock::default(),
            clock: self.clock,
        });
        let task = Task::new(count.clone(), self.sink, self.customers, self.interval, self.patience)?;
        Ok(Usage { count, running: Arc::new(Running::start(task)?) })
    }
}

impl fmt::Debug for UsageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageBuilder")
            .field("interval", &self.interval)
            .field("patience", &self.patience)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
