//! Moments as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2009-02-13T23:31:30.123Z` (RFC 3339), in UTC and to the millisecond.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// What [`rfc3339`] has written, and no other form.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let days = days(year, month, day)?;
    let of_day = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    let time =
        UNIX_EPOCH.checked_add(Duration::from_millis((days * 86_400 + of_day) * 1_000 + number(20, 23)?))?;
    (rfc3339(time) == text).then_some(time)
}

/// The days from the epoch to a date; the inverse of [`date`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let (era, of_era) = (year / 400, year % 400);
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// The Gregorian date so many days after the epoch, counted in years that begin in March: February's end is then theirs.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_moments() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_234_567_890_123, "2009-02-13T23:31:30.123Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let time = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        for other in [
            "",
            "2009-02-13",
            "2009-02-30T00:00:00.000Z",
            "2009-02-13T23:31:30Z",
            "2009-02-13T24:31:30.123Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "2009-00-13T23:31:30.123Z",
            "2009-99-13T23:31:30.123Z",
            "2009-02-13 23:31:30.123Z",
            "ß009-02-13T23:31:30.123",
        ] {
            assert_eq!(parse_rfc3339(other), None, "{other}");
        }
    }

    /// By another's hand: the days of four hundred years in their order.
    #[test]
    fn every_day_follows_the_one_before() {
        let lengths = |year: u64| {
            let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        };
        let mut number = 0;
        for year in 1970..2370 {
            for (month, length) in (1..).zip(lengths(year)) {
                for day in 1..=length {
                    assert_eq!(date(number), (year, month, day));
                    assert_eq!(days(year, month, day), Some(number));
                    number += 1;
                }
            }
        }
    }
}
