use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::client_auth::{encoded_pair, form_encoded, raw_pair};
use super::code;
use crate::credentials::Credentials;
use crate::secret::{ExposeSecret, is_layout, scrub};

/// The longest piece of a server's text that goes into an error.
pub(super) const LONGEST_TEXT: usize = 200;

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
    /// At most `longest` characters on one line, with our secrets cut out. They are cut out twice: what is dropped may have
    /// hidden a secret, or have been part of one.
    pub(super) fn text(&self, text: &str, longest: usize) -> String {
        let kept: String =
            self.scrubbed(text).chars().filter(|c| !c.is_control() && !is_layout(*c)).collect();
        self.scrubbed(&kept).chars().take(longest).collect()
    }

    /// An error code: as it is if it is a known one, else without our secrets. It has been classified before.
    pub(super) fn code(&self, code: &str) -> String {
        code::known(code).map_or_else(|| self.text(code, code::LONGEST), str::to_owned)
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
            assert_eq!(quoter.code(echoed), "[redacted]");
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
    }

    #[test]
    fn known_codes_are_shown_whatever_the_secret_is() {
        for (secret, code, shown) in [
            ("client", "invalid_client", "invalid_client"),
            ("e", "use_dpop_nonce", "use_dpop_nonce"),
            ("invalid_client", "invalid_client", "invalid_client"),
            ("s3cret", "bad_s3cret", "bad_[redacted]"),
            ("s3cret", "s3cret", "[redacted]"),
        ] {
            let credentials = Credentials { app_id: "app".into(), app_secret: secret.into(), generation: 0 };
            let quoter = Quoter { credentials: &credentials, token: None, assertion: None, proof: None };
            assert_eq!(quoter.code(code), shown, "{secret}");
        }
    }
}
