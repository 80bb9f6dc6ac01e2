//! One call's way through an HTTP library: what authorizes it, and whether an answer is worth another sending.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evertoken::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use evertoken::reqwest::Url;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bell::Bell;
use crate::errors::{OrRaise, configuration};
use crate::live::header;
use crate::wait::{Wait, at_once, block_on};
use crate::worker;

/// Away while something waits with it.
type Inner = Arc<Mutex<Option<evertoken::Pass>>>;

#[pyclass(frozen, module = "evertoken._native")]
pub struct Pass(Inner);

fn locked(inner: &Inner) -> MutexGuard<'_, Option<evertoken::Pass>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away() -> PyErr {
    PyTypeError::new_err("a pass is for one call")
}

struct Answer {
    url: Url,
    status: StatusCode,
    headers: HeaderMap,
    repeatable: bool,
}

impl Answer {
    fn new(
        py: Python<'_>,
        url: &str,
        status: u16,
        fields: Vec<(String, String)>,
        repeatable: bool,
    ) -> PyResult<Self> {
        let status =
            StatusCode::from_u16(status).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            // What is no header says nothing about the token either.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                headers.append(name, value);
            }
        }
        Ok(Self { url: parsed_url(py, url)?, status, headers, repeatable })
    }

    async fn shown_to(&self, pass: &mut evertoken::Pass) -> bool {
        pass.repeats(&self.url, self.status, &self.headers, self.repeatable).await
    }
}

impl Pass {
    pub fn new(pass: evertoken::Pass) -> Self {
        Self(Arc::new(Mutex::new(Some(pass))))
    }
}

#[pymethods]
impl Pass {
    /// Of a Bearer token, for the next sending.
    #[getter]
    fn header(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        header(py, locked(&self.0).as_ref().ok_or_else(away)?.token())
    }

    fn headers<'py>(&self, py: Python<'py>, method: &str, url: &str) -> PyResult<Bound<'py, PyDict>> {
        let (method, url) = (parsed_method(py, method)?, parsed_url(py, url)?);
        let headers = locked(&self.0).as_ref().ok_or_else(away)?.headers(&method, &url);
        dict(py, &headers.or_raise(py)?)
    }

    /// Whether the call is to be sent again, with new headers, having been answered like this.
    fn repeats(
        &self,
        py: Python<'_>,
        url: &str,
        status: u16,
        headers: Vec<(String, String)>,
        repeatable: bool,
    ) -> PyResult<bool> {
        let answer = Answer::new(py, url, status, headers, repeatable)?;
        let mut pass = locked(&self.0).take().ok_or_else(away)?;
        worker::ensure(py)?;
        let (pass, repeats) = block_on(py, async move {
            let repeats = answer.shown_to(&mut pass).await;
            (pass, repeats)
        })?;
        *locked(&self.0) = Some(pass);
        Ok(repeats)
    }

    /// The same for a loop.
    #[pyo3(signature = (bell, number, url, status, headers, repeatable))]
    #[allow(clippy::too_many_arguments)]
    fn wait_repeats(
        &self,
        py: Python<'_>,
        bell: Option<&Bound<'_, Bell>>,
        number: u64,
        url: &str,
        status: u16,
        headers: Vec<(String, String)>,
        repeatable: bool,
    ) -> PyResult<Wait> {
        let answer = Answer::new(py, url, status, headers, repeatable)?;
        let mut pass = locked(&self.0).take().ok_or_else(away)?;
        worker::ensure(py)?;
        let inner = self.0.clone();
        let shown = async move {
            let repeats = answer.shown_to(&mut pass).await;
            *locked(&inner) = Some(pass);
            repeats
        };
        Wait::start(py, bell, number, shown, |py, repeats| {
            Ok(repeats.into_pyobject(py)?.to_owned().into_any().unbind())
        })
    }

    /// Keeps the nonce of an answer that is no refusal (RFC 9449 8.2), without waiting.
    fn note(&self, py: Python<'_>, url: &str, status: u16, headers: Vec<(String, String)>) -> PyResult<()> {
        let answer = Answer::new(py, url, status, headers, false)?;
        if let Some(pass) = &mut *locked(&self.0) {
            at_once(answer.shown_to(pass));
        }
        Ok(())
    }
}

pub fn parsed_url(py: Python<'_>, url: &str) -> PyResult<Url> {
    // The URL may hold what is secret; the error does not quote it.
    Url::parse(url).map_err(|error| configuration(py, &format!("url is not a URL: {error}")))
}

pub fn parsed_method(py: Python<'_>, method: &str) -> PyResult<Method> {
    method.parse().map_err(|_| configuration(py, "method is not an HTTP method"))
}

pub fn dict<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, value) in headers {
        let value = value.to_str().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let name = match name.as_str() {
            "authorization" => "Authorization",
            "dpop" => "DPoP",
            other => other,
        };
        fields.set_item(name, value)?;
    }
    Ok(fields)
}
