use std::time::Duration;

/// How an [`Exchange`](super::Exchange) stands: for a health page. It holds nothing of any customer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeStatus {
    /// How many tokens are held, those included that have ended and were not replaced.
    pub customers: usize,
    /// How many token requests are under way or waiting for their turn.
    pub requests: usize,
    /// For how long yet the authorization server wants to be left alone.
    pub paused_for: Option<Duration>,
}

impl ExchangeStatus {
    /// Whether customers who are not held could get a token, as far as is known.
    pub fn is_ready(&self) -> bool {
        self.paused_for.is_none()
    }
}
