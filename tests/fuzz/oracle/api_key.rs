//! API keys: any text as one, and prefix, app id and app secret (one a line) made into one.

use evertoken::{ApiKey, AppCredentials, ErrorKind};

use super::said;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match ApiKey::parse(text) {
        Ok(key) => {
            assert_eq!(key.expose(), text.trim_ascii());
            whole(&key);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            said::check(&error, &said::long_words(text));
        }
    }
    let mut parts = text.splitn(3, '\n');
    let [Some(prefix), Some(id), Some(secret)] = [(); 3].map(|()| parts.next()) else { return };
    match ApiKey::issue(prefix, id, secret) {
        Ok(key) => {
            let again = ApiKey::parse(key.expose()).expect("what was issued is read");
            assert_eq!((again.prefix(), again.app_id()), (prefix, id));
            assert_eq!(AppCredentials::from(again), AppCredentials::new(id, secret));
            whole(&key);
            slips(&key, data);
        }
        Err(error) => said::check(&error, &said::long_words(text)),
    }
}

/// It is shown without its payload, and another one of the same parts is the same text.
fn whole(key: &ApiKey) {
    let payload = key.expose().strip_prefix(key.prefix()).unwrap();
    said::no_secret(&format!("{key} {key:?}"), &[payload]);
    assert_eq!(key.to_string(), format!("{}_[REDACTED]", key.prefix()));
    let read: AppCredentials = format!("API_KEY={}", key.expose()).parse().expect("a file may hold it");
    assert_eq!(read, key.clone().into());
}

/// One wrong character, two neighbours swapped, one lost, at places that the input chooses.
fn slips(key: &ApiKey, data: &[u8]) {
    let text = key.expose().as_bytes();
    let chosen = data.iter().fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let at = chosen % (text.len() - 1);
    let mut wrong = text.to_vec();
    wrong[at] = DIGITS[(chosen >> 8) % DIGITS.len()];
    let mut swapped = text.to_vec();
    swapped.swap(at, at + 1);
    let mut short = text.to_vec();
    short.remove(at);
    for slip in [wrong, swapped, short, text[..=at].to_vec()] {
        if slip != text {
            let slip = String::from_utf8(slip).unwrap();
            let error = ApiKey::parse(&slip).expect_err(&slip);
            assert!(error.to_string().contains("typo"), "{error}");
        }
    }
}
