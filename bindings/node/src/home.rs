//! Where the renewals run: one runtime for the process and all its worker threads, with one thread, started with the first
//! client.

use std::sync::OnceLock;

use napi::{Error, Result};
use tokio::runtime::{Builder, Runtime};

static HOME: OnceLock<Runtime> = OnceLock::new();

pub fn runtime() -> Result<&'static Runtime> {
    if let Some(runtime) = HOME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_name("evertoken")
        .enable_all()
        .build()
        .map_err(|error| Error::from_reason(format!("no thread for the renewals: {error}")))?;
    Ok(HOME.get_or_init(|| runtime))
}
