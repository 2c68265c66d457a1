//! The real program under clients and engines that nobody here wrote: curl, openssl, nghttp, h2load, Prometheus.
//! One module per behaviour; every test starts a stage of its own (`stage.rs`) and ends only what it started.
//! No module may import the program's own crates, or wait for a state without a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/numbers.rs"]
#[allow(dead_code)]
mod numbers;

mod alerts;
mod app_probes;
mod audit;
mod broken_files;
mod bypass;
mod control;
mod control_denials;
mod control_document;
mod control_limits;
mod control_push;
mod control_roles;
mod control_sessions;
mod crls;
mod curl;
mod ending;
mod engine;
mod files;
mod http2;
mod kept_alive;
mod limits;
mod load;
mod openssl;
mod output;
mod postgres;
mod program;
mod prometheus;
mod proxy_header;
mod readiness;
mod redis;
mod renewal;
mod revocations;
mod revocations_read;
mod revocations_signed;
mod revoked;
mod scarcity;
mod stage;
mod stream;
mod swaps;
mod tools;
mod volume;
