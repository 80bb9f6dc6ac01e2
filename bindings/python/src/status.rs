//! A picture of a client, as `evertoken._client` makes a `Status` of it.

use evertoken::{Quota, State, Status};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::object;

pub fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Fresh => "fresh",
        State::Renewing => "renewing",
        State::Degraded => "degraded",
        State::Rejected => "rejected",
        State::Idle => "idle",
        _ => "closed",
    }
}

/// Its limit, what is left, and when all is there again.
pub fn quota<'py>(py: Python<'py>, quota: &Quota) -> PyResult<Bound<'py, PyAny>> {
    (quota.limit, quota.remaining, quota.resets_at).into_pyobject(py).map(Bound::into_any)
}

pub fn fields<'py>(py: Python<'py>, status: Status) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("state", state(status.state))?;
    fields.set_item("expires_in", status.expires_in.map(|time| time.as_secs_f64()))?;
    fields.set_item("age", status.age.map(|time| time.as_secs_f64()))?;
    fields.set_item("scope", status.scope)?;
    fields.set_item("last_renewal", status.last_renewal)?;
    fields.set_item("quota", status.quota.map(|left| quota(py, &left)).transpose()?)?;
    fields.set_item("next_attempt", status.next_attempt.map(|time| time.as_secs_f64()))?;
    fields.set_item("consecutive_failures", status.consecutive_failures)?;
    fields.set_item("last_error", status.last_error.map(|error| object(py, &error)).transpose()?)?;
    Ok(fields)
}
