//! Who we say that we are (RFC 9110 10.1.5).

use http::HeaderValue;

use crate::error::{Error, Result};

/// What goes with every request that says nothing else.
pub(crate) const OURS: &str = concat!("evertoken/", env!("CARGO_PKG_VERSION"));

/// `text`, and ours behind it: the most significant product comes first.
pub(crate) fn before_ours(text: &str) -> Result<HeaderValue> {
    let mistake = |problem: &str| Error::configuration(format!("`user_agent` {problem}"));
    if text.trim().is_empty() {
        return Err(mistake("is empty"));
    }
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(
            mistake("has a character that it may not have").advice("printable ASCII, such as `acme-sdk/1.2`")
        );
    }
    HeaderValue::try_from(format!("{} {OURS}", text.trim()))
        .map_err(|error| mistake("cannot be sent").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn ours_comes_last() {
        for text in ["acme-sdk/1.2", " acme-sdk/1.2 "] {
            assert_eq!(before_ours(text).unwrap(), &format!("acme-sdk/1.2 {OURS}"));
        }
    }

    #[test]
    fn what_is_no_plain_text_is_refused() {
        for (text, said) in [
            ("", "is empty"),
            (" ", "is empty"),
            ("a\r\nx: y", "character"),
            ("ä", "character"),
            ("\t", "is empty"),
        ] {
            let error = before_ours(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(
                error.to_string().contains("`user_agent`") && error.to_string().contains(said),
                "{error}"
            );
        }
    }
}
