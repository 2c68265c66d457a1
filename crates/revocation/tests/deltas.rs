//! Delta CRLs (RFC 5280 §5.2.4): what they change, what they must not, and that the order of files does not matter.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forge::*;
use revocation::{Accepted, Library, MAX_CRLS, Refused, UnverifiedCrl, read};
use trust::{Bundle, Crl, CrlForm, Reason, Sha256, Snapshot, serial_key};

const HOLD: u8 = 6;
const REMOVE: u8 = 8;

fn accept(library: &mut Library, der: Vec<u8>, bundle: &Bundle) -> Result<Accepted, Refused> {
    library.accept(read(der).unwrap(), bundle, NOW)
}

fn delta(number: u8, base: u8) -> Spec {
    Spec::number(number).with(DELTA, true, &[2, 1, base])
}

fn crls(library: &Library) -> Vec<Arc<Crl>> {
    library.snapshot().unwrap().crls().cloned().collect()
}

/// The only CRL in force.
fn only(library: &Library) -> Arc<Crl> {
    let all = crls(library);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn find(crl: &Crl, issuer: &Authority, serial: u8) -> Option<Option<Reason>> {
    crl.find(serial_key(&issuer.key_digest(), &[serial]))
}

/// Whether any CRL of `issuer` revokes this serial.
fn revokes(snapshot: &Snapshot, issuer: &Authority, serial: u8) -> bool {
    snapshot.crls().filter(|crl| crl.issuer_key == issuer.key_digest()).any(|crl| find(crl, issuer, serial).is_some())
}

fn root_with(specs: &[Spec]) -> (Authority, Bundle, Library) {
    let root = Authority::new("root", SIGNS_ALL);
    let (bundle, mut library) = (bundle(&[&root]), Library::default());
    for spec in specs {
        accept(&mut library, root.crl(spec), &bundle).unwrap();
    }
    (root, bundle, library)
}

#[test]
fn a_delta_crl_adds_changes_and_releases_without_a_copy_of_the_complete_one() {
    let base = Spec::number(5).revoking(&[1]).entry(2, &[&reason(HOLD)]).entry(3, &[&reason(HOLD)]);
    let (root, bundle, mut library) = root_with(&[base]);
    let before = only(&library);
    let mut spec = delta(8, 5).entry(2, &[&reason(REMOVE)]).entry(3, &[&reason(1)]).revoking(&[4]);
    (spec.this_update, spec.next_update) = ("260101060000Z", Some("260101180000Z"));
    let accepted = accept(&mut library, root.crl(&spec), &bundle).unwrap();
    let text = accepted.to_string();
    assert!(matches!(accepted, Accepted::Changed(_)), "{text}");
    for part in ["delta CRL of", "CRLNumber 8 since 5", "together CRLNumber 8, 3 entries", "1 taken back"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let after = only(&library);
    assert!(Arc::ptr_eq(&before.serials, &after.serials));
    assert!(matches!(after.form, CrlForm::Combined(_)) && *after.number == [8] && after.digest == before.digest);
    // Number and dates of the combination are the delta CRL's.
    assert_eq!((after.this_update.as_seconds(), after.next_update.as_seconds()), (1_767_247_200, 1_767_290_400));
    assert_eq!(find(&after, &root, 1), Some(None));
    assert_eq!(find(&after, &root, 2), None);
    assert_eq!(find(&after, &root, 3), Some(Some(Reason::KeyCompromise)));
    assert_eq!(find(&after, &root, 4), Some(None));
    assert_eq!((after.entries(), library.snapshot().unwrap().entries()), (3, 3));
    assert!(matches!(accept(&mut library, root.crl(&spec), &bundle), Ok(_) | Err(Refused::SameNumber { .. })));
}

#[test]
fn only_what_was_on_hold_is_taken_back() {
    let base = Spec::number(5).revoking(&[1]).entry(2, &[&reason(1)]).entry(3, &[&reason(HOLD)]);
    let (root, bundle, mut library) = root_with(&[base]);
    let spec = [1, 2, 3, 4].iter().fold(delta(6, 5), |spec, serial| spec.entry(*serial, &[&reason(REMOVE)]));
    let text = accept(&mut library, root.crl(&spec), &bundle).unwrap().to_string();
    assert!(text.contains("1 taken back") && text.contains("2 stay revoked"), "{text}");
    let crl = only(&library);
    assert_eq!([1, 2, 3, 4].map(|serial| find(&crl, &root, serial).is_some()), [true, true, false, false]);
    assert_eq!(crl.entries(), 2);
}

#[test]
fn what_one_delta_crl_both_revokes_and_takes_back_is_revoked() {
    let (root, bundle, mut library) = root_with(&[Spec::number(5).entry(1, &[&reason(HOLD)])]);
    let spec = delta(6, 5).entry(1, &[&reason(REMOVE)]).entry(1, &[&reason(1)]).entry(1, &[&reason(REMOVE)]);
    accept(&mut library, root.crl(&spec), &bundle).unwrap();
    assert_eq!(find(&only(&library), &root, 1), Some(Some(Reason::KeyCompromise)));
    assert_eq!(only(&library).entries(), 1);
}

#[test]
fn the_newest_delta_crl_wins_and_says_by_name_what_it_replaced() {
    let (root, bundle, mut library) = root_with(&[Spec::number(5), delta(8, 5).revoking(&[8])]);
    let refused = accept(&mut library, root.crl(&delta(7, 5).revoking(&[7])), &bundle).unwrap_err();
    let text = refused.to_string();
    assert_eq!(refused.label(), "older", "{text}");
    assert!(text.contains("delta CRL of") && text.contains("CRLNumber 7") && text.contains("CRLNumber 8"), "{text}");
    let other = accept(&mut library, root.crl(&delta(8, 5).revoking(&[9])), &bundle).unwrap_err();
    assert_eq!(other.label(), "same_number", "{other}");
    accept(&mut library, root.crl(&delta(9, 5)), &bundle).unwrap();
    // The newer one lists all changes since its base: what only the older one named is not among them.
    assert!(!revokes(&library.snapshot().unwrap(), &root, 8) && *only(&library).number == [9]);
}

#[test]
fn a_complete_crl_supersedes_delta_crls_up_to_its_number_and_carries_newer_ones() {
    let (root, bundle, mut library) = root_with(&[Spec::number(5), delta(8, 5).revoking(&[1])]);
    // Older than what is in force together, newer than what it replaces.
    let text = accept(&mut library, root.crl(&Spec::number(7).revoking(&[2])), &bundle).unwrap().to_string();
    assert!(text.contains("CRLNumber 7") && text.contains("together CRLNumber 8"), "{text}");
    let snapshot = library.snapshot().unwrap();
    assert!(revokes(&snapshot, &root, 1) && revokes(&snapshot, &root, 2) && *only(&library).number == [8]);
    accept(&mut library, root.crl(&Spec::number(8).revoking(&[3])), &bundle).unwrap();
    let crl = only(&library);
    assert!(matches!(crl.form, CrlForm::Complete) && *crl.number == [8]);
    assert_eq!([1, 2, 3].map(|serial| find(&crl, &root, serial).is_some()), [false, false, true]);
    // The delta CRL of the same number says the same: a CA publishes the two together.
    let same = accept(&mut library, root.crl(&delta(8, 5).revoking(&[1])), &bundle).unwrap();
    assert!(matches!(same, Accepted::Unchanged(_)), "{same}");
    let refused = accept(&mut library, root.crl(&delta(7, 5)), &bundle).unwrap_err();
    assert_eq!(refused.label(), "older");
    assert!(Arc::ptr_eq(&crl, &only(&library)));
}

#[test]
fn a_delta_crl_that_cannot_be_combined_waits_revokes_and_clears_nobody() {
    let base = Spec::number(5).entry(1, &[&reason(HOLD)]).revoking(&[2]);
    let (root, bundle, mut library) = root_with(&[base]);
    let spec = delta(9, 7).entry(1, &[&reason(REMOVE)]).revoking(&[3]);
    let waits = accept(&mut library, root.crl(&spec), &bundle).unwrap();
    let text = waits.to_string();
    assert!(matches!(waits, Accepted::Waiting(_)), "{text}");
    assert!(text.contains("since 7") && text.contains("CRLNumber 7 or higher"), "{text}");
    let snapshot = library.snapshot().unwrap();
    assert_eq!([1, 2, 3, 4].map(|serial| revokes(&snapshot, &root, serial)), [true, true, true, false]);
    // The age of the complete one counts, not the age of one that clears nobody.
    let complete = snapshot.crls().find(|crl| crl.is_complete()).unwrap();
    assert_eq!((snapshot.expires_at(), &*complete.number), (Some(complete.next_update), [5].as_slice()));
    // Its complete one comes.
    accept(&mut library, root.crl(&Spec::number(7).entry(1, &[&reason(HOLD)])), &bundle).unwrap();
    let crl = only(&library);
    assert_eq!([1, 2, 3].map(|serial| find(&crl, &root, serial).is_some()), [false, false, true]);
}

#[test]
fn a_delta_crl_of_another_scope_or_key_changes_nothing_here() {
    let point = |uri: &[u8]| sequence(&[&tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri)))]);
    let partition = |spec: Spec, uri: &[u8]| spec.with(ISSUING_POINT, true, &point(uri));
    let held = Spec::number(5).entry(1, &[&reason(HOLD)]);
    let release = delta(6, 5).entry(1, &[&reason(REMOVE)]);
    let (root, other) = (Authority::new("root", SIGNS_ALL), Authority::new("root", SIGNS_ALL));
    let bundle = bundle(&[&root, &other]);
    for (complete, changes) in [
        (root.crl(&held), root.crl(&partition(release.clone(), b"http://a/"))),
        (root.crl(&partition(held.clone(), b"http://a/")), root.crl(&release)),
        (root.crl(&partition(held.clone(), b"http://a/")), root.crl(&partition(release.clone(), b"http://b/"))),
        (root.crl(&held), other.crl(&release)),
    ] {
        let mut library = Library::default();
        accept(&mut library, complete, &bundle).unwrap();
        assert!(matches!(accept(&mut library, changes, &bundle), Ok(Accepted::Waiting(_))));
        assert!(revokes(&library.snapshot().unwrap(), &root, 1));
    }
    let mut library = Library::default();
    accept(&mut library, root.crl(&partition(held, b"http://a/")), &bundle).unwrap();
    accept(&mut library, root.crl(&partition(release, b"http://a/")), &bundle).unwrap();
    assert!(!revokes(&library.snapshot().unwrap(), &root, 1));
}

#[test]
fn scopes_that_differ_in_what_no_certificate_is_matched_by_stay_apart() {
    let root = Authority::new("root", SIGNS_ALL);
    let directory = |name: &[u8]| {
        let attribute = sequence(&[&[6, 3, 0x55, 4, 3], &tlv(12, name)]);
        tlv(0xa0, &tlv(0xa0, &tlv(0xa4, &tlv(0x30, &tlv(0x31, &attribute)))))
    };
    for (one, other) in [(vec![0x83, 2, 6, 0x40], vec![0x83, 2, 6, 0x20]), (directory(b"a"), directory(b"b"))] {
        let scoped = |spec: Spec, point: &[u8]| root.crl(&spec.with(ISSUING_POINT, true, &tlv(0x30, point)));
        let (bundle, mut library) = (bundle(&[&root]), Library::default());
        accept(&mut library, scoped(Spec::number(1).entry(1, &[&reason(HOLD)]), &one), &bundle).unwrap();
        accept(&mut library, scoped(Spec::number(2).revoking(&[2]), &other), &bundle).unwrap();
        let release = delta(3, 1).entry(1, &[&reason(REMOVE)]);
        accept(&mut library, scoped(release, &other), &bundle).unwrap();
        let snapshot = library.snapshot().unwrap();
        assert!(revokes(&snapshot, &root, 1) && revokes(&snapshot, &root, 2), "{snapshot:?}");
    }
}

#[test]
fn a_complete_crl_without_a_number_is_never_combined() {
    let spec = Spec { number: None, ..Spec::number(0).entry(1, &[&reason(HOLD)]) };
    let (root, bundle, mut library) = root_with(&[spec]);
    let waits = accept(&mut library, root.crl(&delta(1, 0).entry(1, &[&reason(REMOVE)])), &bundle);
    assert!(matches!(waits, Ok(Accepted::Waiting(_))), "{waits:?}");
    assert!(revokes(&library.snapshot().unwrap(), &root, 1));
    // Number zero is one.
    let (root, bundle, mut library) = root_with(&[Spec::number(0).entry(1, &[&reason(HOLD)])]);
    accept(&mut library, root.crl(&delta(1, 0).entry(1, &[&reason(REMOVE)])), &bundle).unwrap();
    assert!(!revokes(&library.snapshot().unwrap(), &root, 1));
}

#[test]
fn the_pointer_to_delta_crls_is_no_obstacle() {
    let points = sequence(&[&sequence(&[&tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://delta/")))])]);
    let (_, _, library) = root_with(&[Spec::number(5).with(&[0x55, 0x1d, 0x2e], false, &points).revoking(&[1])]);
    assert_eq!(only(&library).entries(), 1);
}

#[test]
fn a_delta_crl_waits_for_its_issuer_beside_the_complete_one() {
    let (root, issuing) = (Authority::new("root", SIGNS_ALL), Authority::new("issuing", SIGNS_ALL));
    let bundle = bundle(&[&root]);
    let complete = issuing.crl(&Spec::number(5).entry(1, &[&reason(HOLD)]));
    let (low, high) = (issuing.crl(&delta(6, 5).revoking(&[6])), issuing.crl(&delta(9, 8).revoking(&[9])));
    let newer = issuing.crl(&delta(7, 5).entry(1, &[&reason(REMOVE)]));
    for files in [[&complete, &low, &high, &newer], [&newer, &high, &low, &complete]] {
        let mut library = Library::default();
        for file in files {
            let waits = accept(&mut library, file.clone(), &bundle);
            assert!(matches!(waits, Ok(Accepted::Waiting(_))), "{waits:?}");
        }
        assert!(library.introduce(&issuing.certificate, &bundle, NOW));
        let snapshot = library.snapshot().unwrap();
        // 9 waits on for its complete CRL; 7 made 6 useless.
        assert_eq!([1, 6, 9].map(|serial| revokes(&snapshot, &issuing, serial)), [false, false, true]);
    }
}

#[test]
fn a_restart_brings_back_every_crl_in_any_order_under_the_same_names_even_past_its_next_update() {
    let unreadable =
        Spec::number(7).with(UNKNOWN, true, &[5, 0]).with(ISSUING_POINT, true, &sequence(&[&[0x81, 1, 0xff]]));
    let (root, stranger) = (Authority::new("root", SIGNS_ALL), Authority::new("stranger", SIGNS_ALL));
    let bundle = bundle(&[&root]);
    let files = [
        root.crl(&Spec::number(5).revoking(&[1])),
        root.crl(&delta(6, 5).revoking(&[2])),
        root.crl(&delta(9, 7).revoking(&[3])),
        root.crl(&unreadable),
        stranger.crl(&Spec::number(1)),
    ];
    let mut library = Library::default();
    for file in &files {
        let _ = accept(&mut library, file.clone(), &bundle);
    }
    let names: BTreeSet<(Sha256, Sha256)> = library.crls_in_force().into_iter().collect();
    assert_eq!(names.len(), 5);
    assert_eq!(names.iter().map(|(place, _)| *place).collect::<BTreeSet<_>>().len(), 5);
    let later = NOW.plus(Duration::from_secs(90 * 86_400));
    let earlier = trust::Time::from_seconds(0);
    for (now, files) in [(later, files.to_vec()), (earlier, files.iter().rev().cloned().collect())] {
        let mut restored = Library::default();
        for file in files {
            restored.restore(read(file).unwrap(), &bundle, now).unwrap();
        }
        assert_eq!(restored.crls_in_force().into_iter().collect::<BTreeSet<_>>(), names);
        let snapshot = restored.snapshot().unwrap();
        assert_eq!([1, 2, 3, 4].map(|serial| revokes(&snapshot, &root, serial)), [true, true, true, false]);
        // An older file at hand does not win, nor does a forgery that lay in the state directory.
        let older = restored.accept(read(root.crl(&Spec::number(4))).unwrap(), &bundle, later);
        assert_eq!(older.unwrap_err().label(), "older");
        let forged = Authority::new("root", SIGNS_ALL).crl(&delta(20, 5));
        assert_eq!(restored.restore(read(forged).unwrap(), &bundle, now).unwrap_err().label(), "bad_signature");
    }
}

#[test]
fn delta_crls_that_wait_take_room_that_is_limited_and_one_that_replaces_another_needs_none() {
    let root = Authority::new("root", SIGNS_ALL);
    let (bundle, mut library) = (bundle(&[&root]), Library::default());
    // Each of them could still be of use: a higher base, and a higher number.
    let numbered = |number: usize, base: usize| {
        let octets = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
        let spec = Spec { number: Some(octets(number).to_vec()), ..Spec::number(0) };
        root.crl(&spec.with(DELTA, true, &tlv(2, &octets(base))))
    };
    for number in 0..MAX_CRLS {
        accept(&mut library, numbered(0x100 + 2 * number, 0x100 + number), &bundle).unwrap();
    }
    let last = 0x100 + MAX_CRLS;
    let refused = accept(&mut library, numbered(4 * last, last), &bundle).unwrap_err();
    assert!(refused.label() == "too_many" && refused.to_string().contains("1024 CRLs"), "{refused}");
    assert_eq!(crls(&library).len(), MAX_CRLS);
    // One that needs no more than the first and is newer than all makes all of them useless.
    accept(&mut library, numbered(4 * last, 0x100), &bundle).unwrap();
    assert_eq!(crls(&library).len(), 1);
}

#[test]
fn what_accepting_would_do_is_tried_on_a_clone() {
    let (root, bundle, library) = root_with(&[Spec::number(5).revoking(&[1])]);
    let before = library.snapshot().unwrap();
    let mut trial = library.clone();
    accept(&mut trial, root.crl(&delta(6, 5).revoking(&[2])), &bundle).unwrap();
    assert!(revokes(&trial.snapshot().unwrap(), &root, 2));
    assert!(Arc::ptr_eq(&before, &library.snapshot().unwrap()));
}

#[test]
fn a_crl_gives_its_bytes_and_their_digest() {
    let der = Authority::new("root", SIGNS_ALL).crl(&Spec::number(1));
    let crls: Vec<UnverifiedCrl> = match read(pem(&der)).unwrap() {
        revocation::Material::Crls(crls) => crls,
        other => panic!("{other:?}"),
    };
    assert_eq!((crls[0].der(), crls[0].digest()), (der.as_slice(), Sha256::of(&der)));
}
