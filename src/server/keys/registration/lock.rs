//! A lock that keeps two writers of one file apart, in one process or in several. What is written is in `journal.rs`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for whoever holds it: a change takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock; dropping it lets the next one in, as does the end of the process.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the file `path` for changes. The lock is on a file of its own beside it, which stays: `path` itself may be
    /// replaced while others wait for it.
    ///
    /// # Errors
    /// If the lock file cannot be opened or locked, or another process holds the lock for longer than 10 s.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let lock = beside(path, ".lock");
        let began = Instant::now();
        loop {
            match attempt(&lock) {
                Ok(Some(file)) => return Ok(Self { _file: file }),
                Ok(None) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    let what = format!("another process has held {} for {PATIENCE:?}", lock.display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Err(error) => {
                    let what = format!("{} could not be locked: {error}", lock.display());
                    return Err(io::Error::new(error.kind(), what));
                }
            }
        }
    }
}

/// The name of a file beside `path`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Returns `None` if somebody else holds it.
#[cfg(unix)]
fn attempt(path: &Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Nobody else can open it while this one is open.
#[cfg(windows)]
fn attempt(path: &Path) -> io::Result<Option<File>> {
    use std::os::windows::fs::OpenOptionsExt;

    const SHARING_VIOLATION: i32 = 32;
    match OpenOptions::new().write(true).create(true).truncate(false).share_mode(0).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(SHARING_VIOLATION) => Ok(None),
        Err(error) => Err(error),
    }
}
