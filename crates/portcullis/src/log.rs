//! Log lines: to standard output, bounded, and off the threads that write them.
//!
//! Started once by `run.rs`. A thread of its own writes; whoever logs only puts a line into a bounded queue, and a line
//! that finds it full is dropped and counted. It must never make a request, a cut or the exit wait for a reader.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::resolve::LogFormat;

/// Lines that wait for the writer: at 400 bytes each about 3 MB, and a second of a mass cut of 8,000 sessions.
const QUEUED_LINES: usize = 8192;
/// Bytes written at once; the writer flushes whenever its queue is empty.
const PIECE: usize = 64 * 1024;
/// What the exit gives the writer for what is still queued.
const FLUSH: Duration = Duration::from_millis(1500);

/// The running log; whoever holds it ends it with [`Log::end`].
pub(crate) struct Log {
    guard: WorkerGuard,
    dropped: ErrorCounter,
}

/// Starts the log of this process. `format` is `None` for text at a terminal, JSON elsewhere.
pub(crate) fn start(format: Option<LogFormat>, level: LevelFilter) -> Result<Log, String> {
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    // A duplicate of the descriptor: the standard library's own handle would flush at every line, under a lock that
    // anybody who prints would then wait for.
    let descriptor = stdout.as_fd().try_clone_to_owned().map_err(|error| {
        format!("standard output cannot be used for the log ({error}); start with standard output open")
    })?;
    let (writer, log) = queue(BufWriter::with_capacity(PIECE, File::from(descriptor)));
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    // The convention of no-color.org: set and not empty.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(terminal && !plain && format == LogFormat::Text);
    let ours = ours(level);
    let installed = match format {
        LogFormat::Text => lines.finish().with(ours).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.finish().with(ours).try_init()
        }
    };
    installed.map_err(|error| format!("the log cannot start ({error})"))?;
    Ok(log)
}

/// Our own lines from `level` on, and warnings of libraries: what those say in detail may quote a request's headers.
fn ours(level: LevelFilter) -> Targets {
    let own = ["portcullis", "proxy", "sources", "control", "revocation", "injector"];
    Targets::new().with_targets(own.map(|target| (target, level))).with_default(level.min(LevelFilter::WARN))
}

fn queue(target: impl Write + Send + 'static) -> (NonBlocking, Log) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES).thread_name("log");
    let (writer, guard) = builder.finish(target);
    let dropped = writer.error_counter();
    (writer, Log { guard, dropped })
}

impl Log {
    /// Lines dropped so far.
    pub(crate) fn dropped_lines(&self) -> u64 {
        u64::try_from(self.dropped.dropped_lines()).unwrap_or(u64::MAX)
    }

    /// Writes what is queued, for a bounded time.
    pub(crate) fn end(self) {
        let (done, flushed) = mpsc::channel();
        // The guard waits up to a second, and then prints to the very output that may be blocked: so it is dropped on
        // a thread that the exit does not wait for.
        std::thread::spawn(move || {
            drop(self.guard);
            let _ = done.send(());
        });
        let _ = flushed.recv_timeout(FLUSH);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    /// A reader that takes nothing until the gate opens.
    struct Blocked(Arc<Mutex<()>>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_reader_stops_nobody_and_what_was_dropped_is_counted() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let (mut writer, log) = queue(Blocked(Arc::clone(&gate)));
        for _ in 0..QUEUED_LINES * 2 {
            writer.write_all(b"line\n").unwrap();
        }
        // The queue took its limit, and the writer's thread one line more at most.
        assert!(log.dropped_lines() >= u64::try_from(QUEUED_LINES).unwrap() - 1);
        log.end();
        drop(closed);
    }
}
