//! What a client was told, kept so that a child of a fork can build it again.

use std::path::PathBuf;
use std::time::Duration;

use evertoken::{
    ApiKey, AppCredentials, Builder, ClientAuth, CredentialSource, Dpop, RenewalPolicy, SecretString,
    TokenSource,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::credentials::Method;
use crate::errors::OrRaise;
use crate::{seconds, worker};

/// Who the client is.
#[derive(Clone)]
pub enum Credentials {
    Given {
        app_id: String,
        app_secret: SecretString,
        next_app_secret: Option<SecretString>,
    },
    ApiKey(ApiKey),
    Env {
        prefix: String,
        key_prefix: Option<String>,
    },
    /// With `true`, others may read them.
    Files(Files, bool),
    /// A function of Python's, by its number there.
    Provider(u64),
}

/// Where credentials stand in files.
#[derive(Clone)]
pub enum Files {
    Whole(PathBuf),
    Directory(PathBuf),
    Each { app_id: PathBuf, app_secret: PathBuf, next_app_secret: Option<PathBuf> },
}

impl Files {
    fn source(self) -> CredentialSource {
        match self {
            Self::Whole(path) => CredentialSource::file(path),
            Self::Directory(path) => CredentialSource::directory(path),
            Self::Each { app_id, app_secret, next_app_secret } => {
                let files = CredentialSource::files(app_id, app_secret);
                match next_app_secret {
                    Some(next) => files.next_secret_file(next),
                    None => files,
                }
            }
        }
    }
}

impl Credentials {
    fn builder(self) -> Builder<TokenSource> {
        TokenSource::builder_with(match self {
            Self::Given { app_id, app_secret, next_app_secret } => {
                let given = AppCredentials::new(app_id, app_secret);
                match next_app_secret {
                    Some(next) => given.next_secret(next).into(),
                    None => given.into(),
                }
            }
            Self::ApiKey(key) => return TokenSource::builder_from(key),
            Self::Env { prefix, key_prefix } => {
                return Builder::from_variables(&prefix, key_prefix.as_deref(), std::env::vars_os());
            }
            Self::Files(files, true) => files.source().readable_by_others(),
            Self::Files(files, false) => files.source(),
            Self::Provider(number) => CredentialSource::provider(move || worker::credentials(number)),
        })
    }
}

/// All options of a client, checked for their types.
#[pyclass(frozen, module = "evertoken._native")]
#[derive(Clone)]
pub struct Settings {
    pub credentials: Credentials,
    /// The issuer, the token endpoint and the base URL, by whatever they were set.
    addresses: [Option<String>; 3],
    issuer: Option<String>,
    token_url: Option<String>,
    audience: Option<String>,
    resource: Vec<String>,
    scope: Vec<String>,
    token_params: Vec<(String, String)>,
    client_auth: Option<ClientAuth>,
    dpop: Option<Dpop>,
    base_url: Option<String>,
    trusted_origins: Vec<String>,
    allow_insecure_http: bool,
    renewal: RenewalPolicy,
    name: Option<String>,
    token_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    user_agent: Option<String>,
    proxy: Option<String>,
    ca: Vec<Vec<u8>>,
    cert: Option<SecretBytes>,
    revoke_on_shutdown: bool,
    revocation_url: Option<String>,
}

/// A private key is in there.
type SecretBytes = std::sync::Arc<Vec<u8>>;

#[pymethods]
impl Settings {
    #[new]
    #[pyo3(signature = (
        app_id=None, app_secret=None, *, next_app_secret=None, api_key=None, credentials_env=None,
        env_key_prefix=None, credentials_file=None, credentials_directory=None, app_id_file=None, app_secret_file=None,
        next_app_secret_file=None, file_readable_by_others=false, credentials=None, issuer=None, token_url=None,
        audience=None, resource=None, scope=None, token_params=None, client_auth=None, dpop=None, base_url=None,
        trusted_origins=None, allow_insecure_http=false, name=None, renew_at=None, jitter=None, leeway=None,
        backoff_base=None, backoff_cap=None, request_timeout=None, stop_after_unused=None, settle=None, token_timeout=None,
        connect_timeout=None, user_agent=None, proxy=None, ca=None, cert=None, revoke_on_shutdown=false,
        revocation_url=None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        app_id: Option<String>,
        app_secret: Option<String>,
        next_app_secret: Option<String>,
        api_key: Option<String>,
        credentials_env: Option<String>,
        env_key_prefix: Option<String>,
        credentials_file: Option<PathBuf>,
        credentials_directory: Option<PathBuf>,
        app_id_file: Option<PathBuf>,
        app_secret_file: Option<PathBuf>,
        next_app_secret_file: Option<PathBuf>,
        file_readable_by_others: bool,
        credentials: Option<u64>,
        issuer: Option<String>,
        token_url: Option<String>,
        audience: Option<String>,
        resource: Option<Vec<String>>,
        scope: Option<Vec<String>>,
        token_params: Option<Vec<(String, String)>>,
        client_auth: Option<Method<'_>>,
        dpop: Option<Bound<'_, crate::credentials::Dpop>>,
        base_url: Option<String>,
        trusted_origins: Option<Vec<String>>,
        allow_insecure_http: bool,
        name: Option<String>,
        renew_at: Option<f64>,
        jitter: Option<f64>,
        leeway: Option<f64>,
        backoff_base: Option<f64>,
        backoff_cap: Option<f64>,
        request_timeout: Option<f64>,
        stop_after_unused: Option<u32>,
        settle: Option<f64>,
        token_timeout: Option<f64>,
        connect_timeout: Option<f64>,
        user_agent: Option<String>,
        proxy: Option<String>,
        ca: Option<Vec<Vec<u8>>>,
        cert: Option<Vec<u8>>,
        revoke_on_shutdown: bool,
        revocation_url: Option<String>,
    ) -> PyResult<Self> {
        let files = match (credentials_file, credentials_directory, app_id_file, app_secret_file) {
            (Some(path), None, None, None) => Some(Files::Whole(path)),
            (None, Some(path), None, None) => Some(Files::Directory(path)),
            (None, None, Some(app_id), Some(app_secret)) => {
                Some(Files::Each { app_id, app_secret, next_app_secret: next_app_secret_file })
            }
            _ => None,
        };
        let credentials = match (app_id, api_key, credentials_env, files, credentials) {
            (Some(app_id), None, None, None, None) => Credentials::Given {
                app_id,
                app_secret: SecretString::from(app_secret.unwrap_or_default()),
                next_app_secret: next_app_secret.map(SecretString::from),
            },
            (None, Some(key), None, None, None) => {
                Credentials::ApiKey(ApiKey::try_from(key.as_str()).or_raise(py)?)
            }
            (None, None, Some(prefix), None, None) => Credentials::Env { prefix, key_prefix: env_key_prefix },
            (None, None, None, Some(files), None) => Credentials::Files(files, file_readable_by_others),
            (None, None, None, None, Some(number)) => Credentials::Provider(number),
            _ => {
                return Err(PyTypeError::new_err(
                    "give either app_id and app_secret, or one other source of credentials",
                ));
            }
        };
        let time = |name, value: Option<f64>| value.map(|value| seconds(name, value)).transpose();
        let mut renewal = RenewalPolicy::default();
        if let Some(fraction) = renew_at {
            renewal = renewal.renew_at(fraction);
        }
        if let Some(fraction) = jitter {
            renewal = renewal.jitter(fraction);
        }
        if let Some(leeway) = time("leeway", leeway)? {
            renewal = renewal.leeway(leeway);
        }
        if let Some(base) = time("backoff_base", backoff_base)? {
            renewal = renewal.backoff_base(base);
        }
        if let Some(cap) = time("backoff_cap", backoff_cap)? {
            renewal = renewal.backoff_cap(cap);
        }
        if let Some(timeout) = time("request_timeout", request_timeout)? {
            renewal = renewal.request_timeout(timeout);
        }
        if let Some(lifetimes) = stop_after_unused {
            renewal = renewal.stop_after_unused(lifetimes);
        }
        if let Some(length) = time("settle", settle)? {
            renewal = renewal.settle(length);
        }
        Ok(Self {
            credentials,
            addresses: Default::default(),
            issuer,
            token_url,
            audience,
            resource: resource.unwrap_or_default(),
            scope: scope.unwrap_or_default(),
            token_params: token_params.unwrap_or_default(),
            client_auth: client_auth.map(Method::client_auth).transpose()?,
            dpop: dpop.map(|dpop| dpop.get().keyed(py)).transpose()?,
            base_url,
            trusted_origins: trusted_origins.unwrap_or_default(),
            allow_insecure_http,
            renewal,
            name,
            token_timeout: time("token_timeout", token_timeout)?,
            connect_timeout: time("connect_timeout", connect_timeout)?,
            user_agent,
            proxy,
            ca: ca.unwrap_or_default(),
            cert: cert.map(SecretBytes::new),
            revoke_on_shutdown,
            revocation_url,
        })
    }
}

fn set<T, V>(
    builder: Builder<T>,
    value: Option<V>,
    with: impl FnOnce(Builder<T>, V) -> Builder<T>,
) -> Builder<T> {
    match value {
        Some(value) => with(builder, value),
        None => builder,
    }
}

impl Settings {
    /// Those of a client that asks nobody.
    pub fn fixed(base_url: &str) -> Self {
        Self {
            credentials: Credentials::Given {
                app_id: "fixed".to_owned(),
                app_secret: SecretString::from(""),
                next_app_secret: None,
            },
            addresses: [None, None, Some(base_url.to_owned())],
            issuer: None,
            token_url: None,
            audience: None,
            resource: Vec::new(),
            scope: Vec::new(),
            token_params: Vec::new(),
            client_auth: None,
            dpop: None,
            base_url: Some(base_url.to_owned()),
            trusted_origins: Vec::new(),
            allow_insecure_http: false,
            renewal: RenewalPolicy::default(),
            name: None,
            token_timeout: None,
            connect_timeout: None,
            user_agent: None,
            proxy: None,
            ca: Vec::new(),
            cert: None,
            revoke_on_shutdown: false,
            revocation_url: None,
        }
    }

    /// The same for another audience and other scopes.
    pub fn asking_for(&self, audience: Option<String>, scope: Vec<String>) -> Self {
        Self { audience, scope, ..self.clone() }
    }

    pub fn is_dpop(&self) -> bool {
        self.dpop.is_some()
    }

    /// The same, with what a builder made of it knows of addresses: the environment may have set them.
    pub fn known_to(mut self, builder: &Builder<TokenSource>) -> Self {
        self.addresses = builder.addresses().map(|url| url.map(|url| evertoken::trimmed_url(url).to_owned()));
        self
    }

    pub fn base_url(&self) -> Option<&str> {
        self.addresses[2].as_deref()
    }

    pub fn has_origins(&self) -> bool {
        self.base_url().is_some() || !self.trusted_origins.is_empty()
    }

    /// Whom it asks: scheme, host and port.
    pub fn server(&self) -> String {
        let [issuer, token_url, _] = &self.addresses;
        let url = token_url.as_deref().or(issuer.as_deref());
        let url = url.and_then(|server| evertoken::reqwest::Url::parse(server).ok());
        url.map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }

    pub fn builder(&self, credentials: Credentials) -> Builder<TokenSource> {
        let this = self.clone();
        let builder = credentials.builder().renewal(this.renewal);
        let builder = set(builder, this.issuer, Builder::issuer);
        let builder = set(builder, this.token_url, Builder::token_url);
        let builder = set(builder, this.audience, Builder::audience);
        let builder = this.resource.into_iter().fold(builder, Builder::resource);
        let builder = this.scope.into_iter().fold(builder, Builder::scope);
        let params = this.token_params.into_iter();
        let builder = params.fold(builder, |builder, (name, value)| builder.token_param(name, value));
        let builder = set(builder, this.client_auth, Builder::client_auth);
        let builder = set(builder, this.dpop, Builder::dpop);
        let builder = set(builder, this.base_url, Builder::base_url);
        let builder = this.trusted_origins.into_iter().fold(builder, Builder::trusted_origin);
        let builder = if this.allow_insecure_http { builder.allow_insecure_http() } else { builder };
        let builder = set(builder, this.name, Builder::name);
        let builder = set(builder, this.token_timeout, Builder::token_timeout);
        let builder = set(builder, this.connect_timeout, Builder::connect_timeout);
        let builder = set(builder, this.user_agent, Builder::user_agent);
        let builder = set(builder, this.proxy, Builder::proxy);
        let builder = this.ca.iter().fold(builder, |builder, pem| builder.root_certificate(pem));
        let builder = set(builder, this.cert, |builder, pem| builder.client_certificate(&*pem));
        let builder = if this.revoke_on_shutdown { builder.revoke_on_shutdown(true) } else { builder };
        set(builder, this.revocation_url, Builder::revocation_url)
    }
}
