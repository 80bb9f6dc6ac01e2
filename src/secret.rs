use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use secrecy::{ExposeSecret, SecretString};

/// How a token is shown to an API: the name in the `Authorization` header, and in `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 9449 7.1.
    Dpop,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        }
    }
}

/// The text of a token and the header that carries it: one buffer, wiped when the last reader lets go.
///
/// `HeaderValue` shares the buffer through `Bytes::from_owner`; what the HTTP stack copies is beyond us.
#[derive(Clone)]
pub(crate) struct TokenText {
    line: Arc<Zeroizing<String>>,
    token_at: usize,
    header: HeaderValue,
}

/// What a header's bytes belong to.
struct Owner(Arc<Zeroizing<String>>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Aligned, since the reference count stands beside it, and two on one cache line would be as slow as one.
#[repr(align(128))]
struct Apart(Owner);

impl AsRef<[u8]> for Apart {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl TokenText {
    /// `None` where the text could not go into a header unharmed.
    pub(crate) fn new(scheme: Scheme, token: &str) -> Option<Self> {
        if !is_token(token) {
            return None;
        }
        let token_at = scheme.name().len() + 1;
        let mut line = Zeroizing::new(String::with_capacity(token_at + token.len()));
        line.push_str(scheme.name());
        line.push(' ');
        line.push_str(token);
        let line = Arc::new(line);
        let header = sensitive(Owner(line.clone()))?;
        Some(Self { line, token_at, header })
    }

    pub(crate) fn token(&self) -> &str {
        self.line.get(self.token_at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// An equal header of the same buffer, whose reference count nobody else touches.
    pub(crate) fn header_apart(&self) -> HeaderValue {
        sensitive(Apart(Owner(self.line.clone()))).unwrap_or_else(|| self.header.clone())
    }
}

fn sensitive(line: impl AsRef<[u8]> + Send + 'static) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(line)).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// What RFC 6749 A.12 allows, without spaces and what has a meaning of its own in a header. `b64token` (RFC 6750 2.1) allows
/// less, and large servers go beyond it: Salesforce's have a `!`, eBay's `^` and `#`.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte))
}

/// 128 bits that nobody can guess, from the operating system.
pub(crate) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| {
        Error::new(ErrorKind::CredentialsUnavailable, "the operating system gave no random numbers")
    })?;
    Ok(bytes)
}

/// The secrets that must not come back to us in a server's text, in every form in which we send them.
pub(crate) fn scrub(text: &str, secrets: &[&str]) -> String {
    secrets.iter().filter(|secret| !secret.is_empty()).fold(text.to_owned(), |text, secret| {
        if text.contains(secret) { text.replace(secret, "[redacted]") } else { text }
    })
}

/// At most `longest` characters of what somebody else says, on one line and without these secrets. They are cut out twice:
/// what is dropped may have hidden one.
pub(crate) fn one_line(text: &str, secrets: &[&str], longest: usize) -> String {
    let kept: String = scrub(text, secrets).chars().filter(|c| !c.is_control() && !is_layout(*c)).collect();
    scrub(&kept, secrets).chars().take(longest).collect()
}

/// Line separators and the marks that turn the direction of text: they make one log line look like another.
pub(crate) fn is_layout(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_buffer_serves_text_and_header() {
        for (scheme, line) in
            [(Scheme::Bearer, "Bearer abc.DEF-123_~+/=="), (Scheme::Dpop, "DPoP abc.DEF-123_~+/==")]
        {
            let text = TokenText::new(scheme, "abc.DEF-123_~+/==").unwrap();
            assert_eq!(text.token(), "abc.DEF-123_~+/==");
            for header in [text.header(), &text.header_apart()] {
                assert_eq!(header, line);
                assert!(header.is_sensitive());
                assert_eq!(header.as_bytes().as_ptr(), text.line.as_bytes().as_ptr());
                assert_eq!(format!("{text:?} {header:?}"), "[REDACTED] Sensitive");
            }
        }
    }

    #[test]
    fn what_could_not_stand_in_a_header_is_refused() {
        for bad in ["", "a b", "a\r\nX: y", "a\0", "a\x7f", "tök", "\"a\"", "a,b", "a\\b"] {
            assert!(TokenText::new(Scheme::Bearer, bad).is_none(), "{bad:?}");
        }
        for good in ["00D50000000IZ3Z!AQ0AQ.q_x", "v^1.1#i^1#p^1#I^3#t^H4sIAAAA", "a.b-c_d~e+f/g==", "a=b"] {
            assert_eq!(TokenText::new(Scheme::Bearer, good).unwrap().token(), good);
        }
    }

    #[test]
    fn secrets_are_cut_out() {
        assert_eq!(scrub("bad secret s3cr3t!", &["s3cr3t", ""]), "bad secret [redacted]!");
    }
}
