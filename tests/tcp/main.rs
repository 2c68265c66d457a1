//! TCP inbounds, end to end in this process: bytes both ways, ends of all kinds, and the cut.
//! One module per behaviour; every test starts a house of its own (`tests/support`). No module may take a clean end for
//! a cut, or wait for one without a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod causes;
mod deaf;
mod ends;
mod kill;
mod limits;
mod stage;
mod stamps;
