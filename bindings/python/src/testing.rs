//! The authorization server in a box, for Python's tests.

use std::sync::{Arc, Mutex, PoisonError};

use evertoken::testing::Fault;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;

use crate::wait::block_on;
use crate::{home, seconds};

/// It lives on the runtime of the renewals, in the process that started it.
#[pyclass(frozen, subclass, module = "evertoken._native")]
pub struct AuthServer {
    forks: u64,
    server: Mutex<Option<Arc<evertoken::testing::AuthServer>>>,
}

impl AuthServer {
    fn server(&self) -> PyResult<Arc<evertoken::testing::AuthServer>> {
        if self.forks != home::forks() {
            return Err(PyRuntimeError::new_err("the server lives in the process that started it"));
        }
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.clone().ok_or_else(|| PyRuntimeError::new_err("the server was stopped"))
    }
}

impl Drop for AuthServer {
    fn drop(&mut self) {
        if self.forks != home::forks()
            && let Ok(server) = self.server.get_mut()
        {
            std::mem::forget(server.take());
        }
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
    headers: Option<Vec<(String, String)>>,
) -> PyResult<Fault> {
    let after = after.map(|value| seconds("after", value)).transpose()?;
    Ok(match name {
        "status" => {
            Fault::Status { status, headers: headers.unwrap_or_default(), body: body.unwrap_or_default() }
        }
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
    #[pyo3(signature = (*, lifetime=None, audience=None))]
    fn new(py: Python<'_>, lifetime: Option<f64>, audience: Option<&str>) -> PyResult<Self> {
        let mut builder = evertoken::testing::AuthServer::builder();
        if let Some(lifetime) = lifetime {
            builder = builder.lifetime(seconds("lifetime", lifetime)?);
        }
        if let Some(audience) = audience {
            builder = builder.audience(audience);
        }
        let server = block_on(py, builder.start())?.map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self { forks: home::forks(), server: Mutex::new(Some(server.into())) })
    }

    /// The issuer identifier, to be given as `issuer`.
    #[getter]
    fn issuer(&self) -> PyResult<String> {
        Ok(self.server()?.issuer())
    }

    /// The token endpoint.
    #[getter]
    fn token_url(&self) -> PyResult<String> {
        Ok(self.server()?.token_url())
    }

    /// The API, to be given as `base_url`. It answers 200 to calls with a valid token and 401 to others.
    #[getter]
    fn api_url(&self) -> PyResult<String> {
        Ok(self.server()?.api_url())
    }

    /// The audience that the API asks of a token, `https://api.example` by default.
    #[getter]
    fn audience(&self) -> PyResult<String> {
        Ok(self.server()?.audience())
    }

    /// How many token requests came.
    #[getter]
    fn token_requests(&self) -> PyResult<u64> {
        Ok(self.server()?.token_requests())
    }

    /// How many of them were under way at once at most.
    #[getter]
    fn max_in_flight(&self) -> PyResult<u64> {
        Ok(self.server()?.max_in_flight())
    }

    /// How many calls of the API came.
    #[getter]
    fn api_calls(&self) -> PyResult<u64> {
        Ok(self.server()?.api_calls())
    }

    /// How many of them had no valid token.
    #[getter]
    fn api_refused(&self) -> PyResult<u64> {
        Ok(self.server()?.api_refused())
    }

    /// How many requests for revocation came (RFC 7009).
    #[getter]
    fn revocations(&self) -> PyResult<u64> {
        Ok(self.server()?.revocations())
    }

    /// The tokens that were given.
    #[getter]
    fn issued_tokens(&self) -> PyResult<Vec<String>> {
        Ok(self.server()?.issued_tokens())
    }

    /// Whether the API takes this token now.
    fn accepts(&self, token: &str) -> PyResult<bool> {
        Ok(self.server()?.accepts(token))
    }

    /// Has the API refuse this token from now on.
    fn revoke(&self, token: &str) -> PyResult<()> {
        self.server()?.revoke(token);
        Ok(())
    }

    /// Has the API refuse all tokens that were given so far.
    fn revoke_all(&self) -> PyResult<()> {
        self.server()?.revoke_all();
        Ok(())
    }

    /// One more client, or one more secret for a known one.
    fn register(&self, app_id: &str, app_secret: &str) -> PyResult<()> {
        self.server()?.register(app_id, app_secret);
        Ok(())
    }

    /// Gives a client another secret; the old one is void.
    fn rotate(&self, app_id: &str, new_secret: &str) -> PyResult<()> {
        self.server()?.rotate(app_id, new_secret);
        Ok(())
    }

    /// How long tokens live, in seconds, from now on.
    fn set_lifetime(&self, lifetime: f64) -> PyResult<()> {
        self.server()?.set_lifetime(seconds("lifetime", lifetime)?);
        Ok(())
    }

    /// How long the token endpoint takes, in seconds.
    fn set_latency(&self, latency: f64) -> PyResult<()> {
        self.server()?.set_latency(seconds("latency", latency)?);
        Ok(())
    }

    /// Has the token endpoint tell of a quota (`Auth0-Client-Quota-Limit`): so many tokens in so many seconds.
    fn set_quota(&self, limit: u64, period: f64) -> PyResult<()> {
        self.server()?.set_quota(limit, seconds("period", period)?);
        Ok(())
    }

    /// Has the API ask for this nonce in DPoP proofs (RFC 9449 9), or for none.
    #[pyo3(signature = (nonce))]
    fn set_api_nonce(&self, nonce: Option<&str>) -> PyResult<()> {
        self.server()?.set_api_nonce(nonce);
        Ok(())
    }

    /// Something goes wrong: with the next request to the token endpoint, the API (`at="api"`) or the revocation endpoint
    /// (`at="revocation"`), or with `always` at every token request until `heal()`.
    ///
    /// `name` is `status` (with `status`, `body`, `headers`), `oauth` (`status`, `error`, `description`), `retry_after` and
    /// `retry_after_date` (`status`, `after`), `latency` (`after`), `hang`, `reset`, `close`, `torn_body`, `endless_body` or
    /// `garbage`.
    #[pyo3(signature = (
        name, *, at="token", always=false, status=503, error=None, description=None, after=None, body=None, headers=None,
    ))]
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
        headers: Option<Vec<(String, String)>>,
    ) -> PyResult<()> {
        let fault = fault(name, status, error, description, after, body, headers)?;
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

    /// Ends what goes wrong.
    fn heal(&self) -> PyResult<()> {
        self.server()?.heal();
        Ok(())
    }

    /// The authorization server refuses connections until `recover()`.
    fn outage(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server()?;
        block_on(py, async move { server.outage() })
    }

    /// Ends an outage.
    fn recover(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server()?;
        block_on(py, async move { server.recover().await })?
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// Ends the server.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if self.forks != home::forks() {
            return Ok(());
        }
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        block_on(py, async move { drop(server) })
    }
}
