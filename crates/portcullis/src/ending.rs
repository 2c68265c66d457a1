//! The end of `portcullis run`: the signals, and what each of them sets off.
//!
//! Called by `run.rs`. It must never end the process by itself, nor wait for anything that a second signal does not
//! break off.

use std::io::IsTerminal as _;
use std::time::Duration;

use proxy::Running;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Failure, duration};

/// A wish that the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The signal's name.
    name: &'static str,
    /// An orchestrator's, who needs time to send new connections elsewhere; a person at a terminal does not.
    delays: bool,
}

impl Wish {
    /// The signal's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What new connections still get: all of `delay`, or nothing.
    pub(crate) fn delay(&self, delay: Duration) -> Duration {
        if self.delays { delay } else { Duration::ZERO }
    }
}

/// What signals ask for.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Somebody reads the log: a hangup means that they left.
    attended: bool,
}

impl Signals {
    pub(crate) fn listen() -> Result<Signals, String> {
        let on = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to ({error})"));
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            attended: std::io::stdout().is_terminal(),
        })
    }

    /// Returns when the program is asked to end. Daemons take a hangup as "read your files again": these are watched.
    pub(crate) async fn next(&mut self) -> Wish {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Wish { name: "SIGTERM", delays: true },
                _ = self.interrupt.recv() => return Wish { name: "SIGINT", delays: false },
                _ = self.hangup.recv() => {
                    if self.attended {
                        return Wish { name: "SIGHUP", delays: false };
                    }
                    tracing::info!(event = "hangup", "SIGHUP changes nothing: all files are watched, and read as they change");
                }
            }
        }
    }
}

/// Unready at once; then, after the delay, nobody new and everybody asked to leave; then the end.
pub(crate) async fn end_gently(
    signals: &mut Signals,
    wish: Wish,
    running: &Running,
    delay: Duration,
) -> Result<(), Failure> {
    let delay = wish.delay(delay);
    running.announce_end();
    tracing::info!(
        event = "stopping",
        signal = wish.name,
        drain_delay = duration::written(delay),
        "stopping: /readyz says no; a second signal ends at once"
    );
    let gently = async {
        tokio::time::sleep(delay).await;
        tracing::info!(event = "draining", "nobody new comes in; open requests may end, clients are asked to leave");
        running.stop().await;
    };
    tokio::select! {
        () = gently => {
            tracing::info!(event = "stopped", "stopped");
            Ok(())
        }
        again = signals.next() => {
            Err(Failure::WhileRunning(format!("ended at once by a second signal ({})", again.name)))
        }
    }
}
