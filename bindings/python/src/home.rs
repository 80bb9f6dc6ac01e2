//! Where the renewals run: one runtime for the process, with one thread, started when it is first needed. After a fork the
//! child has none of the parent's threads, so it leaves all of that where it is and begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

static FORKS: AtomicU64 = AtomicU64::new(0);
static HOME: ArcSwapOption<Home> = ArcSwapOption::const_empty();

struct Home {
    forks: u64,
    runtime: Runtime,
}

/// How many forks lie between this process and the one that loaded the module.
#[inline]
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// By `pthread_atfork`, since `os.register_at_fork` misses the forks that C code makes (uWSGI).
#[cfg(unix)]
#[allow(unsafe_code)]
pub fn watch_forks() {
    extern "C" fn in_the_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does no more than to add to an atomic, which is safe in a signal handler, too.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
    });
}

/// Where there is no fork.
#[cfg(not(unix))]
pub fn watch_forks() {}

/// This process's runtime.
pub fn runtime() -> PyResult<Handle> {
    loop {
        let home = HOME.load();
        if let Some(home) = &*home
            && home.forks == forks()
        {
            return Ok(home.runtime.handle().clone());
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(8)
            .thread_name("evertoken")
            .enable_all()
            .build()
            .map_err(|error| PyRuntimeError::new_err(format!("no thread for the renewals: {error}")))?;
        let new = Arc::new(Home { forks: forks(), runtime });
        let before = HOME.compare_and_swap(&*home, Some(new));
        if let Some(parents) = arc_swap::Guard::into_inner(before)
            && parents.forks != forks()
        {
            std::mem::forget(parents);
        }
    }
}
