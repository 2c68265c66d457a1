//! Compiled lists: they say what the lines said, and nothing damaged is taken in.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use proptest::prelude::*;
use revocation::{Document, Encoding, Entry, Material, ReadError, ReadList, SecretKey, Whom, read, sign};
use trust::{Mode, REASONS, Sha256, Time};

const ISSUED: Time = Time::from_seconds(1_767_225_600);
const EXPIRES: Time = Time::from_seconds(1_767_312_000);

fn document(entries: impl IntoIterator<Item = Entry>) -> Document {
    let mut document = Document::new("prod", Mode::Enforce).unwrap();
    document.add_all(entries);
    document.issue(ISSUED, EXPIRES).unwrap();
    document
}

fn list(file: Vec<u8>) -> Result<ReadList, ReadError> {
    match read(file)? {
        Material::List(read) => Ok(read),
        Material::Crls(_) => panic!("a list was taken for CRLs"),
    }
}

fn serial(number: u32) -> Whom {
    Whom::serial_octets(Sha256::of(b"issuer"), &number.to_be_bytes()).unwrap()
}

/// One entry of every kind that a list can hold, plain and with everything that narrows it.
fn every_kind() -> Vec<Entry> {
    let digest = |text: &str| Sha256::of(text.as_bytes());
    let all = [
        serial(7),
        Whom::public_key(digest("key")),
        Whom::certificate(digest("certificate")),
        Whom::issuer(digest("authority")),
        Whom::trust_domain("old.example").unwrap(),
        Whom::id("spiffe://td/ns/a").unwrap(),
        Whom::id("spiffe://td/ns/*").unwrap(),
        Whom::id("dns:web.example").unwrap(),
        Whom::id("subject:CN=a").unwrap(),
    ];
    let mut entries = Vec::new();
    for whom in all {
        let plain = Entry::of(whom.clone());
        let mut with_reason = plain.clone();
        with_reason.reason = Some(trust::Reason::KeyCompromise);
        let mut noted = plain.clone();
        noted.set_note("job \"812\"\n\u{e9}").unwrap();
        let mut observed = plain.clone();
        observed.mode = Mode::Observe;
        let mut limited = with_reason.clone();
        (limited.issued_before, limited.until) = (Some(ISSUED), Some(Time::from_millis(1_767_312_000_250)));
        limited.set_note("").unwrap();
        entries.extend([plain, with_reason, noted, observed, limited]);
    }
    entries
}

/// As a compiled list keeps them: everything but the digest bits that a key has no room for.
fn compare(document: &Document, again: &Document) {
    let difference = document.diff(again);
    assert!(difference.is_empty(), "{difference:?}");
    assert_eq!(again.entries().len(), document.entries().len());
}

#[test]
fn every_kind_of_entry_comes_back_from_a_compiled_list() {
    let document = document(every_kind());
    let file = document.compile().unwrap();
    let again = Document::parse(file.clone()).unwrap();
    compare(&document, &again);
    assert_eq!(again.header().encoding(), Encoding::Binary);
    assert_eq!(again.header().entries(), u64::try_from(every_kind().len()).unwrap());
    // And again from what came back, byte for byte.
    assert_eq!(again.compile().unwrap(), file);
    // Two reasons for one certificate cannot be one key: the second is a line, and none is lost.
    assert_eq!(again.entries().iter().filter(|entry| entry.whom.is_compiled()).count(), 3);
}

#[test]
fn lines_come_back_from_lines() {
    let document = document(every_kind());
    let again = Document::parse(document.render().unwrap()).unwrap();
    assert_eq!((again.entries(), again.render().unwrap()), (document.entries(), document.render().unwrap()));
}

#[test]
fn a_compiled_list_revokes_and_observes_whom_the_lines_do() {
    let document = document(every_kind());
    let (lines, binary) = (list(document.render().unwrap()).unwrap(), list(document.compile().unwrap()).unwrap());
    assert_eq!(binary.provenance.encoding, Encoding::Binary);
    for (one, other) in [(&lines.list.selectors, &binary.list.selectors), (&lines.list.observed, &binary.list.observed)]
    {
        assert!(one.len() == other.len() && !one.is_empty(), "{} {}", one.len(), other.len());
        assert_eq!(format!("{:?}", one.serials), format!("{:?}", other.serials));
        assert_eq!(format!("{:?}", one.public_keys), format!("{:?}", other.public_keys));
        assert_eq!(format!("{:?}", one.certificates), format!("{:?}", other.certificates));
        assert_eq!(one.serials_with_terms, other.serials_with_terms);
        assert_eq!(one.public_keys_with_terms, other.public_keys_with_terms);
        assert_eq!(one.certificates_with_terms, other.certificates_with_terms);
        assert_eq!((&one.ids, &one.id_prefixes), (&other.ids, &other.id_prefixes));
        assert_eq!((&one.trust_domains, &one.issuers), (&other.trust_domains, &other.issuers));
    }
}

#[test]
fn in_a_list_that_only_observes_every_entry_does_in_either_form() {
    let mut document = Document::new("trial", Mode::Observe).unwrap();
    document.add_all(every_kind());
    document.issue(ISSUED, EXPIRES).unwrap();
    for file in [document.render().unwrap(), document.compile().unwrap()] {
        let list = list(file).unwrap().list;
        assert!(list.mode == Mode::Observe && list.selectors.is_empty() && !list.observed.is_empty());
    }
    compare(&document, &Document::parse(document.compile().unwrap()).unwrap());
}

#[test]
fn a_compiled_list_cannot_be_written_as_lines() {
    let again = Document::parse(document([Entry::of(serial(1))]).compile().unwrap()).unwrap();
    let sentence = again.render().unwrap_err();
    assert!(sentence.contains("1 entries are keys of a compiled list"), "{sentence}");
    let line = again.entries()[0].line();
    assert!(line.starts_with("{\"serial_key\":\"") && Entry::parse(&line).is_err(), "{line}");
}

#[test]
fn a_signed_compiled_list_cut_or_changed_anywhere_is_refused() {
    let key = SecretKey::generate().unwrap();
    let good = sign(document(every_kind()).compile().unwrap(), std::slice::from_ref(&key)).unwrap();
    let body_at = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in 0..good.len() {
        assert!(list(good[..end].to_vec()).is_err(), "{end}");
    }
    for at in body_at..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_eq!(list(bytes).unwrap_err().label(), "digest_mismatch", "{at}");
    }
    assert!(list([good.as_slice(), b"\0"].concat()).is_err());
}

/// A compiled file of this body, with the digest that it should have.
fn with_body(entries: u64, body: &[u8]) -> Vec<u8> {
    let header = format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":{entries},\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\",\"encoding\":\"binary\",\
         \"sha256\":\"{}\",\"bytes\":{}}}\n",
        Sha256::of(body),
        body.len()
    );
    [header.as_bytes(), body].concat()
}

fn body(counts: [u64; 3], keys: &[u128], lines: &str) -> Vec<u8> {
    let counts = counts.iter().flat_map(|count| count.to_be_bytes());
    let keys = keys.iter().flat_map(|key| key.to_be_bytes());
    counts.chain(keys).chain(lines.bytes()).collect()
}

#[test]
fn counts_and_keys_that_do_not_fit_are_refused_before_memory_is_taken() {
    let line = "{\"trust_domain\":\"td\"}\n";
    list(with_body(3, &body([1, 1, 0], &[0x10, 0x10], line))).unwrap();
    for (entries, body, label, why) in [
        (u64::MAX, body([u64::MAX, 0, 0], &[], ""), "truncated", "shorter than its counts"),
        (u64::MAX, body([1 << 60, 1 << 60, 0], &[], ""), "truncated", "shorter than its counts"),
        (2, body([2, 0, 0], &[0x10], ""), "truncated", "shorter than its counts"),
        (0, vec![0; 23], "truncated", "shorter than its counts"),
        (0, vec![], "truncated", "shorter than its counts"),
        (1, body([2, 0, 0], &[0x10, 0x20], ""), "malformed", "more keys than its header announces"),
        (2, body([2, 0, 0], &[0x20, 0x10], ""), "malformed", "key 2 of the serial numbers is not greater"),
        (2, body([2, 0, 0], &[0x10, 0x11], ""), "malformed", "key 2 of the serial numbers is not greater"),
        (1, body([0, 1, 0], &[0x1f], ""), "malformed", "key 1 of the public keys is not greater"),
        (1, body([0, 0, 1], &[0x18], ""), "malformed", "has an unknown reason"),
        (2, body([1, 0, 0], &[0x10], ""), "truncated", "behind the keys there are 0 lines, too few"),
        (1, body([1, 0, 0], &[0x10], line), "malformed", "here is one more"),
        (2, body([1, 0, 0], &[0x10], "{\"id\":1}\n"), "malformed", "in line 1, column 7 of the lines behind the keys"),
        (2, body([1, 0, 0], &[0x10], "\n"), "malformed", "a blank line"),
        (1, body([0, 0, 0], &[], "\0"), "malformed", "in line 1, column 1 of the lines"),
    ] {
        let error = list(with_body(entries, &body)).unwrap_err();
        assert!(error.label() == label && error.why.contains(why) && error.why.contains("; "), "{why}: {error}");
    }
}

#[test]
fn a_compiled_list_without_a_digest_is_refused() {
    let file = String::from_utf8(with_body(0, &body([0; 3], &[], ""))).unwrap();
    let end = file.find(",\"sha256\"").unwrap();
    let bare = format!("{}}}\n{}", &file[..end], "\0".repeat(24));
    assert!(list(bare.into_bytes()).unwrap_err().why.contains("compile it again"));
}

fn whom() -> impl Strategy<Value = Whom> {
    let digest = (0..4_u8).prop_map(|seed| Sha256::of(&[seed]));
    let word = "[a-z][a-z0-9.-]{0,6}";
    prop_oneof![
        (digest.clone(), proptest::collection::vec(any::<u8>(), 0..=20))
            .prop_map(|(issuer, octets)| Whom::serial_octets(issuer, &octets).unwrap()),
        digest.clone().prop_map(Whom::public_key),
        digest.clone().prop_map(Whom::certificate),
        digest.prop_map(Whom::issuer),
        word.prop_map(|text| Whom::trust_domain(&text).unwrap()),
        (word, word).prop_map(|(domain, name)| Whom::id(&format!("spiffe://{domain}/{name}")).unwrap()),
        (word, word).prop_map(|(domain, name)| Whom::id(&format!("spiffe://{domain}/{name}/*")).unwrap()),
        word.prop_map(|name| Whom::id(&format!("dns:{name}")).unwrap()),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let time = proptest::option::weighted(0.2, (0..4_000_000_000_000_i64).prop_map(Time::from_millis));
    let reason = proptest::option::of((0..REASONS.len()).prop_map(|at| REASONS[at].0));
    let note = proptest::option::weighted(0.2, ".{0,20}");
    (whom(), time.clone(), time, reason, note, proptest::bool::weighted(0.1)).prop_map(
        |(whom, issued_before, until, reason, note, observed)| {
            let mut entry = Entry::of(whom);
            (entry.issued_before, entry.until, entry.reason) = (issued_before, until, reason);
            entry.mode = if observed { Mode::Observe } else { Mode::Enforce };
            if let Some(note) = note {
                entry.set_note(&note).unwrap();
            }
            entry
        },
    )
}

proptest! {
    #[test]
    fn any_list_comes_back_from_either_form(entries in proptest::collection::vec(entry(), 0..40)) {
        let document = document(entries);
        let lines = document.render().unwrap();
        let again = Document::parse(lines.clone()).unwrap();
        prop_assert_eq!(again.entries(), document.entries());
        prop_assert_eq!(again.render().unwrap(), lines.clone());
        let binary = document.compile().unwrap();
        let again = Document::parse(binary.clone()).unwrap();
        compare(&document, &again);
        prop_assert_eq!(again.compile().unwrap(), binary.clone());
        // Both mean the same when they are in force.
        let (lines, binary) = (list(lines).unwrap().list, list(binary).unwrap().list);
        prop_assert_eq!(lines.selectors.len(), binary.selectors.len());
        prop_assert_eq!(lines.observed.len(), binary.observed.len());
        prop_assert!(lines.selectors.serials.entries().eq(binary.selectors.serials.entries()));
    }

    #[test]
    fn any_bytes_as_the_body_of_a_compiled_list_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), entries in 0..6_u64
    ) {
        let _ = list(with_body(entries, &bytes));
        let _ = Document::parse(with_body(entries, &bytes));
    }

    #[test]
    fn any_few_keys_as_the_body_are_read_or_refused_but_never_lost(
        serials in proptest::collection::vec(any::<u128>(), 0..4), keys in proptest::collection::vec(any::<u128>(), 0..4)
    ) {
        let counts = [u64::try_from(serials.len()).unwrap(), u64::try_from(keys.len()).unwrap(), 0];
        let all: Vec<u128> = serials.iter().chain(&keys).copied().collect();
        let file = with_body(counts[0] + counts[1], &body(counts, &all, ""));
        if let Ok(read) = list(file) {
            prop_assert_eq!(read.list.selectors.len(), all.len());
        }
    }
}
