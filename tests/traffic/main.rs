//! The traffic, end to end in this process: real sockets, real TLS, apps that record, clients that hide nothing.
//! One module per behaviour; every test starts a house of its own (`tests/support`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod apps;
mod counts;
mod early;
mod faults;
mod handshakes;
mod identity;
mod plain;
mod sharing;
mod smuggling;
mod speech;
mod streams;
mod unended;
mod wire;
mod xfcc;
