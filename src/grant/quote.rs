use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::client_auth::{encoded_pair, form_encoded, raw_pair};
use crate::credentials::Credentials;
use crate::secret::{ExposeSecret, is_layout, scrub};

/// The longest piece of a server's text that goes into an error.
pub(super) const LONGEST_TEXT: usize = 200;

/// The longest error code that is believed to be one.
const LONGEST_CODE: usize = 64;

/// Repeats what a server says, without what is secret.
pub(super) struct Quoter<'a> {
    pub(super) credentials: &'a Credentials,
    /// The token in the answer that is judged.
    pub(super) token: Option<&'a str>,
    /// The client assertion in the request.
    pub(super) assertion: Option<&'a str>,
    /// The DPoP proof in the request.
    pub(super) proof: Option<&'a str>,
}

impl Quoter<'_> {
    /// At most `longest` characters on one line, with our secrets cut out.
    pub(super) fn text(&self, text: &str, longest: usize) -> String {
        self.filtered(text, longest, |c| !c.is_control() && !is_layout(c))
    }

    /// An error code in the characters that one may have (RFC 6749 5.2), if anything is left of it.
    pub(super) fn code(&self, code: &str) -> Option<String> {
        let code = self.text(code, usize::MAX);
        let code = self.filtered(&code, LONGEST_CODE, |c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~'));
        Some(code).filter(|code| !code.trim().is_empty())
    }

    /// Cut out twice: what is dropped may have hidden a secret, or have been part of one.
    fn filtered(&self, text: &str, longest: usize, keep: impl Fn(char) -> bool) -> String {
        let kept: String = self.scrubbed(text).chars().filter(|c| keep(*c)).collect();
        self.scrubbed(&kept).chars().take(longest).collect()
    }

    fn scrubbed(&self, text: &str) -> String {
        let secret = self.credentials.app_secret.expose_secret();
        let [encoded, raw] = [encoded_pair(self.credentials), raw_pair(self.credentials)];
        let encoded_secret = Zeroizing::new(form_encoded(secret).to_string());
        let forms = [
            Zeroizing::new(STANDARD.encode(encoded.as_bytes())),
            Zeroizing::new(STANDARD.encode(raw.as_bytes())),
            Zeroizing::new(encoded_secret.replace("%20", "+")),
        ];
        let mut secrets: Vec<&str> = forms.iter().map(|form| form.as_str()).collect();
        secrets.extend([encoded_secret.as_str(), secret]);
        secrets.extend(self.token);
        for jwt in [self.assertion, self.proof].into_iter().flatten() {
            secrets.push(jwt);
            secrets.extend(jwt.rsplit_once('.').map(|(_, signature)| signature));
        }
        scrub(text, &secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_out_in_every_form() {
        let credentials = Credentials { app_id: "app".into(), app_secret: "s3 \"cr+t".into(), generation: 0 };
        let quoter = Quoter {
            credentials: &credentials,
            token: Some("t0ken"),
            assertion: Some("he.claims.sig"),
            proof: Some("pr.oo.fend"),
        };
        for echoed in [
            "s3 \"cr+t",
            "s3 \"\0cr+t",
            "s3%20%22cr%2Bt",
            "s3+%22cr%2Bt",
            "YXBwOnMzICJjcit0",
            "YXBwOnMzJTIwJTIyY3IlMkJ0",
            "t0ken",
            "he.claims.sig",
            "sig",
            "pr.oo.fend",
            "fend",
        ] {
            assert_eq!(quoter.text(&format!("got {echoed}."), 200), "got [redacted].");
            assert_eq!(quoter.code(echoed).unwrap(), "[redacted]");
        }
    }

    #[test]
    fn text_is_short_and_on_one_line() {
        let credentials = Credentials { app_id: "app".into(), app_secret: "secret".into(), generation: 0 };
        let quoter = Quoter { credentials: &credentials, token: None, assertion: None, proof: None };
        assert_eq!(quoter.text("a\r\nb\u{1b}[31m\u{202e}c\u{2028}é", 200), "ab[31mcé");
        assert_eq!(quoter.text(&"ß".repeat(300), 200).chars().count(), 200);
        // A secret at the cut leaves no half of itself.
        assert!(!quoter.text(&format!("{}secret", "x".repeat(197)), 200).contains("se"));
        assert_eq!(quoter.code("bad\"\\\ncode").as_deref(), Some("badcode"));
        assert_eq!(quoter.code("ß\n "), None);
        assert_eq!(quoter.code(&"x".repeat(300)).unwrap().len(), 64);
    }
}
