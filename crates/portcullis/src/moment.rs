//! A moment as people read it: RFC 3339 in UTC.
//!
//! Used in reports, in the demo and for the dates of lists and certificates. It must never read a clock.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trust::Time;

/// `2026-01-31T12:00:00Z`, whole seconds.
pub(crate) fn rfc3339(moment: Time) -> String {
    let text = calendar(moment).and_then(|date| date.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "a time beyond the calendar".to_owned())
}

/// The moment in the calendar, whole seconds; `None` beyond its years.
pub(crate) fn calendar(moment: Time) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(moment.as_seconds()).ok()
}

/// How far `moment` is from `now`, in the largest unit that says enough.
pub(crate) fn distance(moment: Time, now: Time) -> String {
    let (ahead, behind) = (moment.since(now), now.since(moment));
    let seconds = ahead.max(behind).as_secs();
    let span = match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    if moment < now { format!("{span} ago") } else { format!("in {span}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc_and_its_distance_in_words() {
        let moment = Time::from_millis(1_700_000_000_999);
        assert_eq!(rfc3339(moment), "2023-11-14T22:13:20Z");
        assert_eq!(distance(Time::from_seconds(100), Time::from_seconds(0)), "in 100 s");
        assert_eq!(distance(Time::from_seconds(0), Time::from_seconds(7_200)), "2 h ago");
        assert_eq!(distance(Time::from_seconds(86_400 * 30), Time::from_seconds(0)), "in 30 days");
    }
}
