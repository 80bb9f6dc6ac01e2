//! How many token requests a second newcomers may cause: set by the API, or learned from what the
//! server answers. Who is held back while the server asks for patience is decided in `gate`.
//!
//! Pure, without a lock of its own: `gate` has it behind its own.

use std::time::Duration;

use super::key::Tag;
use crate::clock::{Moment, system_time};
use crate::grant::Quota;

/// What newcomers keep however tight the server is, in requests a second: after a 429, and if a quota
/// says that little is left.
const FLOOR: f64 = 1.0;
const QUOTA_FLOOR: f64 = 0.2;

/// What is learned from a 429 grows again by this part a second while it is used up.
const GROWTH: f64 = 0.005;

/// Another 429 so soon after the last pause means that the estimate was much too high.
const SOON: Duration = Duration::from_secs(60);

/// A quota counts as one that all clients share once its rest has fallen so often in a row.
const FALLS: u32 = 3;

/// How long an answer's quota counts at most.
const LONGEST_QUOTA: Duration = Duration::from_secs(300);

pub(super) struct Pace {
    /// As set by the API.
    most: Option<f64>,
    learned: Option<Learned>,
    quota: Option<Told>,
    /// What newcomers may send at once. Known customers take from it as well, but never wait for it.
    level: f64,
    filled: Option<Moment>,
    answered: Window,
}

struct Learned {
    rate: f64,
    /// What it was after the last 429, when that came, and for how long it asked for patience.
    base: f64,
    at: Moment,
    pause: Duration,
}

/// The quota that the last token came with, and whose token that was.
struct Told {
    quota: Quota,
    app: Tag,
    at: Moment,
    falls: u32,
}

/// Requests answered in the last second, estimated from two adjacent seconds.
#[derive(Default)]
struct Window {
    since: Option<Moment>,
    current: f64,
    previous: f64,
}

impl Window {
    fn turn(&mut self, now: &Moment) -> f64 {
        let age = self.since.map_or(f64::MAX, |since| now.since(&since).as_secs_f64());
        if age < 1.0 {
            return age;
        }
        self.previous = if age < 2.0 { self.current } else { 0.0 };
        self.current = 0.0;
        self.since = Some(*now);
        0.0
    }

    fn add(&mut self, now: &Moment) {
        self.turn(now);
        self.current += 1.0;
    }

    fn rate(&mut self, now: &Moment) -> f64 {
        let age = self.turn(now);
        self.current + self.previous * (1.0 - age)
    }
}

impl Pace {
    pub(super) fn new(most: Option<f64>) -> Self {
        let level = most.map_or(0.0, burst);
        Self { most, learned: None, quota: None, level, filled: None, answered: Window::default() }
    }

    /// Returns the requests a second that newcomers may cause; `None` if nothing limits them.
    fn rate(&self, now: &Moment) -> Option<f64> {
        let learned = self.learned.as_ref().map(|learned| learned.rate);
        let quota = self.quota.as_ref().and_then(|told| told.rate(now));
        [self.most, learned, quota].into_iter().flatten().reduce(f64::min)
    }

    fn fill(&mut self, now: &Moment, rate: f64) {
        let passed = self.filled.map_or(Duration::ZERO, |filled| now.since(&filled));
        self.level = (self.level + passed.as_secs_f64() * rate).min(burst(rate));
        self.filled = Some(*now);
    }

    /// Takes one request for a newcomer, or returns how long it has to wait for it.
    pub(super) fn take(&mut self, now: &Moment) -> Option<Duration> {
        let rate = self.rate(now)?;
        self.fill(now, rate);
        if self.level < 1.0 {
            return Some(Duration::from_secs_f64((1.0 - self.level) / rate));
        }
        self.level -= 1.0;
        None
    }

    /// Counts a request of a known customer, for which newcomers wait.
    pub(super) fn took(&mut self, now: &Moment) {
        if let Some(rate) = self.rate(now) {
            self.fill(now, rate);
            self.level = (self.level - 1.0).max(-burst(rate));
        }
    }

    /// Counts an answer other than 429.
    pub(super) fn answered(&mut self, now: &Moment, newcomer: bool) {
        self.answered.add(now);
        if let Some(learned) = self.learned.as_mut().filter(|_| newcomer) {
            learned.rate += GROWTH * learned.base / learned.rate;
        }
    }

    /// Learns from a 429: half of what the server has answered in the last second. `begins` says
    /// whether it is the first of a pause, which ends at `until`.
    pub(super) fn throttled(&mut self, now: &Moment, begins: bool, pause: Duration) {
        let answered = self.answered.rate(now);
        let half = (answered / 2.0).max(FLOOR);
        let rate = match &self.learned {
            Some(learned) if begins => {
                let is_soon = now.since(&learned.at) < learned.pause.saturating_add(SOON);
                let part = if is_soon { 4.0 } else { 2.0 };
                (learned.rate.min(answered) / part).max(FLOOR)
            }
            // Of the same burst: its first 429 may have come before most of its answers.
            Some(learned) => learned.rate.max(half.min(self.most.unwrap_or(f64::MAX))),
            None => half,
        };
        self.learned = Some(Learned { rate, base: rate, at: *now, pause });
        self.level = self.level.min(0.0);
        self.filled = Some(*now);
    }

    /// Learns from the quota that a token of this app came with. It may be the app's own: it counts if
    /// it falls from one app's token to the next one's.
    pub(super) fn told(&mut self, now: &Moment, app: Tag, quota: Quota) {
        let last = self.quota.as_ref().filter(|last| last.quota.limit == quota.limit);
        let falls = match last.filter(|last| last.age(now) < LONGEST_QUOTA) {
            Some(last) if last.app == app => return,
            Some(last) if quota.remaining < last.quota.remaining => last.falls.saturating_add(1),
            _ => 0,
        };
        self.quota = Some(Told { quota, app, at: *now, falls });
    }
}

impl Told {
    fn age(&self, now: &Moment) -> Duration {
        now.since(&self.at)
    }

    /// Three quarters of the quota are spread over the time to its reset, a quarter is kept for known
    /// customers.
    fn rate(&self, now: &Moment) -> Option<f64> {
        let resets_at = self.quota.resets_at?;
        let window = resets_at.duration_since(system_time(self.at.wall)).unwrap_or_default();
        if self.falls < FALLS || self.age(now) >= window.min(LONGEST_QUOTA) {
            return None;
        }
        let reserve = self.quota.limit.unwrap_or(self.quota.remaining) / 4;
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let spare = self.quota.remaining.saturating_sub(reserve) as f64;
        Some((spare / window.as_secs_f64().max(1.0)).max(QUOTA_FLOOR))
    }
}

/// A second's worth.
fn burst(rate: f64) -> f64 {
    rate.max(1.0)
}
