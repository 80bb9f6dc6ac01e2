use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::grant::{TokenResponse, Transport, TransportError};
use crate::secret::{Scheme, TokenText};
use crate::{Client, ClientBuilder};

const LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// A client that holds `token` and never asks anybody for another: for unit tests of code that takes a
/// [`Client`], against a mock of the API at `base_url`.
///
/// The token is there from the start, lives for a year, and is all that a renewal after a 401 gives again.
///
/// ```
/// let api = evertoken::testing::fixed_client("t0ken", "http://127.0.0.1:8080/v1/")?;
/// assert_eq!(api.current_token().map(|token| token.as_str().to_owned()).as_deref(), Some("t0ken"));
/// # Ok::<(), evertoken::Error>(())
/// ```
///
/// # Errors
/// [`Configuration`](crate::ErrorKind::Configuration) where the base URL is none, or the token has characters that none may
/// have (RFC 6749 A.12).
pub fn fixed_client(token: &str, base_url: &str) -> Result<Client> {
    let text = TokenText::new(Scheme::Bearer, token).ok_or_else(|| {
        Error::configuration("the fixed token has characters that none may have (RFC 6749 A.12)")
    })?;
    let client = ClientBuilder::new("fixed".into(), "unused".into())
        .token_url("https://fixed.invalid/token")
        .transport(Arc::new(Same(text.clone())))
        .base_url(base_url)
        .build()?;
    client.token_source().hold(TokenResponse {
        text,
        sent: Clock::System.now(),
        round_trip: Duration::ZERO,
        lifetime: LIFETIME,
        refresh_in: None,
        scope: None,
        missing_scopes: Vec::new(),
        quotas: Vec::new(),
    });
    Ok(client)
}

/// Answers every token request with the same token.
struct Same(TokenText);

impl Transport for Same {
    fn send(
        &self,
        _: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let answer = json!({
            "access_token": self.0.token(), "token_type": "Bearer", "expires_in": LIFETIME.as_secs(),
        });
        Box::pin(std::future::ready(Ok(Response::new(Bytes::from(answer.to_string())))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_its_token_and_gets_it_again() {
        let api = fixed_client("t0ken", "https://api.example/").unwrap();
        let held = api.current_token().unwrap();
        assert_eq!(held.as_str(), "t0ken");
        api.invalidate(&held);
        assert_eq!(api.token().await.unwrap(), held);
        assert_eq!(api.status().consecutive_failures, 0);
        assert!(fixed_client("no token", "https://api.example/").is_err());
    }
}
