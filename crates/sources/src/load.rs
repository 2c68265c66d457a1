//! The first load: everything must be right, or nothing starts.
//!
//! Called by `portcullis run` and `portcullis check`. It must never start a thread, publish, or change a file: what
//! is damaged in the state folder is set aside later, by `watch.rs`.

use std::sync::Arc;

use revocation::Refused;
use trust::{Bundle, Knowledge, Time};

use crate::anchors::AnchorFiles;
use crate::file::Failure;
use crate::held::Held;
use crate::holdings::Holdings;
use crate::remembered::Remembered;
use crate::restored::Restored;
use crate::revocations::{Due, Found, Opened, Outcome, Revocations, Wish};
use crate::watch::Baseline;
use crate::{LoadFailure, Loaded, Paths};

/// Reads everything once.
pub fn load(paths: &Paths, now: Time) -> Result<Loaded, LoadFailure> {
    let files = paths.credential.read()?;
    let credential = files.build(&paths.credential, now)?;
    let mut warnings = files.warnings(&paths.credential);
    let remembered_credential = Remembered::new(files.digest(), files.stamps());

    let anchors = AnchorFiles::read(&paths.client_cas);
    let remembered_bundle = Remembered::new(anchors.digest(), anchors.stamps().to_vec());
    let (bundle, about_anchors) = anchors.build(now)?;
    warnings.extend(about_anchors);
    if bundle.is_empty() {
        return Err(LoadFailure(
            "--client-ca: no anchor at all; name the authorities that issue the clients' \
                                certificates"
                .to_owned(),
        ));
    }
    let bundle = Arc::new(bundle);

    let mut first = First::new(paths, (&bundle, now))?;
    let knowledge = if paths.no_revocations { Knowledge::NotWanted } else { first.load()? };
    warnings.append(&mut first.warnings);
    let First { revocations, restored, .. } = first;
    let library = Baseline::new((remembered_credential, remembered_bundle), revocations, restored);
    Ok(Loaded { bundle, knowledge, credential, library, warnings })
}

/// The first load of revocations.
struct First<'a> {
    bundle: &'a Bundle,
    now: Time,
    revocations: Revocations,
    restored: Restored,
    warnings: Vec<String>,
}

impl<'a> First<'a> {
    fn new(paths: &Paths, (bundle, now): (&'a Bundle, Time)) -> Result<First<'a>, LoadFailure> {
        let wanted: &[_] = if paths.no_revocations { &[] } else { &paths.revocations };
        let holdings = Holdings::new(paths.requirements.clone(), paths.state_dir.is_some());
        let keep_bytes = paths.state_dir.is_some() || paths.max_cut_fraction.is_some();
        let mut first = First {
            bundle,
            now,
            revocations: Revocations::new(wanted, holdings, keep_bytes),
            restored: Restored::default(),
            warnings: Vec::new(),
        };
        if let Some(state_dir) = &paths.state_dir {
            let wanted = !paths.no_revocations;
            first.restored = Restored::read(state_dir, &mut first.revocations, (bundle, now), wanted)?;
            first.warnings.extend(first.restored.told.iter().map(|(_, sentence, _)| sentence.clone()));
            if paths.max_cut_fraction.is_none() {
                first.restored.held.clear();
            }
        }
        Ok(first)
    }

    fn load(&mut self) -> Result<Knowledge, LoadFailure> {
        let (due, found) = self.revocations.due(&Wish::default());
        for one in found {
            match one {
                Found::Failed(label, failure) => self.failed(label, failure)?,
                // Nothing can have vanished from what was never read.
                Found::Vanished(_) => {}
            }
        }
        let mut refused = Vec::new();
        for one in due {
            let outcome = self.take(&one);
            if matches!(outcome, Outcome::Refused { tolerable: false, .. }) {
                refused.push(one);
            } else {
                self.judge(outcome)?;
            }
        }
        // What becomes of a file may depend on those read after it: an expired list is no obstacle beside its
        // successor.
        for one in refused {
            self.revocations.forget(&one);
            let outcome = self.take(&one);
            self.judge(outcome)?;
        }
        for named in self.revocations.silent() {
            self.warnings.push(format!(
                "{named}: holds nothing yet that says what is revoked; until it does, everybody is denied"
            ));
        }
        Ok(self.revocations.news().unwrap_or(Knowledge::Missing))
    }

    /// Nobody can be cut before the start, so the fraction cannot be measured: what was held before is held again,
    /// if there is other knowledge to go on with.
    fn take(&mut self, due: &Due) -> Outcome {
        match self.revocations.open(due) {
            Opened::Done(outcome) => outcome,
            Opened::Offer(offer, seen) => {
                let digest = offer.digest.to_string();
                let before = self.restored.held.iter().find(|one| one.digest == digest);
                let other = self.revocations.has_yielded(due.file());
                if let (Some(record), Some(bytes), true) = (before, offer.bytes.clone(), other) {
                    let held = Held { digest: offer.digest, bytes, in_file: true, record: record.clone() };
                    // What finds no room now is told as lost when the watch begins.
                    return self.revocations.hold(due, seen, held).0;
                }
                let trial = self.revocations.holdings.attempt(*offer, self.bundle, self.now);
                self.revocations.settle(due, seen, trial)
            }
        }
    }

    fn judge(&mut self, outcome: Outcome) -> Result<(), LoadFailure> {
        match outcome {
            Outcome::Failed(label, failure) => self.failed(label, failure)?,
            Outcome::Refused { label, failure, tolerable: true, .. } => {
                self.warnings.push(failure.sentence.clone());
                self.tell(label, failure);
            }
            Outcome::Refused { label, failure, tolerable: false, .. } => self.failed(label, failure)?,
            Outcome::Held(record) => self.warnings.push(format!(
                "{}: {} is held since {}, as before the start: it would have cut {} of {} sessions; confirm it, or \
                 publish another",
                record.from, record.what, record.since, record.cut, record.live
            )),
            Outcome::Accepted { .. } | Outcome::Same | Outcome::Silence => {}
        }
        Ok(())
    }

    /// A file that cannot be used: with knowledge of it in the state folder the start goes on, like the running
    /// proxy would.
    fn failed(&mut self, label: &'static str, failure: Failure) -> Result<(), LoadFailure> {
        if !self.revocations.has_yielded(&failure.path) {
            return Err(failure.into());
        }
        self.warnings.push(format!("{}; what the state folder holds of it stays in force", failure.sentence));
        self.tell(label, failure);
        Ok(())
    }

    fn tell(&mut self, label: &'static str, failure: Failure) {
        let from = failure.path.display().to_string();
        self.restored.told.push((label, failure.sentence, from));
    }
}

/// Every label under which something is refused.
pub(crate) fn labels() -> Vec<&'static str> {
    let mut labels: Vec<_> = Refused::LABELS.into_iter().chain(revocation::ReadError::LABELS).collect();
    labels.extend([crate::source::UNREAD, crate::source::TOO_LARGE, crate::restored::DAMAGED]);
    labels.sort_unstable();
    labels.dedup();
    labels
}
