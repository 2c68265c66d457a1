//! The first load: everything must be right, or nothing starts.
//!
//! Called by `portcullis run` and `portcullis check`. It must never start a thread or publish.

use std::sync::Arc;

use trust::{Bundle, Knowledge, Time};

use crate::anchors::AnchorFiles;
use crate::revocations::{Found, Outcome, Revocations, Wish};
use crate::watch::{Baseline, Remembered};
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

    let (revocations, knowledge) = load_revocations(paths, &bundle, now, &mut warnings)?;
    let library = Baseline::new(remembered_credential, remembered_bundle, revocations);
    Ok(Loaded { bundle, knowledge, credential, library, warnings })
}

fn load_revocations(
    paths: &Paths,
    bundle: &Bundle,
    now: Time,
    warnings: &mut Vec<String>,
) -> Result<(Revocations, Knowledge), LoadFailure> {
    if paths.no_revocations {
        return Ok((Revocations::new(&[]), Knowledge::NotWanted));
    }
    let mut revocations = Revocations::new(&paths.revocations);
    let (due, found) = revocations.due(&Wish::default());
    for one in found {
        // Nothing can have vanished from what was never read.
        if let Found::Failed(failure) = one {
            return Err(failure.into());
        }
    }
    let mut refused = Vec::new();
    for one in due {
        match revocations.take(&one, bundle, now) {
            Outcome::Failed(failure) => return Err(failure.into()),
            Outcome::Refused { failure, tolerable: true, .. } => warnings.push(failure.sentence),
            Outcome::Refused { tolerable: false, .. } => refused.push(one),
            Outcome::Accepted { .. } | Outcome::Same | Outcome::Silence => {}
        }
    }
    // What becomes of a file may depend on those read after it: an expired list is no obstacle beside its successor.
    for one in refused {
        revocations.forget(&one);
        if let Outcome::Refused { failure, tolerable, .. } = revocations.take(&one, bundle, now) {
            if !tolerable {
                return Err(failure.into());
            }
            warnings.push(failure.sentence);
        }
    }
    for named in revocations.silent() {
        warnings
            .push(format!("{named}: holds nothing yet that says what is revoked; until it does, everybody is denied"));
    }
    let knowledge = revocations.news().unwrap_or(Knowledge::Missing);
    Ok((revocations, knowledge))
}
