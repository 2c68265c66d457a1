//! Any bytes as a CRL, once as they are and once as what a trusted issuer signed, so that the entries are reached; the
//! latter beside a complete CRL too, so that delta CRLs have something to change.
#![no_main]

#[path = "../../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::sync::LazyLock;

use forge::{Authority, NOW, SIGNS_ALL, Spec, bundle, reason};
use libfuzzer_sys::fuzz_target;
use revocation::{Accepted, Library, read};
use trust::{Bundle, CrlForm, serial_key};

static ISSUER: LazyLock<(Authority, Bundle)> = LazyLock::new(|| {
    let root = Authority::new("root", SIGNS_ALL);
    let anchors = bundle(&[&root]);
    (root, anchors)
});

fuzz_target!(|bytes: &[u8]| {
    let (issuer, anchors) = &*ISSUER;
    if let Ok(material) = read(bytes.to_vec()) {
        // The key is new in each process: nothing from outside can be signed with it.
        assert!(
            !matches!(Library::default().accept(material, anchors, NOW), Ok(Accepted::Changed(_))) || bytes[0] == b'{'
        );
    }
    if let Ok(material) = read(issuer.sign(bytes)) {
        let mut library = Library::default();
        if library.accept(material, anchors, NOW).is_ok() {
            // No entry is shorter than a serial number and a date.
            assert!(library.snapshot().expect("accepted").entries() <= bytes.len() / 7);
        }
        change(bytes);
    }
});

/// A delta CRL takes back only what was on hold.
fn change(bytes: &[u8]) {
    let (issuer, anchors) = &*ISSUER;
    let complete = Spec::number(1).revoking(&[1]).entry(2, &[&reason(6)]);
    let mut library = Library::default();
    library.accept(read(issuer.crl(&complete)).expect("a CRL"), anchors, NOW).expect("a good CRL");
    let _ = library.accept(read(issuer.sign(bytes)).expect("read before"), anchors, NOW);
    let snapshot = library.snapshot().expect("accepted");
    for crl in snapshot.crls().filter(|crl| matches!(crl.form, CrlForm::Combined(_))) {
        assert!(crl.find(serial_key(&issuer.key_digest(), &[1])).is_some());
    }
}
