//! What a client was told, kept for `check`.

use std::time::Duration;

use evertoken::reqwest::Url;
use evertoken::{Builder, ClientAuth, Dpop, RenewalPolicy, SecretString, TokenSource};
use napi::bindgen_prelude::Result;
use napi_derive::napi;

use crate::client_auth::{NativeClientAuth, dpop, mistake};
use crate::credentials::{Credentials, Files};
use crate::mailbox::Mailbox;

/// As `lib/options.ts` gives them, which has looked at their types. Times are milliseconds.
#[napi(object)]
pub struct NativeOptions {
    pub app_id: Option<String>,
    pub app_secret: Option<String>,
    pub next_app_secret: Option<String>,
    pub api_key: Option<String>,
    pub env_prefix: Option<String>,
    pub key_prefix: Option<String>,
    /// Names and values.
    pub variables: Option<Vec<Vec<String>>>,
    pub credentials_file: Option<String>,
    pub credentials_directory: Option<String>,
    pub app_id_file: Option<String>,
    pub app_secret_file: Option<String>,
    pub next_app_secret_file: Option<String>,
    pub file_readable_by_others: Option<bool>,
    /// A function of JavaScript's gives them.
    pub asks: Option<bool>,
    pub issuer: Option<String>,
    pub token_url: Option<String>,
    pub audience: Option<String>,
    pub resource: Option<Vec<String>>,
    pub scope: Option<Vec<String>>,
    pub token_params: Option<Vec<Vec<String>>>,
    pub client_auth: Option<NativeClientAuth>,
    pub dpop: Option<bool>,
    pub dpop_key: Option<String>,
    pub base_url: Option<String>,
    pub trusted_origins: Option<Vec<String>>,
    pub allow_insecure_http: Option<bool>,
    pub renew_at: Option<f64>,
    pub jitter: Option<f64>,
    pub leeway_ms: Option<f64>,
    pub backoff_base_ms: Option<f64>,
    pub backoff_cap_ms: Option<f64>,
    pub request_timeout_ms: Option<f64>,
    pub stop_after_unused: Option<u32>,
    pub settle_ms: Option<f64>,
    pub name: Option<String>,
    pub token_timeout_ms: Option<f64>,
    pub connect_timeout_ms: Option<f64>,
    pub user_agent: Option<String>,
    pub proxy: Option<String>,
    pub ca: Option<Vec<String>>,
    pub cert: Option<String>,
    pub revoke_on_shutdown: Option<bool>,
    pub revocation_url: Option<String>,
}

/// Everything but the credentials.
#[derive(Default)]
pub struct Settings {
    /// The issuer, the token endpoint and the base URL, by whatever they were set.
    pub addresses: [Option<String>; 3],
    pub base_url: Option<Url>,
    issuer: Option<String>,
    token_url: Option<String>,
    audience: Option<String>,
    resource: Vec<String>,
    scope: Vec<String>,
    token_params: Vec<(String, String)>,
    client_auth: Option<ClientAuth>,
    dpop: Option<Dpop>,
    base: Option<String>,
    trusted_origins: Vec<String>,
    allow_insecure_http: bool,
    renewal: RenewalPolicy,
    name: Option<String>,
    token_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    user_agent: Option<String>,
    proxy: Option<String>,
    ca: Vec<String>,
    cert: Option<String>,
    revoke_on_shutdown: bool,
    revocation_url: Option<String>,
}

fn duration(name: &str, ms: Option<f64>) -> Result<Option<Duration>> {
    ms.map(|ms| {
        Duration::try_from_secs_f64(ms / 1e3)
            .map_err(|_| mistake(format!("`{name}` must be a number of milliseconds, 0 or more")))
    })
    .transpose()
}

fn pairs(list: Option<Vec<Vec<String>>>) -> Vec<(String, String)> {
    let pair = |pair: Vec<String>| <[String; 2]>::try_from(pair).ok().map(|[name, value]| (name, value));
    list.unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// One more setting, if it was set.
fn set<B, V>(builder: B, value: Option<V>, with: impl FnOnce(B, V) -> B) -> B {
    match value {
        Some(value) => with(builder, value),
        None => builder,
    }
}

impl NativeOptions {
    pub fn into_parts(self, mailbox: &Mailbox) -> Result<(Settings, Credentials)> {
        let credentials = if self.asks == Some(true) {
            Credentials::Function(mailbox.clone())
        } else if let Some(key) = self.api_key {
            Credentials::ApiKey(key)
        } else if let Some(prefix) = self.env_prefix {
            Credentials::Env { prefix, key_prefix: self.key_prefix, variables: pairs(self.variables) }
        } else if let Some(files) =
            match (self.credentials_file, self.credentials_directory, self.app_id_file) {
                (Some(path), ..) => Some(Files::Whole(path.into())),
                (None, Some(path), _) => Some(Files::Directory(path.into())),
                (None, None, Some(app_id)) => Some(Files::Each {
                    app_id: app_id.into(),
                    app_secret: self.app_secret_file.unwrap_or_default().into(),
                    next_app_secret: self.next_app_secret_file.map(Into::into),
                }),
                (None, None, None) => None,
            }
        {
            Credentials::Files(files, self.file_readable_by_others == Some(true))
        } else {
            Credentials::Given {
                app_id: self.app_id.unwrap_or_default(),
                app_secret: SecretString::from(self.app_secret.unwrap_or_default()),
                next_app_secret: self.next_app_secret.map(SecretString::from),
            }
        };
        let policy = RenewalPolicy::default();
        let policy = set(policy, self.renew_at, RenewalPolicy::renew_at);
        let policy = set(policy, self.jitter, RenewalPolicy::jitter);
        let policy = set(policy, duration("renewal.leewayMs", self.leeway_ms)?, RenewalPolicy::leeway);
        let base = duration("renewal.backoffBaseMs", self.backoff_base_ms)?;
        let policy = set(policy, base, RenewalPolicy::backoff_base);
        let cap = duration("renewal.backoffCapMs", self.backoff_cap_ms)?;
        let policy = set(policy, cap, RenewalPolicy::backoff_cap);
        let request = duration("renewal.requestTimeoutMs", self.request_timeout_ms)?;
        let policy = set(policy, request, RenewalPolicy::request_timeout);
        let policy = set(policy, duration("renewal.settleMs", self.settle_ms)?, RenewalPolicy::settle);
        let settings = Settings {
            addresses: Default::default(),
            base_url: None,
            issuer: self.issuer,
            token_url: self.token_url,
            audience: self.audience,
            resource: self.resource.unwrap_or_default(),
            scope: self.scope.unwrap_or_default(),
            token_params: pairs(self.token_params),
            client_auth: self.client_auth.map(NativeClientAuth::into_client_auth).transpose()?,
            dpop: (self.dpop == Some(true)).then(|| dpop(self.dpop_key)).transpose()?,
            base: self.base_url,
            trusted_origins: self.trusted_origins.unwrap_or_default(),
            allow_insecure_http: self.allow_insecure_http == Some(true),
            renewal: set(policy, self.stop_after_unused, RenewalPolicy::stop_after_unused),
            name: self.name,
            token_timeout: duration("tokenTimeoutMs", self.token_timeout_ms)?,
            connect_timeout: duration("connectTimeoutMs", self.connect_timeout_ms)?,
            user_agent: self.user_agent,
            proxy: self.proxy,
            ca: self.ca.unwrap_or_default(),
            cert: self.cert,
            revoke_on_shutdown: self.revoke_on_shutdown == Some(true),
            revocation_url: self.revocation_url,
        };
        Ok((settings, credentials))
    }
}

impl Settings {
    /// That of a client which asks nobody.
    pub fn fixed(base_url: &str) -> Self {
        Self { base_url: Url::parse(base_url).ok(), ..Self::default() }
    }

    /// Takes from a builder made of it what that knows of addresses: the environment may have set them.
    pub fn learn(&mut self, builder: &Builder<TokenSource>) {
        self.addresses = builder.addresses().map(|url| url.map(|url| evertoken::trimmed_url(url).to_owned()));
        self.base_url = self.addresses[2].as_deref().and_then(|url| Url::parse(url).ok());
    }

    pub fn builder(&self, credentials: &Credentials) -> Builder<TokenSource> {
        let builder = credentials.builder();
        let builder = set(builder, self.issuer.clone(), Builder::issuer);
        let builder = set(builder, self.token_url.clone(), Builder::token_url);
        let builder = set(builder, self.audience.clone(), Builder::audience);
        let builder = self.resource.iter().cloned().fold(builder, Builder::resource);
        let builder = self.scope.iter().fold(builder, Builder::scope);
        let params = self.token_params.iter().cloned();
        let builder = params.fold(builder, |builder, (name, value)| builder.token_param(name, value));
        let builder = set(builder, self.client_auth.clone(), Builder::client_auth);
        let builder = set(builder, self.dpop.clone(), Builder::dpop);
        let builder = set(builder, self.base.clone(), Builder::base_url);
        let builder = self.trusted_origins.iter().cloned().fold(builder, Builder::trusted_origin);
        let builder = if self.allow_insecure_http { builder.allow_insecure_http() } else { builder };
        let builder = set(builder.renewal(self.renewal.clone()), self.name.clone(), Builder::name);
        let builder = set(builder, self.token_timeout, Builder::token_timeout);
        let builder = set(builder, self.connect_timeout, Builder::connect_timeout);
        let builder = set(builder, self.user_agent.clone(), Builder::user_agent);
        let builder = set(builder, self.proxy.as_ref(), Builder::proxy);
        let builder = self.ca.iter().fold(builder, Builder::root_certificate);
        let builder = set(builder, self.cert.as_ref(), Builder::client_certificate);
        let builder = builder.revoke_on_shutdown(self.revoke_on_shutdown);
        set(builder, self.revocation_url.clone(), Builder::revocation_url)
    }
}
