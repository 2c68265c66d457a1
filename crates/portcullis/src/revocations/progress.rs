//! How far a command is, on standard error, once it has worked for a second at a terminal.
//!
//! Used by the files and commands here around whatever may take long. It must never write when standard error is no
//! terminal, nor leave anything on the screen.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Shorter work needs no telling.
const QUIET: Duration = Duration::from_secs(1);
/// Between two drawings.
const STEP: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// Work under way; it ends when this is dropped.
pub(crate) struct Progress {
    counts: Arc<Counts>,
    /// Dropping the sender ends the drawing.
    drawing: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU64,
    /// 0 while nobody knows.
    expected: AtomicU64,
}

impl Progress {
    /// Begins to watch the work that `what` names.
    pub(crate) fn new(what: impl Into<String>) -> Progress {
        let counts = Arc::new(Counts::default());
        let drawing = io::stderr().is_terminal().then(|| {
            let (sender, ended) = mpsc::channel();
            let (what, counts) = (what.into(), counts.clone());
            (sender, std::thread::spawn(move || draw(&what, &counts, &ended)))
        });
        Progress { counts, drawing }
    }

    /// How much there is to do, as far as is known.
    pub(crate) fn out_of(&self, total: u64) {
        self.counts.expected.store(total, Ordering::Relaxed);
    }

    /// How much is done.
    pub(crate) fn reached(&self, done: usize) {
        self.counts.done.store(u64::try_from(done).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.drawing.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn draw(what: &str, counts: &Counts, ended: &mpsc::Receiver<()>) {
    let started = Instant::now();
    let mut wait = QUIET;
    let mut drawn = false;
    while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let (done, expected) = (counts.done.load(Ordering::Relaxed), counts.expected.load(Ordering::Relaxed));
        show(&format!("{what} {}", bar(done, expected, started.elapsed())));
        (drawn, wait) = (true, STEP);
    }
    if drawn {
        show("");
    }
}

/// Back to the line's first column, the new text, and nothing of the old one after it.
fn show(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
}

/// A bar where the end is known, else a mark that moves.
fn bar(done: u64, expected: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if expected == 0 {
        let at = usize::try_from(elapsed.as_millis() / STEP.as_millis() % u128::from(WIDTH)).unwrap_or(0);
        let mark: String = (0..usize::try_from(WIDTH).unwrap_or(0)).map(|n| if n == at { '=' } else { ' ' }).collect();
        return format!("[{mark}] {seconds} s");
    }
    let part = |of: u64| u64::try_from(u128::from(done.min(expected)) * u128::from(of) / u128::from(expected));
    let full = usize::try_from(part(WIDTH).unwrap_or(0)).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(full);
    format!("[{}{}] {} % {seconds} s", "=".repeat(full), " ".repeat(rest), part(100).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_what_is_done_and_never_beyond() {
        assert_eq!(bar(0, 10, QUIET), format!("[{}] 0 % 1 s", " ".repeat(30)));
        assert_eq!(bar(5, 10, QUIET), format!("[{}{}] 50 % 1 s", "=".repeat(15), " ".repeat(15)));
        assert_eq!(bar(u64::MAX, 10, QUIET), format!("[{}] 100 % 1 s", "=".repeat(30)));
        assert_eq!(bar(7, 0, Duration::ZERO), format!("[={}] 0 s", " ".repeat(29)));
    }
}
