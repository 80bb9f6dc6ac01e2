use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::super::signer::Signed;
use super::super::tests::{Script, answer, credentials, token};
use super::super::{ClientAuth, GrantRequest, Server, TokenEndpoint, TokenResponse};
use super::*;
use crate::clock::{Clock, Moment, TimeSource};
use crate::grant::Tries;

/// RFC 8037 A.1.
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"k1","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// The wall shows 1000.5 s.
struct Still;

impl TimeSource for Still {
    fn coarse(&self) -> (Duration, Duration) {
        (Duration::ZERO, Duration::from_millis(1_000_500))
    }

    fn now(&self) -> Moment {
        Moment::new(Duration::ZERO, self.coarse().1, None)
    }

    fn sleep(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

async fn ask(script: &Arc<Script>, server: Server, auth: impl Into<ClientAuth>) -> Result<TokenResponse> {
    let auth = Some(auth.into());
    let endpoint =
        TokenEndpoint::new(server, GrantRequest::default(), auth, false, script.clone(), Arc::default());
    endpoint
        .request(&Clock::Injected(Arc::new(Still)), &credentials("a:p", "s3cret", 0), &Tries::default())
        .await
}

fn by_url() -> Server {
    Server::token_url("https://as.example/token?t=1", false).unwrap()
}

fn by_issuer() -> Server {
    Server::issuer("https://as.example", false).unwrap()
}

fn metadata(more: &str) -> super::super::tests::Act {
    let body = r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token""#;
    answer(200, &[], &format!("{body}{more}}}"))
}

/// The assertion in the last request, with its header and claims.
fn sent(script: &Script) -> (String, Value, Value) {
    let seen = script.take_seen().pop().unwrap();
    assert!(!seen.headers.contains_key("authorization"));
    let form: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(&seen.body).into_owned().collect();
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert_eq!(form["client_id"], "a:p");
    assert!(!form.contains_key("client_secret"));
    let jwt = form["client_assertion"].clone();
    let part = |index| {
        let part = jwt.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    (jwt, header, claims)
}

fn key() -> SigningKey {
    SigningKey::from_jwk(ED).unwrap()
}

#[tokio::test]
async fn header_claims_and_signature() {
    let script = Script::new([token()]);
    ask(&script, by_url(), PrivateKeyJwt::new(key())).await.unwrap();
    let (jwt, header, mut claims) = sent(&script);
    assert_eq!(header, json!({ "alg": "EdDSA", "typ": "JWT", "kid": "k1" }));
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(jti.as_str().unwrap()).unwrap().len(), 16);
    assert_eq!(
        claims,
        json!({ "iss": "a:p", "sub": "a:p", "aud": "https://as.example/token?t=1", "iat": 990, "nbf": 990, "exp": 1050 })
    );
    let (input, signature) = jwt.rsplit_once('.').unwrap();
    let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    UnparsedPublicKey::new(&ED25519, public)
        .verify(input.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn the_secret_is_the_key_of_the_mac() {
    for (algorithm, name, mac) in [
        (None, "HS256", hmac::HMAC_SHA256),
        (Some(HmacAlgorithm::Hs384), "HS384", hmac::HMAC_SHA384),
        (Some(HmacAlgorithm::Hs512), "HS512", hmac::HMAC_SHA512),
    ] {
        let script = Script::new([token()]);
        let method = SecretJwt { algorithm, ..SecretJwt::new() };
        ask(&script, by_url(), method).await.unwrap();
        let (jwt, header, _) = sent(&script);
        assert_eq!(header, json!({ "alg": name, "typ": "JWT" }));
        let (input, tag) = jwt.rsplit_once('.').unwrap();
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        hmac::verify(&hmac::Key::new(mac, b"s3cret"), input.as_bytes(), &tag).unwrap();
    }
}

/// RFC 7515 A.1.
#[test]
fn the_rfcs_hs256() {
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = hmac::Key::new(HmacAlgorithm::Hs256.parts().1, &URL_SAFE_NO_PAD.decode(secret).unwrap());
    let input = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                 Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let jwt = signed(input, hmac::sign(&key, input.as_bytes()).as_ref());
    assert_eq!(jwt.strip_prefix(input).unwrap(), ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

#[tokio::test]
async fn audience_and_algorithm_by_discovery() {
    let algorithms = r#","token_endpoint_auth_signing_alg_values_supported":["PS256","HS512"]"#;
    for (wanted, audience) in [
        (AssertionAudience::Issuer, "https://as.example"),
        (AssertionAudience::TokenEndpoint, "https://as.example/token"),
        (AssertionAudience::Named("urn:as".into()), "urn:as"),
    ] {
        let script = Script::new([metadata(algorithms), token()]);
        ask(&script, by_issuer(), SecretJwt::new().audience(wanted)).await.unwrap();
        let (_, header, claims) = sent(&script);
        assert_eq!((&claims["aud"], &header["alg"]), (&json!(audience), &json!("HS512")));
    }
}

#[tokio::test]
async fn what_only_takes_an_assertion_gets_one() {
    let methods = r#","token_endpoint_auth_methods_supported":["private_key_jwt","client_secret_jwt"]"#;
    let script = Script::new([metadata(methods), token()]);
    let endpoint =
        TokenEndpoint::new(by_issuer(), GrantRequest::default(), None, false, script.clone(), Arc::default());
    endpoint.request(&Clock::System, &credentials("a:p", "s", 0), &Tries::default()).await.unwrap();
    assert_eq!(sent(&script).1["alg"], "HS256");
}

#[tokio::test]
async fn no_two_assertions_are_alike() {
    let script = Script::new((0..100).map(|_| token()));
    let endpoint = TokenEndpoint::new(
        by_url(),
        GrantRequest::default(),
        Some(PrivateKeyJwt::new(key()).into()),
        false,
        script.clone(),
        Arc::default(),
    );
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        endpoint
            .request(&Clock::Injected(Arc::new(Still)), &credentials("a:p", "", 0), &Tries::default())
            .await
            .unwrap();
        assert!(seen.insert(sent(&script).2["jti"].to_string()));
    }
}

enum Mood {
    Fails,
    Panics,
    PanicsBefore,
    Der,
}

struct Moody(Mood, AtomicUsize);

impl Signer for Moody {
    fn algorithm(&self) -> SigningAlgorithm {
        assert!(!matches!(self.0, Mood::PanicsBefore), "moody");
        SigningAlgorithm::Es256
    }

    fn key_id(&self) -> Option<&str> {
        Some("hsm-1")
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signed<'a> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match self.0 {
                Mood::Fails => Err(format!("slot empty\n for {}", str::from_utf8(message)?).into()),
                Mood::Panics | Mood::PanicsBefore => panic!("moody"),
                Mood::Der => Ok(vec![0x30; 71]),
            }
        })
    }
}

#[tokio::test]
async fn a_signer_that_gives_nothing_is_told_of_and_nothing_is_sent() {
    for (mood, kind, said) in [
        (
            Mood::Fails,
            ErrorKind::CredentialsUnavailable,
            "failed for the key \"hsm-1\": slot empty for [redacted]",
        ),
        (Mood::Panics, ErrorKind::CredentialsUnavailable, "the signer of the client assertion panicked"),
        (
            Mood::PanicsBefore,
            ErrorKind::CredentialsUnavailable,
            "the signer of the client assertion panicked",
        ),
        (Mood::Der, ErrorKind::Configuration, "71 bytes, which is no ES256 signature"),
    ] {
        let script = Script::new([]);
        let method = PrivateKeyJwt::with_signer(Moody(mood, AtomicUsize::new(0)));
        let error = ask(&script, by_url(), method).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.is_retryable(), kind == ErrorKind::CredentialsUnavailable);
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.server(), Some("https://as.example/token"));
        assert!(script.take_seen().is_empty());
    }
}

#[tokio::test]
async fn neither_key_nor_assertion_shows() {
    /// Says back what it was sent.
    struct Echo;
    impl super::super::Transport for Echo {
        fn send(
            &self,
            request: http::Request<bytes::Bytes>,
        ) -> std::pin::Pin<
            Box<
                dyn Future<
                        Output = std::result::Result<
                            http::Response<bytes::Bytes>,
                            super::super::TransportError,
                        >,
                    > + Send
                    + '_,
            >,
        > {
            let form = url::form_urlencoded::parse(request.body());
            let jwt = form.into_owned().find(|(name, _)| name == "client_assertion").unwrap().1;
            let signature = jwt.rsplit('.').next().unwrap();
            let body =
                json!({ "error": "invalid_client", "error_description": format!("{signature} in {jwt}") });
            let answer = http::Response::builder().status(401).body(body.to_string().into()).unwrap();
            Box::pin(async { Ok(answer) })
        }
    }
    let method = PrivateKeyJwt::new(key());
    let auth = Some(method.clone().into());
    let endpoint =
        TokenEndpoint::new(by_url(), GrantRequest::default(), auth, false, Arc::new(Echo), Arc::default());
    let error =
        endpoint.request(&Clock::System, &credentials("a:p", "", 0), &Tries::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsRejected);
    assert_eq!(error.description(), Some("[redacted] in [redacted]"));
    assert!(error.to_string().contains("`kid`"), "{error}");
    for shown in [format!("{error:?} {error}"), format!("{endpoint:?}"), format!("{method:?} {:?}", key())] {
        assert!(!shown.contains("nWGxne") && !shown.contains("eyJhbGci"), "{shown}");
    }
}
