//! Knowledge that would cut too many, held back until somebody confirms it.
//!
//! Part of `holdings.rs`. Bounded: what is held longest gives way. It must never hold what is in force.

use std::sync::Arc;

use trust::Sha256;

use crate::records::HeldRecord;

/// Things held at one time; one of each list and file is the usual case.
const MAX_HELD: usize = 64;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Of all its bytes.
    pub(crate) digest: Sha256,
    /// All of them.
    pub(crate) bytes: Arc<[u8]>,
    /// It lies in a file of `--revocations`, as which it is one thing at any time.
    pub(crate) in_file: bool,
    /// For the operator.
    pub(crate) record: HeldRecord,
}

/// All of them, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    all: Vec<Held>,
    max_bytes: u64,
}

impl Shelf {
    /// Empty; what lies on it has `max_bytes` at most, all together.
    pub(crate) fn new(max_bytes: u64) -> Shelf {
        Shelf { all: Vec::new(), max_bytes }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// For the operator, the newest last.
    pub(crate) fn records(&self) -> Vec<HeldRecord> {
        self.all.iter().map(|one| one.record.clone()).collect()
    }

    /// Puts one on it, in the place of an earlier issue. Returns what had to give way for want of room.
    #[must_use]
    pub(crate) fn put(&mut self, held: Held) -> Vec<HeldRecord> {
        self.all.retain(|one| !is_earlier(one, &held));
        self.all.push(held);
        let mut gone = Vec::new();
        while self.all.len() > 1 && (self.all.len() > MAX_HELD || self.bytes() > self.max_bytes) {
            gone.push(self.all.remove(0).record);
        }
        gone
    }

    /// All of them; the bytes are shared.
    pub(crate) fn all(&self) -> Vec<Held> {
        self.all.clone()
    }

    /// Takes off what has this digest.
    pub(crate) fn take(&mut self, digest: &Sha256) -> Option<Held> {
        let position = self.all.iter().position(|one| one.digest == *digest)?;
        Some(self.all.remove(position))
    }

    /// The only one.
    pub(crate) fn only(&self) -> Option<&Held> {
        match self.all.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether something with this digest lies on it.
    pub(crate) fn find(&self, digest: &Sha256) -> Option<&Held> {
        self.all.iter().find(|one| one.digest == *digest)
    }

    /// Takes off what is pointless once this sequence of the list is in force, and what another content of its file
    /// took the place of.
    pub(crate) fn outdate(
        &mut self,
        (list, mode, sequence): (Option<&str>, Option<&str>, Option<u64>),
        file: Option<&str>,
    ) -> bool {
        let before = self.all.len();
        self.all.retain(|one| {
            let record = &one.record;
            let same_list = list.is_some() && record.list.as_deref() == list && record.mode.as_deref() == mode;
            let older = same_list && record.sequence <= sequence;
            let same_file = file.is_some_and(|file| record.from == file);
            !older && !same_file
        });
        self.all.len() != before
    }

    fn bytes(&self) -> u64 {
        let lengths = self.all.iter().map(|one| u64::try_from(one.bytes.len()).unwrap_or(u64::MAX));
        lengths.fold(0, u64::saturating_add)
    }
}

/// Whether `new` makes `old` pointless: a later issue of the same list, or what its file holds now, or itself. An issue
/// that is not later lies beside it, so that whoever confirms must say which.
fn is_earlier(old: &Held, new: &Held) -> bool {
    let (older, newer) = (&old.record, &new.record);
    let same_list = newer.list.is_some() && older.list == newer.list && older.mode == newer.mode;
    let same_file = old.in_file && new.in_file && older.from == newer.from;
    old.digest == new.digest || (same_list && older.sequence < newer.sequence) || same_file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn held(list: Option<&str>, sequence: u64, size: usize) -> Held {
        let bytes: Arc<[u8]> = vec![u8::try_from(sequence).unwrap(); size].into();
        let digest = Sha256::of(&bytes);
        let record = HeldRecord {
            what: String::new(),
            digest: digest.to_string(),
            list: list.map(str::to_owned),
            mode: list.map(|_| "enforce".to_owned()),
            sequence: list.map(|_| sequence),
            cut: 1,
            live: 1,
            since: String::new(),
            from: "a file".to_owned(),
        };
        Held { digest, bytes, in_file: false, record }
    }

    #[test]
    fn a_newer_issue_takes_the_place_of_an_older_one_of_the_same_list() {
        let mut shelf = Shelf::new(1000);
        assert!(shelf.put(held(Some("a"), 1, 1)).is_empty());
        assert!(shelf.put(held(Some("a"), 2, 1)).is_empty());
        assert!(shelf.put(held(Some("b"), 3, 1)).is_empty());
        assert_eq!(shelf.records().iter().map(|one| one.sequence).collect::<Vec<_>>(), [Some(2), Some(3)]);
        assert!(shelf.only().is_none());
        assert!(!shelf.outdate((Some("a"), Some("enforce"), Some(1)), None));
        assert!(shelf.outdate((Some("a"), Some("enforce"), Some(2)), None));
        assert_eq!(shelf.only().unwrap().record.sequence, Some(3));
    }

    #[test]
    fn an_older_issue_takes_no_newer_ones_place_and_a_files_content_always_that_of_the_one_before() {
        let mut shelf = Shelf::new(1000);
        let in_file = |sequence| Held { in_file: true, ..held(Some("a"), sequence, 1) };
        for one in [held(Some("a"), 9, 1), held(Some("a"), 5, 1), in_file(7), in_file(6), held(None, 1, 1)] {
            assert!(shelf.put(one).is_empty());
        }
        let sequences: Vec<_> = shelf.records().iter().map(|one| one.sequence).collect();
        assert_eq!(sequences, [Some(9), Some(6), None]);
    }

    #[test]
    fn what_is_held_longest_gives_way_when_there_is_no_room() {
        let mut shelf = Shelf::new(100);
        assert!(shelf.put(held(Some("a"), 1, 60)).is_empty());
        let gone = shelf.put(held(Some("b"), 2, 60));
        assert_eq!((gone.len(), gone[0].sequence, shelf.len()), (1, Some(1), 1));
        assert!(shelf.put(held(None, 3, 500)).len() == 1 && shelf.len() == 1, "the newest is always held");
    }
}
