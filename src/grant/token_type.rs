//! Whether a token of the announced type can be used (RFC 6749 7.1). How it is shown to an API is decided by
//! [`Scheme`].

use super::quote::Quoter;
use super::response::invalid;
use crate::error::Result;
use crate::padding::trimmed_token;
use crate::secret::Scheme;

/// Words that name a proof of possession wherever they stand in a type.
const BOUND_WORDS: [&str; 7] = ["dpop", "pop", "mac", "hmac", "hok", "hotk", "hawk"];

/// Types of several words that name one, without what stands between their words.
const BOUND_NAMES: [&str; 6] =
    ["holderofkey", "proofofpossession", "httpsig", "httpsignature", "httpsignatures", "sshcert"];

/// Checks the type of a token. Returns the type, ready to be shown, if it is one that no standard knows and that is taken as
/// Bearer: large servers invent their own (`BearerToken`, `Application Access Token`, `JWT`), for tokens that are sent as any
/// other.
///
/// A Bearer token may come without its type. One that was to be bound may not: it would be sent for all to use.
///
/// # Errors
/// If the type names a proof of possession that is not spoken, says that the token is no access token (`N_A`, RFC 8693
/// 2.2.1), or if the token was to be bound by DPoP and is not.
pub(super) fn check(given: Option<&str>, wanted: Scheme, quoter: &Quoter<'_>) -> Result<Option<String>> {
    let name = wanted.name();
    let known = given.map(trimmed_token).unwrap_or_default();
    let shown = || given.map(|given| format!("{:?}", quoter.text(given, 64)));
    let refused = |advice| {
        let given = shown().unwrap_or_else(|| "unknown".to_owned());
        Err(invalid(format!("the token is of the type {given}, and only {name} can be used")).advice(advice))
    };
    if wanted == Scheme::Dpop {
        if known.eq_ignore_ascii_case(name) {
            return Ok(None);
        }
        return refused("have the server bind this client's tokens by DPoP, or leave `dpop` out");
    }
    if given.is_none_or(|given| given.eq_ignore_ascii_case(name)) {
        return Ok(None);
    }
    let lower = known.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joined: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    match words.find(|word| BOUND_WORDS.contains(word)) {
        Some("dpop") => refused("for tokens of the type DPoP set `dpop`"),
        None if joined == "na" => refused(
            "the server says that what it gave is no access token (RFC 8693 2.2.1): see what it is asked for \
             (`token_param`)",
        ),
        None if !BOUND_NAMES.contains(&joined.as_str()) => Ok(shown()),
        _ => refused(
            "it is bound to a key by a scheme that is not supported: have the server give Bearer tokens, or bind them by \
             DPoP (`dpop`)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::credentials;
    use super::*;

    fn judge(given: &str, wanted: Scheme) -> Result<Option<String>> {
        let credentials = credentials("app", "s3cr3t", 0);
        check(
            Some(given),
            wanted,
            &Quoter { credentials: &credentials, token: Some("t0ken"), assertion: None, proof: None },
        )
    }

    #[test]
    fn takes_unknown_types_as_bearer_and_names_them() {
        for given in [
            "BearerToken",
            "Application Access Token",
            "JWT",
            "access_token",
            "Bearer ",
            "bearer\r\n",
            "urn:ietf:params:oauth:token-type:access_token",
            "at+jwt",
            "opaque",
            "machine",
            "poppy",
            "Nation",
        ] {
            assert_eq!(
                judge(given, Scheme::Bearer).unwrap(),
                Some(format!("{:?}", given.trim_end_matches("\r\n"))),
                "{given:?}"
            );
        }
        for given in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(judge(given, Scheme::Bearer).unwrap(), None, "{given:?}");
        }
        assert_eq!(judge("of t0ken", Scheme::Bearer).unwrap().unwrap(), "\"of [redacted]\"");
    }

    #[test]
    fn refuses_types_that_name_a_proof_with_advice_for_each() {
        const DPOP: &str = "set `dpop`";
        const OTHER: &str = "by a scheme that is not supported";
        for (given, advice) in [
            ("DPoP", DPOP),
            (" dpop\n", DPOP),
            ("DPoP-bound", DPOP),
            ("mac", OTHER),
            ("MAC ", OTHER),
            ("hmac-sha-256", OTHER),
            ("pop", OTHER),
            ("PoP", OTHER),
            ("jwt_pop", OTHER),
            ("hok", OTHER),
            ("hotk-pk", OTHER),
            ("Holder-of-Key", OTHER),
            ("proof_of_possession", OTHER),
            ("ssh-cert", OTHER),
            ("N_A", "no access token"),
            ("n_a ", "no access token"),
            ("N/A", "no access token"),
        ] {
            let error = judge(given, Scheme::Bearer).expect_err(given);
            assert!(error.is_retryable() && error.to_string().contains(advice), "{given:?}: {error}");
        }
    }

    #[test]
    fn a_bound_token_must_say_that_it_is_bound() {
        for given in ["DPoP", "dpop", " DPoP\r\n"] {
            assert_eq!(judge(given, Scheme::Dpop).unwrap(), None, "{given:?}");
        }
        for given in ["Bearer", "BearerToken", "mac", "N_A", "DPoP-bound", "JWT", ""] {
            let error = judge(given, Scheme::Dpop).expect_err(given);
            assert!(error.to_string().contains("only DPoP can be used"), "{given:?}: {error}");
            assert!(error.to_string().contains("leave `dpop` out"), "{given:?}: {error}");
        }
    }
}
