//! `portcullis revocations import`: the entries of RFC 5280 CRLs become entries of a list.
//!
//! Called by `revocations.rs`. A CRL counts only with its issuer's signature, which the library checks; what it cannot
//! turn into entries refuses the whole import.

use std::path::Path;

use revocation::{Material, UnverifiedCrl};
use trust::Certificate;

use crate::Failure;
use crate::revocations::args::ImportWish;
use crate::revocations::document::{Draft, Outcome};
use crate::revocations::progress::Progress;
use crate::revocations::{file, pem};

/// Adds the entries of every CRL.
pub(crate) fn import(wish: &ImportWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    let streams = wish.crls.iter().chain([&wish.file]).filter(|path| file::is_stream(path)).count();
    if streams > 1 {
        let sentence = "standard input can be one file only; name files for the others";
        return Err(Failure::AtStart(sentence.to_owned()));
    }
    let mut issuers: Vec<Certificate> = Vec::new();
    for path in &wish.issuer {
        issuers.extend(pem::certificates("--issuer", path)?.into_iter().map(|read| read.certificate));
    }
    let mut draft = Draft::open(&wish.file, Some(&wish.begin))?;
    let known = draft.document.clone();
    for path in &wish.crls {
        let _progress = Progress::new(format!("importing {}", file::shown(path)));
        for crl in crls(path)? {
            draft.document.import(&crl, &issuers, wish.note.as_deref()).map_err(|why| wrong(path, &why))?;
        }
    }
    let added = known.diff(&draft.document).added;
    let unchanged = added.is_empty() && draft.is_there();
    draft.finish(&Outcome { added, unchanged, ..Outcome::default() }, &wish.issue, now)
}

/// The CRLs of one file, unverified.
pub(crate) fn crls(path: &Path) -> Result<Vec<UnverifiedCrl>, Failure> {
    match revocation::read(file::read(path)?).map_err(|error| wrong(path, &error.to_string()))? {
        Material::Crls(crls) => Ok(crls),
        Material::List(_) => Err(wrong(path, "this is a list, not a CRL; its lines can be added as they are")),
    }
}

fn wrong(path: &Path, why: &str) -> Failure {
    Failure::AtStart(format!("{}: {why}", file::shown(path)))
}
