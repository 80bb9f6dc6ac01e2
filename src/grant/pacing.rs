//! When a server wants to be asked again: `Retry-After` and what else says so. How long we then wait is the refresher's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};

use super::quota;
use crate::clock::system_time;

/// The longest that a server can make us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A `…-Reset` above this is a point in time and not a number of seconds to go.
const LEAST_EPOCH: f64 = 1e9;

/// When to come again, as `Retry-After` (RFC 9110 10.2.3) says it, in seconds or as a date, or its `X-` form.
///
/// `wall` is our own time since the Unix epoch. The server's times are taken against its own `Date` where it gives one.
pub(super) fn retry_after(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    said(headers, wall).map(capped)
}

/// Returns what an API's answer asks its caller to wait, however long. 429 says it in more ways.
pub(crate) fn said_retry_after(status: StatusCode, headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    let is_throttled = status == StatusCode::TOO_MANY_REQUESTS;
    said(headers, wall).or_else(|| reset(headers, wall).filter(|_| is_throttled))
}

fn said(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    let wait = |value: &str| {
        seconds(value).or_else(|| {
            let until = httpdate::parse_http_date(value).ok()?;
            Some(until.duration_since(now(headers, wall)).unwrap_or_default())
        })
    };
    ["retry-after", "x-retry-after"].iter().find_map(|name| wait(text(headers, name)?))
}

/// The same from a server that throttles: these say it in more ways.
pub(crate) fn throttled(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    retry_after(headers, wall).or_else(|| reset(headers, wall).max(quota::exhausted_for(headers)).map(capped))
}

/// `X-RateLimit-Reset`: an epoch (Auth0, GitHub) or seconds from now (Envoy, and `RateLimit-Reset`).
fn reset(headers: &HeaderMap, wall: Duration) -> Option<Duration> {
    ["x-ratelimit-reset", "ratelimit-reset"]
        .iter()
        .find_map(|name| Some(seconds_to(seconds(text(headers, name)?)?, now(headers, wall))))
}

/// The time to a reset, which is so far off or at this epoch.
pub(super) fn seconds_to(reset: Duration, now: SystemTime) -> Duration {
    if reset.as_secs_f64() <= LEAST_EPOCH {
        return reset;
    }
    // Beyond what a point in time can be: no time to go is too long for it.
    let Some(until) = UNIX_EPOCH.checked_add(reset) else { return Duration::MAX };
    until.duration_since(now).unwrap_or_default()
}

fn capped(wait: Duration) -> Duration {
    wait.min(LONGEST_WAIT)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A number of seconds, however large: what a `Duration` cannot hold is the longest that it can.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    duration(number(text)?)
}

/// A number in any of the ways in which servers write one; infinite if it is too large for its type.
fn number(text: &str) -> Option<f64> {
    // `parse` knows `inf` and `NaN` as well; those are words, and not numbers that a server means.
    let is_number = text.starts_with(|first: char| first.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// A number of things, at most what its type can hold.
pub(super) fn count(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// So many seconds, at most what a `Duration` can hold; `None` if they are negative or no number.
fn duration(seconds: f64) -> Option<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => Some(duration),
        Err(_) => (seconds > 0.0).then_some(Duration::MAX),
    }
}

/// The time by the server's clock, else by ours.
pub(super) fn now(headers: &HeaderMap, wall: Duration) -> SystemTime {
    text(headers, header::DATE.as_str())
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or_else(|| system_time(wall))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn every_way_to_say_when() {
        const DATE: (&str, &str) = ("date", "Fri, 13 Feb 2009 23:31:30 GMT"); // 1234567890
        let wall = Duration::from_secs(1_300_000_000);
        // headers → by `retry_after`, by `throttled`
        type Case = (&'static [(&'static str, &'static str)], Option<u64>, Option<u64>);
        let cases: &[Case] = &[
            (&[], None, None),
            (&[("retry-after", "17")], Some(17), Some(17)),
            (&[("retry-after", " 0 ")], Some(0), Some(0)),
            (&[("retry-after", "100000")], Some(300), Some(300)),
            (&[("retry-after", "1e300")], Some(300), Some(300)),
            (&[("retry-after", "1e999")], Some(300), Some(300)),
            (&[("retry-after", "99999999999999999999")], Some(300), Some(300)),
            (&[("retry-after", "18446744073709551616")], Some(300), Some(300)),
            (&[("retry-after", "inf")], None, None),
            (&[("retry-after", "infinity")], None, None),
            (&[("retry-after", "")], None, None),
            (&[("x-ratelimit-reset", "99999999999999999999")], None, Some(300)),
            (&[DATE, ("ratelimit-reset", "99999999999999999999")], None, Some(300)),
            (&[("auth0-client-quota-limit", "b=per_hour;q=10;r=0;t=99999999999999999999")], None, Some(300)),
            (&[("retry-after", "-3")], None, None),
            (&[("retry-after", "NaN")], None, None),
            (&[("retry-after", "soon")], None, None),
            (&[DATE, ("retry-after", "Fri, 13 Feb 2009 23:32:00 GMT")], Some(30), Some(30)),
            (&[DATE, ("retry-after", "Fri, 13 Feb 2009 23:31:00 GMT")], Some(0), Some(0)),
            (&[("retry-after", "Sun, 13 Mar 2011 07:07:00 GMT")], Some(20), Some(20)),
            (&[("x-retry-after", "9")], Some(9), Some(9)),
            (&[("x-retry-after", "9"), ("retry-after", "soon")], Some(9), Some(9)),
            (&[("x-ratelimit-reset", "1300000042")], None, Some(42)),
            (&[DATE, ("x-ratelimit-reset", "1234567900")], None, Some(10)),
            (&[("x-ratelimit-reset", "1200000000")], None, Some(0)),
            (&[("x-ratelimit-reset", "12")], None, Some(12)),
            (&[("ratelimit-reset", "13")], None, Some(13)),
            (&[("retry-after", "5"), ("ratelimit-reset", "13")], Some(5), Some(5)),
            (
                &[("auth0-client-quota-limit", "b=per_hour;q=10;r=0;t=120,b=per_day;q=100;r=9;t=240")],
                None,
                Some(120),
            ),
            (&[("auth0-client-quota-limit", "b=per_hour;q=10;r=7;t=3540")], None, None),
            (
                &[("x-ratelimit-reset", "1"), ("auth0-client-quota-limit", "b=per_day;q=10;r=0;t=120")],
                None,
                Some(120),
            ),
        ];
        for (headers, plain, with_reset) in cases {
            let map: HeaderMap = headers
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(retry_after(&map, wall), plain.map(Duration::from_secs), "{headers:?}");
            assert_eq!(throttled(&map, wall), with_reset.map(Duration::from_secs), "{headers:?}");
        }
    }
}
