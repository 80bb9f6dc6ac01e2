//! The client, as the class of `evertoken._client` extends it.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use evertoken::reqwest::Url;
use evertoken::{AccessToken, ErrorKind, TokenSource};
use evertoken_bindings::Language;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::bell::Bell;
use crate::errors::{OrRaise, object, text};
use crate::events::Events;
use crate::live::{Live, Shown};
use crate::pass::{Pass, dict, parsed_method, parsed_url};
use crate::settings::Settings;
use crate::wait::{Wait, at_once, block_on, in_runtime};
use crate::{status, worker};

#[pyclass(frozen, subclass, module = "evertoken._native")]
pub struct Client {
    /// None until `__init__`.
    live: ArcSwapOption<Live>,
    /// What Python was last given.
    shown: ArcSwapOption<Shown>,
}

fn uninitialized() -> PyErr {
    PyTypeError::new_err("Client.__init__ was not called")
}

impl Client {
    /// That of this process.
    fn live(&self, py: Python<'_>) -> PyResult<Arc<Live>> {
        loop {
            let guard = self.live.load();
            let Some(live) = &*guard else {
                return Err(uninitialized());
            };
            if live.is_of_this_process() {
                return Ok(live.clone());
            }
            let new = Arc::new(live.after_fork(py)?);
            let _ = self.live.compare_and_swap(&*guard, Some(new));
        }
    }

    /// The same in each process.
    fn settings(&self) -> PyResult<Arc<Settings>> {
        self.live.load().as_ref().map(|live| live.settings.clone()).ok_or_else(uninitialized)
    }

    fn source(&self, py: Python<'_>) -> PyResult<TokenSource> {
        Ok(self.live(py)?.source()?.clone())
    }

    /// Of what Python was last given, where it may be given again.
    #[inline(always)]
    fn shown<T>(&self, of: impl FnOnce(&Shown) -> Option<T>) -> Option<T> {
        let guard: Guard<Option<Arc<Shown>>> = self.shown.load();
        let shown = guard.as_deref()?;
        if shown.serves() { of(shown) } else { None }
    }

    fn show(&self, py: Python<'_>, token: AccessToken) -> PyResult<Arc<Shown>> {
        let shown = Arc::new(Shown::new(py, &*self.live(py)?, token)?);
        self.shown.store(Some(shown.clone()));
        Ok(shown)
    }

    /// The next token, or one that a child of a fork holds but has not seen.
    #[cold]
    fn awaited(&self, py: Python<'_>) -> PyResult<Arc<Shown>> {
        let source = match self.source(py) {
            Ok(source) => source,
            // A child that cannot build its own (its user may not read the file) has at least what it inherited.
            Err(error) => return self.inherited().ok_or(error),
        };
        if let Some(token) = source.current_token() {
            return self.show(py, token);
        }
        worker::ensure(py)?;
        py.import("evertoken._loop")?.call_method0("warn_of_waiting")?;
        let token = block_on(py, async move { source.token().await })?.or_raise(py)?;
        self.show(py, token)
    }

    fn inherited(&self) -> Option<Arc<Shown>> {
        self.shown.load_full().filter(|shown| shown.serves_as_inherited())
    }

    fn pass(&self, py: Python<'_>) -> PyResult<evertoken::Pass> {
        let source = self.source(py)?;
        // Polled once, it would settle for one that is withheld, since there is no runtime here to wait on.
        if let Some(token) = source.current_token() {
            return source.pass_sent(token.as_str()).or_raise(py);
        }
        worker::ensure(py)?;
        py.import("evertoken._loop")?.call_method0("warn_of_waiting")?;
        block_on(py, async move { source.pass().await })?.or_raise(py)
    }
}

#[pymethods]
impl Client {
    /// What is given goes to `__init__`, so that a subclass may have another.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { live: ArcSwapOption::empty(), shown: ArcSwapOption::empty() }
    }

    fn _open(&self, py: Python<'_>, settings: &Bound<'_, Settings>) -> PyResult<()> {
        self.live.store(Some(Arc::new(Live::new(py, settings.get().clone())?)));
        Ok(())
    }

    /// Holds this token and asks nobody.
    fn _open_fixed(&self, py: Python<'_>, token: &str, base_url: &str) -> PyResult<()> {
        self.live.store(Some(Arc::new(Live::fixed(py, token, base_url)?)));
        Ok(())
    }

    /// Is like another, for another audience and other scopes.
    fn _open_like(
        &self,
        py: Python<'_>,
        other: &Bound<'_, Client>,
        audience: Option<String>,
        scope: Vec<String>,
    ) -> PyResult<()> {
        self.live.store(Some(Arc::new(other.get().live(py)?.with(py, audience, scope)?)));
        Ok(())
    }

    /// The access token: at once where a valid one is held, else as soon as there is one.
    ///
    /// Who waits, waits for at most `token_timeout` (10 s by default), with the GIL released, and can be interrupted by
    /// Ctrl-C. In a running asyncio loop use `token_async()`: this one warns there, once, when it has to wait.
    ///
    /// Raises `EvertokenError`: with the last failure where the time is up or no attempt is due before; at once where the
    /// credential or the request is known to be refused; `ClosedError` after `close()`.
    fn token(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        if let Some(text) = self.shown(|shown| Some(shown.text.clone_ref(py))) {
            return Ok(text);
        }
        Ok(self.awaited(py)?.text.clone_ref(py))
    }

    /// The held token without waiting; `None` where there is no valid one.
    fn current_token(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        if let Some(text) = self.shown(|shown| Some(shown.text.clone_ref(py))) {
            return Ok(Some(text));
        }
        let held = match self.source(py) {
            Ok(source) => source.current_token(),
            Err(error) => match self.inherited() {
                Some(shown) => return Ok(Some(shown.text.clone_ref(py))),
                None => return Err(error),
            },
        };
        held.map(|token| Ok(self.show(py, token)?.text.clone_ref(py))).transpose()
    }

    /// The value of the `Authorization` header, `Bearer …` (RFC 6750 2.1); it waits and raises as `token()` does.
    ///
    /// Under DPoP, where a header that serves for all calls is not enough, it is a `ConfigurationError`: use `headers()`.
    fn authorization(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        if let Some(header) = self.shown(|shown| shown.header.as_ref().map(|header| header.clone_ref(py))) {
            return Ok(header);
        }
        if self.settings()?.is_dpop() {
            // Refused without a wait.
            let source = self.source(py)?;
            block_on(py, async move { source.authorization().await.map(drop) })?.or_raise(py)?;
        }
        let header = self.awaited(py)?.header.as_ref().map(|header| header.clone_ref(py));
        header.ok_or_else(|| PyTypeError::new_err("a token without a header"))
    }

    /// All headers that authorize one call of `method` to `url`: `Authorization`, and under DPoP a proof (RFC 9449 7.1) that
    /// is good for this one sending. It waits and raises as `token()` does, and is an `UntrustedOriginError` where the token
    /// may not go.
    fn headers<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyAny>,
        url: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (method, url) = (parsed_method(py, text("method", method)?)?, parsed_url(py, text("url", url)?)?);
        self.live(py)?.source()?.check_origin(&url).or_raise(py)?;
        // Of a Bearer token they are the same for all calls.
        if let Some(header) = self.shown(|shown| shown.header.as_ref().map(|header| header.clone_ref(py))) {
            let fields = PyDict::new(py);
            fields.set_item(intern!(py, "Authorization"), header)?;
            return Ok(fields);
        }
        dict(py, &self.pass(py)?.headers(&method, &url).or_raise(py)?)
    }

    /// Says that the API refused `token` (401). Where it is still the current one it is renewed, and withheld while the
    /// renewal runs, but no more than once in 10 s, doubling to 5 min while every new token is refused again. One that has
    /// been replaced is no matter.
    fn invalidate(&self, py: Python<'_>, token: &Bound<'_, PyAny>) -> PyResult<()> {
        let token = text("token", token)?;
        let source = self.source(py)?;
        if let Some(held) = source.current_token().filter(|held| held.as_str() == token) {
            worker::ensure(py)?;
            in_runtime(py, || source.invalidate(&held))?;
        }
        Ok(())
    }

    /// Replaces the credential, for all clients that `with_()` made of this one as well. A held token serves on where only
    /// the secret changes, and is dropped where the app id does. Raises `ConfigurationError` where the app id, or a secret
    /// that is needed, is empty; the old credential stays. Raises `ClosedError` after `close()`.
    ///
    /// In the child of a fork it reaches no other client that was inherited and is in use there: call it on each.
    fn set_credentials(
        &self,
        py: Python<'_>,
        app_id: &Bound<'_, PyAny>,
        app_secret: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (app_id, app_secret) = (text("app_id", app_id)?, text("app_secret", app_secret)?);
        self.live(py)?.set_credentials(py, app_id.to_owned(), app_secret.to_owned())
    }

    /// Has a token fetched ahead of the first call, in the background; with `wait=True` it is there on return, or the reason
    /// why not is raised as by `token()`. In asyncio `await prefetch_async()` waits for it. Raises `ClosedError` after `close()`.
    #[pyo3(signature = (*, wait=false))]
    fn prefetch(&self, py: Python<'_>, wait: bool) -> PyResult<()> {
        let source = self.source(py)?;
        worker::ensure(py)?;
        if wait {
            return block_on(py, async move { source.prefetch().await })?.or_raise(py);
        }
        // What is known at once is only of interest if nothing was started.
        match in_runtime(py, || at_once(source.prefetch().into_future()))? {
            Some(Err(error)) if error.kind() == ErrorKind::Closed => Err(error).or_raise(py),
            _ => Ok(()),
        }
    }

    /// Closes, and gives what a revocation failed with.
    fn _close(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let source = self.source(py)?;
        self.live(py)?.mark_closed();
        self.shown.store(None);
        let outcome = block_on(py, async move { source.shutdown().await })?;
        outcome.err().map(|error| object(py, &error).map(Bound::unbind)).transpose()
    }

    #[pyo3(signature = (bell, number))]
    fn _wait_token(&self, py: Python<'_>, bell: Option<&Bound<'_, Bell>>, number: u64) -> PyResult<Wait> {
        let source = self.source(py)?;
        worker::ensure(py)?;
        Wait::start(py, bell, number, async move { source.token().await }, |py, outcome| {
            Ok(PyString::new(py, outcome.or_raise(py)?.as_str()).unbind().into_any())
        })
    }

    #[pyo3(signature = (bell, number))]
    fn _wait_close(&self, py: Python<'_>, bell: Option<&Bound<'_, Bell>>, number: u64) -> PyResult<Wait> {
        let source = self.source(py)?;
        self.live(py)?.mark_closed();
        self.shown.store(None);
        let wait =
            Wait::start(
                py,
                bell,
                number,
                async move { source.shutdown().await },
                |py, outcome| match outcome {
                    Ok(()) => Ok(py.None()),
                    Err(error) => object(py, &error).map(Bound::unbind),
                },
            )?;
        // A task that is cancelled has still asked for the end.
        Ok(wait.detached())
    }

    /// One call's way, for the adapters.
    fn _pass(&self, py: Python<'_>) -> PyResult<Pass> {
        Ok(Pass::new(self.pass(py)?))
    }

    /// That of a call that was sent with this header, or is to be sent with this token.
    fn _pass_sent(&self, py: Python<'_>, header: &str) -> PyResult<Pass> {
        let token = header.split_once(' ').map_or(header, |(_, token)| token);
        Ok(Pass::new(self.source(py)?.pass_sent(token).or_raise(py)?))
    }

    fn _status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        status::fields(py, self.source(py)?.status())
    }

    fn _events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.source(py)?.events()))
    }

    /// Asks the authorization server once, by the settings of this client. Gives whether all is well, and what was found.
    fn _check(&self, py: Python<'_>) -> PyResult<(bool, String)> {
        let builder = self.live(py)?.builder();
        worker::ensure(py)?;
        let diagnosis = block_on(py, builder.check())?;
        Ok((diagnosis.is_ok(), Language::Python.spell(&diagnosis.to_string()).into_owned()))
    }

    fn _base_url(&self) -> PyResult<Option<String>> {
        Ok(self.settings()?.base_url().map(str::to_owned))
    }

    fn _is_dpop(&self) -> PyResult<bool> {
        Ok(self.settings()?.is_dpop())
    }

    fn _has_origins(&self) -> PyResult<bool> {
        Ok(self.settings()?.has_origins())
    }

    /// Raises where the token may not go there.
    fn _check_origin(&self, py: Python<'_>, url: &str) -> PyResult<()> {
        let url: Url = parsed_url(py, url)?;
        self.source(py)?.check_origin(&url).or_raise(py)
    }

    /// What state it is in, for `repr`.
    fn _described(&self, py: Python<'_>) -> PyResult<String> {
        if self.live.load().is_none() {
            return Ok("not initialized".to_owned());
        }
        let live = self.live(py)?;
        let status = live.source()?.status();
        let mut text = format!("of {}: {}", live.settings.server(), status::state(status.state));
        if let Some(left) = status.expires_in {
            text.push_str(&format!(", expires in {:.0} s", left.as_secs_f64()));
        }
        if let Some(error) = &status.last_error {
            let name = object(py, error)?.get_type().name()?.to_string();
            text.push_str(&format!(", last error {name}"));
        }
        Ok(text)
    }
}
