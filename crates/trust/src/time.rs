//! A moment, and nothing else: milliseconds since 1970-01-01T00:00:00Z.
//!
//! Used by every other file here as an argument. It must never ask a clock: only `proxy::clock` does.

use std::time::Duration;

/// Milliseconds since the Unix epoch, leap seconds not counted. Arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// Later than any moment that a certificate or a list can name.
    pub const NEVER: Time = Time(i64::MAX);
    /// Earlier than any of them.
    pub const BEGINNING: Time = Time(i64::MIN);

    /// From whole seconds since the Unix epoch, the unit of X.509.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Time {
        Time(seconds.saturating_mul(1000))
    }

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Time {
        Time(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded toward the past.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This moment and `span` more.
    #[must_use]
    pub fn plus(self, span: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The first moment after this one: an inclusive end (`notAfter`, RFC 5280 §4.1.2.5) made exclusive.
    #[must_use]
    pub const fn next(self) -> Time {
        Time(self.0.saturating_add(1))
    }

    /// How long from `earlier` to this moment; zero if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
