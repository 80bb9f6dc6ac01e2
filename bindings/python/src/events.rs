//! What happens to a token, one by one.

use std::sync::Arc;

use evertoken::Event;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bell::Bell;
use crate::errors::object;
use crate::home;
use crate::status::quota;
use crate::wait::{Wait, block_on};

/// Those of the process in which it was made; in a child of a fork it has ended.
#[pyclass(frozen, module = "evertoken._native")]
pub struct Events {
    forks: u64,
    inner: Option<Arc<tokio::sync::Mutex<evertoken::Events>>>,
}

impl Events {
    pub fn new(events: evertoken::Events) -> Self {
        Self { forks: home::forks(), inner: Some(Arc::new(events.into())) }
    }

    fn here(&self) -> Option<Arc<tokio::sync::Mutex<evertoken::Events>>> {
        self.inner.clone().filter(|_| self.forks == home::forks())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.forks != home::forks() {
            std::mem::forget(self.inner.take());
        }
    }
}

async fn next(events: Option<Arc<tokio::sync::Mutex<evertoken::Events>>>) -> Option<Event> {
    events?.lock().await.next().await
}

#[pymethods]
impl Events {
    /// Waits for the next; `None` at the end.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let event = block_on(py, next(self.here()))?;
        event.map(|event| told(py, &event)).transpose()
    }

    /// The same for a loop.
    #[pyo3(signature = (bell, number))]
    fn wait_next(&self, py: Python<'_>, bell: Option<&Bound<'_, Bell>>, number: u64) -> PyResult<Wait> {
        Wait::start(py, bell, number, next(self.here()), |py, event| {
            Ok(match event {
                Some(event) => told(py, &event)?.into_any().unbind(),
                None => py.None(),
            })
        })
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
        Event::QuotaLow { quota: left, .. } => {
            fields.set_item("quota", quota(py, left)?)?;
            "quota_low"
        }
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
