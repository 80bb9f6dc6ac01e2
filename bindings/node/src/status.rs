use std::time::UNIX_EPOCH;

use evertoken::{State, Status};
use serde_json::json;

use crate::errors::told;
use crate::events::quota;

/// A status in JSON, for `lib/status.ts`.
pub fn text(status: &Status) -> String {
    let state = match status.state {
        State::Starting => "starting",
        State::Fresh => "fresh",
        State::Renewing => "renewing",
        State::Degraded => "degraded",
        State::Rejected => "rejected",
        State::Idle => "idle",
        _ => "closed",
    };
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let renewed = status.last_renewal.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    json!({
        "state": state,
        "expiresInMs": status.expires_in.map(ms),
        "ageMs": status.age.map(ms),
        "scope": status.scope,
        "lastRenewal": renewed.map(ms),
        "quota": status.quota.as_ref().map(quota),
        "nextAttemptMs": status.next_attempt.map(ms),
        "consecutiveFailures": status.consecutive_failures,
        "lastError": status.last_error.as_ref().map(told),
    })
    .to_string()
}
