//! Usage: totals for the page, batches for the bill.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use evertoken::server::{CallOutcome, UsageBatch, UsageFile, UsageSink, Written};
use serde_json::{Value, json};

/// Usage since the start by app id, for the page; and in the file, for the bill. App ids that were only ever refused may
/// be made up, and share a line.
#[derive(Debug, Clone)]
pub struct Ledger {
    totals: Arc<Mutex<BTreeMap<String, BTreeMap<&'static str, u64>>>>,
    file: Option<UsageFile>,
}

impl Ledger {
    pub fn new(file: Option<String>) -> Self {
        Self { totals: Arc::default(), file: file.map(UsageFile::new) }
    }

    pub fn shown(&self) -> Value {
        json!(*self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl UsageSink for Ledger {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        Box::pin(async move {
            if let Some(file) = &self.file {
                file.write(batch).await?;
            }
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            for record in &batch.records {
                let is_customer = [CallOutcome::Accepted, CallOutcome::Failed]
                    .iter()
                    .any(|outcome| record.calls.contains_key(outcome))
                    || record.app_id.as_ref().is_some_and(|app_id| totals.contains_key(app_id));
                let app_id = record.app_id.clone().filter(|_| is_customer).unwrap_or_default();
                let of = totals.entry(app_id).or_default();
                for (outcome, calls) in &record.calls {
                    *of.entry(outcome.name()).or_default() += calls;
                }
            }
            Ok(())
        })
    }
}
