//! RFC 3339 in and out.
//!
//! Used for the times in lists, and for the sentences of refusals. It must never ask a clock.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use trust::Time;

/// A time as a list writes it, finer than [`Time`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    nanoseconds: i128,
}

const NANOSECONDS_PER_MILLISECOND: i128 = 1_000_000;

impl Moment {
    /// The last millisecond that is not later: for when a list was issued and when it expires.
    pub(crate) fn floor(self) -> Time {
        milliseconds(self.nanoseconds.div_euclid(NANOSECONDS_PER_MILLISECOND))
    }

    /// The first millisecond that is not earlier: for the terms of an entry, which must not revoke less than said.
    pub(crate) fn ceiling(self) -> Time {
        milliseconds(-(-self.nanoseconds).div_euclid(NANOSECONDS_PER_MILLISECOND))
    }
}

fn milliseconds(count: i128) -> Time {
    // RFC 3339 has years of four digits: far within 64 bits.
    i64::try_from(count).map_or(Time::NEVER, Time::from_millis)
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Moment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time like \"2026-01-31T12:00:00Z\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
                match OffsetDateTime::parse(text, &Rfc3339) {
                    Ok(moment) => Ok(Moment { nanoseconds: moment.unix_timestamp_nanos() }),
                    Err(_) => Err(E::custom(format_args!(
                        "{:?} is no time of RFC 3339, like \"2026-01-31T12:00:00Z\"",
                        excerpt(text)
                    ))),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A time for people: RFC 3339, with milliseconds if there are any.
#[must_use]
pub fn show(time: Time) -> String {
    written(time).unwrap_or_else(|| "a time beyond the year 9999".to_owned())
}

/// A time for a list; `None` if RFC 3339 cannot say it.
pub(crate) fn written(time: Time) -> Option<String> {
    let nanoseconds = i128::from(time.as_millis()) * NANOSECONDS_PER_MILLISECOND;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?.format(&Rfc3339).ok()
}

/// As much of foreign text as a sentence can bear.
pub(crate) fn excerpt(text: &str) -> &str {
    match text.char_indices().nth(64) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Moment, serde_json::Error> {
        serde_json::from_value(serde_json::Value::from(text))
    }

    #[test]
    fn offsets_and_fractions_are_understood_and_rounded_to_the_safe_side() {
        let whole = parse("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(parse("2026-01-31T14:00:00+02:00").unwrap(), whole);
        assert_eq!((whole.floor(), whole.ceiling()), (Time::from_seconds(1_769_860_800), whole.floor()));
        let finer = parse("2026-01-31T12:00:00.0005Z").unwrap();
        assert_eq!((finer.floor(), finer.ceiling()), (whole.floor(), whole.floor().next()));
        let early = parse("1900-01-01T00:00:00.0005Z").unwrap();
        assert_eq!(early.floor().next(), early.ceiling());
        assert_eq!(show(whole.floor()), "2026-01-31T12:00:00Z");
        assert_eq!(show(finer.ceiling()), "2026-01-31T12:00:00.001Z");
        assert_eq!((written(Time::NEVER), written(Time::BEGINNING)), (None, None));
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for bad in ["", "2026", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00", "2026-01-31T25:00:00Z"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
