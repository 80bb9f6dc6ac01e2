//! How Python's threads wait for what the runtime does.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::home;

/// How often a waiting thread looks for Ctrl-C.
const SIGNALS: Duration = Duration::from_millis(40);

/// Runs it on the runtime and waits without the GIL. Ctrl-C ends the wait.
pub fn block_on<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let (sender, mut receiver) = sync_channel(1);
    let forks = home::forks();
    let task = py.detach(home::runtime)?.spawn(async move {
        let _ = sender.send(future.await);
    });
    loop {
        let outcome;
        (receiver, outcome) = py.detach(move || {
            let outcome = receiver.recv_timeout(SIGNALS);
            (receiver, outcome)
        });
        match outcome {
            Ok(outcome) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(interrupted) = py.check_signals() {
                    task.abort();
                    return Err(interrupted);
                }
                if forks != home::forks() {
                    return Err(PyRuntimeError::new_err("the process was forked during this wait"));
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
