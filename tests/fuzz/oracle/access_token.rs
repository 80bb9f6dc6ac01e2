//! Whatever is sent to an API as an access token (RFC 9068).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use evertoken::server::Verifier;
use evertoken::testing::{ManualClock, Transport};
use http::Response;

use super::answer::{NOW, Scripted, block_on};
use super::said;

/// The public key of RFC 8037 A.2.
pub const PUBLIC_KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

/// A token that the key of RFC 8037 A.1 has signed, for an hour from `NOW` on.
pub const GOOD: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwczovL2FzLmV4YW1wbGUvdCIsImF1ZCI6Imh0dHBzOi8vYXBpLmV4YW1wbGUiLCJzdWIiOiJhcHAtNyIsImNsaWVudF9pZCI6ImFwcC03IiwiaWF0IjoxMjM0NTY3ODgwLCJleHAiOjEyMzQ1NzE0OTAsImp0aSI6IjEiLCJzY29wZSI6InJlYWQifQ.ds1_AIADZkj97iC5On7QqS06rwUwGYFBfgR_95EuyXlIRct6tPFDuhikDI3TOpJA-96ibpNu0RyEaWuDvAlgDw";

/// The same, with members in its header that change nothing.
const ALSO_GOOD: [&str; 2] =
    [include_str!("../corpus/access_token/kid"), include_str!("../corpus/access_token/jwk")];

pub fn verifier(transport: Arc<dyn Transport>) -> Verifier {
    let clock = ManualClock::new(UNIX_EPOCH + Duration::from_secs(NOW));
    Verifier::builder("https://as.example/t")
        .audience("https://api.example")
        .jwks_url("https://as.example/jwks")
        .clock(Arc::new(clock))
        .transport(transport)
        .build()
        .unwrap()
}

pub fn check(data: &[u8]) {
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{PUBLIC_KEY}"}}]}}"#);
    let verifier = verifier(Scripted::new(move |_: &_| Response::new(Bytes::from(keys.clone()))));
    let Ok(token) = str::from_utf8(data) else { return };
    match block_on(verifier.verify(token)) {
        Ok(caller) => {
            assert_eq!(caller.app_id(), "app-7");
            assert!(token == GOOD || ALSO_GOOD.contains(&token), "what was not signed is taken: {token}");
        }
        Err(refusal) => {
            assert_ne!(token, GOOD);
            said::no_secret(&format!("{refusal} {refusal:?}"), &said::long_words(token));
        }
    }
    assert!(block_on(verifier.verify(GOOD)).is_ok());
}
