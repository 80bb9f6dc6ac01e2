//! What stands for a customer in memory once the secret is gone.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::error::Result;
use crate::grant::GrantRequest;
use crate::secret::{self, ExposeSecret, SecretString};
use crate::server::digest::Digest;
use crate::server::fold::folded;

/// An app id, its secret and all that is asked for, as 128 bits of SipHash-2-4 under a key that each process draws.
///
/// Who chooses what is hashed, and does not know the key, finds no two that are the same and cannot tell one from random
/// numbers: the chance to hit one of a million by guessing is 2^-108. HMAC-SHA-256 would do as well, and takes six times as
/// long.
pub(super) type Key = Digest;

/// An app id, or an address, by the same hash: for counting and for forgetting, where a collision costs next to nothing.
pub(super) type Tag = u64;

/// Gives all spellings of an app id that the server takes for the same the same form.
pub(super) type Normalize = Box<dyn Fn(&str) -> String + Send + Sync>;

/// The process's key, and how app ids are normalized for counting and forgetting.
pub(super) struct Hashing(SipHasher24, Option<Normalize>);

impl Hashing {
    pub(super) fn new() -> Result<Self> {
        secret::random().map(|key| Self(SipHasher24::new_with_key(&key), None))
    }

    pub(super) fn with_normalize(self, normalize: Option<Normalize>) -> Self {
        Self(self.0, normalize)
    }

    /// The hashing of those who ask for just this: a hit need not hash what is the same for all.
    pub(super) fn of_request(&self, request: &GrantRequest) -> CustomerHashing {
        let GrantRequest { audience, resources, scopes, params } = request;
        let mut text = Text(self.0);
        text.number(0);
        text.list(audience.iter());
        text.list(resources.iter());
        text.list(scopes.iter());
        text.list(params.iter().map(|(name, _)| name));
        text.list(params.iter().map(|(_, value)| value));
        CustomerHashing(text.0)
    }

    /// Returns the tag of all spellings of an app id.
    pub(super) fn app(&self, app_id: &str) -> Tag {
        match &self.1 {
            Some(normalize) => self.tag(1, normalize(app_id).as_bytes()),
            None => self.tag(1, folded(app_id).as_bytes()),
        }
    }

    /// An IPv6 address counts as its network of 64 bits, which one customer has as a rule.
    pub(super) fn peer(&self, peer: IpAddr) -> Tag {
        match peer.to_canonical() {
            IpAddr::V4(address) => self.tag(2, &address.octets()),
            IpAddr::V6(address) => self.tag(3, &address.octets()[..8]),
        }
    }

    fn tag(&self, kind: u64, bytes: &[u8]) -> Tag {
        let mut text = Text(self.0);
        text.number(kind);
        text.item(bytes);
        text.0.finish()
    }
}

/// The hashing of one request's customers.
pub(super) struct CustomerHashing(SipHasher24);

impl CustomerHashing {
    pub(super) fn key(&self, app_id: &str, secret: &SecretString) -> Key {
        let mut text = Text(self.0);
        text.item(app_id.as_bytes());
        text.item(secret.expose_secret().as_bytes());
        // So that what the hasher has in its buffer when it is dropped is none of the secret.
        text.number(0);
        let hash = text.0.finish128();
        Digest([hash.h1, hash.h2])
    }
}

/// What is hashed: each item with its length in front, so that none can pass for another's end.
struct Text(SipHasher24);

impl Text {
    fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    fn item(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    fn list<'a>(&mut self, items: impl ExactSizeIterator<Item = &'a String>) {
        self.number(items.len() as u64);
        items.for_each(|item| self.item(item.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// All that may tell one customer's token from another's.
    #[derive(Debug, Clone, PartialEq)]
    struct Asked {
        app_id: String,
        secret: String,
        request: GrantRequest,
    }

    impl Asked {
        fn key(&self, hashing: &Hashing) -> Key {
            hashing.of_request(&self.request).key(&self.app_id, &self.secret.clone().into())
        }
    }

    /// Few letters and short, so that what is put together in two ways often reads the same.
    fn text() -> impl Strategy<Value = String> + Clone {
        "[ab\0]{0,3}"
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let list = || vec(text(), 0..3);
        let request = (proptest::option::of(text()), list(), list(), vec((text(), text()), 0..3));
        let request = request.prop_map(|(audience, resources, scopes, params)| GrantRequest {
            audience,
            resources,
            scopes,
            params,
        });
        (text(), text(), request).prop_map(|(app_id, secret, request)| Asked { app_id, secret, request })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn two_have_one_key_only_where_they_are_the_same(one in asked(), other in asked()) {
            let hashing = Hashing::new().unwrap();
            prop_assert_eq!(one.key(&hashing) == other.key(&hashing), one == other);
        }

        /// Whatever is moved from one field to the next, with the text as a whole the same.
        #[test]
        fn no_field_passes_for_a_part_of_another(text in "[ab]{2,6}", cut in 0usize..6, other in 0usize..6) {
            let hashing = Hashing::new().unwrap();
            let of = |cut: usize, shape: u8| {
                let (left, right) = text.split_at(cut.min(text.len()));
                let (left, right) = (left.to_owned(), right.to_owned());
                let mut asked = Asked { app_id: String::new(), secret: String::new(), request: GrantRequest::default() };
                match shape {
                    0 => (asked.app_id, asked.secret) = (left, right),
                    1 => (asked.app_id, asked.request.audience) = (left, Some(right)),
                    2 => (asked.secret, asked.request.resources) = (left, vec![right]),
                    3 => (asked.request.resources, asked.request.scopes) = (vec![left], vec![right]),
                    4 => asked.request.scopes = vec![left, right],
                    _ => asked.request.params = vec![(left, right)],
                }
                asked
            };
            for one in 0..6 {
                for another in 0..6 {
                    let (one, another) = (of(cut, one), of(other, another));
                    prop_assert_eq!(one.key(&hashing) == another.key(&hashing), one == another, "{:?} {:?}", one, another);
                }
            }
        }
    }

    #[test]
    fn each_process_hashes_in_its_own_way() {
        let [one, other] = [Hashing::new().unwrap(), Hashing::new().unwrap()];
        let asked = GrantRequest::default();
        let key = |hashing: &Hashing| hashing.of_request(&asked).key("app", &"secret".into());
        assert!(key(&one) == key(&one) && key(&one) != key(&other));
        assert!(one.app("app") == one.app("app") && one.app("app") != other.app("app"));
    }

    #[test]
    fn an_address_counts_with_its_network() {
        let hashing = Hashing::new().unwrap();
        let peer = |text: &str| hashing.peer(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
