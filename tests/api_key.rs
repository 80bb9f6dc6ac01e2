//! App id and app secret in one string.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::time::Duration;

use evertoken::testing::AuthServer;
use evertoken::{ApiKey, Client, ErrorKind, TokenSource, blocking};
use house::box_of;
use proptest::prelude::*;
use regex::Regex;

const ALPHABET: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_- é";

fn assert_typo(text: &str, whole: &ApiKey) {
    let error = ApiKey::parse(text).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let said = format!("{error} {error:?}");
    assert!(said.contains("typo"), "{said}");
    assert!(!said.contains("acme") && !said.contains(&whole.expose()[10..20]), "{said}");
}

#[test]
fn the_format_is_what_is_documented() {
    let key = ApiKey::issue("acme_live", "app-7", "s3cr3t").unwrap();
    assert_eq!(key.expose(), "acme_live_006w3nw3huF3suq3Qy_0X7tmn");
    assert_eq!((key.prefix(), key.app_id()), ("acme_live", "app-7"));
    assert_eq!(format!("{key}"), "acme_live_[REDACTED]");
    assert_eq!(format!("{key:?}"), r#"ApiKey { prefix: "acme_live", app_id: "app-7", .. }"#);
    let again: ApiKey = format!(" {}\n", key.expose()).parse().unwrap();
    assert_eq!(again.expose(), key.expose());
}

#[test]
fn what_could_not_be_read_back_is_not_issued() {
    for prefix in ["", "a", "Acme", "acme-live", "_acme", "7acme", "acme_", "acmé", &"a".repeat(33)] {
        assert_eq!(
            ApiKey::issue(prefix, "id", "secret").unwrap_err().kind(),
            ErrorKind::Configuration,
            "{prefix}"
        );
        assert!(ApiKey::pattern(prefix).is_err(), "{prefix}");
    }
    let long = "x".repeat(4097);
    for (id, secret) in [("", "secret"), ("id", ""), (&long, "secret"), ("id", &long)] {
        let error = ApiKey::issue("acme", id, secret).unwrap_err().to_string();
        assert!(error.contains("1 to 4096 bytes"), "{error}");
    }
    let longest = ApiKey::issue("acme", &long[1..], &long[1..]).unwrap();
    assert_eq!(ApiKey::parse(longest.expose()).unwrap().app_id(), &long[1..]);
}

#[test]
fn every_single_slip_of_the_hand_is_a_typo() {
    let key = ApiKey::issue("acme_live", "app-7", "s3cr3t").unwrap();
    let chars: Vec<char> = key.expose().chars().collect();
    for place in 0..chars.len() {
        for other in ALPHABET.chars().filter(|other| *other != chars[place]) {
            let mut wrong = chars.clone();
            wrong[place] = other;
            assert_typo(&wrong.into_iter().collect::<String>(), &key);
        }
        let mut missing = chars.clone();
        missing.remove(place);
        assert_typo(&missing.into_iter().collect::<String>(), &key);
        assert_typo(&chars[..place].iter().collect::<String>(), &key);
        if place > 0 && chars[place - 1] != chars[place] {
            let mut swapped = chars.clone();
            swapped.swap(place - 1, place);
            assert_typo(&swapped.into_iter().collect::<String>(), &key);
        }
    }
}

#[test]
fn scanners_find_issued_keys() {
    let scanner = Regex::new(&ApiKey::pattern("acme_live").unwrap()).unwrap();
    for (id, secret) in
        [("a", "b"), ("app-7", "s3cr3t"), ("ünï", "\0\0 \n"), (&"i".repeat(99), &"s".repeat(999))]
    {
        let key = ApiKey::issue("acme_live", id, secret).unwrap();
        for text in [format!("KEY={}", key.expose()), format!("\"{}\",", key.expose())] {
            assert_eq!(scanner.find(&text).unwrap().as_str(), key.expose());
        }
        assert!(!scanner.is_match(&key.expose().replace("live", "test")));
        assert!(!scanner.is_match(&key.expose()[..key.expose().len() - 1]));
    }
}

#[tokio::test]
async fn a_key_is_all_that_a_client_needs() {
    let server = box_of(Duration::from_secs(60)).await;
    let key = ApiKey::issue("box", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let source = TokenSource::builder_from(key.clone()).token_url(server.token_url()).build().unwrap();
    assert!(server.accepts(source.token().await.unwrap().as_str()));
    let client = Client::builder_from(key.expose())
        .token_url(server.token_url())
        .audience(server.audience())
        .base_url(server.api_url())
        .build()
        .unwrap();
    assert_eq!(client.get("orders").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_typo_is_told_by_build_and_nothing_is_sent() {
    let server = box_of(Duration::from_secs(60)).await;
    let key = ApiKey::issue("box", AuthServer::APP_ID, AuthServer::APP_SECRET).unwrap();
    let wrong = &key.expose()[1..];
    let errors = [
        TokenSource::builder_from(wrong).token_url(server.token_url()).build().unwrap_err(),
        Client::builder_from(wrong.to_owned()).token_url(server.token_url()).build().unwrap_err(),
        blocking::Client::builder_from(wrong).token_url(server.token_url()).build().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("typo"), "{error}");
    }
    assert_eq!(server.token_requests(), 0);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String, id in "[a-z_0]{0,9}", sum in "[0-9A-Za-z]{6}") {
        let _ = ApiKey::parse(&text);
        let _ = ApiKey::parse(&format!("{id}_{text}_{sum}"));
    }

    #[test]
    fn every_substitution_in_any_key_is_found(id in ".{1,20}", secret in ".{1,20}", place: prop::sample::Index, other in "[0-9A-Za-z_]") {
        let key = ApiKey::issue("acme", &id, secret).unwrap();
        let place = place.index(key.expose().len());
        let mut wrong = key.expose().to_owned();
        wrong.replace_range(place..=place, &other);
        prop_assert_eq!(ApiKey::parse(&wrong).is_ok(), wrong == key.expose());
    }
}
