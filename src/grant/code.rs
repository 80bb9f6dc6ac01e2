//! OAuth error codes (RFC 6749 5.2): what has the form of one, which are known, and which say nothing about the client.
//! What a whole answer means is decided in `refusal`.

use http::StatusCode;

/// The longest text that counts as a code.
pub(super) const LONGEST: usize = 64;

/// The codes of the standards, and those of servers that are treated like them. Being our own words, they are shown as they
/// are, even if the app secret happens to be a part of one.
const KNOWN: &[&str] = &[
    // RFC 6749 4.1.2.1 and 5.2
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    // RFC 6750 3.1
    "invalid_token",
    "insufficient_scope",
    // RFC 7009 2.2.1
    "unsupported_token_type",
    // RFC 7591 3.2.2
    "invalid_redirect_uri",
    "invalid_client_metadata",
    "invalid_software_statement",
    "unapproved_software_statement",
    // RFC 8628 3.5
    "authorization_pending",
    "slow_down",
    "expired_token",
    // RFC 8707 2
    "invalid_target",
    // RFC 9449 5 and 8
    "invalid_dpop_proof",
    "use_dpop_nonce",
    // glewlwyd
    "scope_invalid",
    "authorization_type_invalid",
];

/// The known codes that speak of the request, of the token or of the server. With any other code, the client may be the
/// wrong one, or its secret, or how it was sent.
const NOT_ABOUT_CLIENT: &[&str] = &[
    "invalid_request",
    "unsupported_grant_type",
    "unsupported_response_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "insufficient_scope",
    "unsupported_token_type",
    "invalid_redirect_uri",
    "invalid_client_metadata",
    "invalid_software_statement",
    "unapproved_software_statement",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "invalid_target",
    "invalid_dpop_proof",
    "use_dpop_nonce",
    "scope_invalid",
    "authorization_type_invalid",
];

/// Returns the known code that this text is.
pub(crate) fn known(text: &str) -> Option<&'static str> {
    KNOWN.iter().find(|code| **code == text).copied()
}

/// Returns whether a refusal with this code may be about the client: its id, its secret, or how they were sent.
pub(super) fn may_be_about_client(code: &str) -> bool {
    !NOT_ABOUT_CLIENT.contains(&code)
}

/// Returns the code in the `error` field of an answer with this status, if it is one.
///
/// RFC 6749 allows spaces and punctuation, but what real servers put there with spaces is a sentence, not a code, and what
/// repeats the name of a status comes from a framework. A 404, 405 or 410 says that there is no token endpoint, at least
/// not yet, unless it names the client; other statuses that the RFC does not provide for need a code that is known.
pub(super) fn of(text: &str, status: StatusCode) -> Option<&str> {
    let code = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let has_form = code.len() <= LONGEST
        && code.starts_with(|c: char| c.is_ascii_alphabetic())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let fits = match status.as_u16() {
        404 | 405 | 410 => code == "invalid_client",
        400 | 401 | 403 | 422 => true,
        402..=499 => known(code).is_some(),
        _ => true,
    };
    (has_form && fits && !names_status(code)).then_some(code)
}

/// Whether this is the name of an error status, written in one of the ways that frameworks write it.
fn names_status(code: &str) -> bool {
    let letters = |text: &str| {
        let letters = text.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let code = letters(code);
    (400..600)
        .filter_map(|status| StatusCode::from_u16(status).ok()?.canonical_reason())
        .any(|reason| letters(reason) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_for_a_code_only_what_has_the_form_of_one_with_a_status_that_fits() {
        let is_code = |text: &str, status| of(text, StatusCode::from_u16(status).unwrap()).is_some();
        for (text, statuses) in [
            ("invalid_client", &[200, 400, 401, 403, 404, 405, 409, 410, 422, 429, 500][..]),
            ("invalid_scope", &[200, 400, 401, 403, 409, 422, 429, 503]),
            ("invalid_client_secret", &[200, 400, 401, 403, 422, 500]),
            ("E0000004", &[400, 401, 403]),
            ("urn.example.bad-secret", &[400, 401, 403]),
        ] {
            for status in [200, 400, 401, 403, 404, 405, 409, 410, 422, 429, 500, 503] {
                if statuses.contains(&status) {
                    assert!(is_code(text, status), "{text} {status}");
                }
            }
        }
        for (text, status) in [
            ("Realm does not exist", 404),
            ("Realm does not exist", 400),
            ("realm_not_found", 404),
            ("invalid_request", 404),
            ("invalid_scope", 405),
            ("out_of_order", 410),
            ("out_of_order", 409),
            ("Unauthorized", 401),
            ("Unauthorized", 400),
            ("UNAUTHORIZED", 403),
            ("not_found", 400),
            ("NotFound", 404),
            ("Bad Request", 400),
            ("internal-server-error", 500),
            ("", 400),
            ("400", 400),
            ("ß", 400),
            ("<html>", 400),
            ("{}", 400),
            ("https://as.example/errors/7", 400),
        ] {
            assert!(!is_code(text, status), "{text} {status}");
        }
        assert!(is_code(&"x".repeat(64), 400) && !is_code(&"x".repeat(65), 400));
        assert_eq!(of(" invalid_client\r\n", StatusCode::BAD_REQUEST), Some("invalid_client"));
    }

    #[test]
    fn what_is_not_about_the_client_is_known() {
        for code in NOT_ABOUT_CLIENT {
            assert_eq!(known(code), Some(*code));
        }
        for code in ["invalid_client", "unauthorized_client", "invalid_grant", "incorrect_client_credentials"]
        {
            assert!(may_be_about_client(code), "{code}");
        }
    }
}
