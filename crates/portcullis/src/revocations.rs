//! `portcullis revocations …`: the platform engineer's side of revocation lists, on files and on sidecars.
//!
//! Called by `main.rs`; one file for each family of commands, of which only `remotely.rs` talks to a sidecar. It must
//! never print a secret key, or drop an entry or a signature in silence.

pub(crate) mod args;
mod crl;
mod document;
mod edit;
pub(crate) mod file;
mod import;
mod inspect;
mod issued_by;
mod keys;
pub(crate) mod pem;
pub(crate) mod progress;
pub(crate) mod remotely;
mod rewrite;
pub(crate) mod say;
mod verify;
mod when;
pub(crate) mod whom;

use args::RevocationsCommand;

use crate::Failure;

/// Performs one command.
pub(crate) fn revocations(command: &RevocationsCommand) -> Result<(), Failure> {
    match command {
        RevocationsCommand::Keygen(wish) => keys::keygen(wish),
        RevocationsCommand::Add(wish) => edit::add(wish),
        RevocationsCommand::Remove(wish) => edit::remove(wish),
        RevocationsCommand::Renew(wish) => edit::renew(wish),
        RevocationsCommand::Import(wish) => import::import(wish),
        RevocationsCommand::Sign(wish) => rewrite::sign(wish),
        RevocationsCommand::Compile(wish) => rewrite::compile(wish),
        RevocationsCommand::Inspect(wish) => inspect::inspect(wish),
        RevocationsCommand::Verify(wish) => verify::verify(wish),
        RevocationsCommand::Remotely(command) => remotely::remotely(command),
        RevocationsCommand::Diff(wish) => rewrite::diff(wish),
    }
}
