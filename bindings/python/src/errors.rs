//! The crate's one error as the exceptions of `evertoken._errors`.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use evertoken::{Error, ErrorKind};
use evertoken_bindings::Language;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

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
        exception.setattr("__cause__", cause(py, error.kind(), source)?)?;
    }
    Ok(exception)
}

/// The innermost cause as one exception: what wraps it says nothing that the error's own text does not. One of the operating
/// system is Python's own exception for it, such as `ConnectionRefusedError`.
fn cause<'py>(
    py: Python<'py>,
    of: ErrorKind,
    error: &(dyn StdError + 'static),
) -> PyResult<Bound<'py, PyAny>> {
    let chain: Vec<&(dyn StdError + 'static)> =
        successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source()).collect();
    let systems = chain.iter().filter_map(|error| error.downcast_ref::<io::Error>());
    let (mut code, mut kind) = (None, None);
    for system in systems {
        code = system.raw_os_error().or(code);
        kind = Some(system.kind());
    }
    let builtin = |name: &str| py.import("builtins")?.getattr(name);
    if let Some(code) = code {
        let text = io::Error::from_raw_os_error(code).to_string();
        let text = text.split(" (os error").next().unwrap_or_default().to_owned();
        return builtin("OSError")?.call1((code, text));
    }
    let says = |part: &str| chain.iter().any(|error| error.to_string().contains(part));
    let text =
        chain.last().map(|cause| Language::Python.spell(&cause.to_string()).into_owned()).unwrap_or_default();
    let class = if says("dns error") {
        py.import("socket")?.getattr("gaierror")?
    } else if says("certificate") {
        py.import("ssl")?.getattr("SSLCertVerificationError")?
    } else if says("timed out") || kind == Some(io::ErrorKind::TimedOut) {
        builtin("TimeoutError")?
    } else if of == ErrorKind::AuthServerUnavailable {
        builtin("ConnectionError")?
    } else if kind.is_some() {
        builtin("OSError")?
    } else {
        builtin("ValueError")?
    };
    class.call1((text,))
}

/// The exception to be raised now. What the program is handling stays its context, as with one that Python raises; and its
/// cause's, since a traceback shows only a cause where there is one.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    object(py, error)
        .and_then(|exception| in_context(py, exception))
        .map_or_else(|failed| failed, PyErr::from_value)
}

fn in_context<'py>(py: Python<'py>, exception: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let handled = py.import("sys")?.call_method0("exc_info")?.get_item(1)?;
    if !handled.is_none() {
        exception.setattr("__context__", &handled)?;
        let cause = exception.getattr("__cause__")?;
        if !cause.is_none() {
            cause.setattr("__context__", handled)?;
        }
    }
    Ok(exception)
}

/// A `ConfigurationError` of the binding's own.
pub fn configuration(py: Python<'_>, text: &str) -> PyErr {
    let made = py
        .import("evertoken._errors")
        .and_then(|errors| in_context(py, errors.getattr("ConfigurationError")?.call1((text,))?));
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// The same, for a caller that holds the GIL without showing it.
pub fn wrong_value(text: String) -> PyErr {
    Python::attach(|py| configuration(py, &text))
}

/// The text in an argument; an error that names the argument if it is of another type.
pub fn text<'a>(name: &str, given: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let py = given.py();
    match given.cast::<PyString>() {
        // Without a cause, which would quote what may be a secret.
        Ok(text) => text.to_str().map_err(|_| {
            configuration(py, &format!("{name} holds half of a surrogate pair, which is not a character"))
        }),
        Err(_) => {
            let made = py.import("evertoken._errors").and_then(|errors| {
                in_context(py, errors.call_method1("wrong_type", (name, "a str", given))?)
            });
            Err(made.map_or_else(|failed| failed, PyErr::from_value))
        }
    }
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
