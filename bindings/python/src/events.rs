//! What happens to a token, one by one.

use std::sync::Arc;

use evertoken::Event;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::object;
use crate::wait::block_on;

#[pyclass(frozen, module = "evertoken._native")]
pub struct Events(Arc<tokio::sync::Mutex<evertoken::Events>>);

impl Events {
    pub fn new(events: evertoken::Events) -> Self {
        Self(Arc::new(events.into()))
    }
}

#[pymethods]
impl Events {
    /// Waits for the next; `None` at the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let events = self.0.clone();
        let event = block_on(py, async move { events.lock().await.next().await })?;
        event.map(|event| told(py, &event)).transpose()
    }
}

fn told<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    let kind = match event {
        Event::Renewed { lifetime, missing_scopes, .. } => {
            fields.set_item("lifetime", lifetime.as_secs_f64())?;
            fields.set_item("missing_scopes", missing_scopes)?;
            "renewed"
        }
        Event::RenewalFailed { error, next_attempt, .. } => {
            fields.set_item("error", object(py, error)?)?;
            fields.set_item("next_attempt", next_attempt.as_secs_f64())?;
            "renewal_failed"
        }
        Event::CredentialsRejected { error, .. } => {
            fields.set_item("error", object(py, error)?)?;
            "credentials_rejected"
        }
        Event::CredentialsRotated => "credentials_rotated",
        Event::QuotaLow { .. } => "quota_low",
        Event::Invalidated => "invalidated",
        Event::Closed => "closed",
        Event::Missed(missed) => {
            fields.set_item("missed", missed)?;
            "missed"
        }
        _ => "other",
    };
    fields.set_item("kind", kind)?;
    Ok(fields)
}
