//! Lists that people change: sorted, each entry once, numbered anew with each issue; and what differs between two.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use forge::{Authority, SIGNS_ALL, SIGNS_CERTIFICATES, Spec, pem, reason};
use revocation::{Document, Entry, Material, SecretKey, UnverifiedCrl, Whom, read, sign};
use trust::{Certificate, Mode, Reason, Sha256, Time, serial_key};

const ISSUED: Time = Time::from_seconds(1_767_225_600);
const EXPIRES: Time = Time::from_seconds(1_767_312_000);

fn empty() -> Document {
    let mut document = Document::new("prod", Mode::Enforce).unwrap();
    document.issue(ISSUED, EXPIRES).unwrap();
    document
}

fn domain(name: &str) -> Entry {
    Entry::of(Whom::trust_domain(name).unwrap())
}

fn text(document: &Document) -> String {
    String::from_utf8(document.render().unwrap()).unwrap()
}

fn crls(file: Vec<u8>) -> Vec<UnverifiedCrl> {
    let Material::Crls(crls) = read(file).unwrap() else { panic!("taken for a list") };
    crls
}

#[test]
fn a_new_list_is_what_people_would_write() {
    let mut document = empty();
    let mut entry = Entry::of(Whom::id("uri:spiffe://prod/ns/ci/*").unwrap());
    (entry.issued_before, entry.until) = (Some(ISSUED), Some(EXPIRES));
    entry.reason = Some(Reason::KeyCompromise);
    entry.set_note("job 812").unwrap();
    assert!(document.add(entry.clone()) && !document.add(entry));
    document.add(Entry::of(Whom::serial(Sha256::of(b""), "00ABC").unwrap()));
    document.set_scope(Some("eu")).unwrap();
    assert!(document.absorb("d-1").unwrap() && !document.absorb("d-1").unwrap());
    let issuer = Sha256::of(b"");
    assert_eq!(
        text(&document),
        format!(
            "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"scope\":\"eu\",\"sequence\":1,\"entries\":2,\
             \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\",\"absorbs\":[\"d-1\"]}}\n\
             {{\"id\":\"spiffe://prod/ns/ci/*\",\"issued_before\":\"2026-01-01T00:00:00Z\",\
             \"until\":\"2026-01-02T00:00:00Z\",\"reason\":\"keyCompromise\",\"note\":\"job 812\"}}\n\
             {{\"serial\":\"0abc\",\"issuer\":\"{issuer}\"}}\n"
        )
    );
    let Material::List(read) = read(document.render().unwrap()).unwrap() else { panic!("taken for CRLs") };
    assert_eq!(read.list.selectors.serials.find(serial_key(&issuer, &[0x0a, 0xbc])), Some(None));
    assert_eq!(read.list.absorbs.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["d-1"]);
}

#[test]
fn entries_are_sorted_from_many_to_one_in_whatever_order_they_came() {
    let digest = Sha256::of(b"");
    let all = [
        domain("a"),
        domain("b"),
        Entry::of(Whom::issuer(digest)),
        Entry::of(Whom::id("spiffe://td/a").unwrap()),
        Entry::of(Whom::public_key(digest)),
        Entry::of(Whom::certificate(digest)),
        Entry::of(Whom::serial(digest, "2").unwrap()),
        Entry::of(Whom::serial(digest, "10").unwrap()),
    ];
    let (mut one, mut other) = (empty(), empty());
    assert_eq!(one.add_all(all.iter().rev().cloned().chain(all.clone())), all.len());
    for entry in all.iter().cycle().skip(3).step_by(3).take(24) {
        other.add(entry.clone());
    }
    assert_eq!((one.entries(), other.entries()), (all.as_slice(), all.as_slice()));
    // One entry more is one line more, and nothing else but the header.
    let before = text(&one);
    one.add(domain("aa"));
    let after = text(&one);
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let added: Vec<String> = lines(&after).into_iter().filter(|line| !lines(&before).contains(line)).collect();
    assert_eq!(added, ["{\"trust_domain\":\"aa\"}"]);
}

#[test]
fn what_is_removed_is_returned() {
    let mut document = empty();
    document.add_all([domain("a"), domain("b"), domain("c")]);
    let removed = document.remove(|entry| entry.whom.is_same(&Whom::trust_domain("b").unwrap()));
    assert_eq!((removed, document.entries().len()), (vec![domain("b")], 2));
}

#[test]
fn each_issue_has_the_next_number_and_no_confirmation_of_the_last() {
    let mut document = empty();
    document.set_confirm(true);
    assert!(text(&document).contains("\"confirm\":true"));
    document.issue(ISSUED, EXPIRES).unwrap();
    assert_eq!((document.header().sequence(), document.header().confirms()), (2, false));
    assert!(document.issue(EXPIRES, ISSUED).unwrap_err().contains("later expiry"));
    let last = text(&document).replace("\"sequence\":2", "\"sequence\":18446744073709551615");
    let mut full = Document::parse(last.into_bytes()).unwrap();
    assert!(full.issue(ISSUED, EXPIRES).unwrap_err().contains("another name"));
}

#[test]
fn what_could_not_be_read_again_is_never_written() {
    assert!(Document::new("a b", Mode::Enforce).unwrap_err().contains("is not made of"));
    let mut document = Document::new("prod", Mode::Observe).unwrap();
    assert!(document.render().unwrap_err().contains("issue it first"));
    assert!(document.compile().unwrap_err().contains("issue it first"));
    assert!(document.set_scope(Some("")).is_err() && document.absorb("a b").is_err());
    document.issue(ISSUED, Time::NEVER).unwrap();
    assert!(document.render().unwrap_err().contains("0 to 9999"));
    document.issue(ISSUED, EXPIRES).unwrap();
    let mut entry = domain("a");
    assert!(entry.set_note(&"n".repeat(1025)).unwrap_err().contains("shorten it"));
    entry.until = Some(Time::NEVER);
    document.add(entry);
    assert!(document.render().unwrap_err().contains("trust domain a lies outside"));
    for bad in [Whom::id("web.example"), Whom::trust_domain("TD"), Whom::serial(Sha256::of(b""), "xyz")] {
        bad.unwrap_err();
    }
    assert!(Whom::serial_octets(Sha256::of(b""), &[1; 21]).is_err());
    Whom::serial_octets(Sha256::of(b""), &[&[0; 5][..], &[1; 20]].concat()).unwrap();
}

#[test]
fn a_signed_list_is_read_as_a_document_and_says_whose_signatures_it_had() {
    let key = SecretKey::generate().unwrap();
    let mut document = empty();
    document.add(domain("a"));
    let file = sign(document.render().unwrap(), std::slice::from_ref(&key)).unwrap();
    let again = Document::parse(file).unwrap();
    assert_eq!(again.signatures(), [Some(key.public().id())]);
    assert!(document.diff(&again).is_empty());
    // Written again it is unsigned, and can be changed by hand: no digest stands in its header.
    assert_eq!(again.render().unwrap(), document.render().unwrap());
    assert!(document.signatures().is_empty());
}

#[test]
fn what_differs_is_told_in_either_form() {
    let (mut old, mut new) = (empty(), empty());
    let serial = Entry::of(Whom::serial(Sha256::of(b"ca"), "7").unwrap());
    old.add_all([domain("gone"), domain("stays"), serial.clone()]);
    let mut reasoned = serial.clone();
    reasoned.reason = Some(Reason::Superseded);
    new.add_all([domain("stays"), domain("comes"), reasoned.clone()]);
    new.issue(ISSUED, EXPIRES).unwrap();
    new.set_scope(Some("eu")).unwrap();
    let difference = old.diff(&new);
    assert_eq!(difference.removed, [domain("gone"), serial]);
    assert_eq!(difference.added, [domain("comes"), reasoned]);
    let fields: Vec<_> = difference.header.iter().map(|one| (one.field, one.old.as_str(), one.new.as_str())).collect();
    assert_eq!(fields, [("scope", "", "eu"), ("sequence", "1", "2")]);
    let compiled = Document::parse(new.compile().unwrap()).unwrap();
    assert!(new.diff(&compiled).is_empty() && compiled.diff(&new).is_empty() && old.diff(&old).is_empty());
    let across = old.diff(&compiled);
    assert_eq!((across.removed, across.added.len()), (difference.removed, 2));
}

#[test]
fn the_entries_of_a_crl_become_entries_of_a_list() {
    let root = Authority::new("root", SIGNS_ALL);
    let issuer = Certificate::parse(&root.certificate).unwrap();
    let spec = Spec::number(1).revoking(&[1, 2]).entry(3, &[&reason(1)]);
    let mut document = empty();
    for (file, count) in [(root.crl(&spec), 3), (pem(&root.crl(&spec)), 0)] {
        let crl = &crls(file)[0];
        assert_eq!(document.import(crl, std::slice::from_ref(&issuer), Some("ca.crl")).unwrap(), count);
    }
    let Material::List(read) = read(document.compile().unwrap()).unwrap() else { panic!("taken for CRLs") };
    let found = |serial: u8| read.list.selectors.serials.find(serial_key(&root.key_digest(), &[serial]));
    assert_eq!([found(1), found(3), found(4)], [Some(None), Some(Some(Reason::KeyCompromise)), None]);
    assert!(document.entries().iter().all(|entry| entry.note() == Some("ca.crl")));
}

#[test]
fn a_crl_that_is_not_whole_or_not_its_issuers_is_not_imported() {
    let root = Authority::new("root", SIGNS_ALL);
    let (other, weak) = (Authority::new("root", SIGNS_ALL), Authority::new("weak", SIGNS_CERTIFICATES));
    let issuers: Vec<Certificate> =
        [&root, &weak].map(|one| Certificate::parse(&one.certificate).unwrap()).into_iter().collect();
    let delta = Spec::number(2).with(forge::DELTA, true, &[2, 1, 1]);
    let unknown = Spec::number(1).with(forge::UNKNOWN, true, &[5, 0]);
    let takes_back = Spec::number(1).entry(3, &[&reason(8)]);
    for (file, why) in [
        (root.crl(&delta), "is a delta CRL"),
        (root.crl(&unknown), "cannot be imported (its critical extension"),
        (root.crl(&takes_back), "is malformed"),
        (other.crl(&Spec::number(1)), "signed by none of the issuers"),
        (weak.crl(&Spec::number(1)), "without cRLSign"),
    ] {
        let sentence = empty().import(&crls(file)[0], &issuers, None).unwrap_err();
        assert!(sentence.contains(why) && sentence.contains("; "), "{why}: {sentence}");
    }
    let error = Document::parse(root.crl(&Spec::number(1))).unwrap_err();
    assert!(error.why.contains("portcullis revocations import"), "{error}");
}

#[test]
fn an_entry_is_one_line_for_machines_and_one_for_people() {
    let mut entry = Entry::of(Whom::serial(Sha256::of(b"ca"), "0abc").unwrap());
    (entry.issued_before, entry.reason, entry.mode) = (Some(ISSUED), Some(Reason::Superseded), Mode::Observe);
    entry.set_note("tab\there").unwrap();
    assert_eq!(Entry::parse(&entry.line()).unwrap(), entry);
    let expected = format!(
        "serial 0abc of issuer {}, issued before 2026-01-01T00:00:00Z, superseded, only observed, \"tab\\there\"",
        Sha256::of(b"ca")
    );
    assert_eq!(entry.to_string(), expected);
    assert_eq!(entry.whom.kind(), "serial");
    assert!(Entry::parse("{\"id\":1}").unwrap_err().to_string().starts_with("line 1, column 7"));
}
