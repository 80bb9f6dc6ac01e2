//! The crate's one error as the exceptions of `evertoken._errors`.

use std::error::Error as StdError;
use std::io;

use evertoken::{Error, ErrorKind};
use evertoken_bindings::Language;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::CredentialsRejected => "CredentialsRejectedError",
        ErrorKind::CredentialsUnavailable => "CredentialsUnavailableError",
        ErrorKind::AuthServerUnavailable => "AuthServerUnavailableError",
        ErrorKind::Throttled => "ThrottledError",
        ErrorKind::RequestRefused => "RequestRefusedError",
        ErrorKind::InvalidResponse => "InvalidResponseError",
        ErrorKind::Timeout => "TokenTimeoutError",
        ErrorKind::UntrustedOrigin => "UntrustedOriginError",
        ErrorKind::Configuration => "ConfigurationError",
        ErrorKind::Closed => "ClosedError",
        _ => "EvertokenError",
    }
}

pub fn object<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make =
        MAKE.get_or_try_init(py, || py.import("evertoken._errors")?.getattr("_make").map(Bound::unbind))?;
    let exception = make.bind(py).call1((
        name(error.kind()),
        Language::Python.message(error),
        error.oauth_error(),
        error.description(),
        error.retry_after().map(|after| after.as_secs_f64()),
        error.server(),
        error.status(),
        error.is_retryable(),
    ))?;
    if let Some(source) = error.source() {
        exception.setattr("__cause__", cause(py, source)?)?;
    }
    Ok(exception)
}

/// The causes one below the other; one of the operating system is Python's own exception for it, such as
/// `ConnectionRefusedError`.
fn cause<'py>(py: Python<'py>, error: &(dyn StdError + 'static)) -> PyResult<Bound<'py, PyAny>> {
    let system = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    let exception = match system {
        Some(code) => {
            let text = io::Error::from_raw_os_error(code).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            py.import("builtins")?.getattr("OSError")?.call1((code, text))?
        }
        None => py.get_type::<PyException>().call1((Language::Python.spell(&error.to_string()),))?,
    };
    if let Some(source) = error.source() {
        exception.setattr("__cause__", cause(py, source)?)?;
    }
    Ok(exception)
}

pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    object(py, error).map_or_else(|failed| failed, PyErr::from_value)
}

/// What the crate gives, or the exception for it.
pub trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for evertoken::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}
