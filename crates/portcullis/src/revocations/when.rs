//! Moments in flags: `now`, `-1h`, `+24h`, or a time of RFC 3339.
//!
//! Used by the commands that issue lists. The present is an argument; it must never read a clock.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trust::Time;

use crate::duration;

/// Reads the moment that `flag` gives; an error is one sentence.
///
/// Lists count whole seconds, as certificates do: a moment between two is the later one, so that `--issued-before now`
/// covers what was issued within this second.
pub(crate) fn parse(flag: &str, text: &str, now: Time) -> Result<Time, String> {
    let wrong = |why: &str| format!("{flag} {text:?}: {why}");
    let moment = match text.as_bytes() {
        b"now" => now,
        [b'+', ..] => now.plus(span(text).map_err(wrong)?),
        [b'-', ..] => earlier(now, span(text).map_err(wrong)?),
        _ => OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(|moment| i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok())
            .map(Time::from_millis)
            .ok_or_else(|| wrong("write now, a span like +24h or -1h, or a time like 2026-01-31T12:00:00Z"))?,
    };
    Ok(Time::from_seconds(moment.plus(Duration::from_millis(999)).as_seconds()))
}

/// The span after the sign.
fn span(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text.get(1..).unwrap_or_default())
}

fn earlier(now: Time, span: Duration) -> Time {
    Time::from_millis(now.as_millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Time = Time::from_millis(1_700_000_000_500);

    #[test]
    fn every_way_of_writing_a_moment_is_understood_and_rounded_up_to_the_second() {
        for (text, seconds) in [
            ("now", 1_700_000_001),
            ("+24h", 1_700_086_401),
            ("-1h30m", 1_699_994_601),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T23:13:20.001+01:00", 1_700_000_001),
        ] {
            assert_eq!(parse("--until", text, NOW), Ok(Time::from_seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_could_be_misread_is_refused_with_the_flag_named() {
        for bad in ["", "24h", "+", "-1", "+1y", "yesterday", "2023-11-14", "2023-11-14T22:13:20", "Now"] {
            let sentence = parse("--until", bad, NOW).unwrap_err();
            assert!(sentence.starts_with(&format!("--until {bad:?}: ")), "{sentence}");
        }
    }
}
