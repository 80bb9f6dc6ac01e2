//! What a client was told, kept so that a child of a fork can build it again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evertoken::{
    AppCredentials, Builder, ClientAuth, CredentialSource, Dpop, RenewalPolicy, SecretString, TokenSource,
};
use pyo3::prelude::*;

use crate::worker;

/// Who the client is.
#[derive(Clone)]
pub enum Credentials {
    Given {
        app_id: String,
        app_secret: SecretString,
        next_app_secret: Option<SecretString>,
    },
    ApiKey(String),
    Env(String),
    File {
        path: PathBuf,
        readable_by_others: bool,
    },
    /// A function of Python's.
    Provider(Arc<Py<PyAny>>),
}

impl Credentials {
    fn source(&self) -> CredentialSource {
        match self.clone() {
            Self::Given { app_id, app_secret, next_app_secret } => {
                let given = AppCredentials::new(app_id, app_secret);
                match next_app_secret {
                    Some(next) => given.next_secret(next).into(),
                    None => given.into(),
                }
            }
            Self::Env(prefix) => CredentialSource::env_prefix(&prefix),
            Self::File { path, readable_by_others: true } => CredentialSource::file_readable_by_others(path),
            Self::File { path, readable_by_others: false } => CredentialSource::file(path),
            Self::Provider(function) => CredentialSource::provider(move || worker::ask(function.clone())),
            // The builder takes it by itself, since it may be mistaken.
            Self::ApiKey(_) => CredentialSource::from(AppCredentials::new("", "")),
        }
    }
}

/// Everything but the credentials.
#[derive(Clone, Default)]
pub struct Settings {
    pub issuer: Option<String>,
    pub token_url: Option<String>,
    pub audience: Option<String>,
    pub resource: Vec<String>,
    pub scope: Vec<String>,
    pub token_params: Vec<(String, String)>,
    pub client_auth: Option<ClientAuth>,
    pub dpop: Option<Dpop>,
    pub base_url: Option<String>,
    pub trusted_origins: Vec<String>,
    pub allow_insecure_http: bool,
    pub renewal: Option<RenewalPolicy>,
    pub token_timeout: Option<Duration>,
    pub connect_timeout: Option<Duration>,
    pub user_agent: Option<String>,
    pub proxy: Option<String>,
    pub ca: Vec<Vec<u8>>,
    pub cert: Option<Vec<u8>>,
    pub revoke_on_shutdown: bool,
    pub revocation_url: Option<String>,
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
    pub fn builder(&self, credentials: &Credentials) -> Builder<TokenSource> {
        let this = self.clone();
        let builder = match credentials {
            Credentials::ApiKey(key) => TokenSource::builder_from(key.as_str()),
            other => TokenSource::builder_with(other.source()),
        };
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
        let builder = set(builder, this.renewal, Builder::renewal);
        let builder = set(builder, this.token_timeout, Builder::token_timeout);
        let builder = set(builder, this.connect_timeout, Builder::connect_timeout);
        let builder = set(builder, this.user_agent, Builder::user_agent);
        let builder = set(builder, this.proxy, Builder::proxy);
        let builder = this.ca.iter().fold(builder, |builder, pem| builder.root_certificate(pem));
        let builder = set(builder, this.cert, Builder::client_certificate);
        let builder = if this.revoke_on_shutdown { builder.revoke_on_shutdown(true) } else { builder };
        set(builder, this.revocation_url, Builder::revocation_url)
    }
}
