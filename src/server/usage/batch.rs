use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

/// What became of a call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It was let through.
    Accepted,
    /// It could not be understood (400).
    Malformed,
    /// Its token or credentials were none, or were refused (401).
    Unauthorized,
    /// The caller is known, and may not do this (403).
    Forbidden,
    /// The caller is to slow down (429).
    Throttled,
    /// There was nobody to ask (503).
    Unavailable,
}

impl CallOutcome {
    /// As batches and metrics name it: `accepted`, `malformed`, …
    pub fn name(self) -> &'static str {
        match self {
            CallOutcome::Accepted => "accepted",
            CallOutcome::Malformed => "malformed",
            CallOutcome::Unauthorized => "unauthorized",
            CallOutcome::Forbidden => "forbidden",
            CallOutcome::Throttled => "throttled",
            CallOutcome::Unavailable => "unavailable",
        }
    }
}

/// The use of one app id in the time of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageRecord {
    /// `None` for calls that named no app id, and for all that found no room of their own.
    pub app_id: Option<String>,
    /// To whom the bill goes, by [`UsageBuilder::customer`](super::UsageBuilder::customer).
    pub customer: Option<String>,
    /// How many calls, by what became of them.
    pub calls: BTreeMap<CallOutcome, u64>,
    /// Of those that were let through, how many by the scope that they needed; without a scope they are not in here.
    pub scopes: BTreeMap<String, u64>,
    /// How many access tokens the exchange got on its behalf.
    pub tokens_issued: u64,
    /// What [`Usage::record`](super::Usage::record) added, by unit.
    pub units: BTreeMap<String, u64>,
    /// When it was last used, whatever came of it.
    #[serde(serialize_with = "rfc3339")]
    pub last_used: Option<SystemTime>,
}

impl UsageRecord {
    /// All calls, whatever became of them.
    pub fn total_calls(&self) -> u64 {
        self.calls.values().fold(0, |sum, calls| sum.saturating_add(*calls))
    }

    /// Of these it is known that the app id is one.
    pub(super) fn is_known(&self) -> bool {
        self.tokens_issued > 0
            || !self.units.is_empty()
            || self
                .calls
                .keys()
                .any(|outcome| matches!(outcome, CallOutcome::Accepted | CallOutcome::Forbidden))
    }
}

/// What was used between two moments, all of it counted once.
///
/// `instance` and `sequence` together name it: what a sink gets again after a failure is the same batch with the same
/// number, so that it can tell whether it has it already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageBatch {
    /// Drawn anew by each process.
    pub instance: String,
    /// 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// Where it begins.
    pub from: SystemTime,
    /// Where it ends, and the next one begins.
    pub until: SystemTime,
    /// One for each app id, in the order of their names.
    pub records: Vec<UsageRecord>,
    /// How many entries went to the record without an app id for want of room.
    pub overflowed: u64,
}

impl UsageBatch {
    /// As JSON lines, one for each record.
    pub fn to_json_lines(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            instance: &'a str,
            sequence: u64,
            #[serde(serialize_with = "rfc3339_moment")]
            from: SystemTime,
            #[serde(serialize_with = "rfc3339_moment")]
            until: SystemTime,
            #[serde(flatten)]
            record: &'a UsageRecord,
        }
        let mut lines = String::new();
        for record in &self.records {
            let line = Line {
                instance: &self.instance,
                sequence: self.sequence,
                from: self.from,
                until: self.until,
                record,
            };
            // It has names and numbers only, of which none can fail.
            lines.push_str(&serde_json::to_string(&line).unwrap_or_default());
            lines.push('\n');
        }
        lines
    }
}

fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339_moment(time, serializer),
        None => serializer.serialize_none(),
    }
}

fn rfc3339_moment<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::server::time::rfc3339(*time))
}
