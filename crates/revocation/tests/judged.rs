//! From bytes to verdict: what is read here is what `trust::judge` decides by, for certificates and CRLs that another
//! library made.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use revocation::{Accepted, Library, read};
use testkit::{Authority, CrlSpec, Leaf, LeafSpec, ListSpec};
use time::OffsetDateTime;
use trust::{
    Allow, Bundle, CrlCoverage, Denial, Knowledge, Place, Policy, Selector, Session, Speaks, Time, TrustState, judge,
    verify,
};

fn now() -> Time {
    Time::from_seconds(OffsetDateTime::now_utc().unix_timestamp())
}

fn hours_ago(hours: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() - time::Duration::hours(hours)
}

struct Scene {
    root: Authority,
    issuing: Authority,
    leaf: Leaf,
    bundle: Arc<Bundle>,
    library: Library,
}

impl Scene {
    fn new() -> Scene {
        let root = Authority::root("root");
        let issuing = root.intermediate("issuing");
        let leaf = issuing.issue(LeafSpec::spiffe("spiffe://td/ns/a"));
        let bundle = Arc::new(Bundle::new(vec![(root.der().clone(), Speaks::ForAnybody)]).unwrap());
        Scene { root, issuing, leaf, bundle, library: Library::default() }
    }

    fn accept(&mut self, bytes: Vec<u8>) -> Accepted {
        self.library.accept(read(bytes).unwrap(), &self.bundle, now()).unwrap()
    }

    fn verdict(&self) -> Result<(), Denial> {
        let chain = verify(&self.leaf.chain(), &self.bundle, now()).unwrap();
        let session = Session::new(chain, self.leaf.chain().into(), now());
        let policy = Policy {
            allow: Allow::Anybody,
            crl_coverage: CrlCoverage::All,
            stale: trust::Stale::Deny,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        };
        let knowledge = self.library.snapshot().map_or(Knowledge::Missing, Knowledge::Known);
        let state = TrustState {
            epoch: 1,
            bundle: self.bundle.clone(),
            knowledge,
            overlay: Arc::default(),
            policy: Arc::new(policy),
        };
        judge(&session, &state, now()).map(|_| ())
    }
}

fn revoked(verdict: Result<(), Denial>) -> Option<(Selector, Place)> {
    match verdict {
        Err(Denial::Revoked { selector, place, .. }) => Some((selector, place)),
        _ => None,
    }
}

#[test]
fn a_crl_that_waits_makes_the_status_unknown_until_its_issuer_is_introduced() {
    let mut scene = Scene::new();
    assert_eq!(scene.verdict(), Err(Denial::NoSnapshot));
    scene.accept(scene.root.crl(CrlSpec::new(1)));
    assert_eq!(scene.verdict(), Err(Denial::StatusUnknown(Place::Leaf)));
    let waits = scene.accept(scene.issuing.crl(CrlSpec::new(1).revoke(&[1, 2, 3])));
    assert!(matches!(waits, Accepted::Waiting(_)), "{waits}");
    assert_eq!(scene.verdict(), Err(Denial::StatusUnknown(Place::Leaf)));
    // The link's view of its issuer's name is the CRL's.
    let chain = verify(&scene.leaf.chain(), &scene.bundle, now()).unwrap();
    assert!(scene.library.snapshot().unwrap().waits_for(&chain.leaf.issuer_name));
    assert!(scene.library.introduce(scene.issuing.der(), &scene.bundle, now()));
    assert_eq!(scene.verdict(), Ok(()));
    scene.accept(scene.issuing.crl(CrlSpec::new(2).revoke_with_reason(&scene.leaf.serial(), 1)));
    assert_eq!(revoked(scene.verdict()), Some((Selector::Crl, Place::Leaf)));
}

#[test]
fn an_intermediate_is_revoked_by_its_issuers_crl() {
    let mut scene = Scene::new();
    scene.accept(scene.root.crl(CrlSpec::new(1).revoke(&scene.issuing.serial())));
    assert_eq!(revoked(scene.verdict()), Some((Selector::Crl, Place::Intermediate)));
}

#[test]
fn a_delta_crl_revokes_and_releases_a_leaf_and_expires() {
    let mut scene = Scene::new();
    scene.accept(scene.root.crl(CrlSpec::new(1)));
    scene.accept(scene.issuing.crl(CrlSpec::new(1).revoke_with_reason(&scene.leaf.serial(), 6)));
    scene.library.introduce(scene.issuing.der(), &scene.bundle, now());
    assert_eq!(revoked(scene.verdict()), Some((Selector::Crl, Place::Leaf)));
    scene.accept(scene.issuing.crl(CrlSpec::new(2).delta_of(1).revoke_with_reason(&scene.leaf.serial(), 8)));
    assert_eq!(scene.verdict(), Ok(()));
    // One that waits for its complete CRL clears nobody, and revokes.
    let waits = scene.accept(scene.issuing.crl(CrlSpec::new(9).delta_of(8).revoke(&scene.leaf.serial())));
    assert!(matches!(waits, Accepted::Waiting(_)), "{waits}");
    assert_eq!(revoked(scene.verdict()), Some((Selector::Crl, Place::Leaf)));
    scene.accept(scene.issuing.crl(CrlSpec::new(10)));
    assert_eq!(scene.verdict(), Ok(()));
    // One past its nextUpdate says that there is a newer one: the complete CRL, though current, clears nobody any more.
    let (before, past) = (hours_ago(2), hours_ago(1));
    scene.accept(scene.issuing.crl(CrlSpec::new(11).delta_of(10).this_update(before).next_update(past)));
    assert_eq!(scene.verdict(), Err(Denial::SnapshotOutdated));
    scene.accept(scene.issuing.crl(CrlSpec::new(12).delta_of(10)));
    assert_eq!(scene.verdict(), Ok(()));
}

#[test]
fn a_delta_crl_without_its_complete_one_leaves_the_status_unknown() {
    let mut scene = Scene::new();
    scene.accept(scene.root.crl(CrlSpec::new(1)));
    scene.accept(scene.issuing.crl(CrlSpec::new(2).delta_of(1)));
    scene.library.introduce(scene.issuing.der(), &scene.bundle, now());
    assert_eq!(scene.verdict(), Err(Denial::StatusUnknown(Place::Leaf)));
    scene.accept(scene.issuing.crl(CrlSpec::new(1)));
    assert_eq!(scene.verdict(), Ok(()));
}

#[test]
fn each_kind_of_entry_revokes_the_leaf_it_names_and_no_other() {
    type Add = fn(ListSpec, &Leaf) -> ListSpec;
    let kinds: [(Selector, Add); 6] = [
        (Selector::Serial, |list, leaf| list.serial(leaf)),
        (Selector::PublicKey, |list, leaf| list.spki(leaf)),
        (Selector::Certificate, |list, leaf| list.certificate(leaf)),
        (Selector::Id, |list, _| list.id("spiffe://td/ns/a")),
        (Selector::Id, |list, _| list.id("spiffe://td/ns/*")),
        (Selector::TrustDomain, |list, _| list.trust_domain("td")),
    ];
    for (selector, add) in kinds {
        let mut scene = Scene::new();
        let other = scene.issuing.issue(LeafSpec::spiffe("spiffe://other/ns/a"));
        scene.accept(add(ListSpec::new("prod", 1), &scene.leaf).text().into_bytes());
        assert_eq!(revoked(scene.verdict()), Some((selector, Place::Leaf)));
        scene.leaf = other;
        assert_eq!(scene.verdict(), Ok(()), "{selector:?}");
    }
}

#[test]
fn an_issuer_alone_revokes_all_that_it_signed() {
    let mut scene = Scene::new();
    scene.accept(ListSpec::new("prod", 1).issuer(&scene.issuing).text().into_bytes());
    assert_eq!(revoked(scene.verdict()), Some((Selector::Issuer, Place::Leaf)));
}
