//! What Python must do for the runtime: its functions that give credentials or sign, and log records. One thread of Python's
//! takes it from a bounded queue (`evertoken._worker`); it is started when there is first something to be done for. If there
//! is none, because the interpreter ends or no thread can be started, a thread that waits for a token takes it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use evertoken::AppCredentials;
use evertoken_bindings::Language;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::bell::{Bell, Ringer};
use crate::home;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More than that waits nowhere: a log record is dropped, and a function is asked again with the next attempt.
const LONGEST: usize = 256;
/// So much of it is kept from log records, of which a slow handler may let many pile up.
const FOR_FUNCTIONS: usize = 64;

static QUEUE: ArcSwapOption<Queue> = ArcSwapOption::const_empty();
/// The process whose jobs have a taker, as its number of forks plus 1; 0 if none has.
static TAKER: AtomicU64 = AtomicU64::new(0);

struct Queue {
    forks: u64,
    sender: mpsc::Sender<Work>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    /// Rung for a taker that is a green thread, which must not block.
    bell: ArcSwapOption<(Arc<Ringer>, u64)>,
}

impl Queue {
    /// Returns whether there was room.
    fn push(&self, work: Work) -> bool {
        let pushed = self.sender.try_send(work).is_ok();
        if let Some((ringer, number)) = self.bell.load().as_deref() {
            ringer.ring(*number);
        }
        pushed
    }
}

/// Functions are known by their number at `evertoken._worker`, so that no other thread ever holds one.
enum Work {
    Credentials { function: u64, reply: oneshot::Sender<Result<AppCredentials, BoxError>> },
    Sign { function: u64, message: Vec<u8>, reply: oneshot::Sender<Result<Vec<u8>, BoxError>> },
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
        let new = Arc::new(Queue {
            forks: home::forks(),
            sender,
            receiver: receiver.into(),
            bell: ArcSwapOption::empty(),
        });
        let before = QUEUE.compare_and_swap(&*queue, Some(new));
        if let Some(parents) = arc_swap::Guard::into_inner(before)
            && parents.forks != home::forks()
        {
            std::mem::forget(parents);
        }
    }
}

async fn ask<T>(work: impl FnOnce(oneshot::Sender<Result<T, BoxError>>) -> Work) -> Result<T, BoxError> {
    let (reply, answer) = oneshot::channel();
    if !queue().push(work(reply)) {
        return Err("the thread for Python's functions is behind".into());
    }
    answer.await.map_err(|_| "the thread for Python's functions has ended")?
}

/// Has the function called that gives credentials, and waits for them.
pub async fn credentials(function: u64) -> Result<AppCredentials, BoxError> {
    ask(|reply| Work::Credentials { function, reply }).await
}

/// Has the function called that signs, and waits for the signature.
pub async fn signature(function: u64, message: Vec<u8>) -> Result<Vec<u8>, BoxError> {
    ask(|reply| Work::Sign { function, message, reply }).await
}

/// One thing to do.
#[pyclass(module = "evertoken._native")]
pub struct Job {
    work: Option<Work>,
}

#[pymethods]
impl Job {
    /// The number of the function to call, and what it is to sign, if that is it.
    fn function(&self) -> Option<(u64, Option<&[u8]>)> {
        match &self.work {
            Some(Work::Credentials { function, .. }) => Some((*function, None)),
            Some(Work::Sign { function, message, .. }) => Some((*function, Some(message))),
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
        if let Some(Work::Credentials { reply, .. }) = self.work.take() {
            let given = AppCredentials::new(app_id, app_secret);
            // Nobody waits any more where an attempt's time was up.
            let _ = reply.send(Ok(match next_app_secret {
                Some(next) => given.next_secret(next),
                None => given,
            }));
        }
    }

    fn sign(&mut self, signature: Vec<u8>) {
        if let Some(Work::Sign { reply, .. }) = self.work.take() {
            let _ = reply.send(Ok(signature));
        }
    }

    fn fail(&mut self, reason: String) {
        match self.work.take() {
            Some(Work::Credentials { reply, .. }) => drop(reply.send(Err(reason.into()))),
            Some(Work::Sign { reply, .. }) => drop(reply.send(Err(reason.into()))),
            _ => {}
        }
    }
}

/// Makes the caller the one that takes the jobs of this process; false if there is one.
#[pyfunction]
pub fn claim_jobs() -> bool {
    let this = home::forks() + 1;
    // Another process's claim came along with a fork.
    let claim = |taker| (taker != this).then_some(this);
    TAKER.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).is_ok()
}

/// Gives that up again.
#[pyfunction]
pub fn release_jobs() {
    let _ = TAKER.compare_exchange(home::forks() + 1, 0, Ordering::AcqRel, Ordering::Acquire);
}

/// Waits without the GIL for the next job; `None` once the thread is to end.
#[pyfunction]
pub fn next_job(py: Python<'_>) -> PyResult<Option<Job>> {
    let queue = queue();
    let work = py.detach(move || Ok::<_, PyErr>(receiver(&queue)?.blocking_recv()))?;
    Ok(match work {
        None | Some(Work::Stop) => None,
        work => Some(Job { work }),
    })
}

/// Returns the next job without waiting.
#[pyfunction]
pub fn poll_job() -> PyResult<Option<Job>> {
    let queue = queue();
    let mut receiver = receiver(&queue)?;
    loop {
        match receiver.try_recv() {
            Ok(Work::Stop) => {}
            Ok(work) => return Ok(Some(Job { work: Some(work) })),
            Err(_) => return Ok(None),
        }
    }
}

fn receiver(queue: &Queue) -> PyResult<tokio::sync::MutexGuard<'_, mpsc::Receiver<Work>>> {
    queue.receiver.try_lock().map_err(|_| PyRuntimeError::new_err("a second thread for Python's functions"))
}

/// Has the bell rung for each job from now on.
#[pyfunction]
pub fn ring_for_jobs(bell: &Bound<'_, Bell>, number: u64) {
    queue().bell.store(Some(Arc::new((bell.get().ringer(), number))));
}

/// Has `next_job` end. True if the thread will see it.
#[pyfunction]
pub fn stop_jobs() -> bool {
    queue().push(Work::Stop)
}

/// Does what there is to do in this thread, which waits, if nothing else does.
pub fn serve(py: Python<'_>) -> PyResult<()> {
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            release_jobs();
        }
    }
    if !claim_jobs() {
        return Ok(());
    }
    let _release = Release;
    while let Some(job) = poll_job()? {
        py.import("evertoken._worker")?.call_method1("do", (job,))?;
    }
    Ok(())
}

/// Starts Python's thread if it does not run in this process yet.
pub fn ensure(py: Python<'_>) -> PyResult<()> {
    py.import("evertoken._worker")?.call_method0("ensure")?;
    Ok(())
}

/// Keeps the crate's log records for Python's thread from now on: a client may have something to warn of when it is made, before
/// anything needs the thread.
pub fn keep_records() {
    static SUBSCRIBED: std::sync::Once = std::sync::Once::new();
    SUBSCRIBED.call_once(|| {
        // This library's `tracing` is its own: there is no other subscriber.
        let _ = tracing::subscriber::set_global_default(Records);
    });
}

struct Records;

/// As `logging` counts.
fn level_of(level: &tracing::Level) -> u8 {
    match *level {
        tracing::Level::ERROR => 40,
        tracing::Level::WARN => 30,
        tracing::Level::INFO => 20,
        tracing::Level::DEBUG => 10,
        tracing::Level::TRACE => 5,
    }
}

/// Which records are wanted, Python's logger says when it gets them: its level may change at any time.
impl tracing::Subscriber for Records {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("evertoken") && *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let queue = queue();
        if queue.sender.capacity() <= FOR_FUNCTIONS {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = level_of(event.metadata().level());
        let text = Language::Python.spell(&(line.message + &line.fields)).into_owned();
        queue.push(Work::Record { level, text });
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
