use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::public_jwk::thumbprint;
use super::super::tests::{Act, Hands, Script, answer, credentials};
use super::super::{ClientAuth, GrantRequest, PrivateKeyJwt, Server, TokenEndpoint, TokenResponse};
use super::*;
use crate::clock::Clock;
use crate::error::ErrorKind;
use crate::grant::Tries;

/// RFC 8037 A.1.
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k1","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn bound() -> Act {
    answer(200, &[], r#"{"access_token":"t0ken","token_type":"dpop","expires_in":60}"#)
}

fn wants_nonce(nonces: &[&str]) -> Act {
    let headers: Vec<_> = nonces.iter().map(|nonce| ("dpop-nonce", *nonce)).collect();
    answer(400, &headers, r#"{"error":"use_dpop_nonce"}"#)
}

fn endpoint(script: &Arc<Script>, auth: Option<ClientAuth>, dpop: Option<Dpop>) -> TokenEndpoint {
    let server = Server::token_url("https://as.example/token?tenant=1", false).unwrap();
    TokenEndpoint::new(server, GrantRequest::default(), auth, false, script.clone(), Arc::default())
        .bound(dpop.map(|dpop| Arc::new(dpop.into_possession().unwrap())))
}

async fn ask(endpoint: &TokenEndpoint) -> Result<TokenResponse> {
    let hands = Arc::new(Hands::default());
    hands.advance(Duration::from_secs(1000));
    let clock = Clock::Injected(hands);
    endpoint.request(&clock, &credentials("app", "s3cret", 0), &Tries::default()).await
}

fn part(jwt: &str, index: usize) -> Value {
    let part = jwt.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The proofs that were sent, and the assertions beside them.
fn sent(script: &Script) -> Vec<(String, Option<String>)> {
    let requests = script.take_seen().into_iter().map(|seen| {
        assert_eq!(seen.headers.get_all("dpop").iter().count(), 1);
        assert!(seen.headers["dpop"].is_sensitive());
        let proof = seen.headers["dpop"].to_str().unwrap().to_owned();
        let mut form = url::form_urlencoded::parse(&seen.body).into_owned();
        (proof, form.find(|(name, _)| name == "client_assertion").map(|(_, value)| value))
    });
    requests.collect()
}

#[tokio::test]
async fn a_proof_of_each_algorithm() {
    for key in [None, Some(SigningKey::from_jwk(ED).unwrap())] {
        let dpop = key.map_or_else(Dpop::new, Dpop::with_key);
        let script = Script::new([bound()]);
        let token = ask(&endpoint(&script, None, Some(dpop))).await.unwrap();
        assert_eq!(token.text.header(), "DPoP t0ken");
        let [(proof, _)] = &sent(&script)[..] else { panic!("not one request") };
        let (header, mut claims) = (part(proof, 0), part(proof, 1));
        let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(jti.as_str().unwrap()).unwrap().len(), 16);
        assert_eq!(claims, json!({ "htm": "POST", "htu": "https://as.example/token", "iat": 999 }));

        assert_eq!(header["typ"], "dpop+jwt");
        let jwk = &header["jwk"];
        assert!(jwk.get("d").is_none() && jwk.get("kid").is_none(), "{jwk}");
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let (message, signature) = proof.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        match header["alg"].as_str() {
            Some("ES256") => {
                let point = [vec![4], member("x"), member("y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature)
            }
            Some("EdDSA") => {
                assert_eq!(thumbprint(jwk).unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
                UnparsedPublicKey::new(&ED25519, member("x")).verify(message.as_bytes(), &signature)
            }
            other => panic!("{other:?}"),
        }
        .unwrap();
    }
}

#[tokio::test]
async fn the_nonce_is_answered_within_the_attempt_and_nothing_is_sent_twice() {
    let key = PrivateKeyJwt::new(SigningKey::from_jwk(ED).unwrap());
    let renewed = answer(
        200,
        &[("dpop-nonce", "n2")],
        r#"{"access_token":"t0ken","token_type":"DPoP","expires_in":60}"#,
    );
    let script = Script::new([wants_nonce(&["n1"]), renewed, bound()]);
    let endpoint = endpoint(&script, Some(key.into()), Some(Dpop::new()));
    ask(&endpoint).await.unwrap();
    // What a success brings is for the next one, and a source made by `with` has it, too.
    ask(&endpoint.for_request(GrantRequest::default())).await.unwrap();
    let sent = sent(&script);
    let nonces: Vec<_> = sent.iter().map(|(proof, _)| part(proof, 1)["nonce"].clone()).collect();
    assert_eq!(nonces, [Value::Null, "n1".into(), "n2".into()]);
    let ids = |jwts: Vec<&String>| -> std::collections::HashSet<String> {
        jwts.into_iter().map(|jwt| part(jwt, 1)["jti"].to_string()).collect()
    };
    assert_eq!(ids(sent.iter().map(|(proof, _)| proof).collect()).len(), 3);
    assert_eq!(ids(sent.iter().filter_map(|(_, assertion)| assertion.as_ref()).collect()).len(), 3);
    let keys: std::collections::HashSet<_> =
        sent.iter().map(|(proof, _)| part(proof, 0).to_string()).collect();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn a_server_that_always_wants_a_nonce_is_asked_twice() {
    let script = Script::new([wants_nonce(&["n1"]), wants_nonce(&["n2"])]);
    let error = ask(&endpoint(&script, None, Some(Dpop::new()))).await.unwrap_err();
    assert_eq!((error.kind(), error.oauth_error()), (ErrorKind::RequestRefused, Some("use_dpop_nonce")));
    assert!(error.is_retryable());
    assert_eq!(script.take_seen().len(), 2);
}

#[tokio::test]
async fn without_a_usable_nonce_or_a_key_nothing_is_repeated() {
    let huge = "x".repeat(5_000);
    for nonces in [&[][..], &["a b"], &[""], &["a", "b"], &[huge.as_str()]] {
        let script = Script::new([wants_nonce(nonces)]);
        let error = ask(&endpoint(&script, None, Some(Dpop::new()))).await.unwrap_err();
        assert_eq!(error.oauth_error(), Some("use_dpop_nonce"));
        assert_eq!(script.take_seen().len(), 1, "{nonces:?}");
    }
    let script = Script::new([wants_nonce(&["n1"])]);
    let error = ask(&endpoint(&script, None, None)).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("`dpop`"), "{error}");
    assert!(!script.take_seen()[0].headers.contains_key("dpop"));
}

#[tokio::test]
async fn a_token_of_the_other_type_is_refused_by_name() {
    let given =
        |kind: &str| answer(200, &[], &format!(r#"{{"access_token":"t0ken"{kind},"expires_in":60}}"#));
    for (dpop, kind, said) in [
        (true, r#","token_type":"Bearer""#, r#"of the type "Bearer", and only DPoP"#),
        (true, "", "of the type unknown, and only DPoP"),
        (false, r#","token_type":"DPoP""#, r#"of the type "DPoP", and only Bearer"#),
    ] {
        let script = Script::new([given(kind)]);
        let error = ask(&endpoint(&script, None, dpop.then(Dpop::new))).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidResponse, true));
        assert!(error.to_string().contains(said) && error.to_string().contains("`dpop`"), "{error}");
    }
}

#[tokio::test]
async fn a_refused_proof_speaks_of_clock_and_key_and_is_not_shown() {
    let script = Script::new([answer(400, &[], r#"{"error":"invalid_dpop_proof"}"#)]);
    let error = ask(&endpoint(&script, None, Some(Dpop::new()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestRefused);
    let shown = error.to_string();
    assert!(shown.contains("clock") && shown.contains("keys"), "{shown}");

    let possession = Dpop::new().into_possession().unwrap();
    let proof = possession.proof(NonceOf::Api(0), &Method::GET, "https://a.example/", None, Duration::ZERO);
    assert_eq!(format!("{:?}", proof.unwrap()), "Sensitive");
    let shown = format!("{possession:?} {:?}", Dpop::with_key(SigningKey::from_jwk(ED).unwrap()));
    assert!(!shown.contains("nWGx") && !shown.contains("11qY"), "{shown}");
}

#[test]
fn a_key_that_signs_no_proofs_is_refused_when_built() {
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = aws_lc_rs::encoding::AsDer::as_der(&rsa).unwrap();
    let key = SigningKey::from_der(der.as_ref()).unwrap();
    let error = Dpop::with_key(key).into_possession().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("`dpop`"), "{error}");
}
