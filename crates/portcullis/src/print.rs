//! Text for people on standard output and standard error.
//!
//! Used by the subcommands that end by themselves, and by `main.rs` for the one sentence of a failure. The running
//! proxy must never use it: its lines go through `log.rs`, which a blocked reader cannot stop.

use std::io::Write as _;

/// Writes `text` to standard output. A reader that went away is no failure of ours.
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes one sentence to standard error, under the program's name.
pub(crate) fn error(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "portcullis: {sentence}");
}
