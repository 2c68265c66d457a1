//! The program in a pod's network, seen from another host: redirected connections, and a whole pod by podman. What
//! `make test-pod` runs, as user 0: network namespaces, nftables and containers are not for everybody.
//! No module may leave a namespace, a rule or a container behind, or change one that it did not make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../program/program.rs"]
#[allow(dead_code)]
mod program;

#[path = "../program/stage.rs"]
#[allow(dead_code)]
mod stage;

#[path = "../program/tools.rs"]
#[allow(dead_code)]
mod tools;

#[path = "../support/numbers.rs"]
#[allow(dead_code)]
mod numbers;

#[path = "../program/stream.rs"]
#[allow(dead_code)]
mod stream;

#[path = "../program/volume.rs"]
mod volume;

mod hosts;
mod podman;
mod redirect;
mod whole_pod;
