//! What breaks on the way to the app: a fault ends one request and says nothing about trust.
//!
//! Made by `forward.rs` and `app.rs`, turned into a status by `refuse.rs`, counted by `metrics.rs`.

use crate::bounds::Bound;

/// Why the app gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection to it: 502.
    Unreachable,
    /// It took too long: 504.
    TimedOut,
    /// It closed, or spoke no HTTP: 502.
    Broken,
    /// The client went away before the answer.
    ClientGone,
    /// The client did not send the rest of its request: 408.
    ClientSilent,
    /// All connections to the apps are in use: 503.
    Busy,
}

impl Fault {
    /// Every label.
    pub(crate) const LABELS: [&'static str; 6] =
        ["unreachable", "timed_out", "broken", "client_gone", "client_silent", "busy"];

    /// One fixed word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Fault::Unreachable => "unreachable",
            Fault::TimedOut => "timed_out",
            Fault::Broken => "broken",
            Fault::ClientGone => "client_gone",
            Fault::ClientSilent => "client_silent",
            Fault::Busy => "busy",
        }
    }

    /// The limit that it is due to, if any.
    pub(crate) fn bound(self) -> Option<Bound> {
        match self {
            Fault::TimedOut => Some(Bound::AppTimeout),
            Fault::ClientSilent => Some(Bound::BodyTimeout),
            Fault::Busy => Some(Bound::AppConnections),
            Fault::Unreachable | Fault::Broken | Fault::ClientGone => None,
        }
    }
}
