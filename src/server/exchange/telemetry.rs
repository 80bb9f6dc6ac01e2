//! What is told to the outside, as the rest of the crate does it.

use crate::error::Error;

/// A token request for a customer has ended.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "a label of the metrics"))]
pub(super) fn settled(server: &str, audience: Option<&str>, app_id: &str, outcome: Result<(), &Error>) {
    match outcome {
        Ok(()) => tracing::debug!(target: "evertoken", server, app_id = ?app_id, "token got for an app"),
        Err(error) => {
            tracing::debug!(target: "evertoken", server, app_id = ?app_id, %error, "no token for an app")
        }
    }
    #[cfg(feature = "metrics")]
    {
        let outcome = outcome.map_or_else(|error| error.kind().as_str(), |()| "issued");
        let (server, audience) = (server.to_owned(), audience.unwrap_or_default().to_owned());
        metrics::counter!(
            "evertoken_exchange_requests_total", "audience" => audience, "server" => server, "outcome" => outcome
        )
        .increment(1);
    }
}
