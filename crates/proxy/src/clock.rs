//! The time: the only file that reads a clock.
//!
//! `now` is the later of the wall clock and (wall clock at start + monotonic time since): a clock stepped back
//! revives nothing, and a forward jump that is taken back does not deny for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use trust::Time;

/// Where `now` comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// This machine's clocks.
    Real {
        /// The wall clock at start.
        wall_at_start: Time,
        /// The monotonic clock at start.
        started: Instant,
    },
    /// A test's: milliseconds since the Unix epoch. Whoever moves it calls `Live::nudge`.
    Controlled(Arc<AtomicI64>),
}

impl Clock {
    /// This machine's clocks, from now on.
    #[must_use]
    pub fn real() -> Clock {
        Clock::Real { wall_at_start: wall(), started: monotonic() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Clock::Real { wall_at_start, started } => wall().max(wall_at_start.plus(started.elapsed())),
            Clock::Controlled(millis) => Time::from_millis(millis.load(Ordering::Acquire)),
        }
    }
}

fn wall() -> Time {
    // Before 1970 the machine's clock is broken; the beginning of time makes every certificate "not yet valid".
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time::from_millis(0).plus(since)
}

/// A reading for durations: stopwatches and deadlines, never trust.
#[must_use]
pub(crate) fn monotonic() -> Instant {
    Instant::now()
}
