//! App ids that differ only in spelling are one client at some servers.

use std::sync::Arc;

use tokio::sync::Notify;

use super::scripted::{Answer, INVALID_CLIENT, Scene, rest};

const SPELLINGS: [&str; 6] =
    ["customer-7", "CUSTOMER-7", "Customer-7 ", "\u{200b}customer-7", "ｃustomer-7", "cústomer-7"];

#[tokio::test]
async fn a_purge_finds_every_spelling() {
    let scene = Scene::new();
    for spelling in SPELLINGS {
        scene.token(spelling, "right").await.unwrap();
    }
    scene.token("customer-8", "right").await.unwrap();
    scene.exchange.purge("customer-7");
    assert_eq!(scene.exchange.status().customers, 1);
    assert!(scene.held("customer-8", "right").is_some());
    // And what is under way in another one.
    let gate = Arc::new(Notify::new());
    let later = gate.clone();
    scene.endpoint.script(move |_| Answer::TokenLater(later.clone()));
    let call = scene.call("CUSTOMER-7", "right", "");
    rest().await;
    scene.exchange.purge("customer-7");
    gate.notify_one();
    call.await.unwrap().unwrap();
    assert_eq!(scene.exchange.status().customers, 1, "not kept");
}

/// Each spelling has its own token all the same: the server decides whether they are one client.
#[tokio::test]
async fn no_spelling_gets_the_token_of_another() {
    let scene = Scene::new();
    scene.endpoint.script(|seen| if seen.app_id == "app" { Answer::Token } else { INVALID_CLIENT });
    scene.token("app", "right").await.unwrap();
    for other in ["APP", " app", "app ", "ａpp"] {
        assert!(scene.token(other, "right").await.is_err(), "{other:?}");
    }
}

#[tokio::test]
async fn guesses_in_other_spellings_count_for_the_same_app_id() {
    let scene = Scene::new();
    scene.endpoint.script(|_| INVALID_CLIENT);
    for number in 0..40_u32 {
        // The case of each letter by a bit of the number.
        let spelling: String = "customer"
            .char_indices()
            .map(|(at, c)| if number >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        assert!(scene.token(&spelling, "guess").await.is_err());
    }
    assert_eq!(scene.endpoint.requests(), 6, "five are free, and the next has a pause after it");
}

#[tokio::test]
async fn a_normalization_of_the_api_s_own_replaces_the_usual_one() {
    let scene = Scene::with(|builder| {
        builder.normalize_app_id(|app_id| app_id.trim_matches(['{', '}']).replace('-', ""))
    });
    for spelling in ["{ab-cd}", "abcd", "ab-cd", "ABCD"] {
        scene.token(spelling, "right").await.unwrap();
    }
    scene.exchange.purge("abcd");
    assert!(scene.held("ABCD", "right").is_some());
    assert_eq!(scene.exchange.status().customers, 1);
}

/// No spelling tells that `alias` is the client that the token names as `0oa42`.
#[tokio::test]
async fn a_purge_finds_tokens_by_the_app_id_that_they_name() {
    let scene = Scene::new();
    let token = scene.token("alias", "right").await.unwrap();
    scene.token("other", "right").await.unwrap();
    assert!(scene.exchange.note_owner(&token, "0oa42"));
    scene.exchange.purge("0OA42");
    assert_eq!(scene.exchange.status().customers, 1);
    assert!(scene.held("other", "right").is_some());
    // It came before the purge, but nobody had looked at it by then.
    let token = scene.token("alias", "right").await.unwrap();
    scene.advance(1);
    scene.exchange.purge("0oa42");
    assert!(!scene.exchange.note_owner(&token, "0oa42"));
    assert!(scene.at_once("alias", "right").is_none(), "asked for anew");
    let token = scene.token("alias", "right").await.unwrap();
    assert!(scene.exchange.note_owner(&token, "0oa42"));
}
