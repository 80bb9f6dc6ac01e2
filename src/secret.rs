use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

pub(crate) use secrecy::{ExposeSecret, SecretString};

const SCHEME: &str = "Bearer ";

/// The text of a token and the header that carries it: one buffer, wiped when the last reader lets go.
///
/// `HeaderValue` shares the buffer through `Bytes::from_owner`; what the HTTP stack copies is beyond us.
#[derive(Clone)]
pub(crate) struct BearerText {
    line: Arc<Zeroizing<String>>,
    header: HeaderValue,
}

struct Owner(Arc<Zeroizing<String>>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl BearerText {
    /// `None` where the text is not a `b64token` (RFC 6750 2.1), and so could not go into a header unharmed.
    pub(crate) fn new(token: &str) -> Option<Self> {
        if !is_b64token(token) {
            return None;
        }
        let mut line = Zeroizing::new(String::with_capacity(SCHEME.len() + token.len()));
        line.push_str(SCHEME);
        line.push_str(token);
        let line = Arc::new(line);
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(Owner(line.clone()))).ok()?;
        header.set_sensitive(true);
        Some(Self { line, header })
    }

    pub(crate) fn token(&self) -> &str {
        self.line.get(SCHEME.len()..).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }
}

impl fmt::Debug for BearerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="` (RFC 6750 2.1).
fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

/// The secrets that must not come back to us in a server's text, in every form in which we send them.
pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
        if text.contains(secret) { text.replace(secret, "[redacted]") } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_buffer_serves_text_and_header() {
        let text = BearerText::new("abc.DEF-123_~+/==").unwrap();
        assert_eq!(text.token(), "abc.DEF-123_~+/==");
        assert_eq!(text.header(), "Bearer abc.DEF-123_~+/==");
        assert!(text.header().is_sensitive());
        assert_eq!(text.header().as_bytes().as_ptr(), text.line.as_bytes().as_ptr());
        assert_eq!(format!("{text:?} {:?}", text.header()), "[REDACTED] Sensitive");
    }

    #[test]
    fn what_is_no_b64token_is_refused() {
        for bad in ["", "=", "a b", "a\r\nX: y", "a\0", "tök", "a=b", "\"a\"", "a,b"] {
            assert!(BearerText::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_cut_out() {
        assert_eq!(scrub("bad secret s3cr3t!", &["s3cr3t", ""]), "bad secret [redacted]!");
    }
}
