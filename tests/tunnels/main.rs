//! Tunnels, end to end in this process: WebSocket by an Upgrade and by HTTP/2 (RFC 8441), and CONNECT; how they begin, what
//! they carry, and what becomes of them when trust ends.
//! One module per behaviour; every test starts a house of its own (`tests/support`). No module may take a clean end for a
//! cut one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

/// The bounds within which a cut must be over are the same for every kind of session.
#[path = "../cut/stage.rs"]
#[allow(dead_code)]
mod stage;

mod client;
mod connect;
mod cuts;
mod handshakes;
mod kill;
mod silent;
mod stamps;
mod traffic;
