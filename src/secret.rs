use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

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
    /// Equal headers, so that threads do not contend for one reference count.
    stripes: Box<[HeaderValue]>,
}

/// As many headers in all.
const STRIPES: usize = 8;

thread_local! {
    /// Which of them this thread clones.
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// Aligned, since the reference count stands beside it, and two on one cache line would be as slow as one.
#[repr(align(128))]
struct Apart(Owner);

struct Owner(Arc<Zeroizing<String>>);

impl AsRef<[u8]> for Apart {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TokenText {
    /// `None` where the text is not a `b64token` (RFC 6750 2.1), and so could not go into a header unharmed.
    pub(crate) fn new(scheme: Scheme, token: &str) -> Option<Self> {
        if !is_b64token(token) {
            return None;
        }
        let token_at = scheme.name().len() + 1;
        let mut line = Zeroizing::new(String::with_capacity(token_at + token.len()));
        line.push_str(scheme.name());
        line.push(' ');
        line.push_str(token);
        let line = Arc::new(line);
        let header = sensitive(Bytes::from_owner(Apart(Owner(line.clone()))))?;
        let more = (1..STRIPES).map(|_| sensitive(Bytes::from_owner(Apart(Owner(line.clone())))));
        let stripes = more.collect::<Option<_>>()?;
        Some(Self { line, token_at, header, stripes })
    }

    /// The same with one header for all threads, 2 KiB smaller: for whoever holds tokens by the million.
    #[cfg(feature = "server")]
    pub(crate) fn lean(self) -> Self {
        match sensitive(Bytes::from_owner(Owner(self.line.clone()))) {
            Some(header) => Self { header, stripes: Box::default(), ..self },
            None => self,
        }
    }

    pub(crate) fn token(&self) -> &str {
        self.line.get(self.token_at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn header(&self) -> &HeaderValue {
        // A thread that is ending has no number any more.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or_default();
        self.stripes.get(stripe).unwrap_or(&self.header)
    }
}

fn sensitive(line: Bytes) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_maybe_shared(line).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl fmt::Debug for TokenText {
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
            assert_eq!(text.header(), line);
            assert!(text.header().is_sensitive());
            assert_eq!(text.header().as_bytes().as_ptr(), text.line.as_bytes().as_ptr());
            assert_eq!(format!("{text:?} {:?}", text.header()), "[REDACTED] Sensitive");
            assert_eq!(text.stripes.len() + 1, STRIPES);
            #[cfg(feature = "server")]
            {
                let lean = text.lean();
                assert_eq!(lean.header(), line);
                assert!(lean.header().is_sensitive() && lean.stripes.is_empty());
                assert_eq!(lean.header().as_bytes().as_ptr(), lean.line.as_bytes().as_ptr());
            }
        }
    }

    #[test]
    fn what_is_no_b64token_is_refused() {
        for bad in ["", "=", "a b", "a\r\nX: y", "a\0", "tök", "a=b", "\"a\"", "a,b"] {
            assert!(TokenText::new(Scheme::Bearer, bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_cut_out() {
        assert_eq!(scrub("bad secret s3cr3t!", &["s3cr3t", ""]), "bad secret [redacted]!");
    }
}
