//! The authorization server in a box, for Python's tests.

use std::sync::Mutex;

use evertoken::testing::Fault;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use crate::seconds;
use crate::wait::block_on;

/// It lives on the runtime of the renewals.
#[pyclass(frozen, subclass, module = "evertoken._native")]
pub struct AuthServer(Mutex<Option<std::sync::Arc<evertoken::testing::AuthServer>>>);

impl AuthServer {
    fn server(&self) -> PyResult<std::sync::Arc<evertoken::testing::AuthServer>> {
        let server = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        server.clone().ok_or_else(|| PyRuntimeError::new_err("the server was stopped"))
    }
}

/// A fault by its name, with what belongs to it.
fn fault(
    name: &str,
    status: u16,
    error: Option<String>,
    description: Option<String>,
    after: Option<f64>,
    body: Option<String>,
) -> PyResult<Fault> {
    let after = after.map(|value| seconds("after", value)).transpose()?;
    Ok(match name {
        "status" => Fault::Status { status, headers: Vec::new(), body: body.unwrap_or_default() },
        "retry_after" => Fault::RetryAfterSeconds(status, after.unwrap_or_default().as_secs()),
        "retry_after_date" => Fault::RetryAfterDate(status, after.unwrap_or_default()),
        "hang" => Fault::Hang,
        "reset" => Fault::Reset,
        "close" => Fault::Close,
        "torn_body" => Fault::TornBody,
        "endless_body" => Fault::EndlessBody,
        "garbage" => Fault::Garbage,
        "latency" => Fault::Latency(after.unwrap_or_default()),
        "oauth" => Fault::Oauth {
            status,
            error: error.ok_or_else(|| PyTypeError::new_err("an oauth fault needs its error"))?,
            description: description.unwrap_or_default(),
        },
        other => return Err(PyTypeError::new_err(format!("the fault {other:?} is not known"))),
    })
}

#[pymethods]
impl AuthServer {
    #[new]
    #[pyo3(signature = (*, lifetime=None))]
    fn new(py: Python<'_>, lifetime: Option<f64>) -> PyResult<Self> {
        let mut builder = evertoken::testing::AuthServer::builder();
        if let Some(lifetime) = lifetime {
            builder = builder.lifetime(seconds("lifetime", lifetime)?);
        }
        let server = block_on(py, builder.start())?.map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self(Mutex::new(Some(server.into()))))
    }

    #[getter]
    fn issuer(&self) -> PyResult<String> {
        Ok(self.server()?.issuer())
    }

    #[getter]
    fn token_url(&self) -> PyResult<String> {
        Ok(self.server()?.token_url())
    }

    #[getter]
    fn api_url(&self) -> PyResult<String> {
        Ok(self.server()?.api_url())
    }

    #[getter]
    fn token_requests(&self) -> PyResult<u64> {
        Ok(self.server()?.token_requests())
    }

    #[getter]
    fn max_in_flight(&self) -> PyResult<u64> {
        Ok(self.server()?.max_in_flight())
    }

    #[getter]
    fn api_calls(&self) -> PyResult<u64> {
        Ok(self.server()?.api_calls())
    }

    #[getter]
    fn issued_tokens(&self) -> PyResult<Vec<String>> {
        Ok(self.server()?.issued_tokens())
    }

    fn accepts(&self, token: &str) -> PyResult<bool> {
        Ok(self.server()?.accepts(token))
    }

    fn revoke(&self, token: &str) -> PyResult<()> {
        self.server()?.revoke(token);
        Ok(())
    }

    fn rotate(&self, app_id: &str, new_secret: &str) -> PyResult<()> {
        self.server()?.rotate(app_id, new_secret);
        Ok(())
    }

    fn set_lifetime(&self, lifetime: f64) -> PyResult<()> {
        self.server()?.set_lifetime(seconds("lifetime", lifetime)?);
        Ok(())
    }

    fn set_latency(&self, latency: f64) -> PyResult<()> {
        self.server()?.set_latency(seconds("latency", latency)?);
        Ok(())
    }

    #[pyo3(signature = (nonce))]
    fn set_api_nonce(&self, nonce: Option<&str>) -> PyResult<()> {
        self.server()?.set_api_nonce(nonce);
        Ok(())
    }

    #[pyo3(signature = (name, *, at="token", always=false, status=503, error=None, description=None, after=None, body=None))]
    #[allow(clippy::too_many_arguments)]
    fn fail(
        &self,
        name: &str,
        at: &str,
        always: bool,
        status: u16,
        error: Option<String>,
        description: Option<String>,
        after: Option<f64>,
        body: Option<String>,
    ) -> PyResult<()> {
        let fault = fault(name, status, error, description, after, body)?;
        let server = self.server()?;
        match (at, always) {
            ("token", false) => server.fail_next(fault),
            ("token", true) => server.fail_always(fault),
            ("api", false) => server.fail_next_api(fault),
            ("revocation", false) => server.fail_next_revocation(fault),
            _ => {
                return Err(PyTypeError::new_err(
                    "at is 'token', 'api' or 'revocation'; always is for 'token'",
                ));
            }
        }
        Ok(())
    }

    fn heal(&self) -> PyResult<()> {
        self.server()?.heal();
        Ok(())
    }

    fn outage(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server()?;
        block_on(py, async move { server.outage() })
    }

    fn recover(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server()?;
        block_on(py, async move { server.recover().await })?
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        block_on(py, async move { drop(server) })
    }
}
