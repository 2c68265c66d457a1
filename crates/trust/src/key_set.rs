//! An exact, compact set of sixteen-byte keys, each with a revocation reason.
//!
//! Built by `revocation` from lists and CRLs, read by [`crate::judge`]. Exact on purpose: a filter's false
//! positive would cut a client that nobody revoked.
//!
//! Keys are digests, so they are spread evenly and an index over their first bits leads straight to a run of
//! about eight. The last four bits of a key hold the reason instead of digest bits: 124 bits still tell apart
//! more certificates than will ever be issued (a chance of 2⁻⁸⁴ at a million entries), and a reason for each
//! of a million revocations costs no memory.

use crate::Reason;

/// The bits of a key that hold the reason.
const REASON_BITS: u128 = 0xf;
/// The values of those bits that mean something, one bit for each: no reason, and the reasons' codes plus one.
const DEFINED: u16 = 0b1100_1111_1111;
/// Keys a bucket should hold: half a byte of index for each, and one or two cache lines to search.
const BUCKET: usize = 8;

/// Sorted keys under an index of their first bits; see the head of this file.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Box<[u128]>,
    /// `starts[b]..starts[b + 1]` are the keys whose first bits are `b`.
    starts: Box<[u32]>,
    shift: u32,
}

impl KeySet {
    /// A key with its reason, in the form that [`KeySet::new`] takes.
    #[must_use]
    pub fn entry(key: u128, reason: Option<Reason>) -> u128 {
        (key & !REASON_BITS) | u128::from(reason.map_or(0, Reason::code_plus_one))
    }

    /// The key of an entry, its last four bits zero, and its reason.
    #[must_use]
    pub fn parts(entry: u128) -> (u128, Option<Reason>) {
        (entry & !REASON_BITS, Reason::from_code_plus_one(entry & REASON_BITS))
    }

    /// The set of `entries`, in any order; of several with one key, one stays. `None` above 2³² − 1 entries, or
    /// if there is one that [`KeySet::entry`] does not make.
    #[must_use]
    pub fn new(mut entries: Vec<u128>) -> Option<KeySet> {
        entries.sort_unstable();
        entries.dedup_by_key(|entry| *entry & !REASON_BITS);
        KeySet::from_sorted(entries).ok()
    }

    /// The set of `entries`, each greater than the one before, as a compiled list holds them: nothing is sorted or
    /// copied. The position of the first that is not greater, or whose reason nobody defined, if there is one;
    /// 2³² − 1 if there are more than that.
    pub fn from_sorted(entries: Vec<u128>) -> Result<KeySet, usize> {
        if entries.is_empty() {
            return Ok(KeySet::default());
        }
        if u32::try_from(entries.len()).is_err() {
            return Err(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
        }
        let bits = (entries.len() / BUCKET).max(1).ilog2().max(1);
        let shift = 128 - bits;
        let mut starts = Vec::with_capacity((1_usize << bits) + 1);
        let (mut position, mut before, mut bucket) = (0_u32, None, 0_u128);
        // One pass checks and indexes: a pass over ten million entries is a twentieth of the time there is.
        for entry in &entries {
            let key = entry & !REASON_BITS;
            if before.is_some_and(|before| before >= key) || (DEFINED >> (entry & REASON_BITS)) & 1 == 0 {
                return Err(usize::try_from(position).unwrap_or(usize::MAX));
            }
            before = Some(key);
            while bucket <= entry >> shift {
                starts.push(position);
                bucket += 1;
            }
            position += 1;
        }
        starts.resize((1_usize << bits) + 1, position);
        Ok(KeySet { keys: entries.into_boxed_slice(), starts: starts.into_boxed_slice(), shift })
    }

    /// Every entry in the form of [`KeySet::entry`], ascending.
    pub fn entries(&self) -> impl Iterator<Item = u128> {
        self.keys.iter().copied()
    }

    /// Whether `key` is in the set, and with what reason.
    #[must_use]
    pub fn find(&self, key: u128) -> Option<Option<Reason>> {
        if self.keys.is_empty() {
            return None;
        }
        let bucket = usize::try_from(key >> self.shift).ok()?;
        let start = usize::try_from(*self.starts.get(bucket)?).ok()?;
        let end = usize::try_from(*self.starts.get(bucket + 1)?).ok()?;
        let run = self.keys.get(start..end)?;
        let wanted = key & !REASON_BITS;
        let entry = run.get(run.partition_point(|entry| *entry < wanted))?;
        (entry & !REASON_BITS == wanted).then(|| Reason::from_code_plus_one(entry & REASON_BITS))
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes of memory behind it.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        size_of_val::<[u128]>(&self.keys) + size_of_val::<[u32]>(&self.starts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Sha256;

    fn key(number: u32) -> u128 {
        Sha256::of(&number.to_be_bytes()).key()
    }

    #[test]
    fn every_key_is_found_with_its_reason_and_no_other_is() {
        for count in [0_u32, 1, 2, 7, 8, 9, 1000, 20_000] {
            let reason = |n: u32| n.is_multiple_of(3).then_some(Reason::KeyCompromise);
            let set = KeySet::new((0..count).map(|n| KeySet::entry(key(n), reason(n))).collect()).unwrap();
            assert_eq!(set.len(), usize::try_from(count).unwrap());
            for number in 0..count {
                assert_eq!(set.find(key(number)), Some(reason(number)), "{number} of {count}");
            }
            for number in count..count + 1000 {
                assert_eq!(set.find(key(number)), None, "{number} of {count}");
            }
        }
    }

    #[test]
    fn sorted_entries_make_the_same_set_as_the_same_entries_in_any_order() {
        let entries: Vec<u128> =
            (0..5000).map(|n| KeySet::entry(key(n), (n % 2 == 0).then_some(Reason::AaCompromise))).collect();
        let set = KeySet::new(entries.into_iter().rev().collect()).unwrap();
        let again = KeySet::from_sorted(set.entries().collect()).unwrap();
        assert_eq!((&again.keys, &again.starts, again.shift), (&set.keys, &set.starts, set.shift));
        for number in 0..5000 {
            assert_eq!(again.find(key(number)), set.find(key(number)));
        }
        assert!(KeySet::from_sorted(vec![]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_strictly_ascending_or_has_no_defined_reason_is_refused_with_its_position() {
        let at = |entries: &[u128]| KeySet::from_sorted(entries.to_vec()).unwrap_err();
        assert_eq!(at(&[0x10, 0x30, 0x20]), 2);
        assert_eq!(at(&[0x10, 0x10]), 1);
        // One key with two reasons is one key twice.
        assert_eq!(at(&[0x11, 0x12]), 1);
        for nibble in 0..16_u128 {
            let defined = nibble == 0 || Reason::from_code_plus_one(nibble).is_some();
            assert_eq!(KeySet::from_sorted(vec![0x10 | nibble]).is_ok(), defined, "{nibble}");
        }
    }

    #[test]
    fn an_entry_comes_apart_into_key_and_reason() {
        let entry = KeySet::entry(0x1f, Some(Reason::KeyCompromise));
        assert_eq!(KeySet::parts(entry), (0x10, Some(Reason::KeyCompromise)));
        assert_eq!(KeySet::parts(KeySet::entry(0x2f, None)), (0x20, None));
    }

    #[test]
    fn a_key_named_twice_counts_once() {
        let set = KeySet::new(vec![KeySet::entry(key(1), None), KeySet::entry(key(1), Some(Reason::Superseded))]);
        assert_eq!(set.unwrap().len(), 1);
    }

    #[test]
    fn keys_at_the_ends_of_the_range_are_found() {
        let set = KeySet::new(vec![KeySet::entry(0, None), KeySet::entry(u128::MAX, None)]).unwrap();
        assert!(set.find(0).is_some() && set.find(u128::MAX).is_some() && set.find(1 << 64).is_none());
    }

    #[test]
    fn a_key_costs_at_most_eighteen_bytes() {
        let set = KeySet::new((0..100_000).map(|n| KeySet::entry(key(n), None)).collect()).unwrap();
        assert!(set.resident_bytes() <= 18 * set.len(), "{}", set.resident_bytes());
    }
}
