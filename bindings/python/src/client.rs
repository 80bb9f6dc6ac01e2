//! The client: a token source, and what Python was last given of it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use evertoken::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use evertoken::reqwest::Url;
use evertoken::{AccessToken, SecretString, State, TokenSource};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::credentials::{Dpop, Method as AuthMethod};
use crate::errors::{OrRaise, object, raised};
use crate::events::Events;
use crate::home;
use crate::settings::{Credentials, Settings};
use crate::wait::{at_once, block_on};
use crate::{seconds, worker};

#[pyclass(frozen, subclass, module = "evertoken._native")]
pub struct Client {
    settings: Settings,
    credentials: ArcSwap<Credentials>,
    live: ArcSwap<Live>,
    /// The token's texts as Python's strings, made once per token.
    texts: ArcSwapOption<Texts>,
}

/// A source, and the process it belongs to.
struct Live {
    forks: u64,
    source: Option<TokenSource>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // What a fork left behind may be locked by a thread that does not exist any more.
        if self.forks != home::forks() {
            std::mem::forget(self.source.take());
        }
    }
}

struct Texts {
    token: AccessToken,
    text: Py<PyString>,
    header: Py<PyString>,
}

/// Another one in each process.
fn seed() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (std::process::id(), std::time::SystemTime::now()).hash(&mut hasher);
    hasher.finish()
}

impl Client {
    fn make(py: Python<'_>, settings: Settings, credentials: Credentials) -> PyResult<Self> {
        let source = settings.builder(&credentials).build().or_raise(py)?;
        Ok(Self {
            settings,
            credentials: ArcSwap::from_pointee(credentials),
            live: ArcSwap::from_pointee(Live { forks: home::forks(), source: Some(source) }),
            texts: ArcSwapOption::empty(),
        })
    }

    /// This process's source.
    fn source(&self, py: Python<'_>) -> PyResult<TokenSource> {
        loop {
            let live = self.live.load();
            let source = live.source.as_ref();
            if live.forks == home::forks() {
                return source.cloned().ok_or_else(|| PyTypeError::new_err("a client without a source"));
            }
            let mut builder = self.settings.builder(&self.credentials.load());
            if let Some(parent) = source {
                builder = builder.forked_from(parent, seed());
            }
            let source = builder.build().or_raise(py)?;
            if source.current_token().is_some() {
                // What was inherited is renewed from here on.
                let runtime = py.detach(home::runtime)?;
                let _inside = runtime.enter();
                drop(source.prefetch());
            }
            let new = Arc::new(Live { forks: home::forks(), source: Some(source) });
            let _ = self.live.compare_and_swap(&*live, new);
        }
    }

    /// The token that can be had without waiting, by nothing but loads.
    #[inline]
    fn held(&self) -> Option<AccessToken> {
        let live = self.live.load();
        if live.forks != home::forks() {
            return None;
        }
        live.source.as_ref()?.current_token()
    }

    #[inline]
    fn texts(&self, py: Python<'_>, token: &AccessToken) -> PyResult<Arc<Texts>> {
        if let Some(texts) = &*self.texts.load()
            && texts.token == *token
        {
            return Ok(texts.clone());
        }
        let header =
            token.authorization().to_str().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let texts = Arc::new(Texts {
            token: token.clone(),
            text: PyString::new(py, token.as_str()).unbind(),
            header: PyString::new(py, header).unbind(),
        });
        self.texts.store(Some(texts.clone()));
        Ok(texts)
    }

    /// The token, for which this thread waits where it must.
    #[inline]
    fn awaited(&self, py: Python<'_>) -> PyResult<AccessToken> {
        match self.held() {
            Some(token) => Ok(token),
            None => self.wait(py),
        }
    }

    #[cold]
    fn wait(&self, py: Python<'_>) -> PyResult<AccessToken> {
        let source = self.source(py)?;
        // Inherited across a fork.
        if let Some(token) = source.current_token() {
            return Ok(token);
        }
        worker::ensure(py)?;
        py.import("evertoken._client")?.call_method0("_warn_of_loop")?;
        block_on(py, async move { source.token().await })?.or_raise(py)
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        app_id=None, app_secret=None, *, next_app_secret=None, api_key=None, credentials_env=None,
        credentials_file=None, file_readable_by_others=false, credentials=None, issuer=None, token_url=None, audience=None, resource=None, scope=None,
        token_params=None, client_auth=None, dpop=None, base_url=None, trusted_origins=None,
        allow_insecure_http=false, renew_at=None, jitter=None, leeway=None, backoff_base=None, backoff_cap=None,
        request_timeout=None, stop_after_unused=None, token_timeout=None, connect_timeout=None, user_agent=None,
        proxy=None, ca=None, cert=None, revoke_on_shutdown=false, revocation_url=None, _like=None, _fixed=None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        app_id: Option<String>,
        app_secret: Option<String>,
        next_app_secret: Option<String>,
        api_key: Option<String>,
        credentials_env: Option<String>,
        credentials_file: Option<std::path::PathBuf>,
        file_readable_by_others: bool,
        credentials: Option<Py<PyAny>>,
        issuer: Option<String>,
        token_url: Option<String>,
        audience: Option<String>,
        resource: Option<Vec<String>>,
        scope: Option<Vec<String>>,
        token_params: Option<Vec<(String, String)>>,
        client_auth: Option<AuthMethod<'_>>,
        dpop: Option<Bound<'_, Dpop>>,
        base_url: Option<String>,
        trusted_origins: Option<Vec<String>>,
        allow_insecure_http: bool,
        renew_at: Option<f64>,
        jitter: Option<f64>,
        leeway: Option<f64>,
        backoff_base: Option<f64>,
        backoff_cap: Option<f64>,
        request_timeout: Option<f64>,
        stop_after_unused: Option<u32>,
        token_timeout: Option<f64>,
        connect_timeout: Option<f64>,
        user_agent: Option<String>,
        proxy: Option<String>,
        ca: Option<Vec<Vec<u8>>>,
        cert: Option<Vec<u8>>,
        revoke_on_shutdown: bool,
        revocation_url: Option<String>,
        _like: Option<Bound<'_, Client>>,
        _fixed: Option<(String, String)>,
    ) -> PyResult<Self> {
        if let Some((token, base_url)) = _fixed {
            return Self::fixed(py, &token, &base_url);
        }
        if let Some(like) = _like {
            return like.get().with_(py, audience, scope.unwrap_or_default());
        }
        let given = match (app_id, api_key, credentials_env, credentials_file, credentials) {
            (Some(app_id), None, None, None, None) => Credentials::Given {
                app_id,
                app_secret: SecretString::from(app_secret.unwrap_or_default()),
                next_app_secret: next_app_secret.map(SecretString::from),
            },
            (None, Some(key), None, None, None) => Credentials::ApiKey(key),
            (None, None, Some(prefix), None, None) => Credentials::Env(prefix),
            (None, None, None, Some(path), None) => {
                Credentials::File { path, readable_by_others: file_readable_by_others }
            }
            (None, None, None, None, Some(function)) => Credentials::Provider(Arc::new(function)),
            _ => {
                return Err(PyTypeError::new_err(
                    "give either app_id and app_secret, or one other source of credentials",
                ));
            }
        };
        let mut policy = evertoken::RenewalPolicy::default();
        if let Some(fraction) = renew_at {
            policy = policy.renew_at(fraction);
        }
        if let Some(fraction) = jitter {
            policy = policy.jitter(fraction);
        }
        if let Some(value) = leeway {
            policy = policy.leeway(seconds("leeway", value)?);
        }
        if let Some(value) = backoff_base {
            policy = policy.backoff_base(seconds("backoff_base", value)?);
        }
        if let Some(value) = backoff_cap {
            policy = policy.backoff_cap(seconds("backoff_cap", value)?);
        }
        if let Some(value) = request_timeout {
            policy = policy.request_timeout(seconds("request_timeout", value)?);
        }
        if let Some(lifetimes) = stop_after_unused {
            policy = policy.stop_after_unused(lifetimes);
        }
        let settings = Settings {
            issuer,
            token_url,
            audience,
            resource: resource.unwrap_or_default(),
            scope: scope.unwrap_or_default(),
            token_params: token_params.unwrap_or_default(),
            client_auth: client_auth.map(AuthMethod::client_auth).transpose()?,
            dpop: dpop.map(|dpop| dpop.get().0.clone()),
            base_url,
            trusted_origins: trusted_origins.unwrap_or_default(),
            allow_insecure_http,
            renewal: Some(policy),
            token_timeout: token_timeout.map(|value| seconds("token_timeout", value)).transpose()?,
            connect_timeout: connect_timeout.map(|value| seconds("connect_timeout", value)).transpose()?,
            user_agent,
            proxy,
            ca: ca.unwrap_or_default(),
            cert,
            revoke_on_shutdown,
            revocation_url,
        };
        Self::make(py, settings, given)
    }

    /// The access token: at once where a valid one is held, else as soon as there is one.
    ///
    /// Who waits, waits for at most `token_timeout` (10 s by default), with the GIL released, and can be interrupted by Ctrl-C.
    fn token(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        let token = self.awaited(py)?;
        Ok(self.texts(py, &token)?.text.clone_ref(py))
    }

    /// The held token without waiting; `None` where there is no valid one.
    fn current_token(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        let held = match self.held() {
            Some(token) => Some(token),
            None => self.source(py)?.current_token(),
        };
        held.map(|token| Ok(self.texts(py, &token)?.text.clone_ref(py))).transpose()
    }

    /// The value of the `Authorization` header, as `token()`. Under DPoP it is an error: use `headers`.
    fn authorization(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        if self.settings.dpop.is_some() {
            let source = self.source(py)?;
            block_on(py, async move { source.authorization().await })?.or_raise(py)?;
        }
        let token = self.awaited(py)?;
        Ok(self.texts(py, &token)?.header.clone_ref(py))
    }

    /// All headers that authorize one call: `Authorization`, and under DPoP a proof for this one sending.
    fn headers<'py>(&self, py: Python<'py>, method: &str, url: &str) -> PyResult<Bound<'py, PyDict>> {
        let (method, url) = (parsed_method(method)?, parsed_url(url)?);
        let pass = self.pass(py)?;
        dict(py, &pass.headers(&method, &url).or_raise(py)?)
    }

    /// One call's way, for the adapters.
    fn _pass(&self, py: Python<'_>) -> PyResult<Pass> {
        let pass = self.pass(py)?;
        let texts = self.texts(py, pass.token())?;
        Ok(Pass { header: Mutex::new(texts.header.clone_ref(py)), inner: Mutex::new(Some(pass)) })
    }

    /// Says that the API refused `token` (401). It is renewed, once in 10 s at most; one that has been replaced is no matter.
    fn invalidate(&self, py: Python<'_>, token: &str) -> PyResult<()> {
        let source = self.source(py)?;
        // Any other has been replaced, and nothing is to be done.
        if let Some(held) = source.current_token().filter(|held| held.as_str() == token) {
            worker::ensure(py)?;
            block_on(py, async move { source.invalidate(&held) })?;
        }
        Ok(())
    }

    /// Replaces the credential. A held token serves on where only the secret changes.
    fn set_credentials(&self, py: Python<'_>, app_id: String, app_secret: String) -> PyResult<()> {
        let source = self.source(py)?;
        let secret = SecretString::from(app_secret);
        source.set_credentials(app_id.clone(), secret.clone()).or_raise(py)?;
        self.credentials.store(Arc::new(Credentials::Given {
            app_id,
            app_secret: secret,
            next_app_secret: None,
        }));
        Ok(())
    }

    /// Has a token fetched ahead of the first call, and with `wait` waits for it.
    #[pyo3(signature = (*, wait=false))]
    fn prefetch(&self, py: Python<'_>, wait: bool) -> PyResult<()> {
        let source = self.source(py)?;
        worker::ensure(py)?;
        if wait {
            return block_on(py, async move { source.prefetch().await })?.or_raise(py);
        }
        block_on(py, async move { drop(source.prefetch()) })
    }

    fn _status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = self.source(py)?.status();
        let fields = PyDict::new(py);
        fields.set_item("state", state(status.state))?;
        fields.set_item("expires_in", status.expires_in.map(|time| time.as_secs_f64()))?;
        fields.set_item("age", status.age.map(|time| time.as_secs_f64()))?;
        fields.set_item("scope", status.scope)?;
        fields.set_item("last_renewal", status.last_renewal)?;
        fields.set_item("next_attempt", status.next_attempt.map(|time| time.as_secs_f64()))?;
        fields.set_item("consecutive_failures", status.consecutive_failures)?;
        let error = status.last_error.map(|error| object(py, &error)).transpose()?;
        fields.set_item("last_error", error)?;
        Ok(fields)
    }

    fn _events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.source(py)?.events()))
    }

    /// Ends the renewal and forgets the token.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let source = self.source(py)?;
        self.texts.store(None);
        block_on(py, async move { source.shutdown().await })?.or_raise(py)
    }

    /// Asks the authorization server once, by the settings of this client. Gives whether all is well, and what was found.
    fn _check(&self, py: Python<'_>) -> PyResult<(bool, String)> {
        let builder = self.settings.builder(&self.credentials.load());
        worker::ensure(py)?;
        let diagnosis = block_on(py, builder.check())?;
        Ok((diagnosis.is_ok(), diagnosis.to_string()))
    }

    fn _base_url(&self) -> Option<&str> {
        self.settings.base_url.as_deref()
    }

    fn _is_dpop(&self) -> bool {
        self.settings.dpop.is_some()
    }

    fn _has_origins(&self) -> bool {
        self.settings.base_url.is_some() || !self.settings.trusted_origins.is_empty()
    }

    /// Raises where the token may not go there.
    fn _check_origin(&self, py: Python<'_>, url: &str) -> PyResult<()> {
        self.source(py)?.check_origin(&parsed_url(url)?).or_raise(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let status = self.source(py)?.status();
        let server = self.settings.issuer.as_deref().or(self.settings.token_url.as_deref());
        let left = status.expires_in.map(|left| format!(", expires in {:.0} s", left.as_secs_f64()));
        let server = server.and_then(|server| Url::parse(server).ok());
        let server = server.map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        Ok(format!("<evertoken.Client of {server}: {}{}>", state(status.state), left.unwrap_or_default()))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Client cannot be copied or pickled: it holds a secret and a renewal that runs; make one in each process",
        ))
    }
}

impl Client {
    /// One that holds this token and asks nobody.
    fn fixed(py: Python<'_>, token: &str, base_url: &str) -> PyResult<Self> {
        let fixed = evertoken::testing::fixed_client(token, base_url).or_raise(py)?;
        Ok(Self {
            settings: Settings { base_url: Some(base_url.to_owned()), ..Settings::default() },
            credentials: ArcSwap::from_pointee(Credentials::Given {
                app_id: "fixed".to_owned(),
                app_secret: SecretString::from(""),
                next_app_secret: None,
            }),
            live: ArcSwap::from_pointee(Live {
                forks: home::forks(),
                source: Some(fixed.token_source().clone()),
            }),
            texts: ArcSwapOption::empty(),
        })
    }

    fn with_(&self, py: Python<'_>, audience: Option<String>, scope: Vec<String>) -> PyResult<Self> {
        let source = self.source(py)?.with(audience.as_deref().unwrap_or_default(), &scope).or_raise(py)?;
        Ok(Self {
            settings: Settings { audience, scope, ..self.settings.clone() },
            credentials: ArcSwap::from(self.credentials.load_full()),
            live: ArcSwap::from_pointee(Live { forks: home::forks(), source: Some(source) }),
            texts: ArcSwapOption::empty(),
        })
    }

    fn pass(&self, py: Python<'_>) -> PyResult<evertoken::Pass> {
        let source = self.source(py)?;
        if let Some(pass) = at_once(source.pass()).and_then(Result::ok) {
            return Ok(pass);
        }
        worker::ensure(py)?;
        block_on(py, async move { source.pass().await })?.or_raise(py)
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Fresh => "fresh",
        State::Renewing => "renewing",
        State::Degraded => "degraded",
        State::Rejected => "rejected",
        State::Idle => "idle",
        _ => "closed",
    }
}

fn parsed_url(url: &str) -> PyResult<Url> {
    // The URL may hold what is secret; the error does not quote it.
    Url::parse(url).map_err(|error| PyValueError::new_err(format!("the URL of the call is not one: {error}")))
}

fn parsed_method(method: &str) -> PyResult<Method> {
    method.parse().map_err(|_| PyValueError::new_err("the method of the call is not one"))
}

fn dict<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, value) in headers {
        let value = value.to_str().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let name = if name == "authorization" {
            "Authorization"
        } else if name == "dpop" {
            "DPoP"
        } else {
            name.as_str()
        };
        fields.set_item(name, value)?;
    }
    Ok(fields)
}

#[pyclass(frozen, module = "evertoken._native")]
pub struct Pass {
    /// Of a Bearer token, for the next sending.
    header: Mutex<Py<PyString>>,
    /// Away while a thread waits with it.
    inner: Mutex<Option<evertoken::Pass>>,
}

#[pymethods]
impl Pass {
    #[getter]
    fn header(&self, py: Python<'_>) -> Py<PyString> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone_ref(py)
    }

    fn headers<'py>(&self, py: Python<'py>, method: &str, url: &str) -> PyResult<Bound<'py, PyDict>> {
        let (method, url) = (parsed_method(method)?, parsed_url(url)?);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = inner.as_ref().ok_or_else(|| PyTypeError::new_err("a pass is for one call"))?;
        dict(py, &pass.headers(&method, &url).map_err(|error| raised(py, &error))?)
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
        let (url, mut answer) = (parsed_url(url)?, HeaderMap::new());
        let status =
            StatusCode::from_u16(status).map_err(|error| PyValueError::new_err(error.to_string()))?;
        for (name, value) in headers {
            // What is no header says nothing about the token either.
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
                answer.append(name, value);
            }
        }
        let taken = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut pass = taken.ok_or_else(|| PyTypeError::new_err("a pass is for one call"))?;
        worker::ensure(py)?;
        let (pass, repeats) = block_on(py, async move {
            let repeats = pass.repeats(&url, status, &answer, repeatable).await;
            (pass, repeats)
        })?;
        if let Ok(header) = pass.token().authorization().to_str() {
            let header = PyString::new(py, header).unbind();
            *self.header.lock().unwrap_or_else(PoisonError::into_inner) = header;
        }
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Some(pass);
        Ok(repeats)
    }
}
