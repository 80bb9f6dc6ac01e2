//! A builder that is set up by environment variables, and how its mistakes are named: by the variable that a value came from,
//! not by the option. Which variables there are stands in `environment.rs`.

use std::collections::BTreeSet;
use std::ffi::OsString;

use zeroize::Zeroizing;

use super::builder::{Builder, Config};
use crate::credentials::CredentialSource;
use crate::environment::{Environment, OURS, VARIABLES};
use crate::error::{Error, Result};
use crate::grant::ClientAuth;
use crate::padding::trimmed_url;

/// What is known of the environment that a builder was set up by.
#[derive(Debug, Clone)]
pub(crate) struct FromEnv {
    prefix: String,
    /// The options whose value came from a variable.
    read: BTreeSet<&'static str>,
    /// The options that were set by code or a preset.
    replaced: BTreeSet<&'static str>,
    /// The words that mistakes may quote.
    words: Vec<String>,
    /// What is wrong with variables, by their options.
    mistakes: Vec<(&'static str, Error)>,
    /// What to say if neither `issuer` nor `token_url` is known.
    no_server: Error,
    /// Descriptions of variables that look like ours and are not.
    pub(super) unknown: Vec<String>,
}

impl FromEnv {
    /// Leaves out the values of variables.
    fn without_values(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, word| text.replace(&format!(" {word:?}"), ""))
    }

    /// Names variables in place of options, unless code set the option.
    pub(super) fn spell(&self, text: &str) -> String {
        let by_variable = VARIABLES.iter().filter(|known| !self.replaced.contains(known.option));
        by_variable.fold(text.to_owned(), |text, known| {
            // The word between backticks.
            let option = format!("\u{60}{}\u{60}", known.option);
            text.replace(&option, &format!("{}_{}", self.prefix, known.name))
        })
    }
}

impl Config {
    /// Takes note that code sets an option. Returns whether a value from the environment has to go for it.
    pub(super) fn replaces(&mut self, option: &'static str) -> bool {
        self.environment
            .as_mut()
            .is_some_and(|known| known.replaced.insert(option) && known.read.contains(option))
    }

    /// The error as whoever set up the builder knows its options.
    pub(crate) fn naming(environment: Option<&FromEnv>, error: Error) -> Error {
        match environment {
            Some(environment) => error.reworded(|text| environment.without_values(&environment.spell(text))),
            None => error,
        }
    }

    /// The first mistake in a variable whose option no code has set.
    pub(super) fn mistake_of_environment(&self) -> Option<Error> {
        let environment = self.environment.as_ref()?;
        let counts = |option: &&'static str| !environment.replaced.contains(*option);
        environment.mistakes.iter().find(|(option, _)| counts(option)).map(|(_, error)| error.clone())
    }

    pub(super) fn no_server(&self) -> Error {
        match &self.environment {
            Some(environment) => environment.no_server.clone(),
            None => Error::configuration("no authorization server: give `issuer` or `token_url`"),
        }
    }
}

impl<T> Builder<T> {
    /// Reads the environment: the credentials as [`CredentialSource::env`] does, from `EVERTOKEN_APP_ID` and
    /// `EVERTOKEN_APP_SECRET`, `EVERTOKEN_API_KEY`, `EVERTOKEN_CREDENTIALS_FILE` and the like; `EVERTOKEN_ISSUER` or
    /// `EVERTOKEN_TOKEN_URL`; and, if they are set, `EVERTOKEN_CLIENT_AUTH`, `EVERTOKEN_AUDIENCE`, `EVERTOKEN_RESOURCE`,
    /// `EVERTOKEN_SCOPE`, `EVERTOKEN_BASE_URL`, `EVERTOKEN_ROOT_CERTIFICATE` (the path of a PEM file, or PEM itself) and
    /// `EVERTOKEN_PROXY`.
    ///
    /// Setters replace what the environment says; [`issuer`](Self::issuer) and [`token_url`](Self::token_url) each replace
    /// both of its variables. `build` reports what is missing, wrong or not Unicode by the variable's name and without its
    /// value. A WARN line of the log names variables that begin with `EVERTOKEN_` and are not known.
    pub fn from_env() -> Self {
        Self::from_env_of(OURS, None)
    }

    /// The same with another word in front, and keys of one prefix only.
    pub(crate) fn from_env_of(prefix: &str, key_prefix: Option<&str>) -> Self {
        Self::from_variables(prefix, key_prefix, std::env::vars_os())
    }

    /// The same for an environment that is given. Its values are the same in each language, as are the messages about them. For
    /// bindings only.
    #[doc(hidden)]
    pub fn from_variables(
        prefix: &str,
        key_prefix: Option<&str>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let variables: Vec<_> = variables.into_iter().collect();
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let names = variables.iter().map(|(name, _)| name.clone());
        let environment = Environment::new(prefix, &lookup, names);
        let mut this = Self::new_with(CredentialSource::from_environment(&environment, key_prefix));
        let config = &mut this.config;
        let mut known = FromEnv {
            prefix: prefix.to_owned(),
            read: BTreeSet::new(),
            replaced: BTreeSet::new(),
            words: Vec::new(),
            mistakes: Vec::new(),
            no_server: environment.missing(&["ISSUER", "TOKEN_URL"], "not set").advice(format!(
                "set {} if the server has discovery, else {}",
                environment.named("ISSUER"),
                environment.named("TOKEN_URL")
            )),
            unknown: environment.unknown(),
        };
        for variable in VARIABLES.iter().filter(|known| known.option != "credentials") {
            let set = environment.get(variable.name).and_then(|value| match value {
                Some(value) => config.set(variable.option, value).map(|()| true),
                None => Ok(false),
            });
            match set {
                Ok(true) => drop(known.read.insert(variable.option)),
                Ok(false) => {}
                Err(error) => known.mistakes.push((variable.option, error)),
            }
        }
        let request = &config.request;
        known.words.extend(request.resources.iter().chain(&request.audience).cloned());
        known
            .words
            .extend(request.scopes.iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned));
        config.server_from_env = true;
        config.environment = Some(known);
        this
    }

    /// The issuer, the token endpoint and the base URL as they are set. For bindings only.
    #[doc(hidden)]
    pub fn addresses(&self) -> [Option<&str>; 3] {
        let Config { issuer, token_url, base_url, .. } = &self.config;
        [issuer, token_url, base_url].map(Option::as_deref)
    }
}

impl Config {
    /// Gives an option the value of a variable.
    fn set(&mut self, option: &str, value: Zeroizing<String>) -> Result<()> {
        let text = || value.as_str().to_owned();
        match option {
            "issuer" => self.issuer = Some(text()),
            "token_url" => self.token_url = Some(text()),
            "base_url" => self.base_url = Some(text()),
            "audience" => self.request.audience = Some(text()),
            "resource" => self.request.resources = value.split_whitespace().map(str::to_owned).collect(),
            "scope" => self.request.scopes = vec![text()],
            "client_auth" => self.client_auth = Some(ClientAuth::named(trimmed_url(&value))?),
            "root_certificate" => self.network.add_roots(&pem(&value)?)?,
            "proxy" => self.network.set_proxy(&value)?,
            _ => {}
        }
        Ok(())
    }
}

/// PEM is either in the variable, or in the file that it names.
fn pem(value: &str) -> Result<Vec<u8>> {
    if value.contains("-----BEGIN") {
        return Ok(value.as_bytes().to_vec());
    }
    std::fs::read(trimmed_url(value)).map_err(|error| {
        Error::configuration(format!("`root_certificate` names a file that cannot be read: {error}"))
            .with_source(error)
            .advice("give it the path of a PEM file, or the PEM itself")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::source::TokenSource;

    const BASIS: [(&str, &str); 3] =
        [("APP_ID", "id"), ("APP_SECRET", "s"), ("ISSUER", "https://as.example/")];

    fn from(prefix: &str, vars: &[(&str, &str)]) -> Builder<TokenSource> {
        let named = |(name, value): &(&str, &str)| (format!("{prefix}_{name}").into(), (*value).into());
        Builder::from_variables(prefix, None, vars.iter().map(named))
    }

    fn with(more: &[(&str, &str)]) -> Builder<TokenSource> {
        let basis = BASIS.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        from("EVERTOKEN", &basis.chain(more).copied().collect::<Vec<_>>())
    }

    fn error(builder: Builder<TokenSource>) -> String {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
        error.to_string()
    }

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn reads_all_that_a_deployment_needs() {
        let path = std::env::temp_dir().join(format!("evertoken-root-{}", std::process::id()));
        std::fs::write(&path, certificate()).unwrap();
        for root in [certificate(), format!("\"{}\"\n", path.display())] {
            let builder = with(&[
                ("CLIENT_AUTH", "client_secret_post"),
                ("RESOURCE", "https://one.example/ https://two.example/"),
                ("ROOT_CERTIFICATE", &root),
                ("PROXY", "http://user:h1dden@proxy.example:3128"),
            ]);
            assert!(matches!(builder.config.client_auth, Some(ClientAuth::ClientSecretPost)));
            let network = format!("{:?}", builder.config.network);
            assert!(network.contains("roots: 1") && network.contains("proxy: true"), "{network}");
            let source = builder.build().unwrap();
            assert_eq!(
                source.refresher().grant_request().resources,
                ["https://one.example/", "https://two.example/"]
            );
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn mistakes_are_named_by_their_variables_and_without_values() {
        for (name, value, said) in [
            ("ISSUER", "h1dden", "EVERTOKEN_ISSUER"),
            ("ISSUER", "http://h1dden.example/", "EVERTOKEN_ISSUER"),
            (
                "TOKEN_URL",
                "https://as.example/token",
                "EVERTOKEN_ISSUER and EVERTOKEN_TOKEN_URL are both set",
            ),
            ("BASE_URL", "h1dden", "EVERTOKEN_BASE_URL"),
            ("SCOPE", "h1dden\"", "EVERTOKEN_SCOPE"),
            ("RESOURCE", "https://h1dden.example/#fragment", "EVERTOKEN_RESOURCE"),
            ("CLIENT_AUTH", "h1dden", "EVERTOKEN_CLIENT_AUTH is not known"),
            ("CLIENT_AUTH", "private_key_jwt", "EVERTOKEN_CLIENT_AUTH is private_key_jwt, which needs a key"),
            ("CLIENT_AUTH", "none", "EVERTOKEN_CLIENT_AUTH is none"),
            ("CLIENT_AUTH", "tls_client_auth", "EVERTOKEN_CLIENT_AUTH is mutual TLS"),
            ("ROOT_CERTIFICATE", "/h1dden", "EVERTOKEN_ROOT_CERTIFICATE names a file that cannot be read"),
            ("ROOT_CERTIFICATE", "-----BEGIN h1dden", "EVERTOKEN_ROOT_CERTIFICATE"),
            ("PROXY", "h1dden", "EVERTOKEN_PROXY is not a URL"),
            ("APP_ID", "\n", "EVERTOKEN_APP_ID is not set"),
            ("APP_SECRET", "\r\n", "EVERTOKEN_APP_SECRET is not set, or empty"),
            ("API_KEY", "h1dden", "EVERTOKEN_API_KEY"),
        ] {
            let text = error(with(&[(name, value)]));
            assert!(text.contains(said), "{name}: {text}");
            let options = VARIABLES.iter().map(|known| format!("`{}`", known.option));
            assert!(options.into_iter().all(|option| !text.contains(&option)), "{name}: {text}");
        }
        let text = error(from("ACME", &[BASIS[0], BASIS[1], ("ISSUER", "h1dden")]));
        assert!(text.contains("ACME_ISSUER"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named_with_what_may_have_been_meant() {
        let [id, secret, issuer] = BASIS;
        for (vars, said) in [
            (vec![], "EVERTOKEN_APP_ID is not set"),
            (
                vec![("CLIENT_ID", "h1dden"), secret, issuer],
                "APP_ID is not set; did you mean that by EVERTOKEN_CLIENT_ID?",
            ),
            (vec![id, ("APP_SECERT", "h1dden"), issuer], "did you mean that by EVERTOKEN_APP_SECERT?"),
            (vec![id, secret], "EVERTOKEN_ISSUER or EVERTOKEN_TOKEN_URL is not set"),
            (vec![id, secret, ("ISUER", "h1dden")], "is not set; did you mean that by EVERTOKEN_ISUER?"),
        ] {
            let text = error(from("EVERTOKEN", &vars));
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn code_replaces_what_the_environment_says_its_mistakes_included() {
        let wrong = [
            ("BASE_URL", "h1dden"),
            ("CLIENT_AUTH", "h1dden"),
            ("PROXY", "h1dden"),
            ("SCOPE", "h1dden\""),
            ("RESOURCE", "h1dden#"),
            ("AUDIENCE", "other"),
        ];
        let source = with(&wrong)
            .base_url("https://api.example/")
            .client_auth(ClientAuth::ClientSecretBasic)
            .proxy("http://proxy.example:3128")
            .scope("read")
            .scope("write")
            .resource("https://one.example/")
            .audience("ours")
            .build()
            .unwrap();
        let request = source.refresher().grant_request();
        assert_eq!(
            (&request.scopes[..], request.audience.as_deref()),
            (&["read".to_owned(), "write".to_owned()][..], Some("ours"))
        );
        assert_eq!(request.resources, ["https://one.example/"]);
        // What code sets is named as code has it.
        let text = error(with(&[]).base_url("nonsense"));
        assert!(text.contains("`base_url`") && !text.contains("EVERTOKEN"), "{text}");
    }

    #[test]
    fn a_builder_without_environment_names_options() {
        let text = error(TokenSource::builder("id", "s"));
        assert!(text.contains("give `issuer` or `token_url`"), "{text}");
    }
}
