//! The machine's monotonic clock in nanoseconds, the one that scripts stamp with: Rust's own `Instant` is opaque.
//! It must never be compared with a moment of another machine, or of the wall.

use rustix::time::{ClockId, clock_gettime};

/// Now, as Python's `time.monotonic_ns()` has it.
pub(crate) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
