//! Durations in flags: `500ms`, `10s`, `5m`, `24h`, `7d`, and compounds like `1h30m`.
//!
//! Called by `resolve.rs` and `certs.rs`. It must never guess a unit: a bare number is refused.

use std::time::Duration;

/// Units from the largest, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// A hundred years: beyond it a limit limits nothing, and is more likely a slip of the keyboard.
const LONGEST: u64 = 36_525 * 86_400_000;

/// Reads a duration; an error completes "--flag … : ".
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    match parse_or_none(text)? {
        Duration::ZERO => Err("it must be more than zero; leave the flag out for no limit"),
        duration => Ok(duration),
    }
}

/// The same where zero has a meaning.
pub(crate) fn parse_or_none(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "write a number and a unit (ms, s, m, h, d), like 500ms, 10s or 1h30m";
    let mut rest = text;
    let mut total = 0_u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or(FORM)?;
        let (number, after) = rest.split_at_checked(digits).ok_or(FORM)?;
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters).ok_or(FORM)?;
        if number.is_empty() || !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(FORM);
        }
        // The iterator only goes forward, so that `5m1h` and `1s1s` find no unit: one reading for each text.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or("each unit may stand once, larger ones first")?;
        let number: u64 = number.parse().map_err(|_| "it may be at most 100 years")?;
        total = total.saturating_add(number.saturating_mul(*millis));
        rest = after;
    }
    match total {
        0 if text.is_empty() => Err(FORM),
        0..=LONGEST => Ok(Duration::from_millis(total)),
        _ => Err("it may be at most 100 years"),
    }
}

/// A duration as the flags spell it.
pub(crate) fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, millis) in UNITS {
        if rest >= millis {
            text.push_str(&format!("{}{name}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_and_compounds_are_read_and_written_back() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1d1h1m1s1ms", 90_061_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(written(Duration::from_millis(millis)), text);
        }
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("90s"), parse("1m30s"));
        assert_eq!(parse("36525d"), Ok(Duration::from_millis(LONGEST)));
    }

    #[test]
    fn zero_is_read_only_where_it_has_a_meaning() {
        assert_eq!(parse_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_or_none("10s"), parse("10s"));
        assert!(parse("0s").is_err() && parse_or_none("").is_err() && parse_or_none("0").is_err());
    }

    #[test]
    fn whatever_could_be_misread_is_refused() {
        for bad in [
            "",
            " ",
            "10",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1sec",
            "1y",
            "1s1s",
            "1m1h",
            "1ms1s",
            "0s",
            "0h0m",
            "36526d",
            "99999999999999999999d",
            "1é",
            "1sé",
            "٣s",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
