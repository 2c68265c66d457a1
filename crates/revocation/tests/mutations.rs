//! Foreign bytes: no panic, and nothing damaged is taken in.
//!
//! A short, deterministic run of what `fuzz/` does at length.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use forge::*;
use proptest::prelude::*;
use revocation::{Accepted, Library, Material, read};

const ITERATIONS: usize = 20_000;

/// SplitMix64: a fixed seed gives a fixed run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(sides.max(1)).unwrap()).unwrap()
    }

    fn damage(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.roll(3) {
            let (at, other) = (self.roll(bytes.len()), self.roll(bytes.len()));
            let (from, to) = (at.min(other), at.max(other).min(at.min(other) + 24));
            match self.roll(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                1 if at < bytes.len() => bytes[at] = [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff, b'"', b'\n'][self.roll(9)],
                2 => drop(bytes.drain(from..to)),
                3 => bytes.splice(from..from, bytes[from..to].to_vec()).for_each(drop),
                4 => bytes.insert(at, u8::try_from(self.roll(256)).unwrap()),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

fn good_list() -> Vec<u8> {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":12,\"entries\":4,\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n\
         {{\"serial\":\"0a\",\"issuer\":\"{digest}\"}}\n{{\"spki\":\"{digest}\",\"reason\":\"superseded\"}}\n\
         {{\"id\":\"spiffe://td/ns/*\",\"until\":\"2027-01-01T00:00:00Z\"}}\n{{\"trust_domain\":\"td\"}}\n"
    )
    .into_bytes()
}

fn good_spec() -> Spec {
    Spec::number(1)
        .revoking(&[1, 2])
        .entry(3, &[&reason(1)])
        .with(AUTHORITY_KEY_ID, false, &sequence(&[&tlv(0x80, &[1; 20])]))
        .with(ISSUING_POINT, true, &sequence(&[&tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://a/")))]))
}

/// What a list that was accepted must be: its header's count is that of its lines.
fn check_count(bytes: &[u8], list: &trust::List) {
    let text = std::str::from_utf8(bytes).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let count = lines.count();
    assert_eq!(header["entries"], count, "{text}");
    assert!(list.selectors.len() <= count, "{text}");
}

#[test]
fn a_damaged_list_never_panics_and_is_never_accepted_with_a_wrong_count() {
    let (good, mut dice, mut accepted) = (good_list(), Dice(1), 0);
    for _ in 0..ITERATIONS {
        let bytes = dice.damage(&good);
        if let Ok(Material::List(read)) = read(bytes.clone()) {
            check_count(&bytes, &read.list);
            accepted += 1;
        }
    }
    // A changed digit still makes a list; but most damage must show.
    assert!(accepted > 0 && accepted < ITERATIONS / 4, "{accepted}");
}

#[test]
fn a_crl_damaged_after_it_was_signed_is_never_taken_in() {
    let root = Authority::new("root", SIGNS_ALL);
    let (bundle, good) = (bundle(&[&root]), root.crl(&good_spec()));
    let mut dice = Dice(2);
    for round in 0..ITERATIONS {
        let bytes = dice.damage(&good);
        let undamaged = bytes == good;
        let Ok(material) = read(if round % 4 == 0 { dice.damage(&pem(&bytes)) } else { bytes.clone() }) else {
            continue;
        };
        let result = Library::default().accept(material, &bundle, NOW);
        assert!(undamaged || !matches!(result, Ok(Accepted::Changed(_))), "{bytes:02x?}");
    }
}

#[test]
fn a_crl_damaged_before_it_was_signed_never_panics() {
    let root = Authority::new("root", SIGNS_ALL);
    let (bundle, good) = (bundle(&[&root]), root.to_be_signed(&good_spec()));
    let (mut dice, mut accepted) = (Dice(3), 0);
    for _ in 0..ITERATIONS {
        let Ok(material) = read(root.sign(&dice.damage(&good))) else { continue };
        let mut library = Library::default();
        if library.accept(material, &bundle, NOW).is_ok() {
            accepted += 1;
            assert!(library.snapshot().unwrap().entries() <= 8);
        }
    }
    assert!(accepted > 0 && accepted < ITERATIONS / 2, "{accepted}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_familiar_beginning_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4_usize
    ) {
        let header = good_list();
        let end = header.iter().position(|byte| *byte == b'\n').unwrap();
        let beginnings = [b"{".to_vec(), header[..=end].to_vec(), b"-----BEGIN X509 CRL-----\n".to_vec(), vec![0x30]];
        let bytes = [beginnings[kind].as_slice(), &bytes].concat();
        if let Ok(Material::List(read)) = read(bytes.clone()) {
            check_count(&bytes, &read.list);
        }
    }

    #[test]
    fn arbitrary_elements_in_a_signed_crl_never_panic(
        entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
        extensions in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        let root = Authority::new("root", SIGNS_ALL);
        let mut spec = Spec::number(1);
        spec.entries = entries.iter().map(|content| tlv(0x30, content)).collect();
        spec.extensions = extensions.iter().map(|content| tlv(0x30, content)).collect();
        if let Ok(material) = read(root.crl(&spec)) {
            let _ = Library::default().accept(material, &bundle(&[&root]), NOW);
        }
    }
}
