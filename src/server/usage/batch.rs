use std::collections::BTreeMap;
use std::time::SystemTime;

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What became of a call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It was let through, and not answered with a 5xx.
    Accepted,
    /// It was let through, and the API failed: it answered with a 5xx.
    Failed,
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
            CallOutcome::Failed => "failed",
            CallOutcome::Malformed => "malformed",
            CallOutcome::Unauthorized => "unauthorized",
            CallOutcome::Forbidden => "forbidden",
            CallOutcome::Throttled => "throttled",
            CallOutcome::Unavailable => "unavailable",
        }
    }

    /// Whether the caller has shown that the app id is its own.
    pub(super) fn is_authenticated(self) -> bool {
        matches!(self, CallOutcome::Accepted | CallOutcome::Failed | CallOutcome::Forbidden)
    }
}

/// How a call that was let through was answered: the first digit of the status (RFC 9110 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StatusClass {
    /// 1xx, such as a switch of protocols.
    #[serde(rename = "1xx")]
    Informational,
    /// 2xx.
    #[serde(rename = "2xx")]
    Success,
    /// 3xx.
    #[serde(rename = "3xx")]
    Redirection,
    /// 4xx: the API itself refused it.
    #[serde(rename = "4xx")]
    ClientError,
    /// 5xx, also from a gateway on the way.
    #[serde(rename = "5xx")]
    ServerError,
    /// The caller went away before there was an answer.
    #[serde(rename = "none")]
    Unanswered,
}

impl StatusClass {
    /// Returns the class of a status. A status beyond 5xx counts as 5xx (RFC 9110 15).
    pub fn of(status: Option<StatusCode>) -> Self {
        match status.map(|status| status.as_u16() / 100) {
            None => Self::Unanswered,
            Some(1) => Self::Informational,
            Some(2) => Self::Success,
            Some(3) => Self::Redirection,
            Some(4) => Self::ClientError,
            Some(_) => Self::ServerError,
        }
    }

    /// Returns its name in batches: `2xx`, `5xx`, `none`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Unanswered => "none",
        }
    }
}

/// The use of one app id in the time of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageRecord {
    /// `None` for calls that named no app id, and for all that found no room of their own.
    pub app_id: Option<String>,
    /// To whom the bill goes, by [`UsageBuilder::customer`](super::UsageBuilder::customer) or as the key was issued.
    pub customer: Option<String>,
    /// How many calls, by what became of them.
    pub calls: BTreeMap<CallOutcome, u64>,
    /// Of those that were let through, how many by the class of the status that they were answered with.
    #[serde(default)]
    pub responses: BTreeMap<StatusClass, u64>,
    /// Of those that were accepted, how many by the scope that they needed; without a scope they are not in here.
    pub scopes: BTreeMap<String, u64>,
    /// How many access tokens the exchange got on its behalf.
    pub tokens_issued: u64,
    /// What [`Usage::record`](super::Usage::record) added, by unit.
    pub units: BTreeMap<String, u64>,
    /// When it was last used. A refused secret or token is no use: `None` if there was nothing else.
    #[serde(serialize_with = "rfc3339", deserialize_with = "parsed")]
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
            || self.calls.keys().any(|outcome| outcome.is_authenticated())
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.units.is_empty() && self.tokens_issued == 0
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
    /// Where it ends, and the next one begins; if the wall clock is set back meanwhile, the next one begins by the new
    /// time. It is never before `from`.
    pub until: SystemTime,
    /// One for each app id, in the order of their names.
    pub records: Vec<UsageRecord>,
    /// How many entries went to the record without an app id for want of room.
    pub overflowed: u64,
}

impl UsageBatch {
    /// Returns it as JSON lines, one for each record. Each of them has the number of all in `records`, so that a reader
    /// can tell a whole batch from one whose writer was killed: [`UsageFile::read`](super::UsageFile::read) does.
    pub fn to_json_lines(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            instance: &'a str,
            sequence: u64,
            #[serde(serialize_with = "rfc3339_moment")]
            from: SystemTime,
            #[serde(serialize_with = "rfc3339_moment")]
            until: SystemTime,
            records: usize,
            overflowed: u64,
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
                records: self.records.len(),
                overflowed: self.overflowed,
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

pub(super) fn parsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().and_then(crate::server::time::parse_rfc3339))
}

fn rfc3339_moment<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::server::time::rfc3339(*time))
}
