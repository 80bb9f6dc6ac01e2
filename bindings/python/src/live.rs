//! The token source of a client in this process. A child of a fork gets one of its own, which begins with what was inherited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use evertoken::{AccessToken, SecretString, TokenSource};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::OrRaise;
use crate::settings::{Credentials, Settings};
use crate::wait::{at_once, in_runtime};
use crate::{home, worker};

/// A source, and the process it belongs to.
pub struct Live {
    forks: u64,
    source: Option<TokenSource>,
    pub settings: Arc<Settings>,
    /// Those that were set last, shared by a family.
    credentials: Arc<ArcSwap<Credentials>>,
    /// Whether the family was closed in this process.
    closed: Arc<AtomicBool>,
    /// The token that it has for ever.
    fixed: Option<AccessToken>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // What a fork left behind may be locked by a thread that does not exist any more.
        if self.forks != home::forks() {
            std::mem::forget(self.source.take());
        }
    }
}

/// Another one in each process.
fn seed() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (std::process::id(), std::time::SystemTime::now()).hash(&mut hasher);
    hasher.finish()
}

impl Live {
    pub fn new(py: Python<'_>, settings: Settings) -> PyResult<Self> {
        worker::keep_records();
        let builder = settings.builder(settings.credentials.clone());
        let settings = settings.known_to(&builder);
        let source = builder.build().or_raise(py)?;
        let credentials = Arc::new(ArcSwap::from_pointee(settings.credentials.clone()));
        Ok(Self {
            forks: home::forks(),
            source: Some(source),
            settings: Arc::new(settings),
            credentials,
            closed: Arc::default(),
            fixed: None,
        })
    }

    /// One that holds this token and asks nobody.
    pub fn fixed(py: Python<'_>, token: &str, base_url: &str) -> PyResult<Self> {
        let fixed = evertoken::testing::fixed_client(token, base_url).or_raise(py)?;
        let settings = Settings::fixed(base_url);
        let credentials = Arc::new(ArcSwap::from_pointee(settings.credentials.clone()));
        let source = fixed.token_source().clone();
        let fixed = source.current_token();
        Ok(Self {
            forks: home::forks(),
            source: Some(source),
            settings: Arc::new(settings),
            credentials,
            closed: Arc::default(),
            fixed,
        })
    }

    /// The same for another audience and other scopes.
    pub fn with(&self, py: Python<'_>, audience: Option<String>, scope: Vec<String>) -> PyResult<Self> {
        let source = self.source()?.with(audience.as_deref().unwrap_or_default(), &scope).or_raise(py)?;
        Ok(Self {
            forks: self.forks,
            source: Some(source),
            settings: Arc::new(self.settings.asking_for(audience, scope)),
            credentials: self.credentials.clone(),
            closed: self.closed.clone(),
            fixed: None,
        })
    }

    pub fn is_of_this_process(&self) -> bool {
        self.forks == home::forks()
    }

    pub fn source(&self) -> PyResult<&TokenSource> {
        self.source.as_ref().ok_or_else(|| PyTypeError::new_err("a client without a source"))
    }

    /// That of this process, where this one is its parent's. What was inherited is renewed from here on.
    pub fn after_fork(&self, py: Python<'_>) -> PyResult<Self> {
        let closed = self.closed.load(Ordering::Relaxed);
        if let (Some(token), Some(base_url)) = (&self.fixed, self.settings.base_url()) {
            let made = Self::fixed(py, token.as_str(), base_url)?;
            if closed {
                made.close_at_once(py)?;
            }
            return Ok(made);
        }
        let builder = self.settings.builder(Credentials::clone(&self.credentials.load()));
        let source = builder.forked_from(self.source()?, seed()).build().or_raise(py)?;
        let made = Self {
            forks: home::forks(),
            source: Some(source),
            settings: self.settings.clone(),
            credentials: self.credentials.clone(),
            closed: Arc::default(),
            fixed: None,
        };
        if closed {
            made.close_at_once(py)?;
        } else if made.source()?.current_token().is_some() {
            // A renewal may need functions of Python's, and its log records are to be seen.
            worker::ensure(py)?;
            let source = made.source()?;
            in_runtime(py, || drop(source.prefetch()))?;
        }
        Ok(made)
    }

    /// Closes one that has just been made, and holds nothing to wait for.
    fn close_at_once(&self, py: Python<'_>) -> PyResult<()> {
        self.mark_closed();
        let source = self.source()?;
        in_runtime(py, || drop(at_once(source.shutdown())))
    }

    pub fn set_credentials(&self, py: Python<'_>, app_id: String, app_secret: String) -> PyResult<()> {
        let app_secret = SecretString::from(app_secret);
        self.source()?.set_credentials(app_id.clone(), app_secret.clone()).or_raise(py)?;
        self.credentials.store(Arc::new(Credentials::Given { app_id, app_secret, next_app_secret: None }));
        Ok(())
    }

    /// Has a child of a fork know that it was closed.
    pub fn mark_closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// A source like this one, to be asked what is wrong with it.
    pub fn builder(&self) -> evertoken::Builder<TokenSource> {
        self.settings.builder(Credentials::clone(&self.credentials.load()))
    }
}

/// A token that Python has seen, as strings of its own, made once per token.
pub struct Shown {
    forks: u64,
    source: TokenSource,
    token: AccessToken,
    pub text: Py<PyString>,
    /// Not under DPoP, where it is not enough.
    pub header: Option<Py<PyString>>,
}

impl Shown {
    pub fn new(py: Python<'_>, live: &Live, token: AccessToken) -> PyResult<Self> {
        let header = match live.settings.is_dpop() {
            true => None,
            false => Some(header(py, &token)?),
        };
        let text = PyString::new(py, token.as_str()).unbind();
        Ok(Self { forks: live.forks, source: live.source()?.clone(), token, text, header })
    }

    /// Whether it may be handed out now: two loads, two coarse clocks, and no system call.
    #[inline(always)]
    pub fn serves(&self) -> bool {
        self.forks == home::forks() && self.source.serves(&self.token)
    }

    /// The same in a child of the process that it is of, where only its own end can take it away.
    pub fn serves_as_inherited(&self) -> bool {
        self.source.serves(&self.token)
    }
}

pub fn header(py: Python<'_>, token: &AccessToken) -> PyResult<Py<PyString>> {
    let header = token.authorization().to_str().map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyString::new(py, header).unbind())
}
