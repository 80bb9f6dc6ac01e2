//! What happens to a token, one by one.
//!
//! A wait only moves the next event to where it can be taken; `take` hands it out. So a wait that is cancelled or interrupted,
//! at whatever moment, loses none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    inner: Option<Arc<Reader>>,
}

struct Reader {
    events: tokio::sync::Mutex<evertoken::Events>,
    arrived: Mutex<Arrived>,
}

#[derive(Default)]
struct Arrived {
    events: VecDeque<Event>,
    has_ended: bool,
}

impl Reader {
    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a wait has put away, else what came while nobody waited.
    fn take(&self) -> Option<Event> {
        let channel = self.events.try_lock();
        let put_away = self.arrived().events.pop_front();
        put_away.or_else(|| channel.ok()?.try_next())
    }

    /// Returns once an event can be taken, or none will come any more.
    async fn wait(self: Arc<Self>) {
        let mut events = self.events.lock().await;
        {
            let arrived = self.arrived();
            if arrived.has_ended || !arrived.events.is_empty() {
                return;
            }
        }
        // Nothing is awaited between an event's coming and its being put away.
        let event = events.next().await;
        let mut arrived = self.arrived();
        arrived.has_ended = event.is_none();
        arrived.events.extend(event);
    }
}

impl Events {
    pub fn new(events: evertoken::Events) -> Self {
        let reader = Reader { events: events.into(), arrived: Mutex::default() };
        Self { forks: home::forks(), inner: Some(Arc::new(reader)) }
    }

    fn here(&self) -> Option<Arc<Reader>> {
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

async fn wait(reader: Option<Arc<Reader>>) {
    if let Some(reader) = reader {
        reader.wait().await;
    }
}

#[pymethods]
impl Events {
    /// Waits until there is something to `take`, or nothing will come any more. Another reader may take it first.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        block_on(py, wait(self.here()))
    }

    /// The same for a loop.
    #[pyo3(signature = (bell, number))]
    fn wait_async(&self, py: Python<'_>, bell: Option<&Bound<'_, Bell>>, number: u64) -> PyResult<Wait> {
        Wait::start(py, bell, number, wait(self.here()), |py, ()| Ok(py.None()))
    }

    /// The next event, if there is one now.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let event = self.here().and_then(|reader| reader.take());
        event.map(|event| told(py, &event)).transpose()
    }

    /// Whether there will be no event any more.
    fn has_ended(&self) -> bool {
        self.here().is_none_or(|reader| {
            let arrived = reader.arrived();
            arrived.has_ended && arrived.events.is_empty()
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
