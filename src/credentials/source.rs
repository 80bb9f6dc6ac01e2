use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::file::{CredentialFiles, Layout, Part, Place};
use super::text::{Field, Fields};
use super::{ApiKey, AppCredentials};
use crate::environment::{Environment, OURS};
use crate::error::{Error, Result};
use crate::padding::trimmed_url;

/// Where app id and app secret come from, and where the next ones are to be had when they are rotated. Given to
/// [`Client::builder_with`](crate::Client::builder_with) or
/// [`TokenSource::builder_with`](crate::TokenSource::builder_with).
///
/// | Source | Asked |
/// |---|---|
/// | [`AppCredentials`], [`ApiKey`]: given, with the next secret if there is one | once |
/// | [`env`](Self::env): the environment | once, when it is made |
/// | [`file`](Self::file), [`files`](Self::files), [`directory`](Self::directory) | by `build`; within a second of a change, and when the server refuses the credential |
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
        missing: Option<Missing>,
    },
    Files {
        files: CredentialFiles,
        missing: Option<Missing>,
    },
    Provider(Arc<Provider>),
    /// Told by `build`.
    Mistaken(Error),
}

/// What to say if the environment lacks an id or a secret.
pub(super) struct Missing {
    pub(super) app_id: Error,
    pub(super) app_secret: Error,
}

type Provided = Result<AppCredentials, Box<dyn std::error::Error + Send + Sync>>;
pub(super) type Provider = dyn Fn() -> Pin<Box<dyn Future<Output = Provided> + Send>> + Send + Sync;

impl CredentialSource {
    /// The environment: `EVERTOKEN_APP_ID`, `EVERTOKEN_APP_SECRET` and, in a rotation, `EVERTOKEN_APP_SECRET_NEXT`, each of
    /// which can be in a file instead: `EVERTOKEN_APP_SECRET_FILE` is its path, as with [`files`](Self::files). Or an
    /// [`ApiKey`] in `EVERTOKEN_API_KEY` or `EVERTOKEN_API_KEY_FILE` in the place of the first two. Or
    /// `EVERTOKEN_CREDENTIALS_FILE`, the path of a [`file`](Self::file), or `EVERTOKEN_CREDENTIALS_DIRECTORY`, that of a
    /// [`directory`](Self::directory), in the place of all. `EVERTOKEN_FILE_READABLE_BY_OTHERS=true` does what
    /// [`readable_by_others`](Self::readable_by_others) does.
    ///
    /// The variables are read here. `build` reports what is missing or is not Unicode, and a variable that may have been
    /// meant. No value is shown.
    pub fn env() -> Self {
        Self::env_prefix(OURS)
    }

    /// The same with another word in front: `ACME` for `ACME_APP_ID`.
    pub fn env_prefix(prefix: &str) -> Self {
        let lookup = |name: &str| std::env::var_os(name);
        let names = std::env::vars_os().map(|(name, _)| name);
        Self::from_environment(&Environment::new(prefix, &lookup, names), None)
    }

    /// A file that holds what [`AppCredentials`] can be read from, on a local file system. It is read by `build`, again
    /// within a second of any change (rewritten, renamed over, or a link that leads elsewhere, as Kubernetes does it), and
    /// when the server refuses the credential. One that is missing, torn or unsafe by then changes nothing. A change is
    /// believed once two readings 50 ms apart agree.
    ///
    /// A file that is missing, empty or torn when the client is built is waited for: `build` succeeds and a WARN line of the
    /// log says why, reads wait, and fail as [`CredentialsUnavailable`](crate::ErrorKind::CredentialsUnavailable) with the
    /// file's path if it does not come in time.
    ///
    /// On Unix, `build` refuses a file that its group or others may read with a
    /// [`Configuration`](crate::ErrorKind::Configuration) error, and one of another user as well; but root's may be readable
    /// by a group of ours.
    ///
    /// In Kubernetes, secrets are root's with mode 0644 by default. `defaultMode: 0400` on the volume mends that for a
    /// container that runs as root; `defaultMode: 0440` with `fsGroup` in the pod's `securityContext` for any other. If
    /// neither can be set, there is [`readable_by_others`](Self::readable_by_others).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of_files(CredentialFiles::new(Layout::Whole(path.into().into())))
    }

    /// Reads the app id from one file and the app secret from another, as container secrets and `…_FILE` variables have them.
    /// The whole content counts, without a line end behind it. The files are watched and guarded as [`file`](Self::file)
    /// says, each of them.
    ///
    /// Both are of one moment: they are read again if either changes while they are read. Replace both at once by a link, as
    /// Kubernetes does, or the secret first: an app id that comes alone is believed after 2 s.
    ///
    /// ```no_run
    /// use evertoken::{Client, CredentialSource};
    ///
    /// # fn run() -> evertoken::Result<()> {
    /// let source = CredentialSource::files("/run/secrets/acme_id", "/run/secrets/acme_secret")
    ///     .next_secret_file("/run/secrets/acme_secret_next");
    /// let api = Client::builder_with(source).issuer("https://acme.eu.auth0.com/").build()?;
    /// # drop(api); Ok(()) }
    /// ```
    pub fn files(id_path: impl Into<PathBuf>, secret_path: impl Into<PathBuf>) -> Self {
        let file = |path: PathBuf| Part::File(path.into());
        Self::of_files(CredentialFiles::new(Layout::Parts(vec![
            (Field::AppId, file(id_path.into())),
            (Field::AppSecret, file(secret_path.into())),
        ])))
    }

    /// Reads the next secret of a rotation from a file of its own, beside those of [`files`](Self::files). It need not be
    /// there.
    pub fn next_secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        match &mut self.0 {
            Kind::Files { files: CredentialFiles { layout: Layout::Parts(parts), .. }, .. } => {
                parts.push((Field::NextSecret, Part::Optional(path.into().into())));
                self
            }
            Kind::Mistaken(_) => self,
            _ => Self::mistaken(Error::configuration(
                "`next_secret_file` goes with `CredentialSource::files` only",
            )),
        }
    }

    /// Reads a directory with a file for each value, as a Kubernetes volume has them. The names are the usual ones, however
    /// they are written: `client_id` or `app_id` (`clientId`, `CLIENT_ID`, `client-id`), `client_secret` or `app_secret`,
    /// `client_secret_next` or `next_app_secret` in a rotation, or `api_key` in the place of the first two. Other and hidden
    /// files are ignored. Two files for one value that differ are an error. All else is as with [`files`](Self::files).
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::of_files(CredentialFiles::new(Layout::Directory(path.into().into())))
    }

    /// Accepts files that their group and others may read, and those of another user: for a mount that rules mode and owner.
    /// A file that others than its owner may write is refused all the same. It does nothing for other sources.
    pub fn readable_by_others(mut self) -> Self {
        if let Kind::Files { files, .. } = &mut self.0 {
            files.readable_by_others = true;
        }
        self
    }

    /// [`file`](Self::file) with [`readable_by_others`](Self::readable_by_others).
    pub fn file_readable_by_others(path: impl Into<PathBuf>) -> Self {
        Self::file(path).readable_by_others()
    }

    fn of_files(files: CredentialFiles) -> Self {
        Self(Kind::Files { files, missing: None })
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

    /// The environment as `lookup` has it. An API key in it must have the prefix `key_prefix`, if that is given. For bindings
    /// only.
    #[doc(hidden)]
    pub fn from_lookup(
        prefix: &str,
        key_prefix: Option<&str>,
        lookup: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        Self::from_environment(&Environment::new(prefix, &lookup, []), key_prefix)
    }

    pub(crate) fn from_environment(environment: &Environment<'_>, key_prefix: Option<&str>) -> Self {
        match looked_up(environment, key_prefix) {
            Ok(kind) => Self(kind),
            Err(error) => Self::mistaken(error),
        }
    }

    pub(crate) fn mistaken(error: Error) -> Self {
        Self(Kind::Mistaken(error))
    }
}

/// The fields that may be in the environment, and under which names.
const FIELDS: [(Field, &str, &str); 4] = [
    (Field::ApiKey, "API_KEY", "API_KEY_FILE"),
    (Field::AppId, "APP_ID", "APP_ID_FILE"),
    (Field::AppSecret, "APP_SECRET", "APP_SECRET_FILE"),
    (Field::NextSecret, "APP_SECRET_NEXT", "APP_SECRET_NEXT_FILE"),
];

fn looked_up(environment: &Environment<'_>, key_prefix: Option<&str>) -> Result<Kind> {
    let named = |name: &str| environment.named(name);
    let both = |one: &str, other: &str| {
        Err(Error::configuration(format!("{} is set, and {} too", named(one), named(other)))
            .advice("unset the one or the other"))
    };
    let place = |name: &str| {
        let path = environment.get_os(name)?;
        // As with URLs, white space and quotes are those of whoever wrote the variable down.
        let path = path.to_str().map_or_else(|| path.clone().into(), |text| trimmed_url(text).into());
        Some(Place { path, variable: Some(named(name)) })
    };
    let mut parts = Vec::new();
    // By which variable each part is given.
    let mut given: Vec<(Field, &str)> = Vec::new();
    for (field, name, file) in FIELDS {
        match (environment.get(name)?, place(file)) {
            (Some(_), Some(_)) => return both(name, file),
            (Some(value), None) => {
                parts.push((field, Part::Given(value)));
                given.push((field, name));
            }
            (None, Some(place)) => {
                let is_next = field == Field::NextSecret;
                parts.push((field, if is_next { Part::Optional(place) } else { Part::File(place) }));
                given.push((field, file));
            }
            (None, None) => {}
        }
    }
    let name_of = |field: Field| given.iter().find(|(known, _)| *known == field).map(|(_, name)| *name);
    let wholes = [
        ("CREDENTIALS_FILE", Layout::Whole as fn(Place) -> Layout),
        ("CREDENTIALS_DIRECTORY", Layout::Directory),
    ];
    let mut whole = None;
    for (name, layout) in wholes {
        if let Some(place) = place(name) {
            let other = whole.as_ref().map(|(other, _)| *other).or(given.first().map(|(_, name)| *name));
            if let Some(other) = other {
                return both(name, other);
            }
            whole = Some((name, layout(place)));
        }
    }
    let missing = || Missing {
        app_id: environment.missing(&["APP_ID"], "not set, or empty"),
        app_secret: environment.missing(&["APP_SECRET"], "not set, or empty").advice(format!(
            "set it or {}, or a {} that needs none",
            named("APP_SECRET_FILE"),
            named("CLIENT_AUTH")
        )),
    };
    let of_files = |layout| {
        let mut files = CredentialFiles::new(layout);
        files.readable_by_others = is_on(environment, SWITCH)?;
        files.switch = Some(named(SWITCH));
        files.key_prefix = key_prefix.map(str::to_owned);
        Ok(Kind::Files { files, missing: Some(missing()) })
    };
    if let Some((_, layout)) = whole {
        return of_files(layout);
    }
    match (name_of(Field::ApiKey), name_of(Field::AppId), name_of(Field::AppSecret)) {
        (Some(key), id, secret) if id.or(secret).is_some() => {
            let others = [id.unwrap_or("APP_ID"), secret.unwrap_or("APP_SECRET")].map(named).join(" or ");
            return Err(Error::configuration(format!("{} is set, and {others} too", named(key)))
                .advice("unset the one or the others"));
        }
        (None, None, _) => {
            return Err(environment.missing(&["APP_ID"], "not set").advice(format!(
                "set it, or {}, {} or {}",
                named("APP_ID_FILE"),
                named("API_KEY"),
                named("CREDENTIALS_FILE")
            )));
        }
        _ => {}
    }
    if parts.iter().any(|(_, part)| !matches!(part, Part::Given(_))) {
        return of_files(Layout::Parts(parts));
    }
    let mut fields = Fields::default();
    for (field, part) in parts {
        if let Part::Given(value) = part {
            fields.add(field, "", value)?;
        }
    }
    let credentials = fields.into_credentials(key_prefix).map_err(|error| match name_of(Field::ApiKey) {
        Some(name) => error.prefixed(format_args!("the environment variable {}", named(name))),
        None => error,
    })?;
    Ok(Kind::Given { credentials, missing: Some(missing()) })
}

/// The variable that lets others read the files.
const SWITCH: &str = "FILE_READABLE_BY_OTHERS";

fn is_on(environment: &Environment<'_>, name: &str) -> Result<bool> {
    let Some(value) = environment.get(name)? else { return Ok(false) };
    match trimmed_url(&value).to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Error::configuration(format!(
            "the environment variable {} is neither true nor false",
            environment.named(name)
        ))),
    }
}

impl From<AppCredentials> for CredentialSource {
    fn from(credentials: AppCredentials) -> Self {
        Self(Kind::Given { credentials, missing: None })
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
            Kind::Files { files, .. } => files.layout.fmt(f),
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
