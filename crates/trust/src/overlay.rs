//! Small, fast denials on top of a snapshot, each with a time to live.
//!
//! Built by `sources` from what operators asked for; part of every [`crate::TrustState`], asked by [`crate::judge`].
//! It only ever denies: what a snapshot revokes no overlay can allow.

use std::sync::Arc;

use crate::snapshot::find_entry;
use crate::{Chain, Denial, Link, Selectors, Time};

/// The name under which a denial by the overlay tells where it comes from.
pub const OVERLAY: &str = "overlay";

/// Every denial of the overlay; the end of each stands in its terms (`until`).
#[derive(Debug)]
pub struct Overlay {
    name: Arc<str>,
    denials: Selectors,
}

impl Default for Overlay {
    fn default() -> Overlay {
        Overlay::new(Selectors::default())
    }
}

impl Overlay {
    /// Of these entries.
    #[must_use]
    pub fn new(denials: Selectors) -> Overlay {
        Overlay { name: Arc::from(OVERLAY), denials }
    }

    /// How many denials it holds, those that lapsed and were not yet taken out included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.denials.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.denials.is_empty()
    }

    /// The denial that names a certificate of `chain`, if one does; `anchor` is the chain's.
    pub(crate) fn find(&self, chain: &Chain, anchor: &Link, now: Time) -> Option<Denial> {
        if self.is_empty() { None } else { find_entry((&self.name, &self.denials), (chain, anchor), now) }
    }
}
