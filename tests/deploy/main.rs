//! What `deploy/` holds, without a cluster: the chart by Helm's own library, its policies by a CEL evaluator, its alerts and
//! its dashboard by Prometheus.
//! Scripts are in `python/` and run in the environment that `tests/tools` makes; the program is that of `tests/program`.
//! No module may take a part of the chart for right because the chart says so: pods and queries come from elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../program/engine.rs"]
mod engine;
#[path = "../support/numbers.rs"]
#[allow(dead_code)]
mod numbers;
#[path = "../program/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "../program/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "../program/stream.rs"]
#[allow(dead_code)]
mod stream;
#[path = "../program/tools.rs"]
#[allow(dead_code)]
mod tools;

mod documents;
mod injector;
mod scripts;
mod watched;
