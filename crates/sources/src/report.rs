//! One log line and one count for each load of a file.
//!
//! Called by `watch.rs` and its parts; what is said of denials and pushes is in `report_desk.rs`. It must never log
//! what a key file holds. Of one load the reload counter comes last: whoever sees it finds label and line there too.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use proxy::{Live, Metrics, ReloadResult, ReloadSource};
use revocation::Refused;

use crate::file::Failure;
use crate::offer::word;
use crate::refusals::Refusals;
use crate::revocations::Outcome;

/// Where lines and counts go.
pub(crate) struct Report {
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    refusals: RefCell<Refusals>,
}

impl Report {
    /// To the log of the process and these metrics.
    pub(crate) fn new(live: Arc<Live>, metrics: Arc<Metrics>) -> Report {
        metrics.expect_refusals(&crate::load::labels());
        Report { live, metrics, refusals: RefCell::default() }
    }

    /// What was refused so far.
    pub(crate) fn refusals<T>(&self, ask: impl FnOnce(&Refusals) -> T) -> T {
        ask(&self.refusals.borrow())
    }

    /// Revocations were refused: counted by label, and remembered for the operator's side.
    pub(crate) fn refused(&self, label: &'static str, (sentence, from): (&str, &str)) {
        self.metrics.revocation_refused(label);
        self.refusals.borrow_mut().add(label, (sentence, from), self.live.now());
    }

    /// Something new is in force.
    pub(crate) fn changed(&self, source: ReloadSource, path: &Path, (what, began): (&str, Instant)) {
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
        self.metrics.reloaded(source, ReloadResult::Changed);
    }

    /// New files, the same content.
    pub(crate) fn unchanged(&self, source: ReloadSource) {
        tracing::debug!(target: "portcullis", event = "reload", source = name(source), result = "unchanged");
        self.metrics.reloaded(source, ReloadResult::Unchanged);
    }

    /// The last good state stays.
    pub(crate) fn failed(&self, source: ReloadSource, (failure, began): (&Failure, Instant)) {
        self.fail(source, (failure, "; the last good state stays in force"), began);
    }

    pub(crate) fn fail(&self, source: ReloadSource, (failure, consequence): (&Failure, &str), began: Instant) {
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
        self.metrics.reloaded(source, ReloadResult::Failed);
    }

    /// What became of a file of revocations.
    pub(crate) fn revocations(&self, path: &Path, (outcome, began): (&Outcome, Instant)) {
        match outcome {
            Outcome::Accepted { accepted, .. } if !accepted.changed() => self.unchanged(ReloadSource::Revocations),
            Outcome::Accepted { accepted, about } => {
                tracing::info!(
                    target: "portcullis",
                    event = "reload",
                    source = name(ReloadSource::Revocations),
                    path = %path.display(),
                    result = accepted.label(),
                    list = about.list.as_deref().unwrap_or("crl"),
                    mode = about.mode.map(word),
                    sequence = about.sequence,
                    entries = about.entries,
                    epoch = self.live.epoch(),
                    took_ms = milliseconds(began),
                    "{accepted}"
                );
                self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Changed);
            }
            Outcome::Failed(label, failure) | Outcome::Refused { label, failure, changed: false, .. } => {
                self.refused(label, (&failure.sentence, &path.display().to_string()));
                self.failed(ReloadSource::Revocations, (failure, began));
            }
            // The sentence itself says what is different now.
            Outcome::Refused { label, failure, changed: true, .. } => {
                self.refused(label, (&failure.sentence, &path.display().to_string()));
                self.fail(ReloadSource::Revocations, (failure, ""), began);
            }
            Outcome::Held(record) => self.held(record),
            Outcome::Same => self.unchanged(ReloadSource::Revocations),
            Outcome::Silence => {}
        }
    }

    /// A CRL that had waited for its issuer was refused when it came.
    pub(crate) fn refused_after_waiting(&self, refused: &Refused) {
        self.refused(refused.label(), (&refused.to_string(), "--revocations"));
        tracing::error!(
            target: "portcullis",
            event = "reload",
            source = name(ReloadSource::Revocations),
            result = "failed",
            sequence = self.sequence(),
            epoch = self.live.epoch(),
            "--revocations: {refused}; the last good state stays in force"
        );
        self.metrics.reloaded(ReloadSource::Revocations, ReloadResult::Failed);
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

    pub(crate) fn sequence(&self) -> u64 {
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

pub(crate) fn milliseconds(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
