//! The conversation with the bench: a line of words in, a line of JSON out.
//!
//! Used by the parts that live on. The end of standard input ends a process, so that none outlives the bench. It must
//! never print anything but answers.

use std::io::{self, BufRead as _, Write as _};

use serde_json::Value;
use tokio::sync::mpsc;

/// Lines of standard input, read by a thread of its own.
pub(crate) fn asked() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// One answer.
pub(crate) fn tell(answer: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{answer}")?;
    output.flush()
}
