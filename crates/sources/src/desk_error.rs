//! Why the desk says no.
//!
//! Made by `desk.rs` and `clerk.rs`; `control` makes a status of it. It must never hold key material.

/// Why the desk says no. Each is told in one sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskError {
    /// The bytes are no list and no CRL that may be read here.
    Unreadable {
        /// One fixed word.
        label: &'static str,
        /// Why.
        sentence: String,
        /// Where.
        line: Option<usize>,
        /// Where in the line.
        column: Option<usize>,
    },
    /// It can be read, and was not taken in, or not all.
    Refused {
        /// One fixed word.
        label: &'static str,
        /// Why.
        sentence: String,
    },
    /// Another sequence is in force than the caller thinks.
    Mismatch {
        /// Which, and what to do.
        sentence: String,
        /// The sequence in force, if there is such a list.
        in_force: Option<u64>,
    },
    /// What was asked for makes no sense.
    Invalid {
        /// Why.
        sentence: String,
    },
    /// There is no room.
    TooMany {
        /// The limit.
        sentence: String,
    },
    /// There is no such thing.
    NotFound {
        /// What there is instead.
        sentence: String,
    },
    /// The proxy runs with `--no-revocations`.
    NotWanted,
    /// Too many ask at once.
    Busy,
    /// The sources' thread has ended.
    Ended,
}

impl DeskError {
    /// One fixed word.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            DeskError::Unreadable { label, .. } | DeskError::Refused { label, .. } => label,
            DeskError::Mismatch { .. } => "mismatch",
            DeskError::Invalid { .. } => "invalid",
            DeskError::TooMany { .. } => "too_many",
            DeskError::NotFound { .. } => "not_found",
            DeskError::NotWanted => "not_wanted",
            DeskError::Busy => "busy",
            DeskError::Ended => "ended",
        }
    }
}

impl std::fmt::Display for DeskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DeskError::Unreadable { sentence, .. }
            | DeskError::Refused { sentence, .. }
            | DeskError::Mismatch { sentence, .. }
            | DeskError::Invalid { sentence }
            | DeskError::TooMany { sentence }
            | DeskError::NotFound { sentence } => sentence,
            DeskError::NotWanted => {
                "this proxy runs with --no-revocations and takes in none; start it with --revocations"
            }
            DeskError::Busy => {
                "too much was asked at once; what was asked may still happen, so look at the state, then ask again"
            }
            DeskError::Ended => "the part that holds the revocations has ended; restart the proxy",
        })
    }
}

impl std::error::Error for DeskError {}
