//! What is told to the outside: `tracing` events of target `evertoken`, and with feature `metrics` the same in
//! numbers. The names are stable.

use std::time::Duration;

use crate::error::Error;
use crate::grant::{Quota, TokenEndpoint};

pub(super) enum Report {
    Renewed {
        lifetime: Duration,
        round_trip: Duration,
        missing_scopes: Vec<String>,
        quota: Option<Quota>,
        /// Little is left of it, for longer than the token may wait.
        low: bool,
    },
    Failed {
        error: Error,
        remaining: Option<Duration>,
    },
    Invalidated,
    Rotated,
    /// At each of the refresher's steps.
    Observed {
        age: Duration,
        remaining: Duration,
    },
}

impl Report {
    pub(super) fn tell(&self, endpoint: &TokenEndpoint) {
        let server = endpoint.server();
        match self {
            Report::Renewed { lifetime, round_trip, missing_scopes, quota, low } => {
                tracing::debug!(
                    target: "evertoken",
                    server,
                    lifetime_s = lifetime.as_secs_f64(),
                    took_ms = round_trip.as_secs_f64() * 1e3,
                    "token renewed"
                );
                if !missing_scopes.is_empty() {
                    let missing = missing_scopes.join(" ");
                    tracing::warn!(target: "evertoken", server, missing, "scopes not granted");
                }
                if let Some(quota) = quota.filter(|_| *low) {
                    let (remaining, limit) = (quota.remaining, quota.limit);
                    tracing::warn!(
                        target: "evertoken", server, remaining, limit,
                        "few tokens left in the server's quota; renewing later"
                    );
                }
            }
            Report::Failed { error, remaining: Some(left) } => tracing::warn!(
                target: "evertoken", server, %error, token_left_s = left.as_secs_f64(),
                "renewal failed; the held token serves on"
            ),
            Report::Failed { error, remaining: None } => {
                tracing::error!(target: "evertoken", server, %error, "renewal failed; no token is held");
            }
            Report::Invalidated => {
                tracing::info!(target: "evertoken", server, "token refused by the API; renewing it");
            }
            Report::Rotated => tracing::info!(target: "evertoken", server, "the credential has changed"),
            Report::Observed { age, remaining } => tracing::trace!(
                target: "evertoken", server, age_s = age.as_secs_f64(), token_left_s = remaining.as_secs_f64(), "token held"
            ),
        }
        #[cfg(feature = "metrics")]
        self.count(server);
    }

    #[cfg(feature = "metrics")]
    fn count(&self, server: String) {
        use metrics::{counter, gauge, histogram};

        match self {
            Report::Renewed { round_trip, quota, .. } => {
                if let Some(quota) = quota {
                    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                    let remaining = quota.remaining as f64;
                    gauge!("evertoken_quota_remaining", "server" => server.clone()).set(remaining);
                }
                counter!("evertoken_renewals_total", "server" => server.clone()).increment(1);
                histogram!("evertoken_renewal_seconds", "server" => server).record(round_trip.as_secs_f64());
            }
            Report::Failed { error, .. } => {
                let kind = format!("{:?}", error.kind());
                counter!("evertoken_renewal_failures_total", "server" => server, "kind" => kind).increment(1);
            }
            Report::Invalidated => {
                counter!("evertoken_recoveries_total", "server" => server).increment(1);
            }
            Report::Rotated => {}
            Report::Observed { age, remaining } => {
                gauge!("evertoken_token_age_seconds", "server" => server.clone()).set(age.as_secs_f64());
                gauge!("evertoken_token_remaining_seconds", "server" => server).set(remaining.as_secs_f64());
            }
        }
    }
}

/// A caller had to wait for a token.
pub(crate) fn waited(length: Duration, got_one: bool) {
    tracing::debug!(target: "evertoken", waited_ms = length.as_secs_f64() * 1e3, got_one, "waited for a token");
    #[cfg(feature = "metrics")]
    metrics::histogram!("evertoken_wait_seconds").record(length.as_secs_f64());
}
