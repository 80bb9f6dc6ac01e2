//! What users may set about renewal. The numbers that follow from it lie in `schedule` and `backoff`.

use std::time::Duration;

use crate::error::{Error, Result};

/// How a token is kept fresh. The defaults are right for nearly everyone.
///
/// ```
/// use std::time::Duration;
/// let policy = evertoken::RenewalPolicy::default()
///     .renew_at(0.8)
///     .request_timeout(Duration::from_secs(5));
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RenewalPolicy {
    pub(crate) renew_at: f64,
    pub(crate) jitter: f64,
    pub(crate) leeway: Option<Duration>,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_cap: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_lifetimes: Option<u32>,
    pub(crate) settle: Duration,
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self {
            renew_at: 0.9,
            jitter: 0.23,
            leeway: None,
            backoff_base: Duration::from_millis(800),
            backoff_cap: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            idle_lifetimes: None,
            settle: Duration::ZERO,
        }
    }
}

impl RenewalPolicy {
    /// The fraction of a token's life after which it is renewed at the latest; 0.9 by default. Lower means more
    /// room for an outage of the authorization server, and more tokens to pay for.
    pub fn renew_at(mut self, fraction: f64) -> Self {
        self.renew_at = fraction;
        self
    }

    /// By how much of the life the renewal may come earlier, drawn once per token; 0.23 by default, so that a fleet
    /// started together spreads out.
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.jitter = fraction;
        self
    }

    /// Sets how long before its expiry a token is no longer handed out, at least 20 ms and at most half of the life. By
    /// default 5 % of the life, but between 1.01 s and 30 s, and at most 35 % of the life: a JWT's `exp` has whole
    /// seconds, so that a token may end a second before its `expires_in` says.
    ///
    /// While renewals fail, a token that the API has not refused is served through the default leeway, up to 10 ms before
    /// its expiry: that is no worse than an error. A leeway that is set here holds then, too.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = Some(leeway);
        self
    }

    /// Sets the first step of the exponential backoff, 0.8 s by default. The pause is a quarter of the step plus a draw over
    /// the rest; at the last step it is at least half of it. By default a client makes at most four attempts in 3 s.
    pub fn backoff_base(mut self, base: Duration) -> Self {
        self.backoff_base = base;
        self
    }

    /// Sets the last step of the backoff while no token is held, 30 s by default; once attempts have failed for more than
    /// three times that, a third of that time, up to ten times the step. While a token is held it is ten times the
    /// step, and at most nine tenths of what is left of the token's life. While a caller waits without a token the pause is
    /// 4 to 8 s at most, so that it ends before the caller's default deadline.
    pub fn backoff_cap(mut self, cap: Duration) -> Self {
        self.backoff_cap = cap;
        self
    }

    /// Sets how long one attempt may take, 10 s by default. While a token is held it is at most half of what is left of
    /// its life, but not less than 1 s. Without a token the first attempt gets 4 s at most, so that one request that hangs
    /// leaves callers the time for a second; after one that took long the next gets all of it.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Stops renewing after so many lifetimes in which nobody read the token; the next read starts again. Off by
    /// default: the token is kept for as long as the client lives. A readiness check counts as no read: it must call
    /// [`prefetch`](crate::TokenSource::prefetch), as [`Status`](crate::Status) shows.
    pub fn stop_after_unused(mut self, lifetimes: u32) -> Self {
        self.idle_lifetimes = Some(lifetimes.max(1));
        self
    }

    /// Sets for how long a new token is held back while the previous one is valid and serves, zero by default: for an API that
    /// does not know new tokens at once. If no other valid token is held, a new one is served at once.
    ///
    /// Without it, a token that the API refuses within 5 s of its arrival costs its call a second sending with the previous token,
    /// and no renewal.
    pub fn settle(mut self, length: Duration) -> Self {
        self.settle = length;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let problem = if !(self.renew_at > 0.0 && self.renew_at <= 1.0) {
            "`renew_at` must lie above 0 and be at most 1"
        } else if !(self.jitter >= 0.0 && self.jitter < self.renew_at) {
            "`jitter` must lie between 0 and `renew_at`"
        } else if self.backoff_base.is_zero() || self.backoff_cap < self.backoff_base {
            "`backoff_base` must be above zero and at most `backoff_cap`"
        } else if self.request_timeout.is_zero() {
            "`request_timeout` must be above zero"
        } else {
            return Ok(());
        };
        Err(Error::configuration(format!("the renewal policy cannot work: {problem}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_work_is_let_through() {
        let policy = RenewalPolicy::default;
        assert!(policy().validate().is_ok());
        for bad in [
            policy().renew_at(0.0),
            policy().renew_at(1.1),
            policy().renew_at(f64::NAN),
            policy().jitter(0.9),
            policy().jitter(-0.1),
            policy().backoff_base(Duration::ZERO),
            policy().backoff_cap(Duration::from_millis(1)),
            policy().request_timeout(Duration::ZERO),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }
}
