//! What Python must do for the runtime: its functions that give credentials, and log records. One thread of Python's takes
//! it from a bounded queue (`evertoken._worker`), which is started when there is first something to be done for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwapOption;
use evertoken::AppCredentials;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::home;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More than that waits nowhere: a log record is dropped, and credentials are asked for again.
const LONGEST: usize = 256;

static QUEUE: ArcSwapOption<Queue> = ArcSwapOption::const_empty();

struct Queue {
    forks: u64,
    sender: mpsc::Sender<Work>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Work>>,
}

enum Work {
    Credentials { function: Arc<Py<PyAny>>, reply: oneshot::Sender<Result<AppCredentials, BoxError>> },
    Record { level: u8, text: String },
    Stop,
}

/// That of this process; a child of a fork begins a new one.
fn queue() -> Arc<Queue> {
    loop {
        let queue = QUEUE.load();
        if let Some(queue) = &*queue
            && queue.forks == home::forks()
        {
            return queue.clone();
        }
        let (sender, receiver) = mpsc::channel(LONGEST);
        let new = Arc::new(Queue { forks: home::forks(), sender, receiver: receiver.into() });
        let before = QUEUE.compare_and_swap(&*queue, Some(new));
        if let Some(parents) = arc_swap::Guard::into_inner(before)
            && parents.forks != home::forks()
        {
            std::mem::forget(parents);
        }
    }
}

/// Has `function` called, and waits for what it gives.
pub async fn ask(function: Arc<Py<PyAny>>) -> Result<AppCredentials, BoxError> {
    let (reply, answer) = oneshot::channel();
    let work = Work::Credentials { function, reply };
    queue().sender.try_send(work).map_err(|_| "the thread for Python's functions is behind")?;
    answer.await.map_err(|_| "the thread for Python's functions has ended")?
}

/// One thing to do.
#[pyclass(module = "evertoken._native")]
pub struct Job {
    work: Option<Work>,
}

#[pymethods]
impl Job {
    /// The function to call, if that is it.
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.work {
            Some(Work::Credentials { function, .. }) => Some(function.clone_ref(py)),
            _ => None,
        }
    }

    /// Level and text of the record to log, if that is it.
    fn record(&self) -> Option<(u8, &str)> {
        match &self.work {
            Some(Work::Record { level, text }) => Some((*level, text)),
            _ => None,
        }
    }

    #[pyo3(signature = (app_id, app_secret, next_app_secret=None))]
    fn give(&mut self, app_id: String, app_secret: String, next_app_secret: Option<String>) {
        let given = AppCredentials::new(app_id, app_secret);
        self.reply(Ok(match next_app_secret {
            Some(next) => given.next_secret(next),
            None => given,
        }));
    }

    fn fail(&mut self, reason: String) {
        self.reply(Err(reason.into()));
    }
}

impl Job {
    fn reply(&mut self, outcome: Result<AppCredentials, BoxError>) {
        if let Some(Work::Credentials { reply, .. }) = self.work.take() {
            // Nobody waits any more where an attempt's time was up.
            let _ = reply.send(outcome);
        }
    }
}

/// The next job; `None` once the thread is to end. It waits without the GIL.
#[pyfunction]
pub fn next_job(py: Python<'_>) -> PyResult<Option<Job>> {
    let queue = queue();
    let work = py.detach(move || {
        let mut receiver = queue
            .receiver
            .try_lock()
            .map_err(|_| PyRuntimeError::new_err("a second thread for Python's functions"))?;
        Ok::<_, PyErr>(receiver.blocking_recv())
    })?;
    Ok(match work {
        None | Some(Work::Stop) => None,
        work => Some(Job { work }),
    })
}

/// Has `next_job` end.
#[pyfunction]
pub fn stop_jobs(py: Python<'_>) {
    let queue = queue();
    // Where it is full, the thread is at work and looks here soon.
    py.detach(move || {
        let _ = queue.sender.blocking_send(Work::Stop);
    });
}

/// From which level on records are wanted, as `logging` counts.
static LEVEL: AtomicU8 = AtomicU8::new(30);

/// Starts Python's thread where it does not run in this process yet, and takes the crate's log records from now on.
pub fn ensure(py: Python<'_>) -> PyResult<()> {
    static SUBSCRIBED: std::sync::Once = std::sync::Once::new();
    let level: i64 = py.import("evertoken._worker")?.call_method0("ensure")?.extract()?;
    LEVEL.store(level.clamp(0, 255) as u8, Ordering::Relaxed);
    SUBSCRIBED.call_once(|| {
        // This library's `tracing` is its own: there is no other subscriber.
        let _ = tracing::subscriber::set_global_default(Records);
    });
    Ok(())
}

struct Records;

fn level_of(level: &tracing::Level) -> u8 {
    match *level {
        tracing::Level::ERROR => 40,
        tracing::Level::WARN => 30,
        tracing::Level::INFO => 20,
        _ => 10,
    }
}

impl tracing::Subscriber for Records {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("evertoken")
            && level_of(metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        // The level of a Python logger may change at any time.
        tracing::subscriber::Interest::sometimes()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let record =
            Work::Record { level: level_of(event.metadata().level()), text: line.message + &line.fields };
        let _ = queue().sender.try_send(record);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}
