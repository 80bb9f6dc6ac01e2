//! How Python's threads and loops wait for what the runtime does.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::bell::Bell;
use crate::home;

/// How often a waiting thread looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(40);

/// Runs it on the runtime and waits without the GIL. Ctrl-C ends the wait.
pub fn block_on<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let forks = home::forks();
    let task = py.detach(home::runtime)?.spawn(async move {
        let _ = sender.send(future.await);
    });
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
                if let Err(interrupted) = py.check_signals() {
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
        Ok(Self { forks: home::forks(), task: task.abort_handle(), receiver })
    }
}

#[pymethods]
impl Wait {
    /// What it came to, for which this thread waits where it must. It can be asked for once.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let receiver = self.receiver.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let receiver = receiver.ok_or_else(|| PyRuntimeError::new_err("a wait has one result"))?;
        received(py, receiver, &self.task, self.forks)?(py)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.forks == home::forks() {
            self.task.abort();
        }
    }
}
