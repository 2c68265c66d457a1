//! What breaks on the way to the app: a fault ends one request and says nothing about trust.
//!
//! Made by `forward.rs` and `app.rs`, turned into a status by `refuse.rs`, counted by `metrics.rs`.

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
}

impl Fault {
    /// Every label.
    pub(crate) const LABELS: [&'static str; 4] = ["unreachable", "timed_out", "broken", "client_gone"];

    /// One fixed word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Fault::Unreachable => "unreachable",
            Fault::TimedOut => "timed_out",
            Fault::Broken => "broken",
            Fault::ClientGone => "client_gone",
        }
    }
}
