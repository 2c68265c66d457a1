//! What a delta CRL changes in a complete one, without a copy of the complete one (RFC 5280 §5.2.4).
//!
//! Made by `revocation` when the two are combined, part of a [`crate::Crl`]. It never clears on a doubt: only what was
//! on hold is taken back.

use std::sync::Arc;

use crate::{KeySet, Reason, Sha256};

/// The changes, beside the set they apply to: a million entries stay where they are.
#[derive(Debug)]
pub struct Delta {
    /// Digest of the bytes it came from.
    pub digest: Sha256,
    /// What it names with another reason than removeFromCRL; the reason here counts.
    added: Arc<KeySet>,
    /// What it takes back.
    removed: KeySet,
    /// How many of `added` the complete CRL does not name.
    more: usize,
    /// How many it would take back though they were not on hold.
    refused: usize,
}

impl Delta {
    /// The changes to `serials`: `added` is what the delta CRL revokes, `taken_back` the keys that it names with
    /// removeFromCRL.
    ///
    /// RFC 5280 §5.3.1 takes back what was on hold, or has expired. The expired ones are denied without any entry, so
    /// here an entry leaves only if it was on hold; one that says keyCompromise, or nothing, stays.
    #[must_use]
    pub fn new(digest: Sha256, serials: &KeySet, added: Arc<KeySet>, taken_back: &[u128]) -> Delta {
        let (mut removed, mut refused) = (Vec::new(), 0);
        // What it both revokes and takes back is revoked.
        for key in taken_back.iter().filter(|key| added.find(**key).is_none()) {
            match serials.find(*key) {
                Some(Some(Reason::CertificateHold)) => removed.push(KeySet::entry(*key, None)),
                Some(_) => refused += 1,
                None => {}
            }
        }
        let more = added.entries().filter(|entry| serials.find(*entry).is_none()).count();
        // A set too large to index takes nothing back.
        let removed = KeySet::new(removed).unwrap_or_default();
        Delta { digest, added, removed, more, refused }
    }

    /// How many entries it names that revoke.
    #[must_use]
    pub fn added(&self) -> usize {
        self.added.len()
    }

    /// How many entries of the complete CRL it takes back.
    #[must_use]
    pub fn removed(&self) -> usize {
        self.removed.len()
    }

    /// How many entries it would take back though they were not on hold: they stay.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// Entries of the combination with the complete CRL, which has so many itself.
    pub(crate) fn entries(&self, complete: usize) -> usize {
        (complete + self.more).saturating_sub(self.removed.len())
    }

    /// RFC 5280 §6.3.3 (i)–(k): the delta CRL is asked first.
    pub(crate) fn find(&self, serials: &KeySet, key: u128) -> Option<Option<Reason>> {
        let added = self.added.find(key);
        if added.is_some() || self.removed.find(key).is_some() {
            return added;
        }
        serials.find(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Keys are digests: even small ones must differ above the bits of the reason.
    fn set(entries: &[(u128, Option<Reason>)]) -> KeySet {
        KeySet::new(entries.iter().map(|(key, reason)| KeySet::entry(key << 120, *reason)).collect()).unwrap()
    }

    #[test]
    fn a_delta_is_asked_first_and_releases_only_what_was_on_hold() {
        let hold = Some(Reason::CertificateHold);
        let complete = set(&[(1, hold), (2, hold), (3, None), (4, hold)]);
        let added = Arc::new(set(&[(2, Some(Reason::KeyCompromise)), (5, None)]));
        let back = [1, 2, 3, 9].map(|key: u128| key << 120);
        let delta = Delta::new(Sha256::of(b"delta"), &complete, added, &back);
        let find = |key: u128| delta.find(&complete, key << 120);
        assert_eq!(find(1), None);
        assert_eq!(find(2), Some(Some(Reason::KeyCompromise)));
        assert_eq!((find(3), find(4), find(5), find(9)), (Some(None), Some(hold), Some(None), None));
        assert_eq!((delta.added(), delta.removed(), delta.refused(), delta.entries(4)), (2, 1, 1, 4));
    }

    #[test]
    fn a_delta_of_nothing_changes_nothing() {
        let complete = set(&[(1, None), (2, Some(Reason::CertificateHold))]);
        let delta = Delta::new(Sha256::of(b""), &complete, Arc::default(), &[]);
        assert_eq!(delta.entries(2), 2);
        for key in 0..4_u128 {
            assert_eq!(delta.find(&complete, key << 120), complete.find(key << 120));
        }
    }
}
