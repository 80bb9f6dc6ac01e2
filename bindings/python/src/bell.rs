//! How a running asyncio loop learns that something it waits for has come, without a thread of Python's: by a byte in a
//! socket that the loop watches as it does any other.

use std::sync::Arc;

use pyo3::prelude::*;

/// One for each loop in which something waits.
#[pyclass(frozen, module = "evertoken._native")]
pub struct Bell(Arc<Ringer>);

impl Bell {
    pub fn ringer(&self) -> Arc<Ringer> {
        self.0.clone()
    }
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Arc::new(Ringer::new()?)))
    }

    /// What the loop is to watch.
    fn fileno(&self) -> PyResult<i32> {
        self.0.fileno()
    }

    /// The numbers of those whose wait is over.
    fn heard(&self) -> Vec<u64> {
        self.0.heard()
    }
}

#[cfg(unix)]
pub use unix::Ringer;

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::{Mutex, PoisonError};

    use pyo3::prelude::*;

    pub struct Ringer {
        reader: UnixStream,
        writer: UnixStream,
        over: Mutex<Vec<u64>>,
    }

    impl Ringer {
        pub fn new() -> PyResult<Self> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            Ok(Self { reader, writer, over: Mutex::default() })
        }

        #[allow(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
        pub fn fileno(&self) -> PyResult<i32> {
            Ok(self.reader.as_raw_fd())
        }

        pub fn heard(&self) -> Vec<u64> {
            let mut drained = [0; 64];
            while matches!((&self.reader).read(&mut drained), Ok(n) if n > 0) {}
            std::mem::take(&mut *self.over.lock().unwrap_or_else(PoisonError::into_inner))
        }

        /// Says that the wait with this number is over.
        pub fn ring(&self, number: u64) {
            let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            over.push(number);
            // A full socket has been heard of already.
            let _ = (&self.writer).write(&[0]);
        }
    }
}

#[cfg(not(unix))]
pub struct Ringer;

/// Here the loop's own threads wait (`evertoken._loop`).
#[cfg(not(unix))]
impl Ringer {
    pub fn new() -> PyResult<Self> {
        Err(pyo3::exceptions::PyNotImplementedError::new_err("no bell on this system"))
    }

    pub fn fileno(&self) -> PyResult<i32> {
        Ok(-1)
    }

    pub fn heard(&self) -> Vec<u64> {
        Vec::new()
    }

    pub fn ring(&self, _: u64) {}
}
