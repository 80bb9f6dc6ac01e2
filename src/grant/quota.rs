use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::pacing::{count, now, seconds, seconds_to, text};
#[cfg(test)]
use crate::clock::system_time;

/// What is left of the tokens that the authorization server grants in a period, by its last answer with a token;
/// [`Status::quota`](crate::Status::quota) has it.
///
/// It is read from `Auth0-Client-Quota-Limit` and `Auth0-Organization-Quota-Limit`, from `RateLimit` (IETF draft), and
/// from `X-RateLimit-Limit`, `-Remaining` and `-Reset` or the same without `X-`. Of several the scarcest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// How many there are in a period, where the server says it.
    pub limit: Option<u64>,
    /// How many of them are left.
    pub remaining: u64,
    /// When they are all there again, where the server says it; by our wall clock.
    pub resets_at: Option<SystemTime>,
}

impl Quota {
    /// Whether no more than a tenth is left; where the limit is not known, whether nothing is.
    pub fn is_low(&self) -> bool {
        self.remaining <= self.limit.unwrap_or(0) / 10
    }

    /// For how long after `moment` little is left: for ever where no end is known, `None` where enough is.
    pub(crate) fn scarce_for(&self, moment: SystemTime) -> Option<Duration> {
        self.is_low().then(|| match self.resets_at {
            Some(at) => at.duration_since(moment).unwrap_or_default(),
            None => Duration::MAX,
        })
    }

    /// The greater part is left, the later it comes.
    fn rank(&self) -> (u128, std::cmp::Reverse<Option<SystemTime>>) {
        const WHOLE: u128 = 1 << 32;
        let limit = self.limit.map_or(1, |limit| u128::from(limit.max(1)));
        (u128::from(self.remaining) * WHOLE / limit, std::cmp::Reverse(self.resets_at))
    }
}

/// What an answer says of quotas, the scarcest first. `wall` is our time since the Unix epoch when it came.
pub(super) fn told(headers: &HeaderMap, wall: Duration) -> Vec<Quota> {
    // A reset beyond all time is none that one could name.
    let resets_at = |wait: Duration| UNIX_EPOCH.checked_add(wall.saturating_add(wait));
    let listed = buckets(headers).map(|bucket| Quota {
        limit: bucket.limit,
        remaining: bucket.remaining,
        resets_at: bucket.wait.and_then(resets_at),
    });
    let single = ["x-ratelimit", "ratelimit"].into_iter().filter_map(|prefix| {
        let number = |name: &str| count(text(headers, &format!("{prefix}-{name}"))?);
        let reset = text(headers, &format!("{prefix}-reset")).and_then(seconds);
        Some(Quota {
            limit: number("limit"),
            remaining: number("remaining")?,
            resets_at: reset.and_then(|reset| resets_at(seconds_to(reset, now(headers, wall)))),
        })
    });
    let mut all: Vec<_> = listed.chain(single).collect();
    all.sort_by_key(Quota::rank);
    all
}

/// The longest time to the reset of a bucket with nothing left.
pub(super) fn exhausted_for(headers: &HeaderMap) -> Option<Duration> {
    buckets(headers).filter(|bucket| bucket.remaining == 0).filter_map(|bucket| bucket.wait).max()
}

/// Whether it is the client's own quota of which nothing is left.
pub(super) fn is_client_exhausted(headers: &HeaderMap) -> bool {
    listed(headers, &[CLIENT]).any(|bucket| bucket.remaining == 0)
}

const CLIENT: &str = "auth0-client-quota-limit";

struct Bucket {
    limit: Option<u64>,
    remaining: u64,
    wait: Option<Duration>,
}

/// `b=per_hour;q=10;r=7;t=3540, …`: of a quota, what is left, and the seconds to its reset. `RateLimit` has the same
/// parameters behind a name in quotes.
fn buckets(headers: &HeaderMap) -> impl Iterator<Item = Bucket> + '_ {
    listed(headers, &[CLIENT, "auth0-organization-quota-limit", "ratelimit"])
}

fn listed<'a>(headers: &'a HeaderMap, names: &'a [&str]) -> impl Iterator<Item = Bucket> + 'a {
    names.iter().filter_map(|name| text(headers, name)).flat_map(|value| value.split(',')).filter_map(
        |bucket| {
            let part = |name: &str| {
                bucket.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
            };
            Some(Bucket {
                limit: part("q").and_then(count),
                remaining: count(part("r")?)?,
                wait: part("t").and_then(seconds),
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const WALL: Duration = Duration::from_secs(1_300_000_000);

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
        };
        headers.iter().filter_map(pair).collect()
    }

    #[test]
    fn every_way_to_say_what_is_left() {
        const DATE: (&str, &str) = ("date", "Fri, 13 Feb 2009 23:31:30 GMT"); // 1234567890
        // headers → limit, remaining, seconds to the reset
        type Case = (&'static [(&'static str, &'static str)], Option<(Option<u64>, u64, Option<u64>)>);
        let cases: &[Case] = &[
            (&[], None),
            (&[("retry-after", "5")], None),
            (&[("auth0-client-quota-limit", "b=per_hour;q=10;r=7;t=3540")], Some((Some(10), 7, Some(3540)))),
            (
                &[("auth0-client-quota-limit", "b=per_hour;q=10;r=7;t=10, b=per_day;q=100;r=9;t=240")],
                Some((Some(100), 9, Some(240))),
            ),
            (
                &[
                    ("auth0-client-quota-limit", "b=per_hour;q=10;r=7;t=10"),
                    ("auth0-organization-quota-limit", "b=per_hour;q=1000;r=600;t=20"),
                ],
                Some((Some(1000), 600, Some(20))),
            ),
            (
                &[("auth0-client-quota-limit", "b=per_hour;q=10;r=0;t=10,b=per_day;q=100;r=0;t=240")],
                Some((Some(100), 0, Some(240))),
            ),
            (&[("ratelimit", "\"default\";r=50;t=30")], Some((None, 50, Some(30)))),
            (&[("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "99")], Some((Some(100), 99, None))),
            (&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "12")], Some((None, 3, Some(12)))),
            (&[("ratelimit-remaining", "3"), ("ratelimit-reset", "1300000042")], Some((None, 3, Some(42)))),
            (
                &[DATE, ("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "1234567900")],
                Some((None, 3, Some(10))),
            ),
            (&[("x-ratelimit-limit", "100")], None),
            (&[("x-ratelimit-remaining", "-1")], None),
            (&[("x-ratelimit-remaining", "99999999999999999999")], Some((None, u64::MAX, None))),
            (&[("ratelimit", "\"a\";q=99999999999999999999;r=3")], Some((Some(u64::MAX), 3, None))),
            (&[("auth0-client-quota-limit", "b=per_hour;q=10;r=;t=1")], None),
            (&[("auth0-client-quota-limit", "q=x;r=1;t=NaN")], Some((None, 1, None))),
        ];
        for (headers, expected) in cases {
            let told = told(&map(headers), WALL).first().map(|quota| {
                let wait = quota.resets_at.map(|at| at.duration_since(system_time(WALL)).unwrap().as_secs());
                (quota.limit, quota.remaining, wait)
            });
            assert_eq!(told, *expected, "{headers:?}");
        }
    }

    #[test]
    fn a_tenth_is_little() {
        let scarce = |limit, remaining, wait: Option<u64>| {
            let resets_at = wait.map(|wait| system_time(WALL + Duration::from_secs(wait)));
            Quota { limit, remaining, resets_at }.scarce_for(system_time(WALL + Duration::from_secs(5)))
        };
        assert_eq!(scarce(Some(100), 11, Some(60)), None);
        assert_eq!(scarce(Some(100), 10, Some(60)), Some(Duration::from_secs(55)));
        assert_eq!(scarce(Some(100), 10, Some(3)), Some(Duration::ZERO));
        assert_eq!(scarce(Some(9), 1, None), None);
        assert_eq!(scarce(None, 1, Some(60)), None);
        assert_eq!(scarce(None, 0, None), Some(Duration::MAX));
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_does_harm(
            list in "[bqrt=;, \"0-9.e+-]{0,60}",
            remaining in "[0-9]{0,22}",
            reset in "-?[0-9]{0,40}(e[0-9]{1,4})?",
        ) {
            let headers = map(&[
                ("auth0-client-quota-limit", &list),
                ("x-ratelimit-remaining", &remaining),
                ("x-ratelimit-reset", &reset),
            ]);
            for quota in told(&headers, WALL) {
                quota.scarce_for(system_time(WALL));
            }
            exhausted_for(&headers);
        }
    }
}
