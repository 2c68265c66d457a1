//! CRLs: which are taken in, which wait, which are refused, and what their issuer's status is then.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use forge::*;
use revocation::{Accepted, Library, Obstacle, Refused, read};
use trust::{Bundle, CrlScope, Reason, Sha256, Snapshot, Time, serial_key};

fn accept(library: &mut Library, der: Vec<u8>, bundle: &Bundle) -> Result<Accepted, Refused> {
    library.accept(read(der).unwrap(), bundle, NOW)
}

fn flaw(der: Vec<u8>) -> String {
    read(der).unwrap_err().to_string()
}

/// Whether any CRL of `issuer` revokes this serial.
fn revokes(snapshot: &Snapshot, issuer: &Authority, serial: u8) -> bool {
    let key = serial_key(&issuer.key_digest(), &[serial]);
    snapshot.crls().filter(|crl| crl.issuer_key == issuer.key_digest()).any(|crl| crl.find(key).is_some())
}

fn is_unreadable(library: &Library, issuer: &Authority) -> bool {
    format!("{:?}", library.snapshot().unwrap()).contains(&format!("unreadable: {{{}}}", issuer.key_digest()))
}

#[test]
fn a_crl_of_an_anchor_is_taken_in_from_der_and_from_pem() {
    let root = Authority::new("root", SIGNS_ALL);
    let spec = Spec::number(5).revoking(&[1, 2]).entry(3, &[&reason(1)]).entry(4, &[&reason(7)]);
    let der = root.crl(&spec.with(AUTHORITY_KEY_ID, false, &sequence(&[&tlv(0x80, &root.key_id())])));
    for bytes in [der.clone(), pem(&der)] {
        let mut library = Library::default();
        assert!(library.snapshot().is_none());
        let accepted = accept(&mut library, bytes.clone(), &bundle(&[&root])).unwrap();
        assert!(matches!(&accepted, Accepted::Changed(text) if text.contains("CRLNumber 5")), "{accepted}");
        let snapshot = library.snapshot().unwrap();
        let crl = snapshot.crls().next().unwrap();
        assert_eq!((crl.digest, crl.serials.len(), &*crl.number), (Sha256::of(&der), 4, [5].as_slice()));
        assert_eq!(crl.scope, CrlScope::FULL);
        assert_eq!((crl.this_update.as_seconds(), crl.next_update.as_seconds()), (1_767_225_600, 1_767_312_000));
        let find = |serial: u8| crl.serials.find(serial_key(&root.key_digest(), &[serial]));
        assert_eq!(find(1), Some(None));
        assert_eq!(find(3), Some(Some(Reason::KeyCompromise)));
        assert_eq!(find(4), Some(None), "an undefined reason still revokes");
        assert_eq!(find(5), None);
        assert!(matches!(accept(&mut library, bytes, &bundle(&[&root])), Ok(Accepted::Unchanged(_))));
        assert!(std::sync::Arc::ptr_eq(&snapshot, &library.snapshot().unwrap()));
    }
}

#[test]
fn a_serial_with_a_sign_octet_is_the_one_without() {
    let root = Authority::new("root", SIGNS_ALL);
    let mut spec = Spec::number(1);
    spec.entries = vec![entry(&[0, 0x8f], &[])];
    let mut library = Library::default();
    accept(&mut library, root.crl(&spec), &bundle(&[&root])).unwrap();
    assert!(revokes(&library.snapshot().unwrap(), &root, 0x8f));
}

#[test]
fn the_newest_wins_in_either_order() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let (old, new) = (root.crl(&Spec::number(4).revoking(&[1])), root.crl(&Spec::number(5).revoking(&[2])));
    let mut upward = Library::default();
    accept(&mut upward, old.clone(), &bundle).unwrap();
    accept(&mut upward, new.clone(), &bundle).unwrap();
    let mut downward = Library::default();
    accept(&mut downward, new, &bundle).unwrap();
    let refused = accept(&mut downward, old, &bundle).unwrap_err();
    let text = refused.to_string();
    assert!(refused.label() == "older" && !refused.changed(), "{text}");
    assert!(
        text.contains("root") && text.contains("CRLNumber 4") && text.contains("CRLNumber 5 is in force"),
        "{text}"
    );
    for library in [upward, downward] {
        let snapshot = library.snapshot().unwrap();
        assert!(snapshot.crls().count() == 1 && revokes(&snapshot, &root, 2) && !revokes(&snapshot, &root, 1));
    }
}

#[test]
fn the_same_number_with_other_content_is_refused() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let mut library = Library::default();
    accept(&mut library, root.crl(&Spec::number(5).revoking(&[1])), &bundle).unwrap();
    let mut later = Spec::number(5).revoking(&[2]);
    later.this_update = "260101010000Z";
    let refused = accept(&mut library, root.crl(&later), &bundle).unwrap_err();
    assert!(matches!(&refused, Refused::SameNumber { number, .. } if number == "CRLNumber 5"), "{refused}");
    assert!(revokes(&library.snapshot().unwrap(), &root, 1));
}

#[test]
fn without_numbers_the_date_orders() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let dated = |this_update, serial| {
        let spec = Spec { number: None, this_update, version: &[], ..Spec::number(0) };
        root.crl(&spec.revoking(&[serial]))
    };
    let mut library = Library::default();
    accept(&mut library, dated("260101020000Z", 2), &bundle).unwrap();
    assert!(matches!(accept(&mut library, dated("260101010000Z", 1), &bundle), Err(Refused::Older { .. })));
    assert!(matches!(accept(&mut library, dated("260101020000Z", 1), &bundle), Err(Refused::SameNumber { .. })));
    accept(&mut library, dated("20260101030000Z", 3), &bundle).unwrap();
    assert!(revokes(&library.snapshot().unwrap(), &root, 3));
}

#[test]
fn a_crl_past_its_next_update_still_revokes() {
    let root = Authority::new("root", SIGNS_ALL);
    let mut spec = Spec::number(5).revoking(&[1]);
    (spec.this_update, spec.next_update) = ("250101000000Z", Some("250102000000Z"));
    let mut library = Library::default();
    accept(&mut library, root.crl(&spec), &bundle(&[&root])).unwrap();
    assert!(revokes(&library.snapshot().unwrap(), &root, 1));
    assert!(library.snapshot().unwrap().expires_at().unwrap() < NOW);
}

#[test]
fn a_crl_from_the_future_is_refused_beyond_clock_skew() {
    let root = Authority::new("root", SIGNS_ALL);
    for (this_update, fine) in [("260101120500Z", true), ("260101120501Z", false)] {
        let der = root.crl(&Spec { this_update, ..Spec::number(1) });
        let result = accept(&mut Library::default(), der, &bundle(&[&root]));
        assert_eq!(result.is_ok(), fine, "{result:?}");
        assert!(fine || result.unwrap_err().to_string().contains("clock"));
    }
}

#[test]
fn a_forged_signature_is_refused_and_changes_nothing() {
    let (root, forger) = (Authority::new("root", SIGNS_ALL), Authority::new("root", SIGNS_ALL));
    let bundle = bundle(&[&root]);
    let good = root.crl(&Spec::number(5).revoking(&[1]));
    let mut library = Library::default();
    accept(&mut library, good.clone(), &bundle).unwrap();
    let meant_for = |key_id: &[u8]| sequence(&[&tlv(0x80, key_id)]);
    for forged in [
        forger.crl(&Spec::number(6)),
        forger.crl(&Spec::number(6).with(AUTHORITY_KEY_ID, false, &meant_for(&root.key_id()))),
        forger.crl(&Spec::number(6).with(AUTHORITY_KEY_ID, false, &meant_for(&root.old_key_id()))),
        [&good[..good.len() - 1], &[good[good.len() - 1] ^ 1]].concat(),
    ] {
        let refused = accept(&mut library, forged, &bundle).unwrap_err();
        assert_eq!((refused.label(), refused.changed()), ("bad_signature", false));
        assert!(refused.to_string().contains("root"), "{refused}");
    }
    assert!(revokes(&library.snapshot().unwrap(), &root, 1));
}

#[test]
fn an_issuer_without_crl_sign_is_refused() {
    let root = Authority::new("root", SIGNS_CERTIFICATES);
    let refused = accept(&mut Library::default(), root.crl(&Spec::number(1)), &bundle(&[&root])).unwrap_err();
    assert!(refused.label() == "no_crl_sign" && refused.to_string().contains("cRLSign"), "{refused}");
}

#[test]
fn an_algorithm_that_nobody_here_verifies_is_refused_at_once_and_does_not_wait() {
    // ecdsa-with-SHA1
    let algorithm = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1])]);
    let stranger = Authority::new("stranger", SIGNS_ALL);
    let tbs = stranger.to_be_signed(&Spec { algorithm: algorithm.clone(), ..Spec::number(1) });
    let mut library = Library::default();
    let crl = sequence(&[&tbs, &algorithm, &tlv(3, &[0, 1, 2, 3])]);
    let refused = accept(&mut library, crl, &Bundle::default()).unwrap_err();
    assert!(refused.label() == "unknown_algorithm" && refused.to_string().contains("SHA-256"), "{refused}");
    assert!(library.snapshot().is_none());
}

/// The kinds of CRL that cannot be read, and what is said about them.
#[test]
fn a_crl_that_cannot_be_read_makes_its_issuers_status_unknown_until_a_newer_one_is_readable() {
    let indirect = sequence(&[&[0x84, 1, 0xff]]);
    let unknown = || Obstacle::CriticalExtension("1.2.3.4".to_owned());
    let cases: [(Spec, Obstacle); 5] = [
        (Spec::number(5).with(UNKNOWN, true, &[5, 0]).with(DELTA, true, &[2, 1, 4]), unknown()),
        (Spec::number(5).with(ISSUING_POINT, true, &indirect), Obstacle::Indirect),
        (Spec::number(5).with(UNKNOWN, true, &[5, 0]), unknown()),
        (
            Spec::number(5).entry(1, &[&extension(UNKNOWN, true, &[5, 0])]),
            Obstacle::CriticalEntryExtension("1.2.3.4".to_owned()),
        ),
        (Spec::number(5).entry(1, &[&extension(CERTIFICATE_ISSUER, true, &[0x30, 0])]), Obstacle::CertificateIssuer),
    ];
    for (spec, expected) in cases {
        let root = Authority::new("root", SIGNS_ALL);
        let bundle = bundle(&[&root]);
        let unreadable = root.crl(&spec);
        let mut library = Library::default();
        accept(&mut library, root.crl(&Spec::number(4).revoking(&[1])), &bundle).unwrap();
        let refused = accept(&mut library, unreadable.clone(), &bundle).unwrap_err();
        assert!(refused.changed() && refused.label() == "unreadable", "{refused}");
        assert!(matches!(&refused, Refused::Unreadable { obstacle, .. } if *obstacle == expected), "{refused}");
        assert!(refused.to_string().contains("status"), "{refused}");
        assert!(is_unreadable(&library, &root), "{expected:?}");
        assert!(revokes(&library.snapshot().unwrap(), &root, 1), "what was revoked stays revoked");
        assert!(matches!(accept(&mut library, unreadable.clone(), &bundle), Ok(Accepted::Unchanged(_))));
        accept(&mut library, root.crl(&Spec::number(6)), &bundle).unwrap();
        assert!(!is_unreadable(&library, &root), "{expected:?}");
        assert!(matches!(accept(&mut library, unreadable, &bundle), Err(Refused::Older { .. })));
        assert!(!is_unreadable(&library, &root), "{expected:?}");
    }
}

#[test]
fn an_unreadable_crl_counts_in_whatever_order_files_are_read() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    for (readable, delta, marked) in [(4, 5, true), (5, 5, false), (6, 5, false)] {
        let readable = root.crl(&Spec::number(readable));
        let delta = root.crl(&Spec::number(delta).with(DELTA, true, &[2, 1, 4]).with(UNKNOWN, true, &[5, 0]));
        for order in [[&readable, &delta], [&delta, &readable]] {
            let mut library = Library::default();
            for der in order {
                let _ = accept(&mut library, der.clone(), &bundle);
            }
            assert_eq!(is_unreadable(&library, &root), marked);
            assert_eq!(library.snapshot().unwrap().crls().count(), 1);
        }
    }
}

#[test]
fn an_unsigned_claim_makes_nobodys_status_unknown() {
    let (root, forger) = (Authority::new("root", SIGNS_ALL), Authority::new("root", SIGNS_ALL));
    let mut library = Library::default();
    let forged = forger.crl(&Spec::number(9).with(DELTA, true, &[2, 1, 4]));
    let refused = accept(&mut library, forged, &bundle(&[&root])).unwrap_err();
    assert!(refused.label() == "bad_signature" && library.snapshot().is_none());
}

#[test]
fn scopes_are_read_and_each_has_its_own_numbers() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let uri = b"http://crl.example/1";
    let point = tlv(0xa0, &tlv(0xa0, &tlv(0x86, uri)));
    let relative = tlv(0xa0, &tlv(0xa1, &sequence(&[&[6, 3, 0x55, 4, 3], &tlv(12, b"x")])));
    let cases: [(Vec<u8>, CrlScope); 6] = [
        (vec![0x81, 1, 0xff], CrlScope { authorities: false, ..CrlScope::FULL }),
        (vec![0x82, 1, 0xff], CrlScope { users: false, ..CrlScope::FULL }),
        (vec![0x85, 1, 0xff], CrlScope { users: false, authorities: false, ..CrlScope::FULL }),
        (vec![0x83, 2, 6, 0x40], CrlScope { all_reasons: false, ..CrlScope::FULL }),
        (point, CrlScope { distribution_points: Some([Sha256::of(uri)].into()), ..CrlScope::FULL }),
        (relative, CrlScope { distribution_points: Some([].into()), ..CrlScope::FULL }),
    ];
    let mut library = Library::default();
    accept(&mut library, root.crl(&Spec::number(100)), &bundle).unwrap();
    for (number, (content, scope)) in (1..).zip(cases) {
        let der = root.crl(&Spec::number(number).with(ISSUING_POINT, true, &tlv(0x30, &content)));
        accept(&mut library, der, &bundle).unwrap();
        let snapshot = library.snapshot().unwrap();
        assert!(snapshot.crls().any(|crl| crl.scope == scope && *crl.number == [number]), "{scope:?}");
    }
    assert_eq!(library.snapshot().unwrap().crls().count(), 7);
}

#[test]
fn malformed_entries_of_a_signed_crl_are_refused_with_their_place() {
    let root = Authority::new("root", SIGNS_ALL);
    let cases: [(Vec<u8>, &str); 6] = [
        (entry(&[1], &[&reason(8)]), "removeFromCRL"),
        (vec![5, 0], "no SEQUENCE"),
        (sequence(&[&[2, 0], &tlv(23, b"251231000000Z")]), "no octets"),
        (sequence(&[&[2, 1, 1]]), "end before an element"),
        (sequence(&[&[2, 1, 1], &[5, 0]]), "no revocationDate"),
        (sequence(&[&[2, 1, 1], &tlv(23, b"251231000000Z"), &[5, 0]]), "after an entry's extensions"),
    ];
    for (bad, why) in cases {
        let mut spec = Spec::number(1).revoking(&[9]);
        spec.entries.push(bad);
        let mut library = Library::default();
        let refused = accept(&mut library, root.crl(&spec), &bundle(&[&root])).unwrap_err();
        let text = refused.to_string();
        assert!(refused.label() == "malformed" && text.contains(why) && text.contains("byte "), "{text}");
        assert!(library.snapshot().is_none());
    }
}

#[test]
fn a_frame_that_rfc_5280_does_not_allow_is_refused_with_its_place() {
    let root = Authority::new("root", SIGNS_ALL);
    let number = Spec::number;
    let other = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])]);
    let cases: Vec<(Spec, &str)> = vec![
        (Spec { next_update: None, ..number(1) }, "no nextUpdate"),
        (Spec { next_update: Some("260101000000Z"), ..number(1) }, "not later than thisUpdate"),
        (Spec { this_update: "261301000000Z", ..number(1) }, "no time"),
        (Spec { version: &[2, 1, 2], ..number(1) }, "version"),
        (Spec { version: &[], ..number(1) }, "version 1 has no extensions"),
        (Spec { algorithm: other, ..number(1) }, "differs from the one outside"),
        (Spec { number: Some(vec![0x80]), ..number(1) }, "negative"),
        (Spec { number: Some(vec![1; 21]), ..number(1) }, "more than 20 octets"),
        (Spec { number: Some(vec![]), ..number(1) }, "negative"),
        (Spec { number: None, ..number(1).with(DELTA, true, &[2, 1, 0]) }, "no CRLNumber"),
        (number(1).with(DELTA, true, &[2, 1, 2]), "lower than its BaseCRLNumber"),
        (number(1).with(DELTA, false, &[2, 1, 0]), "deltaCRLIndicator is not critical"),
        (number(1).with(DELTA, true, &[2, 1, 0xff]), "negative"),
        (number(1).with(DELTA, true, &[5, 0]), "no INTEGER"),
        (number(1).with(CRL_NUMBER, false, &[2, 1, 2]), "twice"),
        (number(1).with(ISSUING_POINT, true, &sequence(&[&[0x86, 1, 0xff]])), "unknown part"),
        (number(1).with(ISSUING_POINT, true, &sequence(&[&[0x81, 1, 1]])), "neither 00 nor FF"),
        (number(1).with(ISSUING_POINT, true, &[0x30, 0, 0]), "after IssuingDistributionPoint"),
    ];
    for (spec, why) in cases {
        let text = flaw(root.crl(&spec));
        assert!(text.contains(why) && text.contains("byte "), "{why}: {text}");
    }
    let many = (0..40_u8).fold(number(1), |spec, n| spec.with(&[0x2a, n], false, &[5, 0]));
    assert!(flaw(root.crl(&many)).contains("more than 32 extensions"));
    let mut after = root.crl(&number(1));
    after.push(0);
    assert!(flaw(after).contains("after the CRL's end"));
}

#[test]
fn several_crls_of_one_file_are_taken_in_each_by_itself() {
    let (root, other) = (Authority::new("root", SIGNS_ALL), Authority::new("other", SIGNS_ALL));
    let stranger = Authority::new("stranger", SIGNS_ALL);
    let bundle = bundle(&[&root, &other]);
    let file = |crls: &[Vec<u8>]| crls.iter().map(|der| pem(der)).collect::<Vec<_>>().concat();
    let mut library = Library::default();
    let (first, second) = (root.crl(&Spec::number(2)), other.crl(&Spec::number(2)));
    let both = accept(&mut library, file(&[first.clone(), second.clone()]), &bundle).unwrap();
    assert!(matches!(&both, Accepted::Changed(text) if text.starts_with("2 CRLs: ")), "{both}");
    assert!(matches!(accept(&mut library, file(&[first.clone(), second]), &bundle), Ok(Accepted::Unchanged(_))));
    let waits = accept(&mut library, file(&[first, stranger.crl(&Spec::number(1))]), &bundle);
    assert!(matches!(waits, Ok(Accepted::Waiting(_))), "{waits:?}");
    let mixed = file(&[root.crl(&Spec::number(1)), other.crl(&Spec::number(3).revoking(&[9]))]);
    let refused = accept(&mut library, mixed, &bundle).unwrap_err();
    assert!(refused.changed() && refused.label() == "older", "{refused}");
    assert!(refused.to_string().starts_with("1 of 2 CRLs in this file refused"), "{refused}");
    assert!(revokes(&library.snapshot().unwrap(), &other, 9));
}

#[test]
fn a_crl_cut_at_any_byte_is_refused() {
    let root = Authority::new("root", SIGNS_ALL);
    let der = root.crl(&Spec::number(1).revoking(&[1, 2]));
    for end in 0..der.len() {
        assert!(read(der[..end].to_vec()).is_err(), "{end}");
    }
    let text = pem(&der);
    // But for the last line's end, which may be missing.
    for end in 0..text.len() - 1 {
        assert!(read(text[..end].to_vec()).is_err(), "{end}");
    }
}

#[test]
fn a_crl_with_any_bit_changed_is_never_taken_in() {
    let root = Authority::new("root", SIGNS_ALL);
    let bundle = bundle(&[&root]);
    let der = root.crl(&Spec::number(1).revoking(&[1, 2]));
    for position in 0..der.len() * 8 {
        let mut changed = der.clone();
        changed[position / 8] ^= 1 << (position % 8);
        let Ok(material) = read(changed) else { continue };
        let mut library = Library::default();
        // A changed name may make it wait for somebody else; nothing makes it count.
        let result = library.accept(material, &bundle, NOW);
        assert!(!matches!(result, Ok(Accepted::Changed(_))), "bit {position}: {result:?}");
    }
}

#[test]
fn a_library_of_lists_and_crls_unites_them() {
    let root = Authority::new("root", SIGNS_ALL);
    let mut library = Library::default();
    accept(&mut library, large_list(3), &bundle(&[&root])).unwrap();
    accept(&mut library, root.crl(&Spec::number(1).revoking(&[1])), &bundle(&[&root])).unwrap();
    let snapshot = library.snapshot().unwrap();
    assert_eq!((snapshot.entries(), snapshot.lists().len(), snapshot.sequence()), (4, 1, 1));
    assert!(snapshot.expires_at().unwrap() > NOW && snapshot.issued_at().unwrap() < Time::NEVER);
}
