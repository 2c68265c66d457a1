//! One log line and one count for each load of a file.
//!
//! Called by `watch.rs`. It must never log what a key file holds.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use proxy::{Live, Metrics, ReloadResult, ReloadSource};
use revocation::Refused;

use crate::file::Failure;
use crate::revocations::Outcome;

/// Where lines and counts go.
pub(crate) struct Report {
    live: Arc<Live>,
    metrics: Arc<Metrics>,
}

impl Report {
    /// To the log of the process and these metrics.
    pub(crate) fn new(live: Arc<Live>, metrics: Arc<Metrics>) -> Report {
        Report { live, metrics }
    }

    /// Something new is in force.
    pub(crate) fn changed(&self, source: ReloadSource, path: &Path, (what, began): (&str, Instant)) {
        self.metrics.reloaded(source, ReloadResult::Changed);
        tracing::info!(
            target: "portcullis",
            event = "reload",
            source = name(source),
            path = %path.display(),
            result = "changed",
            epoch = self.live.epoch(),
            took_ms = milliseconds(began),
            "{what}"
        );
    }

    /// New files, the same content.
    pub(crate) fn unchanged(&self, source: ReloadSource) {
        self.metrics.reloaded(source, ReloadResult::Unchanged);
        tracing::debug!(target: "portcullis", event = "reload", source = name(source), result = "unchanged");
    }

    /// The last good state stays.
    pub(crate) fn failed(&self, source: ReloadSource, (failure, began): (&Failure, Instant)) {
        self.fail(source, (failure, "; the last good state stays in force"), began);
    }

    fn fail(&self, source: ReloadSource, (failure, consequence): (&Failure, &str), began: Instant) {
        self.metrics.reloaded(source, ReloadResult::Failed);
        tracing::error!(
            target: "portcullis",
            event = "reload",
            source = name(source),
            path = %failure.path.display(),
            result = "failed",
            line = failure.line,
            column = failure.column,
            sequence = self.sequence(),
            epoch = self.live.epoch(),
            took_ms = milliseconds(began),
            "{}{consequence}",
            failure.sentence
        );
    }

    /// What became of a file of revocations.
    pub(crate) fn revocations(&self, path: &Path, (outcome, began): (&Outcome, Instant)) {
        match outcome {
            Outcome::Accepted { accepted, .. } if !accepted.changed() => self.unchanged(ReloadSource::Revocations),
            Outcome::Accepted { accepted, list, sequence, entries } => {
                self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Changed);
                tracing::info!(
                    target: "portcullis",
                    event = "reload",
                    source = name(ReloadSource::Revocations),
                    path = %path.display(),
                    result = accepted.label(),
                    list,
                    sequence,
                    entries,
                    epoch = self.live.epoch(),
                    took_ms = milliseconds(began),
                    "{accepted}"
                );
            }
            Outcome::Failed(failure) => self.failed(ReloadSource::Revocations, (failure, began)),
            Outcome::Refused { failure, changed: false, .. } => {
                self.failed(ReloadSource::Revocations, (failure, began));
            }
            // The sentence itself says what is different now.
            Outcome::Refused { failure, changed: true, .. } => {
                self.fail(ReloadSource::Revocations, (failure, ""), began);
            }
            Outcome::Same => self.unchanged(ReloadSource::Revocations),
            Outcome::Silence => {}
        }
    }

    /// A CRL that had waited for its issuer was refused when it came.
    pub(crate) fn refused_after_waiting(&self, refused: &Refused) {
        self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Failed);
        tracing::error!(
            target: "portcullis",
            event = "reload",
            source = name(ReloadSource::Revocations),
            result = "failed",
            sequence = self.sequence(),
            epoch = self.live.epoch(),
            "--revocations: {refused}; the last good state stays in force"
        );
    }

    /// An issuer's CRLs are in force now.
    pub(crate) fn introduced(&self) {
        tracing::info!(
            target: "portcullis",
            event = "reload",
            source = "introduction",
            result = "changed",
            epoch = self.live.epoch(),
            "a client's chain showed an issuer whose CRL had waited"
        );
    }

    /// A file of revocations is gone.
    pub(crate) fn vanished(&self, path: &Path) {
        tracing::warn!(
            target: "portcullis",
            event = "vanished",
            source = name(ReloadSource::Revocations),
            path = %path.display(),
            sequence = self.sequence(),
            "the file is gone; what it said stays in force until it expires, and counts as outdated from then on"
        );
    }

    /// It works, and deserves a look.
    pub(crate) fn warning(&self, sentence: &str) {
        tracing::warn!(target: "portcullis", event = "load_warning", "{sentence}");
    }

    fn sequence(&self) -> u64 {
        self.live.current().state.snapshot().map_or(0, |snapshot| snapshot.sequence())
    }
}

fn name(source: ReloadSource) -> &'static str {
    match source {
        ReloadSource::Credential => "credential",
        ReloadSource::Bundle => "bundle",
        ReloadSource::Revocations => "revocations",
    }
}

fn milliseconds(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
