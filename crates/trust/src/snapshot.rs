//! Revocation knowledge at one moment: every named list and every CRL, united.
//!
//! Made by `revocation`, never changed afterwards; asked by [`crate::judge`]. It knows no formats.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::{Chain, Delta, Denial, KeySet, Link, Place, Policy, Reason, Selector, Selectors, Sha256, Time};

/// Whether a list acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// What it names is denied, and its age counts.
    #[default]
    Enforce,
    /// It denies nobody and clears nobody: it only tells who would be denied.
    Observe,
}

/// One named list, whole and checked.
#[derive(Debug)]
pub struct List {
    /// Its name; of one name and mode only the highest sequence counts.
    pub name: Arc<str>,
    /// Whether it acts.
    pub mode: Mode,
    /// Grows with each issue.
    pub sequence: u64,
    /// Digest of the bytes it came from.
    pub digest: Sha256,
    /// When it was issued.
    pub issued_at: Time,
    /// From then on it is outdated.
    pub expires_at: Time,
    /// Whom it revokes; nobody if the list itself only observes.
    pub selectors: Selectors,
    /// Whom it would revoke: entries that only observe.
    pub observed: Selectors,
    /// Denials of the overlay that it makes up for, by their ids.
    pub absorbs: Box<[Arc<str>]>,
}

/// Of which certificates a CRL speaks (RFC 5280 §5.2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CrlScope {
    /// It speaks of certificates that are no authority's.
    pub users: bool,
    /// It speaks of authorities' certificates.
    pub authorities: bool,
    /// It speaks only of certificates that name one of these distribution points (digests of URIs).
    pub distribution_points: Option<Box<[Sha256]>>,
    /// It speaks of all reasons; one of some reasons revokes, but clears nobody.
    pub all_reasons: bool,
}

impl CrlScope {
    /// Every certificate of the issuer.
    pub const FULL: CrlScope =
        CrlScope { users: true, authorities: true, distribution_points: None, all_reasons: true };

    fn covers(&self, link: &Link) -> bool {
        let kind = if link.is_authority { self.authorities } else { self.users };
        let point = self.distribution_points.as_ref().is_none_or(|points| {
            // A partition speaks of those that point at it (RFC 5280 §6.3.3 (b)(2)).
            points.iter().any(|point| link.distribution_points.contains(point))
        });
        kind && point && self.all_reasons
    }
}

/// What a [`Crl`] is made of.
#[derive(Debug)]
pub enum CrlForm {
    /// One complete CRL.
    Complete,
    /// A complete CRL and a delta CRL; number and dates are the delta CRL's (RFC 5280 §5.2.4).
    Combined(Delta),
    /// A delta CRL that no complete CRL here can be combined with: it revokes, and clears nobody.
    DeltaAlone,
}

/// One CRL whose signature verified, with its delta CRL if there is one.
#[derive(Debug)]
pub struct Crl {
    /// Digest of the issuer's public key.
    pub issuer_key: Sha256,
    /// Of whom it speaks.
    pub scope: CrlScope,
    /// CRLNumber, big-endian without leading zeros (RFC 5280 §5.2.3).
    pub number: Box<[u8]>,
    /// Digest of the bytes it came from; of those of the complete CRL if there are two.
    pub digest: Sha256,
    /// When it was issued.
    pub this_update: Time,
    /// From then on it is outdated.
    pub next_update: Time,
    /// [`crate::serial_key`]s with reasons, before the changes of a delta CRL.
    pub serials: Arc<KeySet>,
    /// What it is made of.
    pub form: CrlForm,
}

impl List {
    /// From when on it is outdated, all limits of `policy` considered.
    #[must_use]
    pub fn current_until(&self, policy: &Policy) -> Time {
        end_of_currency(self.issued_at, self.expires_at, policy)
    }
}

impl Crl {
    /// From when on it is outdated, all limits of `policy` considered.
    #[must_use]
    pub fn current_until(&self, policy: &Policy) -> Time {
        end_of_currency(self.this_update, self.next_update, policy)
    }

    /// Whether it revokes the certificate of this [`crate::serial_key`], and with what reason.
    #[must_use]
    pub fn find(&self, key: u128) -> Option<Option<Reason>> {
        match &self.form {
            CrlForm::Combined(delta) => delta.find(&self.serials, key),
            CrlForm::Complete | CrlForm::DeltaAlone => self.serials.find(key),
        }
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn entries(&self) -> usize {
        match &self.form {
            CrlForm::Combined(delta) => delta.entries(self.serials.len()),
            CrlForm::Complete | CrlForm::DeltaAlone => self.serials.len(),
        }
    }

    /// Whether it lists everybody in its scope who is revoked, so that it can also clear.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !matches!(self.form, CrlForm::DeltaAlone)
    }
}

/// All revocation knowledge.
#[derive(Debug, Default)]
pub struct Snapshot {
    lists: Vec<Arc<List>>,
    crls: HashMap<Sha256, Vec<Arc<Crl>>>,
    /// Keys of issuers who published a CRL that nobody here can read (indirect, unknown critical extension).
    unreadable: HashSet<Sha256>,
    /// Names of issuers whose CRLs wait for a certificate to verify them.
    waiting: HashSet<Sha256>,
    crls_configured: bool,
}

impl Snapshot {
    /// The union of `lists` (one of each name) and `crls`; `unreadable` are issuers' keys, `waiting` digests of
    /// issuers' names.
    #[must_use]
    pub fn new(
        lists: Vec<Arc<List>>,
        crls: Vec<Arc<Crl>>,
        unreadable: HashSet<Sha256>,
        waiting: HashSet<Sha256>,
    ) -> Snapshot {
        let crls_configured = !crls.is_empty() || !unreadable.is_empty() || !waiting.is_empty();
        let mut by_issuer: HashMap<Sha256, Vec<Arc<Crl>>> = HashMap::new();
        for crl in crls {
            by_issuer.entry(crl.issuer_key).or_default().push(crl);
        }
        Snapshot { lists, crls: by_issuer, unreadable, waiting, crls_configured }
    }

    /// Whether it holds neither list nor CRL, and so knows nothing about anybody. A delta CRL alone is no knowledge that
    /// could let somebody in.
    #[must_use]
    pub fn knows_nothing(&self) -> bool {
        let has_crls = self.complete_crls().next().is_some() || !self.unreadable.is_empty() || !self.waiting.is_empty();
        self.enforcing().next().is_none() && !has_crls
    }

    /// Whether a CRL of the issuer of this name waits for that issuer's certificate.
    #[must_use]
    pub fn waits_for(&self, issuer_name: &Sha256) -> bool {
        !self.waiting.is_empty() && self.waiting.contains(issuer_name)
    }

    /// Whether any CRL waits.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many issuers published a CRL that nobody here can read: whom these issued has no known status.
    #[must_use]
    pub fn unreadable_issuers(&self) -> usize {
        self.unreadable.len()
    }

    /// The lists, those that only observe included.
    #[must_use]
    pub fn lists(&self) -> &[Arc<List>] {
        &self.lists
    }

    /// The lists that act: the only ones whose age and expiry count.
    pub fn enforcing(&self) -> impl Iterator<Item = &Arc<List>> {
        self.lists.iter().filter(|list| list.mode == Mode::Enforce)
    }

    /// The CRLs, in no particular order.
    pub fn crls(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.crls.values().flatten()
    }

    /// Those whose age and expiry count.
    fn complete_crls(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.crls().filter(|crl| crl.is_complete())
    }

    /// The highest sequence among the lists that act; 0 without any.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.enforcing().map(|list| list.sequence).max().unwrap_or(0)
    }

    /// Entries of all lists and CRLs that revoke.
    #[must_use]
    pub fn entries(&self) -> usize {
        let in_lists: usize = self.lists.iter().map(|list| list.selectors.len()).sum();
        in_lists + self.crls().map(|crl| crl.entries()).sum::<usize>()
    }

    /// Entries that only observe.
    #[must_use]
    pub fn observed_entries(&self) -> usize {
        self.lists.iter().map(|list| list.observed.len()).sum()
    }

    /// When the oldest part was issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<Time> {
        let lists = self.enforcing().map(|list| list.issued_at);
        lists.chain(self.complete_crls().map(|crl| crl.this_update)).min()
    }

    /// When the first part expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Time> {
        let lists = self.enforcing().map(|list| list.expires_at);
        lists.chain(self.complete_crls().map(|crl| crl.next_update)).min()
    }

    /// The entry that revokes a certificate of `chain`, if one does; `anchor` is the chain's.
    pub(crate) fn find(&self, chain: &Chain, anchor: &Link, now: Time) -> Option<Denial> {
        let mut lists = self.lists.iter();
        let found = lists.find_map(|list| find_entry((&list.name, &list.selectors), (chain, anchor), now));
        if found.is_some() {
            return found;
        }
        if self.crls.is_empty() {
            return None;
        }
        let intermediates = chain.intermediates.iter().map(|link| (Place::Intermediate, link));
        let issued = std::iter::once((Place::Leaf, &chain.leaf)).chain(intermediates);
        // An anchor that another anchor issued is issued all the same.
        let issued = issued.chain((!is_root(anchor)).then_some((Place::Anchor, anchor)));
        for (place, link) in issued {
            for crl in self.crls.get(&link.issuer_key).into_iter().flatten() {
                if let Some(reason) = crl.find(link.serial_key) {
                    let list = Arc::from("crl");
                    return Some(Denial::Revoked { selector: Selector::Crl, place, reason, list });
                }
            }
        }
        None
    }

    /// The entry that would revoke a certificate of `chain` if it did more than observe.
    pub(crate) fn observe(&self, chain: &Chain, anchor: &Link, now: Time) -> Option<Denial> {
        let mut lists = self.lists.iter().filter(|list| !list.observed.is_empty());
        lists.find_map(|list| find_entry((&list.name, &list.observed), (chain, anchor), now))
    }

    /// Whether something in it is past its expiry, and in force all the same because `--stale` says so.
    #[must_use]
    pub fn is_stale(&self, policy: &Policy, now: Time) -> bool {
        let overdue = |expires_at: Time| now >= expires_at && now < policy.stale.end(expires_at);
        self.enforcing().any(|list| overdue(list.expires_at))
            || self.complete_crls().any(|crl| overdue(crl.next_update))
    }

    /// Until when every list is current; a list speaks of anybody, so one that is outdated clears nobody.
    pub(crate) fn current(&self, policy: &Policy, now: Time) -> Result<Time, Denial> {
        let mut until = Time::NEVER;
        for list in self.enforcing() {
            until = until.min(list.current_until(policy));
        }
        if now < until { Ok(until) } else { Err(Denial::SnapshotOutdated) }
    }

    /// Until when a current CRL speaks about `link`.
    pub(crate) fn status_known(
        &self,
        (link, place): (&Link, Place),
        policy: &Policy,
        now: Time,
    ) -> Result<Time, Denial> {
        if !self.crls_configured {
            return Ok(Time::NEVER);
        }
        if self.unreadable.contains(&link.issuer_key) {
            return Err(Denial::StatusUnknown(place));
        }
        let all = self.crls.get(&link.issuer_key);
        let covering = all.into_iter().flatten().filter(|crl| crl.is_complete() && crl.scope.covers(link));
        match covering.map(|crl| crl.current_until(policy)).max() {
            Some(end) if now < end => Ok(end),
            Some(_) => Err(Denial::SnapshotOutdated),
            // RFC 9608 §4 excuses a missing CRL; it never excuses an entry (see `find`, asked before), nor one that
            // may stand in a CRL that is here and not yet verified.
            None if link.no_revocation_available && place == Place::Leaf && !self.waits_for(&link.issuer_name) => {
                Ok(Time::NEVER)
            }
            None => Err(Denial::StatusUnknown(place)),
        }
    }
}

fn end_of_currency(issued_at: Time, expires_at: Time, policy: &Policy) -> Time {
    let end = policy.stale.end(expires_at);
    policy.snapshot_max_age.map_or(end, |age| end.min(issued_at.plus(age).next()))
}

/// The entry of one list that names a certificate of `chain`, if one does; `anchor` is the chain's.
pub(crate) fn find_entry(
    (name, entries): (&Arc<str>, &Selectors),
    (chain, anchor): (&Chain, &Link),
    now: Time,
) -> Option<Denial> {
    let name = |place: Place, found: Option<(Selector, Option<Reason>)>| {
        found.map(|(selector, reason)| Denial::Revoked { selector, place, reason, list: name.clone() })
    };
    name(Place::Leaf, entries.find_link(&chain.leaf, now))
        .or_else(|| name(Place::Leaf, entries.find_identity(&chain.identity, &chain.leaf, now)))
        .or_else(|| {
            let mut issuers = chain.intermediates.iter();
            issuers.find_map(|link| name(Place::Intermediate, entries.find_link(link, now)))
        })
        .or_else(|| {
            let find = if is_root(anchor) { Selectors::find_certificate } else { Selectors::find_link };
            name(Place::Anchor, find(entries, anchor, now))
        })
}

fn is_root(anchor: &Link) -> bool {
    anchor.issuer_key == anchor.public_key
}
