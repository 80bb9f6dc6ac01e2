//! Who the client is.

use std::path::PathBuf;

use evertoken::{AppCredentials, Builder, CredentialSource, SecretString, TokenSource};
use napi::bindgen_prelude::{External, Result};
use napi_derive::napi;

use crate::client::Handle;
use crate::mailbox::Mailbox;

#[derive(Clone)]
pub enum Credentials {
    Given {
        app_id: String,
        app_secret: SecretString,
        next_app_secret: Option<SecretString>,
    },
    ApiKey(String),
    /// What the environment has of a prefix, as JavaScript sees it: a worker thread may have one of its own.
    Env {
        prefix: String,
        key_prefix: Option<String>,
        variables: Vec<(String, String)>,
    },
    /// With `true`, others may read them.
    Files(Files, bool),
    /// A function of JavaScript's.
    Function(Mailbox),
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

fn given(app_id: String, app_secret: impl Into<SecretString>, next: Option<SecretString>) -> AppCredentials {
    let given = AppCredentials::new(app_id, app_secret);
    match next {
        Some(next) => given.next_secret(next),
        None => given,
    }
}

impl Credentials {
    pub fn builder(&self) -> Builder<TokenSource> {
        let source: CredentialSource = match self.clone() {
            Self::ApiKey(key) => return TokenSource::builder_from(key.as_str()),
            Self::Given { app_id, app_secret, next_app_secret } => {
                given(app_id, app_secret, next_app_secret).into()
            }
            Self::Env { prefix, key_prefix, variables } => {
                let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
                return Builder::from_variables(&prefix, key_prefix.as_deref(), variables);
            }
            Self::Files(files, true) => files.source().readable_by_others(),
            Self::Files(files, false) => files.source(),
            Self::Function(mailbox) => CredentialSource::provider(move || mailbox.clone().ask()),
        };
        TokenSource::builder_with(source)
    }
}

#[napi(object)]
pub struct GivenCredentials {
    pub app_id: String,
    pub app_secret: String,
    pub next_app_secret: Option<String>,
}

/// What a function of JavaScript's gave, or why it gave nothing.
#[napi]
pub fn give_credentials(
    handle: &External<Handle>,
    question: u32,
    credentials: Option<GivenCredentials>,
    reason: Option<String>,
) -> Result<()> {
    let outcome = match credentials {
        Some(GivenCredentials { app_id, app_secret, next_app_secret }) => {
            Ok(given(app_id, app_secret, next_app_secret.map(SecretString::from)))
        }
        None => Err(reason.unwrap_or_default().into()),
    };
    handle.shared.mailbox.reply(question, outcome);
    Ok(())
}
