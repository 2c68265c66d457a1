//! All revocation knowledge that was accepted so far, and the rules of accepting.
//!
//! Owned by `sources`, off the workers. Within one list name and mode, and one CRL issuer key and scope, the newest wins
//! in whatever order files are read; nothing that is refused changes what is in force. It must never forget: a file
//! that vanished stays in force, and grows old.

use std::sync::Arc;
use std::time::Duration;

use trust::{Bundle, Mode, Sha256, Snapshot, Time};

use crate::crls::Crls;
use crate::lists::Lists;
use crate::{Accepted, Material, Provenance, Refused, Requirements};

/// How far the publisher's clock may be ahead of ours: what Kerberos allows, and NTP keeps far below.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Everything accepted. A clone shares what is large: what accepting would do is tried on one.
#[derive(Clone, Debug, Default)]
pub struct Library {
    lists: Lists,
    crls: Crls,
    snapshot: Option<Arc<Snapshot>>,
}

impl Library {
    /// Knows nothing. The lists it takes must have been read under these requirements.
    #[must_use]
    pub fn new(requirements: Requirements) -> Library {
        Library { lists: Lists::new(requirements), ..Library::default() }
    }

    /// Takes in what one file holds. CRLs are verified against the anchors of `bundle` and the intermediates
    /// introduced so far; of several CRLs in one file each is taken in or refused by itself, because one file
    /// often holds the CRLs of all authorities.
    ///
    /// A CRL past its nextUpdate is accepted if none newer is in force: what it revokes is revoked, while it
    /// clears nobody ([`trust::Denial::SnapshotOutdated`]).
    pub fn accept(&mut self, material: Material, bundle: &Bundle, now: Time) -> Result<Accepted, Refused> {
        let result = match material {
            Material::List(read) => self.lists.accept(read, now),
            Material::Crls(crls) => self.crls.accept(crls, bundle, now),
        };
        if result.as_ref().map_or_else(Refused::changed, Accepted::changed) {
            self.renew();
        }
        result
    }

    /// Takes in what was accepted before a restart. CRLs are verified again, under the present bundle. What has expired
    /// since counts as outdated, and what a clock set back makes come from the future is taken all the same.
    pub fn restore(&mut self, material: Material, bundle: &Bundle, _now: Time) -> Result<Accepted, Refused> {
        let result = match material {
            Material::List(read) => self.lists.restore(read),
            Material::Crls(crls) => self.crls.restore(crls, bundle),
        };
        if result.as_ref().map_or_else(Refused::changed, Accepted::changed) {
            self.renew();
        }
        result
    }

    /// An intermediate was seen in a verified path (so the caller says): CRLs that wait for it are verified and
    /// taken in. True if there is a new snapshot to publish.
    pub fn introduce(&mut self, der: &[u8], bundle: &Bundle, _now: Time) -> bool {
        let changed = self.crls.introduce(der, bundle);
        self.renew_if(changed)
    }

    /// The bundle changed: CRLs that wait may find their issuer in it. Those in force stay. True if there is a new
    /// snapshot to publish.
    pub fn rebase(&mut self, bundle: &Bundle) -> bool {
        let changed = self.crls.rebase(bundle);
        self.renew_if(changed)
    }

    /// All of it; `None` while nothing was ever accepted. The same `Arc` as long as nothing changed.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Who vouches for the list of this name and mode that is in force.
    #[must_use]
    pub fn provenance(&self, name: &str, mode: Mode) -> Option<&Provenance> {
        self.lists.provenance(name, mode)
    }

    /// Takes the floors of the lists of this name away: they stay in force, but the next list of that name replaces
    /// them, whatever its sequence. For an operator who lost the count. Returns what the floors were.
    pub fn reset_floor(&mut self, name: &str) -> Vec<(Mode, u64)> {
        self.lists.reset_floor(name)
    }

    /// What was refused after it had waited, since this was last asked: nobody was there to be told.
    pub fn take_refusals(&mut self) -> Vec<Refused> {
        self.crls.take_refusals()
    }

    /// Every CRL that a restart must bring back, those that wait or cannot be read included: the name of its place,
    /// the same in every run, and its digest, as [`crate::UnverifiedCrl::digest`].
    #[must_use]
    pub fn crls_in_force(&self) -> Vec<(Sha256, Sha256)> {
        self.crls.in_force()
    }

    fn renew(&mut self) {
        self.snapshot = Some(Arc::new(self.crls.unite(self.lists.all())));
    }

    /// A new snapshot if there is something new.
    fn renew_if(&mut self, changed: bool) -> bool {
        if changed {
            self.renew();
        }
        changed
    }
}
