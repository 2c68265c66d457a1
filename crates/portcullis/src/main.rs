//! The program: one binary, one subcommand per use.
//!
//! Called by people and by containers. Here only: read the arguments, call the subcommand, turn its end into an
//! exit code. It must never decide anything about trust.
//!
//! Exit codes: 0 all went as asked; 64 something was wrong at start, in a flag or in a file it names; 1 a failure
//! while running.

mod args;
mod certs;
mod check;
mod demo;
mod duration;
mod inbound;
mod log;
mod moment;
mod print;
mod resolve;
mod run;

use std::process::ExitCode;

use args::{Asked, Command};

/// sysexits.h EX_USAGE: wrong at start. Init systems and operators can tell it from a crash.
const WRONG_AT_START: u8 = 64;

/// Why a subcommand did not end well; each one sentence.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A flag, or a file that it names.
    AtStart(String),
    /// Something broke later.
    WhileRunning(String),
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
    }
}

fn perform(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(flags) => run::run(&flags),
        Command::Check { flags, json } => check::check(&flags, json),
        Command::Certs(wish) => certs::certs(&wish),
        Command::Demo(wish) => demo::demo(&wish),
    }
}
