use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::state::lock;

const HEADER: HeaderName = HeaderName::from_static("auth0-client-quota-limit");

/// How many tokens may be granted in a period; without end by default.
#[derive(Default)]
pub(super) struct Quota(Mutex<Option<Period>>);

struct Period {
    limit: u64,
    length: Duration,
    begun: Instant,
    spent: u64,
}

impl Period {
    fn turn(&mut self) {
        if self.begun.elapsed() >= self.length {
            self.begun = Instant::now();
            self.spent = 0;
        }
    }
}

impl Quota {
    pub(super) fn set(&self, limit: u64, length: Duration) {
        *lock(&self.0) = Some(Period { limit, length, begun: Instant::now(), spent: 0 });
    }

    /// False where nothing is left.
    pub(super) fn spend(&self) -> bool {
        let mut period = lock(&self.0);
        let Some(period) = period.as_mut() else { return true };
        period.turn();
        let left = period.spent < period.limit;
        period.spent += u64::from(left);
        left
    }

    /// Says in an answer what is left, as Auth0 does.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let mut period = lock(&self.0);
        let Some(period) = period.as_mut() else { return };
        period.turn();
        let remaining = period.limit - period.spent;
        let reset = period.length.saturating_sub(period.begun.elapsed()).as_secs_f64().ceil();
        let text = format!("b=per_hour;q={};r={remaining};t={reset}", period.limit);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HEADER, value);
        }
    }
}
