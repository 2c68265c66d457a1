//! `portcullis inject` and `portcullis webhook` as people and API servers use them: files, pipes, curl.
//! The program is the real one; schemas and YAML are judged by others' libraries (`objects.py`).
//! No module may import the program's own crates, or wait for a state without a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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

mod crowd;
mod environment;
mod files;
mod injector;
mod refusals;
mod webhook;
