//! The one background thread of all blocking clients.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak, mpsc};
use std::thread::{self, ThreadId};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::client::transport::{self, Redirects};
use crate::error::{Error, ErrorKind, Result};
use crate::network::Network;

static SHARED: Mutex<Weak<Worker>> = Mutex::new(Weak::new());

/// A handle to the thread, which owns the runtime: dropping the last one ends it from wherever that happens, since
/// nothing is waited for.
pub(super) struct Worker {
    runtime: Handle,
    thread: ThreadId,
    /// Apart from those that async clients share: connections end with the runtime that they were made on.
    transports: [OnceLock<Arc<reqwest::Client>>; 2],
    _until_dropped: oneshot::Sender<()>,
}

impl Worker {
    pub(super) fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = shared.upgrade() {
            return Ok(worker);
        }
        let worker = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&worker);
        Ok(worker)
    }

    fn start() -> Result<Self> {
        let failed =
            |error| Error::configuration("the background thread cannot be started").with_source(error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (until_dropped, dropped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("evertoken".to_owned())
            .spawn(move || {
                let _ = runtime.block_on(dropped);
                // A name lookup that hangs must not keep the thread.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            runtime: handle,
            thread: thread.thread().id(),
            transports: Default::default(),
            _until_dropped: until_dropped,
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn transport(&self, redirects: Redirects) -> Result<Arc<reqwest::Client>> {
        let slot = match (redirects, &self.transports) {
            (Redirects::Guarded, [guarded, _]) => guarded,
            (Redirects::Never, [_, never]) => never,
        };
        if let Some(transport) = slot.get() {
            return Ok(transport.clone());
        }
        let new = Arc::new(transport::new(&Network::default(), redirects)?);
        Ok(slot.get_or_init(|| new).clone())
    }

    /// Runs `future` on the thread and waits for it.
    pub(super) fn run<F>(&self, future: F) -> Result<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if thread::current().id() == self.thread {
            return Err(Error::configuration(
                "a blocking call from the background thread would wait for itself",
            ));
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().map_err(|_| Error::new(ErrorKind::Closed, "the background thread gave the call up"))
    }
}
