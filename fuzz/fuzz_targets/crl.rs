//! Any bytes as a CRL, once as they are and once as what a trusted issuer signed, so that the entries are reached.
#![no_main]

#[path = "../../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::sync::LazyLock;

use forge::{Authority, NOW, SIGNS_ALL, bundle};
use libfuzzer_sys::fuzz_target;
use revocation::{Accepted, Library, read};
use trust::Bundle;

static ISSUER: LazyLock<(Authority, Bundle)> = LazyLock::new(|| {
    let root = Authority::new("root", SIGNS_ALL);
    let anchors = bundle(&[&root]);
    (root, anchors)
});

fuzz_target!(|bytes: &[u8]| {
    let (issuer, anchors) = &*ISSUER;
    if let Ok(material) = read(bytes.to_vec()) {
        // The key is new in each process: nothing from outside can be signed with it.
        assert!(!matches!(Library::new().accept(material, anchors, NOW), Ok(Accepted::Changed(_))) || bytes[0] == b'{');
    }
    if let Ok(material) = read(issuer.sign(bytes)) {
        let mut library = Library::new();
        if library.accept(material, anchors, NOW).is_ok() {
            // No entry is shorter than a serial number and a date.
            assert!(library.snapshot().expect("accepted").entries() <= bytes.len() / 7);
        }
    }
});
