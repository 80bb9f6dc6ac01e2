//! The task that makes batches and hands them on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::Count;
use super::batch::UsageBatch;
use super::builder::Customers;
use super::sink::UsageSink;
use super::telemetry;
use crate::caught::caught;
use crate::clock::system_time;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{self, one_line};

/// Between two tries at a batch: it doubles from the first to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Task {
    count: Arc<Count>,
    sink: Arc<dyn UsageSink>,
    customers: Customers,
    interval: Duration,
    patience: Duration,
    instance: String,
    sequence: u64,
    from: SystemTime,
    /// What the sink has not taken yet.
    pending: Option<UsageBatch>,
}

impl Task {
    pub(super) fn new(
        count: Arc<Count>,
        sink: Arc<dyn UsageSink>,
        customers: Customers,
        interval: Duration,
        patience: Duration,
    ) -> Result<Self> {
        let instance = secret::random()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let from = system_time(count.clock.now().wall);
        Ok(Self { count, sink, customers, interval, patience, instance, sequence: 0, from, pending: None })
    }

    /// Until nobody counts any more or the end is asked for; then what is left is handed on.
    async fn run(
        mut self,
        mut ending: watch::Receiver<bool>,
        mut flushes: mpsc::Receiver<Flush>,
    ) -> Result<()> {
        let clock = self.count.clock.clone();
        let mut pause = self.interval;
        loop {
            let flush = tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => break,
                Some(flush) = flushes.recv() => Some(flush),
                () = clock.wait(pause) => None,
            };
            let outcome = match flush {
                Some(_) => self.hand_on_all().await,
                None => self.hand_on().await,
            };
            pause = match outcome {
                Ok(()) => self.interval,
                Err(_) if pause < self.interval => (pause * 2).min(self.interval),
                Err(_) => FIRST_PAUSE.min(self.interval),
            };
            if let Some(flush) = flush {
                let _ = flush.send(outcome);
            }
        }
        // Whoever waits for a flush now waits for the end.
        drop(flushes);
        self.end().await
    }

    /// All that is left, tried again for as long as there is patience.
    async fn end(&mut self) -> Result<()> {
        let clock = self.count.clock.clone();
        let began = clock.now();
        loop {
            let Err(failure) = self.hand_on_all().await else { return Ok(()) };
            if clock.now().since(&began) + FIRST_PAUSE >= self.patience {
                return Err(failure);
            }
            clock.wait(FIRST_PAUSE).await;
        }
    }

    /// Hands on the batch that the sink has not taken yet, and what has been counted since.
    async fn hand_on_all(&mut self) -> Result<()> {
        self.hand_on().await?;
        self.hand_on().await
    }

    /// The batch that the sink has not taken yet, else a new one. One without records is none.
    async fn hand_on(&mut self) -> Result<()> {
        if self.pending.is_none() {
            self.pending = self.next();
        }
        let Some(batch) = &self.pending else { return Ok(()) };
        let clock = &self.count.clock;
        let outcome = tokio::select! {
            biased;
            outcome = caught(self.sink.write(batch)) => match outcome {
                Some(outcome) => outcome.map_err(|error| error.to_string()),
                None => Err("it panicked".to_owned()),
            },
            () = clock.wait(self.patience) => Err(format!("it took more than {:.1} s", self.patience.as_secs_f64())),
        };
        match outcome {
            Ok(()) => {
                self.pending = None;
                Ok(())
            }
            Err(said) => {
                let said = one_line(&said, &[], 200);
                telemetry::refused(batch.sequence, &said);
                let what = format!("the usage sink has not taken batch {}: {said}", batch.sequence);
                Err(Error::new(ErrorKind::Api, what).retryable(true))
            }
        }
    }

    fn next(&mut self) -> Option<UsageBatch> {
        let drained = self.count.table.drain();
        if drained.records.is_empty() {
            return None;
        }
        let now = system_time(self.count.clock.now().wall);
        let mut records = drained.records;
        // The wall clock may have been set back: the batch ends no earlier than it begins, and the next one begins by the
        // new time.
        let last_used = records.iter().filter_map(|record| record.last_used).max();
        let until = now.max(self.from).max(last_used.unwrap_or(now));
        for record in &mut records {
            // What was counted must not go down with somebody else's code.
            let customer = |app_id| {
                let named = catch_unwind(AssertUnwindSafe(|| (self.customers)(app_id))).ok().flatten();
                named.or_else(|| self.count.customer(app_id))
            };
            record.customer = record.app_id.as_deref().and_then(customer);
        }
        self.sequence += 1;
        let batch = UsageBatch {
            instance: self.instance.clone(),
            sequence: self.sequence,
            from: std::mem::replace(&mut self.from, now),
            until,
            records,
            overflowed: drained.overflowed,
        };
        telemetry::batched(&batch);
        Some(batch)
    }
}

/// Where the outcome of a flush goes.
type Flush = oneshot::Sender<Result<()>>;

/// The task as its handles have it. With the last of them it ends, and hands on what is left.
pub(super) struct Running {
    ending: watch::Sender<bool>,
    flushes: mpsc::Sender<Flush>,
    outcome: watch::Receiver<Option<Result<()>>>,
}

impl Running {
    pub(super) fn start(task: Task) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::configuration("usage can be counted only within a tokio runtime").with_source(error)
        })?;
        let (ending, end) = watch::channel(false);
        let (flushes, asked) = mpsc::channel(1);
        let (told, outcome) = watch::channel(None);
        runtime.spawn(async move {
            let outcome = task.run(end, asked).await;
            told.send_replace(Some(outcome));
        });
        Ok(Self { ending, flushes, outcome })
    }

    /// Hands on what has been counted up to now.
    pub(super) async fn flush(&self) -> Result<()> {
        let (told, outcome) = oneshot::channel();
        if self.flushes.send(told).await.is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        self.outcome().await
    }

    pub(super) async fn end(&self) -> Result<()> {
        self.ending.send_replace(true);
        self.outcome().await
    }

    async fn outcome(&self) -> Result<()> {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => {
                Err(Error::new(ErrorKind::Closed, "the task that hands on usage was ended with its runtime"))
            }
        }
    }
}
