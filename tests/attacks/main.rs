//! Attacks on the real program, bounded in time: the attacker is ended or contained, memory stays bounded, and honest
//! clients are served meanwhile. Figures are in the output of each test (`--no-capture` shows them).
//! One module per kind of attack; every test starts a program of its own. No module may import the program's own crates,
//! or wait for a state without a deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../support/numbers.rs"]
#[allow(dead_code)]
mod numbers;
#[path = "../program/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "../program/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "../program/tools.rs"]
#[allow(dead_code)]
mod tools;

mod certificates;
mod floods;
mod forger;
mod ground;
mod half_open;
mod heads;
mod honest;
mod resets;
mod shares;
mod slow;
mod smuggling;
mod wire;
