use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

/// The header in which a server gives the next nonce (RFC 9449 8.1).
const HEADER: &str = "dpop-nonce";

/// The longest nonce that is taken. It goes back in a header, of which servers commonly take 8 KiB in all.
const LONGEST: usize = 1024;

/// Whose nonce it is: each server has its own (RFC 9449 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NonceOf {
    TokenEndpoint,
    /// The API at this one of the trusted origins.
    Api(usize),
}

/// The newest nonce of each server. Bounded, since an API must be trusted by name.
#[derive(Default)]
pub(super) struct Nonces(Mutex<HashMap<NonceOf, Arc<str>>>);

impl Nonces {
    pub(super) fn get(&self, of: NonceOf) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&of).cloned()
    }

    /// Keeps the nonce of an answer; false where it has none that can be used.
    pub(super) fn note(&self, of: NonceOf, answer: &HeaderMap) -> bool {
        let Some(nonce) = offered(answer) else { return false };
        let mut nonces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.get(&of).is_none_or(|held| **held != *nonce) {
            nonces.insert(of, nonce.into());
        }
        true
    }
}

/// The one nonce of an answer, if it is one: `1*NQCHAR` (RFC 9449 8.1).
fn offered(answer: &HeaderMap) -> Option<&str> {
    let mut all = answer.get_all(HEADER).iter();
    let (Some(one), None) = (all.next(), all.next()) else { return None };
    let is_nqchar = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
    let fits = (1..=LONGEST).contains(&one.len()) && one.as_bytes().iter().all(is_nqchar);
    fits.then(|| one.to_str().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn answer(nonces: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for nonce in nonces {
            headers.append(HEADER, HeaderValue::from_bytes(nonce).unwrap());
        }
        headers
    }

    #[test]
    fn each_server_has_its_own_and_the_newest_counts() {
        let nonces = Nonces::default();
        assert_eq!(nonces.get(NonceOf::TokenEndpoint), None);
        assert!(nonces.note(NonceOf::TokenEndpoint, &answer(&[b"eyJ7S_zG.eyJH0-Z.HX4w-7v"])));
        assert!(nonces.note(NonceOf::Api(0), &answer(&[b"a"])));
        assert!(nonces.note(NonceOf::Api(1), &answer(&[b"b"])));
        assert!(nonces.note(NonceOf::Api(1), &answer(&[b"c"])));
        assert!(!nonces.note(NonceOf::Api(1), &answer(&[])));
        assert_eq!(nonces.get(NonceOf::TokenEndpoint).as_deref(), Some("eyJ7S_zG.eyJH0-Z.HX4w-7v"));
        assert_eq!(nonces.get(NonceOf::Api(0)).as_deref(), Some("a"));
        assert_eq!(nonces.get(NonceOf::Api(1)).as_deref(), Some("c"));
    }

    #[test]
    fn what_is_no_nonce_leaves_the_old_one() {
        let nonces = Nonces::default();
        nonces.note(NonceOf::Api(0), &answer(&[b"old"]));
        for hostile in [
            &[&b""[..]][..],
            &[b"a b"],
            &[b"a\"b"],
            &[b"a\\b"],
            &[b"a\tb"],
            &[b"\xFF\xFE"],
            &["nönce".as_bytes()],
            &[&[b'x'; LONGEST + 1]],
            &[b"one", b"two"],
        ] {
            assert!(!nonces.note(NonceOf::Api(0), &answer(hostile)), "{hostile:?}");
            assert_eq!(nonces.get(NonceOf::Api(0)).as_deref(), Some("old"));
        }
        assert!(nonces.note(NonceOf::Api(0), &answer(&[&[b'x'; LONGEST]])));
    }
}
