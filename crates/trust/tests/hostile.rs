//! Bytes from the other side: whatever a client presents is read or refused, and never a panic or a yes.
//!
//! Run by `make test`; `fuzz/` goes on where this stops.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod forge;
mod stand;

use forge::{COMMON_NAME, Draft, UTF8, alone, alternative_names, attribute, basic_constraints, common_name, name};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use stand::*;
use testkit::der::{extension, sequence, value};
use testkit::{Authority, LeafSpec};
use trust::*;

fn root() -> &'static Authority {
    &stand().root
}

/// A leaf with something of everything that is read.
fn rich_leaf() -> CertificateDer<'static> {
    let spec = LeafSpec::spiffe(ID).and_dns("a.example").common_name("né").organization("o").no_rev_avail();
    root().issue(timed(spec.crl_distribution_point("http://crl.example/1"))).der().clone()
}

#[test]
fn a_certificate_cut_short_anywhere_is_refused() {
    let leaf = rich_leaf();
    assert!(alone(&leaf, root()).is_ok());
    for length in 0..leaf.len() {
        let cut = CertificateDer::from(leaf[..length].to_vec());
        assert!(Certificate::parse(&cut).is_err(), "{length}");
        assert!(alone(&cut, root()).is_err(), "{length}");
        // As an extra beside a good leaf it does no harm either.
        assert!(verify(&[leaf.clone(), cut.clone()], &bundle(&[root()]), NOW).is_ok(), "{length}");
        assert!(Bundle::new(vec![(cut, Speaks::ForAnybody)]).is_err(), "{length}");
    }
    let longer = CertificateDer::from([&leaf[..], &[0]].concat());
    assert_eq!(alone(&longer, root()).unwrap_err(), Flaw::Malformed("has bytes after its end"));
}

#[test]
fn a_certificate_with_any_bit_flipped_is_refused() {
    let leaf = rich_leaf();
    for bit in 0..leaf.len() * 8 {
        let mut bytes = leaf.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(alone(&CertificateDer::from(bytes), root()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_flipped_byte_in_the_signature_is_a_bad_signature() {
    let mut bytes = rich_leaf().to_vec();
    *bytes.last_mut().unwrap() ^= 0x55;
    assert_eq!(alone(&CertificateDer::from(bytes), root()).unwrap_err(), Flaw::BadSignature);
}

#[test]
fn an_extension_that_is_there_twice_is_refused() {
    let draft = || Draft::by(root(), common_name("x"));
    let first = alternative_names(&[(0x86, b"spiffe://td/a")]);
    let second = alternative_names(&[(0x86, b"spiffe://td/b")]);
    let usage = extension(&[2, 5, 29, 15], true, &value(0x03, &[7, 0x80]));
    let purposes =
        extension(&[2, 5, 29, 37], false, &sequence(&[testkit::der::object_identifier(&[1, 3, 6, 1, 5, 5, 7, 3, 2])]));
    for [one, two] in [
        [first.clone(), second],
        [first.clone(), first],
        [usage.clone(), usage],
        [basic_constraints(false), basic_constraints(true)],
        [purposes.clone(), purposes],
    ] {
        let once = draft().with(one.clone()).signed_by(root());
        assert!(alone(&once, root()).is_ok());
        let twice = draft().with(one).with(two).signed_by(root());
        let flaw = alone(&twice, root()).unwrap_err();
        assert!(matches!(flaw, Flaw::Malformed(_)), "{flaw}");
    }
}

#[test]
fn extensions_that_cannot_be_read_are_refused_never_skipped() {
    let junk = [0x30, 0x03, 0x02, 0x01];
    for oid in [&[2, 5, 29, 17], &[2, 5, 29, 19], &[2, 5, 29, 15], &[2, 5, 29, 37], &[2, 5, 29, 31]] {
        let leaf = Draft::by(root(), common_name("x")).with(extension(oid, false, &junk)).signed_by(root());
        let flaw = alone(&leaf, root()).unwrap_err();
        assert!(matches!(flaw, Flaw::Malformed(_)), "{oid:?}: {flaw}");
    }
}

#[test]
fn names_with_odd_values_are_read_or_refused() {
    for tag in 0..=u8::MAX {
        for content in [&b""[..], b"a", b"\xff\xfe", &[0x0c, 0x01, 0x61], &[0xd8, 0x00]] {
            let subject = name(&[&[attribute(COMMON_NAME, tag, content)]]);
            let leaf = Draft::by(root(), subject).signed_by(root());
            if let Ok(chain) = alone(&leaf, root()) {
                let typed = chain.identity.typed();
                assert!(typed.starts_with("subject:CN="), "{typed}");
                let plain = matches!(tag, UTF8 | 0x12 | 0x13 | 0x16);
                assert_eq!(
                    typed.starts_with("subject:CN=#"),
                    !plain || std::str::from_utf8(content).is_err(),
                    "{tag:x} {typed}"
                );
            }
        }
    }
}

#[test]
fn a_name_whose_type_is_no_der_is_refused() {
    let huge = [&[0x55][..], &[0xff; 60_000], &[1]].concat();
    let odd: [(&str, &[u8]); 6] = [
        ("2.5.4.3 with a needless 0x80, which must not pass for CN", &[0x55, 0x04, 0x80, 0x03]),
        ("the same in front", &[0x80, 0x55, 0x04, 0x03]),
        ("cut short", &[0x55, 0x04, 0x83]),
        ("cut short at once", &[0x80]),
        ("empty", &[]),
        ("sixty thousand bytes in one arc", &huge),
    ];
    for (what, oid) in odd {
        let attribute = sequence(&[value(0x06, oid), value(UTF8, b"admin")]);
        let leaf = Draft::by(root(), name(&[&[attribute]])).signed_by(root());
        let flaw = alone(&leaf, root()).unwrap_err();
        assert!(matches!(flaw, Flaw::Malformed(_)), "{what}: {flaw}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let der = CertificateDer::from(bytes);
        prop_assert!(Certificate::parse(&der).is_err());
        prop_assert!(alone(&der, root()).is_err());
        prop_assert!(Bundle::new(vec![(der, Speaks::ForAnybody)]).is_err());
    }

    #[test]
    fn a_mutated_certificate_is_never_trusted(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
        beside in any::<bool>(),
    ) {
        let original = rich_leaf();
        let mut bytes = original.to_vec();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let mutated = CertificateDer::from(bytes);
        let _ = Certificate::parse(&mutated).map(|certificate| certificate.identity());
        prop_assert!(mutated == original || alone(&mutated, root()).is_err());
        let presented = if beside { vec![original, mutated] } else { vec![mutated, root().der().clone()] };
        let _ = verify(&presented, &bundle(&[root()]), NOW);
    }
}
