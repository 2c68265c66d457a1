//! `portcullis revocations add`, `remove` and `renew`: one list, changed in place.
//!
//! Called by `revocations.rs`. All or nothing: what cannot be done in full changes no file.

use revocation::Entry;
use trust::Time;

use crate::Failure;
use crate::revocations::args::{AddWish, RemoveWish, RenewWish};
use crate::revocations::document::{Draft, Outcome};
use crate::revocations::{file, whom};

/// Adds entries.
pub(crate) fn add(wish: &AddWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    // A list may begin with nobody on it: sidecars want one before there is anybody to revoke.
    let named = whom::named(&wish.whom, !wish.absorb.is_empty() || wish.begin.list.is_some())?;
    let entries = whom::entries(&named, &wish.terms, now)?;
    let mut draft = Draft::open(&wish.file, Some(&wish.begin))?;
    let mut outcome = Outcome::default();
    for entry in entries {
        if wish.replace {
            let old = |other: &Entry| other.whom.is_same(&entry.whom) && *other != entry;
            outcome.removed.extend(draft.document.remove(old));
        }
        if draft.document.add(entry.clone()) {
            outcome.added.push(entry);
        }
    }
    let mut absorbed = false;
    for id in &wish.absorb {
        absorbed |= draft.document.absorb(id).map_err(|why| Failure::AtStart(format!("--absorb {id:?}: {why}")))?;
    }
    outcome.unchanged = outcome.added.is_empty() && outcome.removed.is_empty() && !absorbed && draft.is_there();
    draft.finish(&outcome, &wish.issue, now)
}

/// Removes entries.
pub(crate) fn remove(wish: &RemoveWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    let named = whom::named(&wish.whom, wish.note.is_some())?;
    let noted = |entry: &Entry| wish.note.is_none() || entry.note() == wish.note.as_deref();
    let mut draft = Draft::open(&wish.file, None)?;
    for one in &named {
        if !draft.document.entries().iter().any(|entry| one.is_in(entry) && noted(entry)) {
            return Err(absent(wish, &one.by));
        }
    }
    let wanted = |entry: &Entry| noted(entry) && (named.is_empty() || named.iter().any(|one| one.is_in(entry)));
    let removed = draft.document.remove(wanted);
    if removed.is_empty() {
        return Err(absent(wish, &format!("--note {:?}", wish.note.as_deref().unwrap_or_default())));
    }
    draft.finish(&Outcome { removed, ..Outcome::default() }, &wish.issue, now)
}

fn absent(wish: &RemoveWish, by: &str) -> Failure {
    let shown = file::shown(&wish.file);
    Failure::AtStart(format!(
        "{by}: no entry of {shown} names it, nothing was changed; `portcullis revocations inspect {} --all` lists them",
        wish.file.display()
    ))
}

/// Issues the list again.
pub(crate) fn renew(wish: &RenewWish) -> Result<(), Failure> {
    let now = proxy::Clock::real().now();
    let mut draft = Draft::open(&wish.file, None)?;
    let removed = if wish.drop_ended { draft.document.remove(|entry| has_ended(entry, now)) } else { Vec::new() };
    draft.finish(&Outcome { removed, ..Outcome::default() }, &wish.issue, now)
}

fn has_ended(entry: &Entry, now: Time) -> bool {
    entry.until.is_some_and(|until| until <= now)
}
