//! How an event loop or a hub of green threads learns that a wait is over, without a thread of Python's: by a byte in a
//! socket that it watches as it does any other. If it cannot watch sockets, one thread of Python's waits for the bell instead
//! (`evertoken._waiting`).

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pyo3::prelude::*;

/// One for each loop or hub in which something waits.
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

    /// Returns the descriptor to watch; `None` on systems without one.
    fn fileno(&self) -> Option<i32> {
        self.0.signal.fileno()
    }

    /// Takes the numbers of the waits that are over.
    fn heard(&self) -> Vec<u64> {
        self.0.signal.drain();
        std::mem::take(&mut *self.0.over.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the same, and blocks the thread until there are some, without the GIL.
    fn wait(&self, py: Python<'_>) -> Vec<u64> {
        py.detach(|| {
            let over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
            let mut over =
                self.0.rung.wait_while(over, |over| over.is_empty()).unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *over)
        })
    }

    /// Reports the wait with this number as over.
    fn ring(&self, number: u64) {
        self.0.ring(number);
    }
}

pub struct Ringer {
    over: Mutex<Vec<u64>>,
    rung: Condvar,
    signal: signal::Signal,
}

impl Ringer {
    fn new() -> PyResult<Self> {
        Ok(Self { over: Mutex::default(), rung: Condvar::new(), signal: signal::Signal::new()? })
    }

    /// Reports the wait with this number as over.
    pub fn ring(&self, number: u64) {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        self.rung.notify_all();
        self.signal.send();
    }
}

#[cfg(unix)]
mod signal {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use pyo3::prelude::*;

    pub struct Signal {
        reader: UnixStream,
        writer: UnixStream,
    }

    impl Signal {
        pub fn new() -> PyResult<Self> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            Ok(Self { reader, writer })
        }

        pub fn fileno(&self) -> Option<i32> {
            Some(self.reader.as_raw_fd())
        }

        pub fn send(&self) {
            // A full socket has been noticed already.
            let _ = (&self.writer).write(&[0]);
        }

        pub fn drain(&self) {
            let mut drained = [0; 64];
            while matches!((&self.reader).read(&mut drained), Ok(n) if n > 0) {}
        }
    }
}

#[cfg(not(unix))]
mod signal {
    pub struct Signal;

    impl Signal {
        #[allow(clippy::unnecessary_wraps, reason = "on other systems it can fail")]
        pub fn new() -> pyo3::PyResult<Self> {
            Ok(Self)
        }

        pub fn fileno(&self) -> Option<i32> {
            None
        }

        pub fn send(&self) {}

        pub fn drain(&self) {}
    }
}
