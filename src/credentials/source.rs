use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::file::CredentialFile;
use super::text::Fields;
use super::{ApiKey, AppCredentials};
use crate::error::{Error, Result};

/// Where app id and app secret come from, and where the next ones are to be had when they are rotated. Given to
/// [`Client::builder_with`](crate::Client::builder_with) or
/// [`TokenSource::builder_with`](crate::TokenSource::builder_with).
///
/// | Source | Asked |
/// |---|---|
/// | [`AppCredentials`], [`ApiKey`]: given, with the next secret if there is one | once |
/// | [`env`](Self::env): the environment | once, when it is made |
/// | [`file`](Self::file) | by `build`; within a second of a change, and when the server refuses the credential |
/// | [`provider`](Self::provider): your own async code | before each token request, and when the server refuses the credential |
///
/// In each of them there can be a next secret. Where the server refuses the one in use, the source is asked afresh, and what
/// it has that is new, else the next secret, is tried at once: calls that wait do not notice. The first success with the
/// next secret promotes it. A rotation needs no restart then and costs no call:
///
/// ```no_run
/// use evertoken::{AppCredentials, Client, CredentialSource};
///
/// # fn run() -> evertoken::Result<()> {
/// // Rewritten by whoever rotates the secret:
/// let source = CredentialSource::file("/etc/acme/credentials.json");
/// // Or with both secrets from the start:
/// let source = CredentialSource::from(AppCredentials::new("app-7", "s3cr3t").next_secret("n3xt"));
///
/// let api = Client::builder_with(source)
///     .issuer("https://acme.eu.auth0.com/")
///     .base_url("https://api.acme.com/v1/")
///     .build()?;
/// # drop(api); Ok(()) }
/// ```
///
/// A source that fails costs nothing as long as it gave something before: that stays in use, and a WARN line of the log
/// tells. Something new from a source wakes a client whose credential was refused, once in 10 s at most. A secret from
/// [`set_credentials`](crate::TokenSource::set_credentials) holds until the source gives something else than the last time.
pub struct CredentialSource(pub(super) Kind);

pub(super) enum Kind {
    Given {
        credentials: AppCredentials,
        /// The environment variable that the secret would be in.
        variable: Option<String>,
    },
    File(CredentialFile),
    Provider(Arc<Provider>),
    /// Told by `build`.
    Mistaken(Error),
}

type Provided = Result<AppCredentials, Box<dyn std::error::Error + Send + Sync>>;
pub(super) type Provider = dyn Fn() -> Pin<Box<dyn Future<Output = Provided> + Send>> + Send + Sync;

impl CredentialSource {
    /// The environment: `EVERTOKEN_APP_ID`, `EVERTOKEN_APP_SECRET` and, in a rotation, `EVERTOKEN_APP_SECRET_NEXT`; or an
    /// [`ApiKey`] in `EVERTOKEN_API_KEY` in the place of the first two; or `EVERTOKEN_CREDENTIALS_FILE`, the path of a
    /// [`file`](Self::file), in the place of all. It is read here; what is missing or is not Unicode is told by `build`.
    pub fn env() -> Self {
        Self::env_prefix("EVERTOKEN")
    }

    /// The same with another word in front: `ACME` for `ACME_APP_ID`.
    pub fn env_prefix(prefix: &str) -> Self {
        Self::from_lookup(prefix, None, |name| std::env::var_os(name))
    }

    /// A file that holds what [`AppCredentials`] can be read from, on a local file system. It is read by `build`, again
    /// within a second of any change (rewritten, renamed over, or a link that leads elsewhere, as Kubernetes does it), and
    /// when the server refuses the credential. One that is missing, torn or unsafe by then changes nothing. A change is
    /// believed once two readings 50 ms apart agree.
    ///
    /// On Unix, a file that its group or others may read is a [`Configuration`](crate::ErrorKind::Configuration) error, and
    /// so is one of another user; but root's may be readable by a group of ours.
    ///
    /// In Kubernetes, secrets are root's with mode 0644 by default. `defaultMode: 0400` on the volume mends that for a
    /// container that runs as root; `defaultMode: 0440` with `fsGroup` in the pod's `securityContext` for any other. Where
    /// neither can be set, there is [`file_readable_by_others`](Self::file_readable_by_others).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(CredentialFile::new(path.into(), false)))
    }

    /// The same for a file whose owner and mode a mount rules, so that anybody may read it. One that others than its owner
    /// may write is an error all the same.
    pub fn file_readable_by_others(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(CredentialFile::new(path.into(), true)))
    }

    /// Your own code, for Vault, AWS Secrets Manager and the like. It is asked before each token request, again at once where
    /// the server refuses the credential, and every 15 s while it does; for all sources of a family together, one call at a
    /// time, and otherwise no more than once in a second.
    ///
    /// It has half of an attempt's time for an answer, 5 s by default. Where it fails, panics or takes longer, the last
    /// credential stays in use. Where there is none yet, the attempt fails as
    /// [`CredentialsUnavailable`](crate::ErrorKind::CredentialsUnavailable) and is repeated with backoff. The text of its
    /// errors is shown in errors and logs, so it must hold no secret.
    ///
    /// ```no_run
    /// use evertoken::{AppCredentials, Client, CredentialSource};
    ///
    /// # async fn secret_of(name: &str, stage: &str) -> Result<String, std::io::Error> {
    /// #     std::fs::read_to_string(format!("{name}.{stage}"))
    /// # }
    /// # fn run() -> evertoken::Result<()> {
    /// let source = CredentialSource::provider(|| async {
    ///     // From a store that has stages, as AWS Secrets Manager has them:
    ///     let current = secret_of("acme/app", "AWSCURRENT").await?;
    ///     let credentials: AppCredentials = current.parse()?;
    ///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(match secret_of("acme/app-secret", "AWSPENDING").await {
    ///         Ok(pending) => credentials.next_secret(pending),
    ///         Err(_) => credentials,
    ///     })
    /// });
    /// let api = Client::builder_with(source).issuer("https://acme.eu.auth0.com/").build()?;
    /// # drop(api); Ok(()) }
    /// ```
    pub fn provider<F, Fut, E>(provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<AppCredentials, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(Kind::Provider(Arc::new(move || {
            let asked = provider();
            Box::pin(async move { asked.await.map_err(Into::into) })
        })))
    }

    /// The environment as `lookup` has it. An API key in it must have the prefix `key_prefix`, where that is given. For
    /// bindings only.
    #[doc(hidden)]
    pub fn from_lookup(
        prefix: &str,
        key_prefix: Option<&str>,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        match looked_up(prefix, key_prefix, lookup) {
            Ok(kind) => Self(kind),
            Err(error) => Self::mistaken(error),
        }
    }

    pub(crate) fn mistaken(error: Error) -> Self {
        Self(Kind::Mistaken(error))
    }
}

fn looked_up(
    prefix: &str,
    key_prefix: Option<&str>,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Kind> {
    let get = |name: &str| {
        let name = format!("{prefix}_{name}");
        match lookup(&name).filter(|value| !value.is_empty()).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(Zeroizing::new(value))),
            Some(Err(_)) => {
                Err(Error::configuration(format!("the environment variable {name} is not Unicode")))
            }
            None => Ok(None),
        }
    };
    let path = lookup(&format!("{prefix}_CREDENTIALS_FILE")).filter(|path| !path.is_empty());
    let names = ["API_KEY", "APP_ID", "APP_SECRET", "APP_SECRET_NEXT"];
    let [api_key, app_id, app_secret, next_app_secret] = names.map(get);
    let fields = Fields {
        api_key: api_key?,
        app_id: app_id?,
        app_secret: app_secret?,
        next_app_secret: next_app_secret?,
    };
    let both = |one: &str, other: &str| {
        Err(Error::configuration(format!("{prefix}_{one} is set, and {other} too"))
            .advice("unset the one or the others"))
    };
    let apart = fields.app_id.is_some() || fields.app_secret.is_some();
    if let Some(path) = path {
        if apart || fields.api_key.is_some() || fields.next_app_secret.is_some() {
            return both(
                "CREDENTIALS_FILE",
                &format!("{prefix}_API_KEY, _APP_ID, _APP_SECRET or _APP_SECRET_NEXT"),
            );
        }
        let mut file = CredentialFile::new(path.into(), false);
        file.key_prefix = key_prefix.map(str::to_owned);
        return Ok(Kind::File(file));
    }
    match (&fields.api_key, &fields.app_id) {
        (Some(_), _) if apart => return both("API_KEY", &format!("{prefix}_APP_ID or _APP_SECRET")),
        (None, None) => {
            return Err(Error::configuration(format!("the environment variable {prefix}_APP_ID is not set")));
        }
        _ => {}
    }
    let credentials = fields.into_credentials(key_prefix)?;
    Ok(Kind::Given { credentials, variable: Some(format!("{prefix}_APP_SECRET")) })
}

impl From<AppCredentials> for CredentialSource {
    fn from(credentials: AppCredentials) -> Self {
        Self(Kind::Given { credentials, variable: None })
    }
}

impl From<ApiKey> for CredentialSource {
    fn from(key: ApiKey) -> Self {
        AppCredentials::from(key).into()
    }
}

/// How logs name it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Given { .. } | Kind::Mistaken(_) => f.write_str("given"),
            Kind::File(file) => write!(f, "file {}", file.path.display()),
            Kind::Provider(_) => f.write_str("provider"),
        }
    }
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Given { credentials, .. } => credentials.fmt(f),
            Kind::Mistaken(error) => error.fmt(f),
            other => write!(f, "CredentialSource({other})"),
        }
    }
}
