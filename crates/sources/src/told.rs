//! The failure that was told last, so that each is told once however often it is found.
//!
//! Kept by `control_anchors.rs` and `server_credential.rs`, which look at their files again and again. It must never keep
//! a failure from being told that differs from the last.

use crate::LoadFailure;

/// What was told last; nothing while all is well.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<String>);

impl Told {
    /// The failure, if it is news.
    pub(crate) fn failed(&mut self, failure: impl Into<LoadFailure>) -> Option<LoadFailure> {
        let failure = failure.into();
        let before = self.0.replace(failure.0.clone());
        (before.as_ref() != Some(&failure.0)).then_some(failure)
    }

    /// All is well; whether it was not before.
    pub(crate) fn healed(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Whether the last look failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.0.is_some()
    }
}
