//! How Python's threads and loops wait for what the runtime does.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::bell::{Bell, Ringer};
use crate::{home, worker};

/// How often a waiting thread looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(40);

/// A green thread's (gevent, eventlet) place to wait at while its hub goes on.
struct Seat<'py> {
    /// `evertoken._green.Seat`.
    seat: Bound<'py, PyAny>,
    ringer: Arc<Ringer>,
    number: u64,
}

impl<'py> Seat<'py> {
    /// Returns `None` if a whole thread waits.
    fn take(py: Python<'py>) -> PyResult<Option<Self>> {
        if py.import("evertoken._worker")?.call_method0("is_unserved")?.is_truthy()? {
            // The thread that waits has other things to do.
            return Ok(None);
        }
        let seat = py.import("evertoken._green")?.call_method0("seat")?;
        if seat.is_none() {
            return Ok(None);
        }
        let ringer = seat.getattr("bell")?.cast::<Bell>()?.get().ringer();
        let number = seat.getattr("number")?.extract()?;
        Ok(Some(Self { seat, ringer, number }))
    }
}

/// Runs it on the runtime and waits without the GIL; a green thread lets its hub go on. Ctrl-C ends the wait.
pub fn block_on<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let forks = home::forks();
    let runtime = py.detach(home::runtime)?;
    let seat = Seat::take(py)?;
    let bell = seat.as_ref().map(|seat| (seat.ringer.clone(), seat.number));
    let task = runtime.spawn(async move {
        let _ = sender.send(future.await);
        if let Some((ringer, number)) = bell {
            ringer.ring(number);
        }
    });
    if let Some(Seat { seat, .. }) = seat
        && let Err(left) = seat.call_method0("wait")
    {
        task.abort();
        return Err(left);
    }
    received(py, receiver, &task.abort_handle(), forks)
}

fn received<T: Send>(
    py: Python<'_>,
    mut receiver: Receiver<T>,
    task: &AbortHandle,
    forks: u64,
) -> PyResult<T> {
    loop {
        let outcome;
        (receiver, outcome) = py.detach(move || {
            let outcome = receiver.recv_timeout(SIGNALS);
            (receiver, outcome)
        });
        match outcome {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => {
                if forks != home::forks() {
                    return Err(PyRuntimeError::new_err("the process was forked during this wait"));
                }
                // Fails only if something like a signal ends it.
                if let Err(interrupted) = py.check_signals().and_then(|()| worker::serve(py)) {
                    task.abort();
                    return Err(interrupted);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the wait was cut off: please report this"));
            }
        }
    }
}

/// Calls it where it can start tasks, without the GIL, since it may take a lock.
pub fn in_runtime<T: Send>(py: Python<'_>, call: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| {
        let runtime = home::runtime()?;
        let _inside = runtime.enter();
        Ok(call())
    })
}

/// What it comes to without waiting.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// Makes the outcome Python's. It holds nothing of Python's itself, since the runtime's thread may drop it.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Something that goes on, for a loop that has other things to do meanwhile. What is dropped goes on no longer.
#[pyclass(frozen, module = "evertoken._native")]
pub struct Wait {
    forks: u64,
    task: AbortHandle,
    receiver: Mutex<Option<Receiver<Finish>>>,
    goes_on: bool,
}

impl Wait {
    /// Runs it on the runtime, and has `bell` ring with `number` at its end.
    pub fn start<T: Send + 'static>(
        py: Python<'_>,
        bell: Option<&Bound<'_, Bell>>,
        number: u64,
        future: impl Future<Output = T> + Send + 'static,
        finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Self> {
        let (sender, receiver) = sync_channel::<Finish>(1);
        let ringer = bell.map(|bell| bell.get().ringer());
        let task = py.detach(home::runtime)?.spawn(async move {
            let outcome = future.await;
            let _ = sender.send(Box::new(move |py| finish(py, outcome)));
            if let Some(ringer) = ringer {
                ringer.ring(number);
            }
        });
        let receiver = Mutex::new(Some(receiver));
        Ok(Self { forks: home::forks(), task: task.abort_handle(), receiver, goes_on: false })
    }

    /// The same, but it goes on if it is dropped.
    pub fn detached(mut self) -> Self {
        self.goes_on = true;
        self
    }
}

#[pymethods]
impl Wait {
    /// What it came to, for which this thread waits where it must. It can be asked for once.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = receiver.ok_or_else(|| PyRuntimeError::new_err("a wait has one result"))?;
        received(py, receiver, &self.task, self.forks)?(py)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if !self.goes_on && self.forks == home::forks() {
            self.task.abort();
        }
    }
}
