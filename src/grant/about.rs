//! What is asked about a token that is there: that it end (RFC 7009 2.1), or what is known of it (RFC 7662 2.1).

use bytes::Bytes;
use http::Response;
use url::Url;

use super::assertion::Recipient;
use super::discovery::Metadata;
use super::request::form;
use super::response::Asked;
use super::{TokenEndpoint, refusal};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::Result;
use crate::origin;

impl TokenEndpoint {
    /// One request about `token` to the endpoint that `find` gives; `judged` says what the answer comes to. The client
    /// authenticates as for its tokens, and with the very same audience where it does so by an assertion (RFC 7009 2.1).
    pub(super) async fn ask_about<T>(
        &self,
        clock: &Clock,
        credentials: &Credentials,
        token: &str,
        find: impl FnOnce(Option<&Metadata>) -> Result<Url>,
        judged: impl FnOnce(&Response<Bytes>, &Asked<'_>) -> Result<T>,
    ) -> Result<T> {
        let (token_endpoint, announced) = self.find(clock, credentials).await?;
        let metadata = announced.as_deref();
        let url = find(metadata).map_err(|error| error.with_server(self.server()))?;
        // The method that got the token.
        let (auth, ..) = self.methods(&token_endpoint, metadata, credentials, None)?;
        let to = Recipient { metadata, token_endpoint: &token_endpoint };
        let assertion = auth.assertion(to, credentials, clock).await;
        let assertion = assertion.map_err(|error| error.with_server(self.server()))?;
        let assertion = assertion.as_ref().map(|assertion| assertion.as_str());

        let mut fields = vec![("token", token), ("token_type_hint", "access_token")];
        fields.extend(auth.fields(credentials, assertion));
        let request = Self::http_request(&url, &auth, credentials, form(&fields))?;
        let sent = clock.now();
        let answer = self
            .transport
            .send(request)
            .await
            .map_err(|error| refusal::unanswered(error).with_server(origin::shown(&url)))?;
        tracing::debug!(
            target: "evertoken", server = %origin::shown(&url), status = answer.status().as_u16(), auth = auth.name(),
            "answered about a token"
        );
        let asked = Asked {
            endpoint: &url,
            scopes: &[],
            credentials,
            assertion,
            proof: None,
            sent,
            answered: clock.now(),
        };
        judged(&answer, &asked).map_err(|error| auth.advised(error))
    }
}
