//! The native half of the Python package `evertoken`. What people see is in `python/evertoken`.
//!
//! No thread of ours but the interpreter's own ever touches Python: one that took the GIL while the interpreter ends would
//! take the process down with it. Who waits, waits on a thread of Python's with the GIL released, or in its asyncio loop.

// Nobody sees these types from Rust.
#![allow(missing_debug_implementations)]

mod bell;
mod client;
mod credentials;
mod errors;
mod events;
mod home;
mod live;
mod pass;
mod settings;
mod status;
mod testing;
mod wait;
mod worker;

use pyo3::prelude::*;

/// Everything here is for `python/evertoken` alone.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::bell::Bell;
    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::credentials::{Dpop, PrivateKeyJwt, SecretJwt};
    #[pymodule_export]
    use crate::events::Events;
    #[pymodule_export]
    use crate::pass::Pass;
    #[pymodule_export]
    use crate::settings::Settings;
    #[pymodule_export]
    use crate::testing::AuthServer;
    #[pymodule_export]
    use crate::wait::Wait;
    #[pymodule_export]
    use crate::worker::{Job, claim_jobs, next_job, poll_job, release_jobs, ring_for_jobs, stop_jobs};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        if !crate::is_main_interpreter() {
            // Before 3.12 CPython leaves it to the module; `evertoken/__init__.py` says what to do.
            return Err(pyo3::exceptions::PyImportError::new_err("in a subinterpreter"));
        }
        crate::home::watch_forks();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

#[allow(unsafe_code)]
fn is_main_interpreter() -> bool {
    // SAFETY: both may be called by whoever holds the GIL, as who imports a module does.
    unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) == 0 }
}

/// Seconds, as Python gives them.
fn seconds(name: &str, seconds: f64) -> PyResult<std::time::Duration> {
    std::time::Duration::try_from_secs_f64(seconds)
        .map_err(|_| errors::wrong_value(format!("{name} must be a number of seconds, 0 or more")))
}
