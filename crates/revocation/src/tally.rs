//! Gathers the entries of one list into [`Selectors`].
//!
//! Called by `list.rs`. Entries of the three numerous kinds cost sixteen bytes each unless they have terms.

use trust::{IdentityPattern, KeySet, Selectors, Terms};

use crate::entry::{Entry, Selected};

/// The entries so far.
#[derive(Default)]
pub(crate) struct Tally {
    serials: Vec<u128>,
    public_keys: Vec<u128>,
    certificates: Vec<u128>,
    selectors: Selectors,
}

impl Tally {
    /// Takes in one entry.
    pub(crate) fn add(&mut self, entry: Entry) {
        let terms = entry.terms;
        let plain = terms.issued_before.is_none() && terms.until.is_none();
        let all = &mut self.selectors;
        match entry.selected {
            Selected::Serial(key) if plain => self.serials.push(KeySet::entry(key, terms.reason)),
            Selected::PublicKey(key) if plain => self.public_keys.push(KeySet::entry(key.key(), terms.reason)),
            Selected::Certificate(key) if plain => self.certificates.push(KeySet::entry(key.key(), terms.reason)),
            Selected::Serial(key) => all.serials_with_terms.entry(key).or_default().push(terms),
            Selected::PublicKey(key) => all.public_keys_with_terms.entry(key).or_default().push(terms),
            Selected::Certificate(key) => all.certificates_with_terms.entry(key).or_default().push(terms),
            Selected::Id(IdentityPattern::Exact(id)) => put(&mut all.ids, id.typed(), terms),
            Selected::Id(IdentityPattern::Below(prefix)) => put(&mut all.id_prefixes, &prefix, terms),
            Selected::TrustDomain(domain) => put(&mut all.trust_domains, &domain, terms),
            Selected::Issuer(key) => all.issuers.entry(key).or_default().push(terms),
        }
    }

    /// All of it, sorted and indexed; `None` above 2³² − 1 entries of one kind.
    pub(crate) fn selectors(self) -> Option<Selectors> {
        Some(Selectors {
            serials: KeySet::new(self.serials)?,
            public_keys: KeySet::new(self.public_keys)?,
            certificates: KeySet::new(self.certificates)?,
            ..self.selectors
        })
    }
}

fn put(map: &mut std::collections::HashMap<String, Vec<Terms>>, key: &str, terms: Terms) {
    map.entry(key.to_owned()).or_default().push(terms);
}
