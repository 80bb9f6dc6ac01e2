//! The environment variables by which a client is set up: their one table, how they are read, and what is said of those that
//! are missing or look mistyped. What a value means is decided where it is used. No value is ever shown.

use std::ffi::OsString;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::padding;

/// The word with which the variables of this crate begin.
pub(crate) const OURS: &str = "EVERTOKEN";

/// An environment variable that [`ClientBuilder::from_env`](crate::ClientBuilder::from_env) reads. For bindings and tests.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Variable {
    /// The name without the prefix: `APP_ID` for `EVERTOKEN_APP_ID`.
    pub name: &'static str,
    /// The builder's option that it sets, or `credentials`.
    pub option: &'static str,
}

const fn variable(name: &'static str, option: &'static str) -> Variable {
    Variable { name, option }
}

/// All variables. The README's table is checked against this one.
pub const VARIABLES: &[Variable] = &[
    variable("APP_ID", "credentials"),
    variable("APP_ID_FILE", "credentials"),
    variable("APP_SECRET", "credentials"),
    variable("APP_SECRET_FILE", "credentials"),
    variable("APP_SECRET_NEXT", "credentials"),
    variable("APP_SECRET_NEXT_FILE", "credentials"),
    variable("API_KEY", "credentials"),
    variable("API_KEY_FILE", "credentials"),
    variable("CREDENTIALS_FILE", "credentials"),
    variable("CREDENTIALS_DIRECTORY", "credentials"),
    variable("FILE_READABLE_BY_OTHERS", "credentials"),
    variable("ISSUER", "issuer"),
    variable("TOKEN_URL", "token_url"),
    variable("CLIENT_AUTH", "client_auth"),
    variable("AUDIENCE", "audience"),
    variable("RESOURCE", "resource"),
    variable("SCOPE", "scope"),
    variable("BASE_URL", "base_url"),
    variable("ROOT_CERTIFICATE", "root_certificate"),
    variable("PROXY", "proxy"),
];

/// Names that others give to what these variables hold.
const ALIASES: &[(&str, &str)] = &[
    ("ID", "APP_ID"),
    ("SECRET", "APP_SECRET"),
    ("KEY", "API_KEY"),
    ("CREDENTIALS", "CREDENTIALS_FILE"),
    ("CREDENTIALS_PATH", "CREDENTIALS_FILE"),
    ("CREDENTIALS_DIR", "CREDENTIALS_DIRECTORY"),
    ("SECRET_FILE", "APP_SECRET_FILE"),
    ("NEXT_APP_SECRET", "APP_SECRET_NEXT"),
    ("NEXT_APP_SECRET_FILE", "APP_SECRET_NEXT_FILE"),
    ("ISSUER_URL", "ISSUER"),
    ("ISSUER_URI", "ISSUER"),
    ("AUTHORITY", "ISSUER"),
    ("TOKEN_ENDPOINT", "TOKEN_URL"),
    ("TOKEN_ENDPOINT_AUTH_METHOD", "CLIENT_AUTH"),
    ("AUTH_METHOD", "CLIENT_AUTH"),
    ("CLIENT_AUTH_METHOD", "CLIENT_AUTH"),
    ("AUD", "AUDIENCE"),
    ("API_URL", "BASE_URL"),
    ("CA", "ROOT_CERTIFICATE"),
    ("CA_FILE", "ROOT_CERTIFICATE"),
    ("CA_CERT", "ROOT_CERTIFICATE"),
    ("CA_BUNDLE", "ROOT_CERTIFICATE"),
    ("ROOT_CA", "ROOT_CERTIFICATE"),
    ("ROOT_CERT", "ROOT_CERTIFICATE"),
    ("HTTP_PROXY", "PROXY"),
    ("HTTPS_PROXY", "PROXY"),
];

/// Some environment, as one prefix sees it.
pub(crate) struct Environment<'a> {
    prefix: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
    /// The names of all variables that begin like ours, if they are known.
    names: Vec<String>,
}

impl<'a> Environment<'a> {
    pub(crate) fn new(
        prefix: &'a str,
        lookup: &'a dyn Fn(&str) -> Option<OsString>,
        names: impl IntoIterator<Item = OsString>,
    ) -> Self {
        let begins = |name: &String| suffix(prefix, name).is_some();
        let names = names.into_iter().filter_map(|name| name.into_string().ok()).filter(begins).collect();
        Self { prefix, lookup, names }
    }

    /// The full name of a variable.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// Returns the value of a variable. An empty one, or one of control characters, counts as none.
    ///
    /// # Errors
    /// If it is not Unicode.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>> {
        match self.get_os(name).map(OsString::into_string) {
            Some(Ok(value)) => {
                Ok(Some(Zeroizing::new(value)).filter(|value| !padding::trimmed(value).is_empty()))
            }
            Some(Err(_)) => {
                let name = self.named(name);
                Err(Error::configuration(format!("the environment variable {name} is not Unicode")))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn get_os(&self, name: &str) -> Option<OsString> {
        (self.lookup)(&self.named(name)).filter(|value| !value.is_empty())
    }

    /// Says that one of these variables is needed, and which one may have been meant by them.
    pub(crate) fn missing(&self, names: &[&str], state: &str) -> Error {
        let one_of = names.iter().map(|name| self.named(name)).collect::<Vec<_>>().join(" or ");
        let resembles = |name: &&String| {
            let meant = suffix(self.prefix, name).and_then(meant);
            meant.is_some_and(|meant| names.contains(&meant) && **name != self.named(meant))
        };
        let similar: Vec<_> = self.names.iter().filter(resembles).map(String::as_str).collect();
        let meant = match &similar[..] {
            [] => String::new(),
            similar => format!("; did you mean that by {}?", similar.join(" or ")),
        };
        Error::configuration(format!("the environment variable {one_of} is {state}{meant}"))
    }

    /// Describes the variables that look like ours and are not: by the prefix of this crate all that are not known, by another
    /// prefix those that resemble a known one.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let described = |name: &String| {
            let suffix = suffix(self.prefix, name)?;
            let exact = *name == self.named(suffix);
            if exact && VARIABLES.iter().any(|known| known.name == suffix) {
                return None;
            }
            match meant(suffix) {
                Some(meant) => Some(format!(
                    "the environment variable {name} is not read; did you mean {}?",
                    self.named(meant)
                )),
                None if self.prefix == OURS => Some(format!("the environment variable {name} is not known")),
                None => None,
            }
        };
        self.names.iter().filter_map(described).collect()
    }
}

/// What follows the prefix and its underscore, in whatever case the prefix is written.
fn suffix<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    let (head, tail) = name.split_at_checked(prefix.len())?;
    tail.strip_prefix('_').filter(|_| head.eq_ignore_ascii_case(prefix))
}

/// The known variable that one of another name resembles: the same letters, a synonym, or one or two typing mistakes.
fn meant(name: &str) -> Option<&'static str> {
    let plain = |name: &str| name.to_ascii_uppercase().replace(['_', '-', '.'], "");
    let given = plain(name);
    let alias = ALIASES.iter().find(|(alias, _)| plain(alias) == given);
    if let Some((_, meant)) = alias {
        return Some(meant);
    }
    let renamed = given.replace("CLIENTID", "APPID").replace("CLIENTSECRET", "APPSECRET");
    let (mistakes, meant) = VARIABLES
        .iter()
        .map(|known| (distance(&renamed, &plain(known.name)), known.name))
        .min_by_key(|(mistakes, _)| *mistakes)?;
    (mistakes <= if renamed.len() < 8 { 1 } else { 2 }).then_some(meant)
}

/// The number of letters that were added, left out, replaced, or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at =
                |back: usize, column: usize| rows.get(i + 1 - back).and_then(|row| row.get(column)).copied();
            let mut least = at(1, j).unwrap_or_default() + usize::from(a != b);
            least = least.min(at(1, j + 1).unwrap_or_default() + 1);
            least = least.min(row.get(j).copied().unwrap_or_default() + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped && let Some(before) = i.checked_sub(1).and(at(2, j - 1)) {
                least = least.min(before + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(
        prefix: &'a str,
        lookup: &'a dyn Fn(&str) -> Option<OsString>,
        names: &[&str],
    ) -> Environment<'a> {
        Environment::new(prefix, lookup, names.iter().map(OsString::from))
    }

    #[test]
    fn names_the_variable_that_was_meant() {
        for (given, known) in [
            ("APPID", Some("APP_ID")),
            ("CLIENT_ID", Some("APP_ID")),
            ("app_id", Some("APP_ID")),
            ("APP_SECERT", Some("APP_SECRET")),
            ("CLIENT_SECRET", Some("APP_SECRET")),
            ("CLIENT_SECRET_FILE", Some("APP_SECRET_FILE")),
            ("APP_SECRET_NXT", Some("APP_SECRET_NEXT")),
            ("ISUSER", Some("ISSUER")),
            ("TOKEN_ENDPOINT", Some("TOKEN_URL")),
            ("SCOPES", Some("SCOPE")),
            ("BASEURL", Some("BASE_URL")),
            ("CLIENTAUTH", Some("CLIENT_AUTH")),
            ("LOG", None),
            ("REGION", None),
            ("PROFILE", None),
        ] {
            assert_eq!(meant(given), known, "{given}");
        }
        assert_eq!((distance("", "ab"), distance("ab", "ba"), distance("abc", "axc")), (2, 1, 1));
    }

    #[test]
    fn reports_what_is_not_read_by_its_name_alone() {
        let nothing = |_: &str| None;
        let names =
            ["EVERTOKEN_APPID", "EVERTOKEN_ISSUER", "evertoken_scope", "EVERTOKEN_LOG", "OTHER_APPID"];
        assert_eq!(
            environment("EVERTOKEN", &nothing, &names).unknown(),
            [
                "the environment variable EVERTOKEN_APPID is not read; did you mean EVERTOKEN_APP_ID?",
                "the environment variable evertoken_scope is not read; did you mean EVERTOKEN_SCOPE?",
                "the environment variable EVERTOKEN_LOG is not known",
            ]
        );
        let acme = environment("ACME", &nothing, &["ACME_LOG", "ACME_APPID", "ACME_APP_ID", "ACMEX_APPID"]);
        assert_eq!(
            acme.unknown(),
            ["the environment variable ACME_APPID is not read; did you mean ACME_APP_ID?"]
        );
        let error = acme.missing(&["APP_ID"], "not set").to_string();
        assert!(error.contains("ACME_APP_ID is not set; did you mean that by ACME_APPID?"), "{error}");
        assert!(!acme.missing(&["ISSUER"], "not set").to_string().contains("mean"));
    }

    #[test]
    fn the_documentation_names_every_variable() {
        let readme = include_str!("../README.md");
        let (_, table) = readme.split_once("### Environment variables\n").unwrap();
        let (table, _) = table.split_once("\n### ").unwrap();
        let rows = || table.lines().filter(|line| line.starts_with("| `"));
        let is_in = |name: &str| rows().any(|row| row.contains(&format!("`{OURS}_{name}`")));
        for Variable { name, .. } in VARIABLES {
            assert!(is_in(name), "{name} is not in the table of the README");
        }
        let named = rows().flat_map(|row| row.split('`')).filter_map(|word| word.strip_prefix("EVERTOKEN_"));
        for name in named {
            let name = name.split('=').next().unwrap();
            assert!(VARIABLES.iter().any(|known| known.name == name), "{name} is in the README only");
        }
    }
}
