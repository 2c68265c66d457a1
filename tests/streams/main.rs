//! Every path through the real program, with clients and apps that nobody here wrote: grpcio, websockets, h2, http.client,
//! curl, Envoy.
//! One module per behaviour; the stage and the program are those of `tests/program`, scripts are in `python/`.
//! No module may read of a client more than its own user could know, or take a clean end for a cut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../program/load.rs"]
mod load;
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

mod apps;
mod clock;
mod envoy;
mod gentle;
mod grpc;
mod grpc_cut;
mod paths;
mod probes;
mod script;
mod stamps;
mod table;
mod tunnels;
