//! What is asked about a token that is there: that it end (RFC 7009 2.1), or what is known of it (RFC 7662 2.1).

use bytes::Bytes;
use http::Response;
use url::Url;

use super::assertion::Recipient;
use super::discovery::Metadata;
use super::request::form;
use super::response::Asked;
use super::server_clock::Stamp;
use super::{TokenEndpoint, refusal};
use crate::clock::Clock;
use crate::credentials::Credentials;
use crate::error::Result;
use crate::origin;

impl TokenEndpoint {
    /// One request about `token` to the endpoint that `find` gives; `judged` says what the answer comes to. The client
    /// authenticates as for its tokens, and with the very same audience where it does so by an assertion (RFC 7009 2.1); an
    /// assertion that bore a wrong time is sent once more with the right one.
    pub(super) async fn ask_about<T>(
        &self,
        clock: &Clock,
        credentials: &Credentials,
        token: &str,
        find: impl FnOnce(Option<&Metadata>) -> Result<Url>,
        judged: impl Fn(&Response<Bytes>, &Asked<'_>) -> Result<T>,
    ) -> Result<T> {
        let (token_endpoint, announced) = self.find(clock, credentials).await?;
        let metadata = announced.as_deref();
        let url = find(metadata).map_err(|error| error.with_server(self.server()))?;
        // The method that got the token.
        let (auth, ..) = self.methods(&token_endpoint, metadata, credentials, None)?;
        let to = Recipient { metadata, token_endpoint: &token_endpoint };
        let mut set_right = false;
        loop {
            let stamp =
                if auth.is_signed() { self.server_clock.stamp(&clock.now()) } else { Stamp::default() };
            let assertion = auth.assertion(to, credentials, stamp.time).await;
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
            let answered = clock.now();
            tracing::debug!(
                target: "evertoken", server = %origin::shown(&url), status = answer.status().as_u16(), auth = auth.name(),
                "answered about a token"
            );
            self.server_clock.learn(answer.headers(), &sent, &answered);
            let asked =
                Asked { endpoint: &url, scopes: &[], credentials, assertion, proof: None, sent, answered };
            match judged(&answer, &asked) {
                Err(error)
                    if assertion.is_some()
                        && !set_right
                        && self.server_clock.explains(&error, stamp, &answered) =>
                {
                    set_right = true;
                }
                outcome => return outcome.map_err(|error| auth.advised(error)),
            }
        }
    }
}
