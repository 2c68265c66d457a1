//! CRLs whose issuer's certificate has not been seen yet.
//!
//! Held by [`crate::Library`]. They are unverified: they may cost memory, within limits, and make a status
//! unknown, but nothing in them is believed.

use std::cmp::Ordering;
use std::collections::HashSet;

use trust::Sha256;

use crate::crl::{Facts, compare_numbers};
use crate::{Refused, UnverifiedCrl};

/// CRLs that may wait. A mesh has one or two levels of issuing authorities, some dozen at most.
pub const MAX_WAITING: usize = 64;
/// Their bytes together: six or seven CRLs of a million entries.
pub const MAX_WAITING_BYTES: usize = 256 << 20;

/// Those that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    crls: Vec<UnverifiedCrl>,
}

impl Waiting {
    /// Lets `crl` wait. It takes the place of an earlier issue of itself, so that a CRL published daily for an
    /// issuer that nobody meets does not fill the room.
    pub(crate) fn add(&mut self, crl: UnverifiedCrl, what: &str) -> Result<(), Refused> {
        let replaced = self.crls.iter().position(|known| is_earlier_issue(known.facts(), crl.facts()));
        let freed = replaced.and_then(|position| self.crls.get(position)).map_or(0, UnverifiedCrl::bytes);
        let bytes: usize = self.crls.iter().map(UnverifiedCrl::bytes).sum();
        let refuse = |limit: String| Refused::TooMany { what: what.to_owned(), limit };
        if replaced.is_none() && self.crls.len() >= MAX_WAITING {
            return Err(refuse(format!("{MAX_WAITING} CRLs that wait for their issuer")));
        }
        if bytes - freed + crl.bytes() > MAX_WAITING_BYTES {
            return Err(refuse(format!("{} MiB of CRLs that wait for their issuer", MAX_WAITING_BYTES >> 20)));
        }
        if let Some(position) = replaced {
            self.crls.swap_remove(position);
        }
        self.crls.push(crl);
        Ok(())
    }

    /// Takes out those that `wanted` says.
    pub(crate) fn take(&mut self, wanted: impl Fn(&Facts) -> bool) -> Vec<UnverifiedCrl> {
        let (taken, kept) = std::mem::take(&mut self.crls).into_iter().partition(|crl| wanted(crl.facts()));
        self.crls = kept;
        taken
    }

    /// Puts one back that was taken out.
    pub(crate) fn put_back(&mut self, crl: UnverifiedCrl) {
        self.crls.push(crl);
    }

    /// What is known of each.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &Facts> {
        self.crls.iter().map(UnverifiedCrl::facts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.crls.is_empty()
    }

    pub(crate) fn knows(&self, digest: &Sha256) -> bool {
        self.crls.iter().any(|crl| crl.facts().digest == *digest)
    }

    /// Digests of the names of the issuers that are waited for.
    pub(crate) fn issuer_names(&self) -> HashSet<Sha256> {
        self.crls.iter().map(|crl| crl.facts().issuer_name).collect()
    }
}

/// A delta CRL has its complete CRL's scope and must not push it out, nor one that needs an older complete CRL than
/// it does itself.
fn is_earlier_issue(known: &Facts, new: &Facts) -> bool {
    let has_no_higher_base = match (&known.base, &new.base) {
        (None, None) => true,
        (Some(known), Some(new)) => compare_numbers(new, known) != Ordering::Greater,
        _ => false,
    };
    known.issuer_name == new.issuer_name
        && known.key_id == new.key_id
        && known.scope_id == new.scope_id
        && known.obstacle.is_some() == new.obstacle.is_some()
        && has_no_higher_base
        && known.order.compare(&new.order) == Ordering::Less
}
