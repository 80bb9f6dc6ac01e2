//! Messages in the caller's language. The crate writes them with the names of its own options, between backticks; a binding
//! passes every text of the crate's through here before it shows it.

use std::borrow::Cow;

use evertoken::Error;

use crate::names::{NAMES, Name};

/// The language of the caller who reads a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Options are keyword arguments; times are seconds.
    Python,
    /// JavaScript and TypeScript: options are members of an object; times are milliseconds.
    Node,
}

impl Language {
    /// Returns `text` with every option and method between backticks as this language spells it.
    pub fn spell(self, text: &str) -> Cow<'_, str> {
        let mut spelled = String::new();
        let (mut copied, mut from) = (0, 0);
        while let Some(open) = text[from..].find('`').map(|at| from + at + 1) {
            let Some(close) = text[open..].find('`').map(|at| open + at) else { break };
            // A backtick that closes nothing known may open the next name.
            from = close;
            let Some(name) = self.name(&text[open..close]) else { continue };
            spelled.push_str(&text[copied..open]);
            spelled.push_str(name);
            copied = close;
            from = close + 1;
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        spelled.push_str(&text[copied..]);
        Cow::Owned(spelled)
    }

    /// Returns the error's message. What the server described stays as the server wrote it.
    pub fn message(self, error: &Error) -> String {
        let text = error.to_string();
        match error.description().and_then(|theirs| Some((theirs, text.split_once(theirs)?))) {
            Some((theirs, (before, after))) if theirs.contains('`') => {
                format!("{}{theirs}{}", self.spell(before), self.spell(after))
            }
            _ => self.spell(&text).into_owned(),
        }
    }

    /// The spelling of a name, which may come with its type in front of it: `RenewalPolicy::leeway`.
    fn name(self, rust: &str) -> Option<&'static str> {
        let find = |rust: &str| NAMES.iter().find(|name| name.rust == rust);
        let rust = rust.strip_suffix("()").unwrap_or(rust);
        let Name { python, node, .. } = find(rust).or_else(|| find(rust.rsplit_once("::")?.1))?;
        Some(match self {
            Self::Python => python,
            Self::Node => node,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_the_language() {
        for (rust, python, node) in [
            ("give `issuer` or `token_url`", "give `issuer` or `token_url`", "give `issuer` or `tokenUrl`"),
            ("`token_timeout`", "`token_timeout`", "`tokenTimeoutMs`"),
            ("`RenewalPolicy::request_timeout`", "`request_timeout`", "`renewal.requestTimeoutMs`"),
            ("`ClientBuilder::from_env()`", "`Client.from_env`", "`Client.fromEnv`"),
            ("call `shutdown()`", "call `close`", "call `close`"),
            ("`root_certificate` is not PEM", "`ca` is not PEM", "`ca` is not PEM"),
            (
                "set `ClientAuth::ClientSecretBasicRaw`",
                "set `client_auth=\"client_secret_basic_raw\"`",
                "set `clientAuth: 'client_secret_basic_raw'`",
            ),
        ] {
            assert_eq!(Language::Python.spell(rust), python);
            assert_eq!(Language::Node.spell(rust), node);
        }
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for text in
            ["", "token_url", "`", "``", "`kid` of `openssl pkey`", "`token_url", "ä`ö", "` token_url `"]
        {
            assert!(matches!(Language::Node.spell(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn a_stray_backtick_hides_no_name() {
        assert_eq!(Language::Node.spell("it`s wrong: set `token_url`"), "it`s wrong: set `tokenUrl`");
        assert_eq!(Language::Node.spell("`base_url``token_url` `"), "`baseUrl``tokenUrl` `");
    }
}
