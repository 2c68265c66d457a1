//! The program: one binary, one subcommand per use.
//!
//! Called by people and by containers. Here only: read the arguments, call the subcommand, turn its end into an
//! exit code. It must never decide anything about trust.
//!
//! Exit codes: 0 all went as asked; 64 something was wrong at start, in a flag or in a file it names; 1 a failure
//! while running, or the answer is no; 69 a sidecar cannot be reached; 77 it does not allow what was asked.

mod args;
mod certs;
mod check;
mod control_flags;
mod demo;
mod denials;
mod descriptors;
mod duration;
mod ending;
mod inbound;
mod inject;
mod injector_flags;
mod limit_flags;
mod log;
mod moment;
mod operators;
mod panics;
mod pod_flags;
mod print;
mod redirect;
mod remote;
mod resolve;
mod revocation_flags;
mod revocations;
mod run;
mod sessions;
mod state;
mod stop_flags;
mod webhook;

use std::process::ExitCode;

use args::{Asked, Command};

/// Thousands of sessions that end in one go cost half as much as with glibc's allocator, and each weighs less
/// (DECISIONS.md, "Speed").
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// sysexits.h EX_USAGE: wrong at start. Init systems and operators can tell it from a crash.
const WRONG_AT_START: u8 = 64;
/// sysexits.h EX_UNAVAILABLE: worth another try.
const UNREACHABLE: u8 = 69;
/// sysexits.h EX_NOPERM: another try changes nothing.
const NOT_ALLOWED: u8 = 77;

/// Why a subcommand did not end well; each one sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A flag, or a file that it names.
    AtStart(String),
    /// Something broke later.
    WhileRunning(String),
    /// A sidecar that was to be asked does not answer.
    Unreachable(String),
    /// It answers, and does not allow it.
    NotAllowed(String),
    /// The answer is no, and was told: only the exit code is left to say.
    Told(u8),
}

impl Failure {
    /// In words; empty where it was told before.
    pub(crate) fn sentence(self) -> String {
        match self {
            Failure::AtStart(sentence)
            | Failure::WhileRunning(sentence)
            | Failure::Unreachable(sentence)
            | Failure::NotAllowed(sentence) => sentence,
            Failure::Told(_) => String::new(),
        }
    }
}

fn main() -> ExitCode {
    let outcome = match args::read() {
        Asked::Command(command) => perform(*command),
        Asked::Text(text) => {
            print::out(&text);
            return ExitCode::SUCCESS;
        }
        Asked::Wrong(sentence) => Err(Failure::AtStart(sentence)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::AtStart(sentence)) => {
            print::error(&sentence);
            ExitCode::from(WRONG_AT_START)
        }
        Err(Failure::WhileRunning(sentence)) => {
            print::error(&sentence);
            ExitCode::FAILURE
        }
        Err(Failure::Unreachable(sentence)) => {
            print::error(&sentence);
            ExitCode::from(UNREACHABLE)
        }
        Err(Failure::NotAllowed(sentence)) => {
            print::error(&sentence);
            ExitCode::from(NOT_ALLOWED)
        }
        Err(Failure::Told(code)) => ExitCode::from(code),
    }
}

fn perform(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(flags) => run::run(&flags),
        Command::Check { flags, json } => check::check(&flags, json),
        Command::Certs(wish) => certs::certs(&wish),
        Command::Demo(wish) => demo::demo(&wish),
        Command::Revocations { command } => revocations::revocations(&command),
        Command::Redirect(wish) => redirect::redirect(&wish),
        Command::Deny(wish) => denials::deny(&wish),
        Command::Undeny(wish) => denials::undeny(&wish),
        Command::Denials(wish) => denials::denials(&wish),
        Command::State(wish) => state::state(&wish),
        Command::Sessions { command } => sessions::sessions(&command),
        Command::Inject(wish) => inject::inject(&wish),
        Command::Webhook(wish) => webhook::webhook(&wish),
    }
}
