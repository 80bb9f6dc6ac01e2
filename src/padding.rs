//! What clings to the ends of ids, secrets and URLs that come from files, variables and secret stores, and of tokens: line
//! ends, other control characters, white space and quotes. Everything that trims them or reports them uses this file. How lines of a
//! credentials file are parsed is not decided here.

const QUOTES: [char; 3] = ['"', '\'', '`'];

/// A character that no id or secret may have (RFC 6749 A.1, A.2) and that nobody types on purpose. The byte order mark
/// counts: editors on Windows put it in front of a file.
fn is_stray(c: char) -> bool {
    c.is_control() || c == '\u{feff}'
}

/// Removes control characters from both ends of an id or a secret. Spaces and quotes are legal in both, so they stay.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(is_stray)
}

/// Removes control characters, white space and quotes from both ends of a URL or an API key, which begin and end with none
/// of them. Public for the bindings, which resolve paths as well.
#[doc(hidden)]
pub fn trimmed_url(text: &str) -> &str {
    text.trim_matches(|c: char| is_stray(c) || c.is_whitespace() || QUOTES.contains(&c))
}

/// Removes control characters and white space from both ends of an access token or its type, which have neither. Quotes stay.
pub(crate) fn trimmed_token(text: &str) -> &str {
    text.trim_matches(|c: char| is_stray(c) || c.is_whitespace())
}

/// Describes what looks wrong with an id or a secret without repeating any of it, or returns `None`.
pub(crate) fn oddity(text: &str) -> Option<String> {
    let text = trimmed(text);
    let is_quote = |c: char| QUOTES.contains(&c);
    let mut found = Vec::new();
    for (is_it, what) in [(char::is_whitespace as fn(char) -> bool, "white space"), (is_quote, "a quote")] {
        match (text.starts_with(is_it), text.ends_with(is_it)) {
            (true, true) => found.push(format!("begins and ends with {what}")),
            (true, false) => found.push(format!("begins with {what}")),
            (false, true) => found.push(format!("ends with {what}")),
            (false, false) => {}
        }
    }
    if text.contains(is_stray) {
        found.push("has a control character or a line end within".to_owned());
    }
    (!found.is_empty()).then(|| found.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_control_characters_only_from_ids_and_secrets() {
        for (given, kept) in [
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("\u{feff}s\0", "s"),
            ("\t\x7fs\x1b\u{85}", "s"),
            (" s ", " s "),
            ("\"s\"\n", "\"s\""),
            ("a\nb", "a\nb"),
            ("\r\n", ""),
        ] {
            assert_eq!(trimmed(given), kept, "{given:?}");
        }
    }

    #[test]
    fn trims_everything_from_urls() {
        for given in [
            "https://a.example/\r\n",
            " \"https://a.example/\" \n",
            "'https://a.example/'",
            "\u{feff}https://a.example/",
        ] {
            assert_eq!(trimmed_url(given), "https://a.example/", "{given:?}");
        }
    }

    #[test]
    fn trims_white_space_but_no_quotes_from_tokens() {
        for (given, kept) in [
            ("t0ken\n", "t0ken"),
            (" \tt0ken\r\n", "t0ken"),
            ("\u{feff}t0ken\u{a0}\0", "t0ken"),
            ("a b\n", "a b"),
            ("\"t\"", "\"t\""),
            ("\r\n ", ""),
        ] {
            assert_eq!(trimmed_token(given), kept, "{given:?}");
        }
    }

    #[test]
    fn describes_oddities_without_the_value() {
        for (given, said) in [
            ("s", None),
            ("it's 5\" long", None),
            ("s\n", None),
            (" h1dden", Some("begins with white space")),
            ("h1dden\u{a0}", Some("ends with white space")),
            ("'h1dden'", Some("begins and ends with a quote")),
            ("h1\ndden\"", Some("ends with a quote and has a control character or a line end within")),
        ] {
            assert_eq!(oddity(given).as_deref(), said, "{given:?}");
        }
    }
}
