//! The cut, end to end in this process: trust ends while real clients are in the middle of something.
//! One module per behaviour; every test starts a house of its own (`tests/support`). No module may wait for a cut
//! without a deadline, or take a clean end for a cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod anchors;
mod audit;
mod bystanders;
mod causes;
mod clocks;
mod crls;
mod crowd;
mod deadlines;
mod deaf;
mod doorman;
mod drain;
mod frames;
mod http1;
mod http2;
mod matrix;
mod measured;
mod observe;
mod panics;
mod preview;
mod races;
mod rotation;
mod sessions;
mod stage;
mod stale;
mod stamps;
mod stopping;
mod unannounced;
mod uploads;
