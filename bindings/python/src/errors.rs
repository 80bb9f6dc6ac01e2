//! The crate's one error as the exceptions of `evertoken._errors`.

use std::error::Error as _;

use evertoken::{Error, ErrorKind};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

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
        error.to_string(),
        error.oauth_error(),
        error.description(),
        error.retry_after().map(|after| after.as_secs_f64()),
        error.server(),
        error.status(),
        error.is_retryable(),
    ))?;
    if let Some(cause) = error.source() {
        let (mut text, mut cause) = (cause.to_string(), cause);
        while let Some(deeper) = cause.source() {
            text.push_str(&format!(": {deeper}"));
            cause = deeper;
        }
        let cause = PyType::new::<PyException>(py).call1((text,))?;
        exception.setattr("__cause__", cause)?;
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
