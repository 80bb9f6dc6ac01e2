//! What time it is at a server, by the `Date` of its answers (RFC 9110 6.6.1): the times in assertions and proofs are judged by
//! its clock, not by this machine's. When a token is renewed and how long it serves is measured by this machine's clocks alone.
//!
//! One mutex guards what was learned; nothing else is locked while it is held.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header};

use crate::clock::Moment;
use crate::error::Error;

/// Offsets beyond this are not believed: no time zone is further from UTC, and a clock that is off by more has not been set at
/// all, or the `Date` is nonsense.
const LARGEST: i64 = 15 * 3_600_000;

/// A refusal is put down to the clocks if the time that was sent is off by more than this, in milliseconds.
const MATTERS: i64 = 2_000;

/// By how much the time may be later than `Date` says when the server sends it, in milliseconds: whole seconds are all it
/// shows, and servers make it anew once a second.
const RESOLUTION: i64 = 2_000;

/// The bounds of a server's clock less ours, in milliseconds, as they were at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offset {
    least: i64,
    most: i64,
    at: Moment,
}

impl Offset {
    /// The bounds by one answer that was read at `answered`, `round_trip` after its request was sent. `None` if it has no
    /// `Date`, or one that another server made (`Age`, RFC 9111 5.1).
    pub(super) fn of(headers: &HeaderMap, round_trip: Duration, answered: &Moment) -> Option<Self> {
        let least = millis(date(headers)?).saturating_sub(millis(answered.wall));
        let most = least.saturating_add(RESOLUTION).saturating_add(millis(round_trip));
        Some(Self { least, most, at: *answered })
    }

    /// The same after this machine's wall clock has been set, if its boot clock tells.
    fn moved(&self, now: &Moment) -> Self {
        let (Some(then), Some(boot)) = (self.at.boot, now.boot) else { return *self };
        let passed = millis(boot).saturating_sub(millis(then));
        let step = millis(now.wall).saturating_sub(millis(self.at.wall)).saturating_sub(passed);
        Self { least: self.least.saturating_sub(step), most: self.most.saturating_sub(step), at: *now }
    }

    /// Both together, or the newer one if they contradict each other.
    fn refined(held: Option<Self>, newer: Self) -> Self {
        let Some(held) = held.map(|held| held.moved(&newer.at)) else { return newer };
        let (least, most) = (held.least.max(newer.least), held.most.min(newer.most));
        if least <= most { Self { least, most, ..newer } } else { newer }
    }

    /// `guess` if it fits, else the least that does: a time that lies in the server's future is refused by more servers
    /// than one that has just passed.
    pub(super) fn or_guess(&self, guess: i64, now: &Moment) -> i64 {
        let Self { least, most, .. } = self.moved(now);
        if (least..=most).contains(&guess) { guess } else { least }
    }

    /// Whether it is small enough to be believed.
    pub(super) fn is_believed(&self) -> bool {
        self.proven().abs() <= LARGEST
    }

    /// By how much the clocks differ at least, with its sign; 0 if they may agree.
    pub(super) fn proven(&self) -> i64 {
        if self.least > 0 { self.least } else { self.most.min(0) }
    }
}

/// A time by the server's clock, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp {
    /// How many milliseconds were added to this machine's time.
    offset: i64,
    /// Since the Unix epoch.
    pub(super) time: Duration,
}

/// The clock of one authorization server. All sources of a client share it.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Option<Offset>>);

impl ServerClock {
    /// Learns from an answer, and returns what it said. An offset that is not believed leaves no trace.
    pub(super) fn learn(&self, headers: &HeaderMap, sent: &Moment, answered: &Moment) -> Option<Offset> {
        let newer = Offset::of(headers, answered.since(sent), answered)?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = newer.is_believed().then(|| Offset::refined(*held, newer));
        Some(held.unwrap_or(newer))
    }

    /// By how many milliseconds the server's clock is ahead of ours; 0 if nothing speaks against it.
    pub(crate) fn offset(&self, now: &Moment) -> i64 {
        let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.map_or(0, |held| held.or_guess(0, now))
    }

    /// The time that a request is to bear.
    pub(super) fn stamp(&self, now: &Moment) -> Stamp {
        let offset = self.offset(now);
        Stamp { offset, time: shifted(now.wall, offset) }
    }

    /// Whether a request that bore this time may have been refused for it, and would bear another one now.
    pub(super) fn explains(&self, error: &Error, used: Stamp, now: &Moment) -> bool {
        may_be_about_time(error) && matters(used.offset, self.offset(now))
    }
}

/// Whether times are corrected for a server whose clock is ahead of ours by so many seconds.
pub(crate) fn corrects(seconds: f64) -> bool {
    seconds.abs() <= LARGEST as f64 / 1000.0
}

/// Whether a time made with the one offset may be refused if the other is right.
pub(super) fn matters(used: i64, right: i64) -> bool {
    used.abs_diff(right) > MATTERS.unsigned_abs()
}

/// `wall` moved by so many milliseconds.
pub(super) fn shifted(wall: Duration, offset: i64) -> Duration {
    let by = Duration::from_millis(offset.unsigned_abs());
    if offset < 0 { wall.saturating_sub(by) } else { wall.saturating_add(by) }
}

/// The time that a server puts on its answer, since the Unix epoch.
pub(super) fn date(headers: &HeaderMap) -> Option<Duration> {
    let from_cache = headers.get(header::AGE).is_some_and(|age| age.as_bytes().trim_ascii() != b"0");
    let mut all = headers.get_all(header::DATE).iter();
    let (Some(date), None, false) = (all.next(), all.next(), from_cache) else { return None };
    let date = httpdate::parse_http_date(date.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}

/// Servers say much about a time that they do not like, seldom what it is: `invalid_client`, `invalid_dpop_proof`,
/// `invalid_grant`, `invalid_request`, `unauthorized_client`, or a bare 4xx. Those that speak of something else are left out.
fn may_be_about_time(error: &Error) -> bool {
    const OTHERS: [&str; 8] = [
        "invalid_scope",
        "scope_invalid",
        "invalid_target",
        "unsupported_grant_type",
        "authorization_type_invalid",
        "use_dpop_nonce",
        "slow_down",
        "temporarily_unavailable",
    ];
    matches!(error.status(), Some(400 | 401 | 403))
        && error.oauth_error().is_none_or(|code| !OTHERS.contains(&code))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const HOUR: i64 = 3_600_000;

    /// A reading of our clocks, in milliseconds; the boot clock shows a million seconds less than the wall.
    fn at(wall: i64) -> Moment {
        let boot = Duration::from_millis(u64::try_from(wall - 1_000_000_000).unwrap());
        Moment::new(boot, Duration::from_millis(u64::try_from(wall).unwrap()), Some(boot))
    }

    const NOW: i64 = 1_300_000_000_250;

    fn dated(millis: i64) -> HeaderMap {
        let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap());
        [(header::DATE, HeaderValue::from_str(&httpdate::fmt_http_date(date)).unwrap())].into_iter().collect()
    }

    /// Has the clock learn from an answer that came so long after its request, from a server ahead by `offset`.
    fn learn(clock: &ServerClock, offset: i64, sent: i64, round_trip: i64) -> Option<Offset> {
        let answered = sent + round_trip;
        clock.learn(&dated(answered + offset - round_trip / 2), &at(sent), &at(answered))
    }

    #[test]
    fn clocks_that_may_agree_are_left_alone() {
        for offset in [-900, -400, 0, 500, 1_000] {
            for (sent, round_trip) in [(NOW, 40), (NOW + 700, 40), (NOW, 3_000), (NOW, 60_000)] {
                let clock = ServerClock::default();
                learn(&clock, offset, sent, round_trip).unwrap();
                assert!(clock.offset(&at(NOW + 60_000)) > -2_000 - round_trip, "{offset} {round_trip}");
                assert!(clock.offset(&at(NOW + 60_000)) <= offset.max(0), "{offset} {round_trip}");
            }
        }
        let clock = ServerClock::default();
        learn(&clock, 0, NOW, 40).unwrap();
        assert_eq!(clock.offset(&at(NOW)), 0);
    }

    #[test]
    fn an_offset_is_never_put_into_the_servers_future() {
        for offset in [-14 * HOUR, -90_000, -3_000, 3_000, 90_000, 14 * HOUR] {
            for round_trip in [0, 40, 900, 5_000] {
                let clock = ServerClock::default();
                learn(&clock, offset, NOW, round_trip).unwrap();
                let found = clock.offset(&at(NOW + 5_000));
                let fits = (offset - 1_000 - round_trip..=offset.max(0)).contains(&found);
                // A slow answer may leave room for clocks that agree.
                assert!(fits || found == 0 && round_trip > 900, "{offset} {round_trip}: {found}");
                let time = clock.stamp(&at(NOW)).time;
                assert!(millis(time) <= NOW + offset.max(0), "{offset} {round_trip}");
            }
        }
    }

    #[test]
    fn a_quick_answer_is_not_undone_by_a_slow_one() {
        let clock = ServerClock::default();
        learn(&clock, 90_000, NOW, 100_000).unwrap();
        let vague = clock.offset(&at(NOW));
        learn(&clock, 90_000, NOW + 200_000, 20).unwrap();
        let exact = clock.offset(&at(NOW));
        assert!((88_900..=90_000).contains(&exact) && vague < exact, "{vague} {exact}");
        learn(&clock, 90_000, NOW + 300_000, 20_000).unwrap();
        assert_eq!(clock.offset(&at(NOW)), exact);
    }

    #[test]
    fn a_wall_clock_that_is_set_right_needs_no_second_lesson() {
        let clock = ServerClock::default();
        learn(&clock, -HOUR, NOW, 20).unwrap();
        assert!(clock.offset(&at(NOW)) < -HOUR + 1_000);
        let set = Moment { wall: Duration::from_millis((NOW - HOUR) as u64), ..at(NOW) };
        assert!(clock.offset(&set).abs() <= 1_100, "{}", clock.offset(&set));
        // Without a boot clock the next answer says it.
        let without = |moment: Moment| Moment { boot: None, ..moment };
        let clock = ServerClock::default();
        clock.learn(&dated(NOW - HOUR), &without(at(NOW)), &without(at(NOW))).unwrap();
        assert!(clock.offset(&without(set)) < -HOUR + 1_000);
        clock.learn(&dated(NOW - HOUR), &without(set), &without(set)).unwrap();
        assert_eq!(clock.offset(&without(set)), 0);
    }

    #[test]
    fn what_cannot_be_believed_leaves_no_trace() {
        const YEAR: i64 = 365 * 24 * HOUR;
        for offset in [-40 * YEAR, -YEAR, -20 * HOUR, 20 * HOUR, YEAR, 7_000 * YEAR] {
            let clock = ServerClock::default();
            learn(&clock, 90_000, NOW, 20).unwrap();
            assert!(!learn(&clock, offset, NOW, 20).unwrap().is_believed(), "{offset}");
            assert_eq!(clock.offset(&at(NOW)), 0, "{offset}");
        }
        let clock = ServerClock::default();
        for value in ["", "0", "yesterday", "Sun, 13 Mar 2011", "1300000000"] {
            let headers = [(header::DATE, HeaderValue::from_static(value))].into_iter().collect();
            assert!(clock.learn(&headers, &at(NOW), &at(NOW)).is_none(), "{value}");
        }
        let mut twice = dated(NOW + HOUR);
        twice.append(header::DATE, twice[header::DATE].clone());
        let mut cached = dated(NOW - HOUR);
        cached.insert(header::AGE, HeaderValue::from_static("3600"));
        for headers in [twice, cached] {
            assert!(clock.learn(&headers, &at(NOW), &at(NOW)).is_none(), "{headers:?}");
        }
        assert_eq!(clock.offset(&at(NOW)), 0);
    }
}
