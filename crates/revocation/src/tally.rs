//! Gathers the entries of one list into [`Selectors`].
//!
//! Called by `list.rs`. Entries of the three numerous kinds cost sixteen bytes each unless they have terms.

use std::collections::HashMap;

use trust::{IdentityPattern, KeySet, Mode, Selectors, Terms};

use crate::line::{Bare, Selected};

/// The entries so far.
pub(crate) struct Tally {
    /// What the list itself does.
    mode: Mode,
    enforced: Gathered,
    observed: Gathered,
}

#[derive(Default)]
struct Gathered {
    /// What a compiled list holds of the three numerous kinds, sorted, and what came as lines, unsorted.
    sets: [KeySet; 3],
    keys: [Vec<u128>; 3],
    selectors: Selectors,
}

impl Tally {
    /// Of a list with this mode.
    pub(crate) fn new(mode: Mode) -> Tally {
        Tally { mode, enforced: Gathered::default(), observed: Gathered::default() }
    }

    /// Takes in one entry. In a list that only observes, every entry does.
    pub(crate) fn add(&mut self, entry: Bare) {
        match (self.mode, entry.mode) {
            (Mode::Enforce, Mode::Enforce) => self.enforced.add(entry.selected, entry.terms),
            _ => self.observed.add(entry.selected, entry.terms),
        }
    }

    /// Takes in the sorted keys of a compiled list: serial numbers, public keys, certificates.
    pub(crate) fn set(&mut self, sets: [KeySet; 3]) {
        match self.mode {
            Mode::Enforce => self.enforced.sets = sets,
            Mode::Observe => self.observed.sets = sets,
        }
    }

    /// Those that revoke and those that only observe, sorted and indexed; `None` above 2³² − 1 of one kind.
    pub(crate) fn selectors(self) -> Option<(Selectors, Selectors)> {
        Some((self.enforced.selectors()?, self.observed.selectors()?))
    }
}

impl Gathered {
    fn add(&mut self, selected: Selected, terms: Terms) {
        let plain = terms.issued_before.is_none() && terms.until.is_none();
        let all = &mut self.selectors;
        let [serials, public_keys, certificates] = &mut self.keys;
        match selected {
            Selected::Serial(issuer, serial) => {
                let key = Selected::serial_key(&issuer, &serial);
                if plain {
                    serials.push(KeySet::entry(key, terms.reason));
                } else {
                    all.serials_with_terms.entry(key).or_default().push(terms);
                }
            }
            Selected::PublicKey(key) if plain => public_keys.push(KeySet::entry(key.key(), terms.reason)),
            Selected::Certificate(key) if plain => certificates.push(KeySet::entry(key.key(), terms.reason)),
            Selected::PublicKey(key) => all.public_keys_with_terms.entry(key).or_default().push(terms),
            Selected::Certificate(key) => all.certificates_with_terms.entry(key).or_default().push(terms),
            Selected::Id(IdentityPattern::Exact(id)) => put(&mut all.ids, id.typed(), terms),
            Selected::Id(IdentityPattern::Below(prefix)) => put(&mut all.id_prefixes, &prefix, terms),
            Selected::TrustDomain(domain) => put(&mut all.trust_domains, &domain, terms),
            Selected::Issuer(key) => all.issuers.entry(key).or_default().push(terms),
        }
    }

    fn selectors(self) -> Option<Selectors> {
        let mut sets = self.sets.into_iter().zip(self.keys).map(|(set, keys)| united(set, keys));
        Some(Selectors {
            serials: sets.next()??,
            public_keys: sets.next()??,
            certificates: sets.next()??,
            ..self.selectors
        })
    }
}

/// Both in one set. The sorted ones are not sorted again: they are the many.
fn united(set: KeySet, mut keys: Vec<u128>) -> Option<KeySet> {
    if keys.is_empty() {
        return Some(set);
    }
    if set.is_empty() {
        return KeySet::new(keys);
    }
    keys.sort_unstable();
    let mut both = Vec::with_capacity(set.len() + keys.len());
    let (mut sorted, mut others) = (set.entries().peekable(), keys.into_iter().peekable());
    loop {
        let next = match (sorted.peek(), others.peek()) {
            (Some(one), Some(other)) if one <= other => sorted.next(),
            (_, Some(_)) => others.next(),
            (_, None) => sorted.next(),
        };
        let Some(next) = next else { break };
        // One certificate named twice is one key.
        if both.last().is_none_or(|last| KeySet::parts(*last).0 != KeySet::parts(next).0) {
            both.push(next);
        }
    }
    both.shrink_to_fit();
    KeySet::from_sorted(both).ok()
}

fn put(map: &mut HashMap<String, Vec<Terms>>, key: &str, terms: Terms) {
    map.entry(key.to_owned()).or_default().push(terms);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use trust::{REASONS, Reason};

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<u128>> {
        let reason = (0..=REASONS.len()).prop_map(|at| REASONS.get(at).map(|row| row.0));
        // Few different keys, so that some are named twice.
        proptest::collection::vec((0..64_u128, reason), 0..60).prop_map(|all| {
            all.into_iter().map(|(key, reason): (u128, Option<Reason>)| KeySet::entry(key << 4, reason)).collect()
        })
    }

    proptest! {
        #[test]
        fn sorted_and_unsorted_entries_together_are_what_all_of_them_sorted_would_be(
            sorted in entries(), others in entries()
        ) {
            let all: Vec<u128> = sorted.iter().chain(&others).copied().collect();
            let expected = KeySet::new(all).unwrap();
            let set = united(KeySet::new(sorted).unwrap(), others).unwrap();
            prop_assert!(set.entries().map(|one| KeySet::parts(one).0).eq(expected.entries().map(|one| KeySet::parts(one).0)));
            for (key, _) in expected.entries().map(KeySet::parts) {
                prop_assert!(set.find(key).is_some());
            }
        }
    }
}
