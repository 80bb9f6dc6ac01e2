//! What is told to the outside: `tracing` events of target `evertoken`, and with feature `metrics` the same in
//! numbers. The names are stable. What the API's side tells is in `server`.

use std::time::{Duration, SystemTime};

use super::refresher::Refresher;
use crate::error::Error;
use crate::grant::Quota;

pub(super) enum Report {
    Renewed {
        lifetime: Duration,
        round_trip: Duration,
        #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "a gauge"))]
        expires_at: SystemTime,
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
        #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "a gauge"))]
        expires_at: SystemTime,
    },
}

/// What tells one source from others: in the fields of events and the labels of metrics.
struct Origin {
    /// The name that the builder was given, else the app id, else nothing: a source of credentials has given none yet.
    client: String,
    server: String,
}

impl Refresher {
    fn origin(&self) -> Origin {
        let app_id = || self.credentials.get().map(|known| known.app_id.clone());
        let client = self.name.as_deref().map(str::to_owned).or_else(app_id).unwrap_or_default();
        Origin { client, server: self.endpoint.server() }
    }

    pub(super) fn report(&self, report: &Report) {
        let origin = self.origin();
        report.log(&origin);
        #[cfg(feature = "metrics")]
        report.count(&self.labels(origin));
    }

    /// A caller had to wait for a token.
    pub(crate) fn waited(&self, length: Duration, got_one: bool) {
        let origin = self.origin();
        let Origin { client, server } = &origin;
        tracing::debug!(
            target: "evertoken", client, server, waited_ms = millis(length), got_one, "waited for a token"
        );
        #[cfg(feature = "metrics")]
        metrics::histogram!("evertoken_wait_seconds", self.labels(origin)).record(length.as_secs_f64());
    }
}

/// A number as a person reads it: one digit after the point below 10, none above.
fn rounded(number: f64) -> f64 {
    if number < 10.0 { (number * 10.0).round() / 10.0 } else { number.round() }
}

fn seconds(length: Duration) -> f64 {
    rounded(length.as_secs_f64())
}

fn millis(length: Duration) -> f64 {
    rounded(length.as_secs_f64() * 1e3)
}

impl Report {
    fn log(&self, Origin { client, server }: &Origin) {
        match self {
            Report::Renewed { lifetime, round_trip, missing_scopes, quota, low, .. } => {
                tracing::debug!(
                    target: "evertoken",
                    client,
                    server,
                    lifetime_s = seconds(*lifetime),
                    took_ms = millis(*round_trip),
                    "token renewed"
                );
                if !missing_scopes.is_empty() {
                    let missing = missing_scopes.join(" ");
                    tracing::warn!(target: "evertoken", client, server, missing, "scopes not granted");
                }
                if let Some(quota) = quota.filter(|_| *low) {
                    let (remaining, limit) = (quota.remaining, quota.limit);
                    tracing::warn!(
                        target: "evertoken", client, server, remaining, limit,
                        "few tokens left in the server's quota; renewing later"
                    );
                }
            }
            Report::Failed { error, remaining: Some(left) } => tracing::warn!(
                target: "evertoken", client, server, %error, token_left_s = seconds(*left),
                "renewal failed; the held token serves on"
            ),
            Report::Failed { error, remaining: None } => {
                tracing::error!(target: "evertoken", client, server, %error, "renewal failed; no token is held");
            }
            Report::Invalidated => {
                tracing::info!(target: "evertoken", client, server, "token refused by the API; renewing it");
            }
            Report::Rotated => {
                tracing::info!(target: "evertoken", client, server, "the credential has changed");
            }
            Report::Observed { age, remaining, .. } => tracing::trace!(
                target: "evertoken", client, server, age_s = seconds(*age), token_left_s = seconds(*remaining),
                "token held"
            ),
        }
    }
}

#[cfg(feature = "metrics")]
mod counted {
    use metrics::{
        Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    };

    use super::{Origin, Refresher, Report, SystemTime};
    use crate::error::ErrorKind;

    /// The ways in which a renewal fails.
    const FAILURES: [ErrorKind; 7] = [
        ErrorKind::CredentialsRejected,
        ErrorKind::CredentialsUnavailable,
        ErrorKind::AuthServerUnavailable,
        ErrorKind::Throttled,
        ErrorKind::RequestRefused,
        ErrorKind::InvalidResponse,
        ErrorKind::Configuration,
    ];

    impl Refresher {
        pub(super) fn labels(&self, Origin { client, server }: Origin) -> Vec<Label> {
            let request = self.grant_request();
            let audience = request.audience.clone().unwrap_or_else(|| request.resources.join(" "));
            vec![Label::new("client", client), Label::new("audience", audience), Label::new("server", server)]
        }

        /// Describes all series and has the counters begin at 0, so that the first failure is a change of a number that was
        /// there. Done again, it does the same: a recorder may come after the client.
        pub(crate) fn register(&self) {
            describe_counter!("evertoken_renewals_total", Unit::Count, "Tokens that were received");
            describe_counter!(
                "evertoken_renewal_failures_total",
                Unit::Count,
                "Renewals that failed, by kind of error"
            );
            describe_counter!(
                "evertoken_recoveries_total",
                Unit::Count,
                "Renewals because the API refused the token"
            );
            describe_histogram!(
                "evertoken_renewal_seconds",
                Unit::Seconds,
                "Time of a token request that gave a token"
            );
            describe_histogram!(
                "evertoken_wait_seconds",
                Unit::Seconds,
                "Time that a call waited for a token"
            );
            describe_gauge!(
                "evertoken_token_age_seconds",
                Unit::Seconds,
                "Age of the token at the last step"
            );
            describe_gauge!(
                "evertoken_token_remaining_seconds",
                Unit::Seconds,
                "Time left to the token at the last step"
            );
            describe_gauge!(
                "evertoken_token_expiry_timestamp_seconds",
                Unit::Seconds,
                "When the token expires, in seconds since the Unix epoch"
            );
            describe_gauge!("evertoken_quota_remaining", Unit::Count, "Tokens left in the server's quota");
            let origin = self.origin();
            // Without a name, the series are those of an app id that is not known yet.
            if origin.client.is_empty() {
                return;
            }
            let labels = self.labels(origin);
            counter!("evertoken_renewals_total", labels.clone()).increment(0);
            counter!("evertoken_recoveries_total", labels.clone()).increment(0);
            for kind in FAILURES {
                failures(&labels, kind).increment(0);
            }
        }
    }

    fn failures(labels: &[Label], kind: ErrorKind) -> metrics::Counter {
        let mut labels = labels.to_vec();
        labels.push(Label::from_static_parts("kind", kind.as_str()));
        counter!("evertoken_renewal_failures_total", labels)
    }

    fn expires(labels: &[Label], at: SystemTime) {
        let epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        gauge!("evertoken_token_expiry_timestamp_seconds", labels.to_vec()).set(epoch.as_secs_f64());
    }

    impl Report {
        pub(super) fn count(&self, labels: &[Label]) {
            match self {
                Report::Renewed { round_trip, quota, expires_at, .. } => {
                    if let Some(quota) = quota {
                        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
                        let remaining = quota.remaining as f64;
                        gauge!("evertoken_quota_remaining", labels.to_vec()).set(remaining);
                    }
                    expires(labels, *expires_at);
                    counter!("evertoken_renewals_total", labels.to_vec()).increment(1);
                    histogram!("evertoken_renewal_seconds", labels.to_vec()).record(round_trip.as_secs_f64());
                }
                Report::Failed { error, .. } => failures(labels, error.kind()).increment(1),
                Report::Invalidated => {
                    counter!("evertoken_recoveries_total", labels.to_vec()).increment(1);
                }
                Report::Rotated => {}
                Report::Observed { age, remaining, expires_at } => {
                    expires(labels, *expires_at);
                    gauge!("evertoken_token_age_seconds", labels.to_vec()).set(age.as_secs_f64());
                    gauge!("evertoken_token_remaining_seconds", labels.to_vec()).set(remaining.as_secs_f64());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_they_mean() {
        for (length, s, ms) in [
            (Duration::from_nanos(3_999_987_100), 4.0, 4000.0),
            (Duration::from_micros(123_456), 0.1, 123.0),
            (Duration::from_micros(1_234), 0.0, 1.2),
            (Duration::from_secs_f64(3599.9999), 3600.0, 3_600_000.0),
        ] {
            assert_eq!((seconds(length), millis(length)), (s, ms), "{length:?}");
        }
    }
}
