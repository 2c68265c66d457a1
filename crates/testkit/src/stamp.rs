//! Bytes that tell when they were sent: eight of them are nanoseconds of a clock that this whole process shares.
//! The apps' `/stamps` sends them, and so do tests that upload.
//! It must never give a stamp before it is needed: a byte must not look older than it is.

use std::sync::OnceLock;
use std::time::Instant;

/// The length of a stamp.
pub const STAMP: usize = 8;

/// Now.
pub fn stamp() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_nanos()).expect("no test runs for centuries")
}

/// The stamps in these bytes, in the order in which they came; a part of one at the end is none.
pub fn stamps(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(STAMP).map(|one| u64::from_be_bytes(one.try_into().expect("a chunk has its length")))
}
