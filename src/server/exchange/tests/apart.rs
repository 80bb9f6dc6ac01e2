//! Nobody gets what was got with other credentials, or for something else.

use proptest::collection::vec;
use proptest::prelude::*;

use super::scripted::{Answer, Scene, Seen};
use crate::grant::GrantRequest;
use crate::server::Exchange;
use crate::server::exchange::Asked;

/// A handle that asks for anything at all.
fn asking(exchange: &Exchange, request: GrantRequest) -> Exchange {
    let hashing = exchange.core.hashing.of_request(&request);
    let asked = Asked::new(exchange.asked.endpoint.for_request(request), hashing);
    Exchange { core: exchange.core.clone(), asked: asked.into() }
}

/// The token that belongs to a request, whoever asks: all that was sent, in letters that a token may have.
fn token_of(seen: &Seen) -> String {
    let all = format!("{:?}", (&seen.app_id, &seen.secret, &seen.form));
    all.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn expected(app_id: &str, secret: &str, request: &GrantRequest) -> String {
    let form = url::form_urlencoded::parse(request.form_body(&[]).as_bytes()).into_owned().collect();
    token_of(&Seen { app_id: app_id.into(), secret: secret.into(), form })
}

fn text() -> impl Strategy<Value = String> + Clone {
    "[ab]{1,2}"
}

fn request() -> impl Strategy<Value = GrantRequest> {
    let params = vec(("x[ab]", text()), 0..2);
    (proptest::option::of(text()), vec(text(), 0..2), vec(text(), 0..3), params).prop_map(
        |(audience, resources, scopes, params)| GrantRequest { audience, resources, scopes, params },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Each of many calls, with all kinds of credentials and parameters and in any order, gets the token that the server
    /// gave for just these; and where it was there already, at once.
    #[test]
    fn each_call_gets_its_own_token(calls in vec((text(), text(), request()), 2..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new();
            scene.endpoint.script(|seen| {
                let token = token_of(seen);
                Answer::Body(format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":1000}}"#))
            });
            let mut known = std::collections::HashSet::new();
            for (app_id, secret, request) in &calls {
                let wanted = expected(app_id, secret, request);
                let exchange = asking(&scene.exchange, request.clone());
                let before = scene.endpoint.requests();
                let token = exchange.token(app_id, &secret.clone().into(), None).await.unwrap();
                assert_eq!(token.as_str(), wanted);
                let asked = scene.endpoint.requests() - before;
                assert!(asked == 1 || !known.insert(wanted.clone()), "a token that was never asked for");
                known.insert(wanted);
            }
        });
    }

    /// With a right app id, a secret that differs in anything is refused, whatever is held.
    #[test]
    fn a_wrong_secret_never_gets_the_held_token(app_id in ".{1,20}", right in ".{1,40}", wrong in ".{0,40}") {
        prop_assume!(right != wrong);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new();
            let (id, secret) = (app_id.clone(), right.clone());
            // Of both: a raw pair may be split at a colon of its app id.
            scene.endpoint.script(move |seen| match (&seen.app_id, &seen.secret) {
                known if known == (&id, &secret) => Answer::Token,
                _ => super::scripted::INVALID_CLIENT,
            });
            scene.token(&app_id, &right).await.unwrap();
            let near = [format!("{right} "), format!(" {right}"), right.to_uppercase(), right.chars().skip(1).collect()];
            for wrong in near.iter().chain([&wrong]).filter(|wrong| **wrong != right) {
                assert!(scene.token(&app_id, wrong).await.is_err());
            }
            assert_eq!(scene.held(&app_id, &right).as_deref(), Some("t1"));
        });
    }
}
