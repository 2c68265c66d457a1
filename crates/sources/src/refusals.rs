//! What was refused lately, and how often each label.
//!
//! Kept by `report.rs`, told by the desk. Bounded: a publisher that repeats a mistake for days fills no memory.

use std::collections::{BTreeMap, VecDeque};

use revocation::show;
use trust::Time;

use crate::records::RefusalRecord;

/// Refusals remembered with their sentence: a screen full.
const REMEMBERED: usize = 32;
/// Bytes of a sentence that are kept: a file of a thousand CRLs has a long one.
const MAX_SENTENCE: usize = 4096;

/// All of them since the start.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    newest_first: VecDeque<RefusalRecord>,
    by_label: BTreeMap<&'static str, u64>,
}

impl Refusals {
    /// One more.
    pub(crate) fn add(&mut self, label: &'static str, (sentence, from): (&str, &str), now: Time) {
        let count = self.by_label.entry(label).or_default();
        *count = count.saturating_add(1);
        if self.newest_first.len() >= REMEMBERED {
            self.newest_first.pop_back();
        }
        let mut sentence = sentence.to_owned();
        if sentence.len() > MAX_SENTENCE {
            let end = (0..=MAX_SENTENCE).rev().find(|end| sentence.is_char_boundary(*end)).unwrap_or(0);
            sentence.truncate(end);
            sentence.push('…');
        }
        self.newest_first.push_front(RefusalRecord { at: show(now), label, sentence, from: from.to_owned() });
    }

    /// The newest first.
    pub(crate) fn records(&self) -> Vec<RefusalRecord> {
        self.newest_first.iter().cloned().collect()
    }

    /// Since the start.
    pub(crate) fn by_label(&self) -> BTreeMap<&'static str, u64> {
        self.by_label.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_all_are_counted() {
        let mut refusals = Refusals::default();
        for number in 0..100 {
            refusals.add("older", (&format!("number {number}"), "a file"), Time::from_seconds(number));
        }
        refusals.add("unsigned", (&"é".repeat(5000), "a file"), Time::from_seconds(100));
        let records = refusals.records();
        assert_eq!((records.len(), records[0].label, records[1].sentence.as_str()), (32, "unsigned", "number 99"));
        assert!(records[0].sentence.len() <= MAX_SENTENCE + 3 && records[0].sentence.ends_with('…'));
        assert_eq!(refusals.by_label(), BTreeMap::from([("older", 100), ("unsigned", 1)]));
    }
}
