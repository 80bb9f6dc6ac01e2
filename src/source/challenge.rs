//! What an answer of the API says about the token (RFC 9110 11.6.1, RFC 6750 3).

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

use crate::secret::Scheme;

/// What an answer that can be helped asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A newer token.
    Token,
    /// An authentication by another scheme, maybe because of the token.
    Foreign,
    /// A proof with the server's nonce (RFC 9449 9).
    Nonce,
}

/// Whether an answer can be a refusal, at a glance.
#[inline]
pub(super) fn may_refuse(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => headers.contains_key(WWW_AUTHENTICATE),
        _ => false,
    }
}

/// What this answer asks for, to a call with a token of this scheme.
///
/// A 401 asks for a newer token if nothing speaks against it: no challenge, one for the scheme, or one that cannot be read. A
/// refused DPoP proof, too small a scope and too weak an authentication are other matters. A 400 or 403 asks for one only if it
/// says `invalid_token` for the scheme.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, used: Scheme) -> Option<Refusal> {
    if !may_refuse(status, headers) {
        return None;
    }
    let (mut ours, mut invalid, mut limited, mut foreign) = (false, false, false, false);
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for Challenge { scheme, error } in (Challenges { rest: value.as_bytes() }) {
            match error {
                Some(b"use_dpop_nonce") if status == StatusCode::UNAUTHORIZED => {
                    return (used == Scheme::Dpop).then_some(Refusal::Nonce);
                }
                // The token may be as good as any (RFC 9449 7.1).
                Some(b"use_dpop_nonce" | b"invalid_dpop_proof") => return None,
                // Another token of the same kind would be refused just so (RFC 6750 3.1, RFC 9470 3).
                Some(b"insufficient_scope" | b"insufficient_user_authentication") => limited = true,
                error if scheme.eq_ignore_ascii_case(used.name().as_bytes()) => {
                    ours = true;
                    invalid |= error == Some(b"invalid_token");
                }
                _ => foreign = true,
            }
        }
    }
    if status != StatusCode::UNAUTHORIZED {
        return invalid.then_some(Refusal::Token);
    }
    match (ours, limited, foreign) {
        (true, ..) | (false, false, false) => Some(Refusal::Token),
        (false, true, _) => None,
        (false, false, true) => Some(Refusal::Foreign),
    }
}

/// Whether an answer refuses the proof of a call (RFC 9449 7.1).
pub(super) fn refuses_proof(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED
        && headers.get_all(WWW_AUTHENTICATE).iter().any(|value| {
            Challenges { rest: value.as_bytes() }
                .any(|challenge| challenge.error == Some(b"invalid_dpop_proof"))
        })
}

struct Challenge<'a> {
    scheme: &'a [u8],
    error: Option<&'a [u8]>,
}

/// The challenges of one header; what fits the grammar nowhere is passed over.
struct Challenges<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Challenges<'a> {
    type Item = Challenge<'a>;

    fn next(&mut self) -> Option<Challenge<'a>> {
        let mut found: Option<Challenge<'a>> = None;
        while !self.rest.is_empty() {
            let (element, rest) = split_element(self.rest);
            let param = match Element::of(element) {
                Some(Element::Scheme(..)) if found.is_some() => return found,
                Some(Element::Scheme(scheme, param)) => {
                    found = Some(Challenge { scheme, error: None });
                    param
                }
                Some(Element::Param(name, value)) => Some((name, value)),
                None => None,
            };
            self.rest = rest;
            if let (Some(challenge), Some((name, value))) = (&mut found, param)
                && name.eq_ignore_ascii_case(b"error")
            {
                challenge.error = Some(value);
            }
        }
        found
    }
}

type Param<'a> = (&'a [u8], &'a [u8]);

/// What can stand between two commas.
enum Element<'a> {
    /// A scheme, alone or with a token68 or the first of its parameters.
    Scheme(&'a [u8], Option<Param<'a>>),
    Param(&'a [u8], &'a [u8]),
}

impl<'a> Element<'a> {
    fn of(element: &'a [u8]) -> Option<Self> {
        if let Some((name, value)) = param(element) {
            return Some(Self::Param(name, value));
        }
        let (scheme, rest) = token(element)?;
        let arguments = rest.trim_ascii_start();
        if let Some(first) = param(arguments) {
            return Some(Self::Scheme(scheme, Some(first)));
        }
        let is_token68 = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        // Without the space the "scheme" runs into something that is no token.
        let separate = rest.len() > arguments.len() || arguments.is_empty();
        (separate && arguments.iter().all(is_token68)).then_some(Self::Scheme(scheme, None))
    }
}

/// `token BWS "=" BWS ( token / quoted-string )`
fn param(text: &[u8]) -> Option<Param<'_>> {
    let (name, rest) = token(text)?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\"")?,
        None => token(value).filter(|(_, after)| after.is_empty())?.0,
    };
    Some((name, value))
}

/// Cuts a token (RFC 9110 5.6.2) off the front.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let end = text.iter().position(|byte| !is_tchar(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Cuts the text at the first comma outside a quoted string.
fn split_element(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (text[..at].trim_ascii(), &text[at + 1..]),
            _ => {}
        }
    }
    (text.trim_ascii(), &[])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(challenges: &[&str], used: Scheme) -> Option<Refusal> {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap());
        }
        refusal(StatusCode::UNAUTHORIZED, &headers, used)
    }

    fn renews(challenges: &[&str]) -> bool {
        asked(challenges, Scheme::Bearer) == Some(Refusal::Token)
    }

    #[test]
    fn counts_a_400_or_403_only_if_it_names_an_invalid_token() {
        for (status, challenge, right) in [
            (200, "Bearer error=\"invalid_token\"", None),
            (404, "Bearer error=\"invalid_token\"", None),
            (407, "Bearer error=\"invalid_token\"", None),
            (500, "Bearer error=\"invalid_token\"", None),
            (401, "Bearer error=\"invalid_token\"", Some(Refusal::Token)),
            (400, "Bearer error=\"invalid_token\"", Some(Refusal::Token)),
            (403, "Bearer realm=\"x\", error=\"invalid_token\"", Some(Refusal::Token)),
            (403, "Basic, bearer error=invalid_token", Some(Refusal::Token)),
            (403, "Bearer", None),
            (400, "Bearer error=\"invalid_request\"", None),
            (403, "Bearer error=\"insufficient_scope\"", None),
            (403, "Bearer error=\"insufficient_user_authentication\"", None),
            (403, "DPoP error=\"invalid_token\"", None),
            (403, "Bearer error=\"invalid_token\", DPoP error=\"invalid_dpop_proof\"", None),
            (400, "Bearer error=\"invalid_token\", DPoP error=\"use_dpop_nonce\"", None),
            (403, "Basic realm=\"Bearer error=invalid_token\"", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refusal(status, &headers, Scheme::Bearer), right, "{status} {challenge}");
        }
        for status in [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN] {
            assert_eq!(refusal(status, &HeaderMap::new(), Scheme::Bearer), None, "{status}");
        }
    }

    #[test]
    fn what_calls_for_a_newer_token() {
        for challenges in [
            &[][..],
            &["Bearer"],
            &["bearer realm=\"api\""],
            &["Bearer error=\"invalid_token\", error_description=\"expired, sorry\""],
            &["Bearer error=\"invalid_request\""],
            &["Bearer realm = \"a\" , error = invalid_token"],
            &["Basic realm=\"a\", Bearer realm=\"b\""],
            &["Negotiate YWJj==, Bearer error=\"invalid_token\""],
            &["Basic realm=\"x\"", "Bearer"],
            &["Basic realm=\"say \\\"hi\\\", you\", Bearer"],
            &["Bearer error=\"insufficient_scope\"", "Bearer error=\"invalid_token\""],
            &[""],
            &[",, ,"],
            &["\"\"\""],
            &["please log in"],
            &["=\"x\""],
            &["Basic\"unclosed"],
        ] {
            assert!(renews(challenges), "{challenges:?}");
        }
    }

    #[test]
    fn what_names_other_schemes_only() {
        for challenges in [
            &["Basic realm=\"api\""][..],
            &["Negotiate"],
            &["Negotiate YWJj=="],
            &["DPoP algs=\"ES256\""],
            &["Basic realm=\"Bearer\"", "Digest nonce=\"a, Bearer error=x\", qop=\"auth\""],
            &["Basic realm=\"a\\\", Bearer x=\\\"\""],
        ] {
            assert_eq!(asked(challenges, Scheme::Bearer), Some(Refusal::Foreign), "{challenges:?}");
        }
    }

    #[test]
    fn what_does_not() {
        for challenges in [
            &["DPoP error=\"use_dpop_nonce\", error_description=\"nonce\""][..],
            &["DPoP error=\"invalid_dpop_proof\""],
            &["Bearer, DPoP error=\"invalid_dpop_proof\""],
            &["Bearer, DPoP error=\"use_dpop_nonce\""],
            &["Bearer error=\"insufficient_scope\", scope=\"a b\""],
            &["Bearer realm=\"a, Bearer\", ERROR=insufficient_scope"],
            &["Bearer error=\"insufficient_user_authentication\", max_age=\"5\""],
            &["Basic realm=\"x\"", "Bearer error=\"insufficient_scope\""],
        ] {
            assert_eq!(asked(challenges, Scheme::Bearer), None, "{challenges:?}");
        }
    }

    #[test]
    fn under_dpop_a_nonce_or_a_newer_token_is_asked_for() {
        for (challenges, right) in [
            (&[][..], Some(Refusal::Token)),
            (&["please log in"], Some(Refusal::Token)),
            (&["DPoP algs=\"ES256\""], Some(Refusal::Token)),
            (&["dpop error=\"invalid_token\", algs=\"ES256 EdDSA\""], Some(Refusal::Token)),
            (&["Bearer", "DPoP error=\"invalid_token\""], Some(Refusal::Token)),
            (&["DPoP error=\"use_dpop_nonce\", error_description=\"nonce\""], Some(Refusal::Nonce)),
            (&["Bearer realm=\"a\", DPoP error=use_dpop_nonce"], Some(Refusal::Nonce)),
            (&["DPoP error=\"invalid_dpop_proof\""], None),
            (&["Bearer error=\"invalid_token\", DPoP error=\"invalid_dpop_proof\""], None),
            (&["Bearer error=\"invalid_token\""], Some(Refusal::Foreign)),
            (&["DPoP error=\"insufficient_scope\""], None),
        ] {
            assert_eq!(asked(challenges, Scheme::Dpop), right, "{challenges:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            words in "((Bearer|Basic|error|=|,| |\"|\\\\|x){0,12})",
        ) {
            for value in [HeaderValue::from_bytes(&bytes), HeaderValue::from_str(&words)].into_iter().flatten() {
                let mut headers = HeaderMap::new();
                headers.insert(WWW_AUTHENTICATE, value);
                refusal(StatusCode::UNAUTHORIZED, &headers, Scheme::Bearer);
                refusal(StatusCode::UNAUTHORIZED, &headers, Scheme::Dpop);
            }
        }
    }
}
