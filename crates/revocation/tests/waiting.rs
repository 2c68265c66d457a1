//! CRLs whose issuer is not known yet: what they may cost, and what becomes of them when it is.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use forge::*;
use revocation::{Accepted, Library, MAX_WAITING, Refused, read};
use trust::{Bundle, Sha256, Snapshot, serial_key};

fn accept(library: &mut Library, der: Vec<u8>, bundle: &Bundle) -> Result<Accepted, Refused> {
    library.accept(read(der).unwrap(), bundle, NOW)
}

/// Whether any CRL of `issuer` revokes this serial.
fn revokes(snapshot: &Snapshot, issuer: &Authority, serial: u8) -> bool {
    let key = serial_key(&issuer.key_digest(), &[serial]);
    snapshot.crls().filter(|crl| crl.issuer_key == issuer.key_digest()).any(|crl| crl.find(key).is_some())
}

#[test]
fn a_crl_waits_for_its_issuer_and_is_taken_in_when_it_is_introduced() {
    let (root, issuing) = (Authority::new("root", SIGNS_ALL), Authority::new("issuing", SIGNS_ALL));
    let bundle = bundle(&[&root]);
    let mut library = Library::default();
    let der = issuing.crl(&Spec::number(1).revoking(&[7]));
    assert!(matches!(accept(&mut library, der.clone(), &bundle), Ok(Accepted::Waiting(_))));
    assert!(matches!(accept(&mut library, der, &bundle), Ok(Accepted::Unchanged(_))));
    let snapshot = library.snapshot().unwrap();
    assert!(snapshot.waits() && snapshot.waits_for(&Sha256::of(&issuing.name)));
    assert!(!snapshot.waits_for(&Sha256::of(&root.name)));
    assert!(!library.introduce(&root.certificate, &bundle, NOW), "nothing waits for the root");
    assert!(!library.introduce(b"no certificate", &bundle, NOW));
    assert!(library.introduce(&issuing.certificate, &bundle, NOW));
    assert!(!library.introduce(&issuing.certificate, &bundle, NOW), "it is known already");
    let snapshot = library.snapshot().unwrap();
    assert!(!snapshot.waits() && revokes(&snapshot, &issuing, 7));
    // The next issue need not wait.
    let next = accept(&mut library, issuing.crl(&Spec::number(2)), &bundle);
    assert!(matches!(next, Ok(Accepted::Changed(_))), "{next:?}");
}

#[test]
fn a_new_bundle_ends_the_waiting_too() {
    let (root, later) = (Authority::new("root", SIGNS_ALL), Authority::new("later", SIGNS_ALL));
    let mut library = Library::default();
    accept(&mut library, later.crl(&Spec::number(1).revoking(&[7])), &bundle(&[&root])).unwrap();
    assert!(!library.rebase(&bundle(&[&root])));
    assert!(library.rebase(&bundle(&[&root, &later])));
    assert!(revokes(&library.snapshot().unwrap(), &later, 7));
    // An anchor that leaves takes nothing with it.
    assert!(!library.rebase(&bundle(&[&root])));
    assert!(revokes(&library.snapshot().unwrap(), &later, 7));
}

#[test]
fn a_crl_for_the_new_key_of_a_known_name_waits_and_is_no_forgery() {
    let (old, new) = (Authority::new("issuing", SIGNS_ALL), Authority::new("issuing", SIGNS_ALL));
    let bundle = bundle(&[&old]);
    let mut library = Library::default();
    let spec = Spec::number(1).revoking(&[7]).with(AUTHORITY_KEY_ID, false, &sequence(&[&tlv(0x80, &new.key_id())]));
    assert!(matches!(accept(&mut library, new.crl(&spec), &bundle), Ok(Accepted::Waiting(_))));
    assert!(library.introduce(&new.certificate, &bundle, NOW));
    let snapshot = library.snapshot().unwrap();
    assert!(revokes(&snapshot, &new, 7) && !revokes(&snapshot, &old, 7));
}

#[test]
fn one_that_waited_and_proves_forged_is_dropped_loudly_and_crls_stay_required() {
    let (root, issuing) = (Authority::new("root", SIGNS_ALL), Authority::new("issuing", SIGNS_ALL));
    let forger = Authority::new("issuing", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let mut library = Library::default();
    accept(&mut library, forger.crl(&Spec::number(1)), &bundle).unwrap();
    assert!(library.introduce(&issuing.certificate, &bundle, NOW));
    let refusals = library.take_refusals();
    assert!(matches!(refusals.as_slice(), [Refused::BadSignature { .. }]), "{refusals:?}");
    assert!(library.take_refusals().is_empty());
    let snapshot = library.snapshot().unwrap();
    assert!(!snapshot.waits_for(&Sha256::of(&issuing.name)));
    assert!(format!("{snapshot:?}").contains("crls_configured: true"), "{snapshot:?}");
}

#[test]
fn the_room_for_waiting_ones_is_limited_and_a_new_issue_takes_its_elders_place() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let mut library = Library::default();
    let issuers: Vec<Authority> = (0..MAX_WAITING).map(|n| Authority::new(&format!("ca {n}"), SIGNS_ALL)).collect();
    for issuer in &issuers {
        accept(&mut library, issuer.crl(&Spec::number(1)), &bundle).unwrap();
    }
    let refused = accept(&mut library, Authority::new("more", SIGNS_ALL).crl(&Spec::number(1)), &bundle).unwrap_err();
    assert!(refused.label() == "too_many" && refused.to_string().contains("64 CRLs that wait"), "{refused}");
    accept(&mut library, issuers[0].crl(&Spec::number(2).revoking(&[9])), &bundle).unwrap();
    assert!(library.introduce(&issuers[0].certificate, &bundle, NOW));
    assert!(revokes(&library.snapshot().unwrap(), &issuers[0], 9));
}
