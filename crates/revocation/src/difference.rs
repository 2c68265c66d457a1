//! What changes from one list to another.
//!
//! Made for `portcullis revocations diff`. It compares what the lists say: not their order, spacing, signatures or
//! form.

use std::cmp::Ordering;

use crate::moment::show;
use crate::values::Manner;
use crate::{Document, Entry};

/// A field of the header that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in the header.
    pub field: &'static str,
    /// What it says before; empty if there is none.
    pub old: String,
    /// What it says after.
    pub new: String,
}

/// What changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Fields of the header.
    pub header: Vec<Change>,
    /// Entries that only the old list has, in its order.
    pub removed: Vec<Entry>,
    /// Entries that only the new list has, in its order.
    pub added: Vec<Entry>,
}

impl Difference {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.is_empty() && self.removed.is_empty() && self.added.is_empty()
    }

    /// From `old` to `new`.
    pub(crate) fn between(old: &Document, new: &Document) -> Difference {
        let compiled = old.entries().iter().chain(new.entries()).any(|entry| entry.whom.is_compiled());
        let (olds, news) = (comparable(old, compiled), comparable(new, compiled));
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        let (mut before, mut after) = (olds.into_iter().peekable(), news.into_iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.said.cmp(&other.said),
            };
            // Advancing both is what makes equal ones vanish from the result.
            let one = if order == Ordering::Greater { None } else { before.next() };
            let other = if order == Ordering::Less { None } else { after.next() };
            match (one, other) {
                (Some(one), None) => removed.push(one.entry),
                (None, Some(other)) => added.push(other.entry),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        removed.sort();
        added.sort();
        Difference {
            header: header(old, new),
            removed: removed.into_iter().cloned().collect(),
            added: added.into_iter().cloned().collect(),
        }
    }
}

struct Comparable<'a> {
    said: Entry,
    entry: &'a Entry,
}

/// Sorted by what is compared; where one list is compiled, only what that form keeps is compared.
fn comparable(document: &Document, compiled: bool) -> Vec<Comparable<'_>> {
    let said = |entry: &Entry| match entry.compact() {
        Some((kind, key)) if compiled => Entry::compiled(kind, key),
        _ => entry.clone(),
    };
    let mut all: Vec<_> = document.entries().iter().map(|entry| Comparable { said: said(entry), entry }).collect();
    all.sort_by(|one, other| one.said.cmp(&other.said));
    all.dedup_by(|one, other| one.said == other.said);
    all
}

fn header(old: &Document, new: &Document) -> Vec<Change> {
    let fields = |document: &Document| {
        let header = document.header();
        let absorbs: Vec<&str> = header.absorbs.iter().map(AsRef::as_ref).collect();
        [
            ("list", header.list.to_string()),
            ("mode", Manner(header.mode).word().to_owned()),
            ("scope", header.scope.as_deref().unwrap_or_default().to_owned()),
            ("sequence", header.sequence.to_string()),
            ("issued_at", show(header.issued_at)),
            ("expires_at", show(header.expires_at)),
            ("absorbs", absorbs.join(", ")),
            ("confirm", header.confirm.to_string()),
        ]
    };
    let pairs = fields(old).into_iter().zip(fields(new));
    pairs.filter(|(old, new)| old != new).map(|((field, old), (_, new))| Change { field, old, new }).collect()
}
