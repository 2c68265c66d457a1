//! What in-process tests share: a house (`house.rs`) is a PKI, a proxy in this process and everything a test moves.
//! Included by the tests of `tests/traffic` and `tests/cut` with `#[path]`.
//! It must never decide what is right: it starts things, moves things and reads numbers; assertions are the tests'.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod house;
mod numbers;
mod pki;

pub(crate) use house::{House, HouseSpec};
pub(crate) use numbers::{PATIENCE, eventually};
pub(crate) use pki::{Pki, credential_of};
