//! Who a leaf is: SPIFFE IDs by the strict rules, DNS names, and subjects as text that nobody can forge with.
//!
//! Run by `make test`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod forge;
mod stand;

use forge::{COMMON_NAME, Draft, ORGANIZATION, UTF8, alone, alternative_names, attribute, common_name, name};
use proptest::prelude::*;
use stand::*;
use testkit::{Authority, KeyUsagePurpose, LeafSpec};
use trust::*;

fn root() -> &'static Authority {
    &stand().root
}

fn identity(spec: LeafSpec) -> Result<String, Flaw> {
    alone(root().issue(timed(spec)).der(), root()).map(|chain| chain.identity.typed().to_owned())
}

fn subject_text(subject: Vec<u8>) -> String {
    Certificate::parse(&Draft::by(root(), subject).signed_by(root())).unwrap().subject_text
}

#[test]
fn the_identity_is_the_spiffe_id_else_the_first_dns_name_else_the_subject() {
    let web = "https://example.org/";
    for (spec, expected) in [
        (LeafSpec::spiffe(ID).and_dns("a.example").common_name("x"), "uri:spiffe://td/ns/a/sa/b"),
        (LeafSpec::dns("A.Example").and_dns("b.example").common_name("x"), "dns:a.example"),
        (LeafSpec::dns("a.example").uri(web), "dns:a.example"),
        (LeafSpec::subject("x").organization("o").uri(web), "subject:CN=x,O=o"),
        (LeafSpec::subject("spiffe://td/ns/a/sa/b"), "subject:CN=spiffe://td/ns/a/sa/b"),
        (LeafSpec::subject("uri:spiffe://td/a"), "subject:CN=uri:spiffe://td/a"),
    ] {
        assert_eq!(identity(spec), Ok(expected.to_owned()));
    }
}

#[test]
fn a_leaf_that_claims_a_spiffe_id_badly_has_no_identity_at_all() {
    let web = "https://example.org/";
    for spec in [
        LeafSpec::spiffe("spiffe://td/a").uri("spiffe://td/b"),
        LeafSpec::spiffe("spiffe://td/a").uri(web),
        LeafSpec::new().uri(web).uri("spiffe://td/a"),
        LeafSpec::spiffe("SPIFFE://td/a"),
        LeafSpec::spiffe("Spiffe://td/a").and_dns("a.example"),
        LeafSpec::spiffe("spiffe:td/a").and_dns("a.example"),
        LeafSpec::spiffe("spiffe://td").common_name("x"),
        LeafSpec::spiffe("spiffe://TD/a"),
        LeafSpec::spiffe("spiffe://td/a/../b"),
        LeafSpec::spiffe("spiffe://td/%61"),
        LeafSpec::spiffe("spiffe://td/a\";URI=spiffe://td/b"),
        LeafSpec::spiffe("spiffe://td/a\n"),
        LeafSpec::spiffe("spiffe://td/a\0"),
        LeafSpec::spiffe("spiffe://td/a").key_usages(&[KeyUsagePurpose::KeyCertSign]),
        LeafSpec::spiffe("spiffe://td/a").key_usages(&[KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature]),
        LeafSpec::spiffe("spiffe://td/a").ca(true),
        LeafSpec::spiffe(&format!("spiffe://td/{}", "a".repeat(2048))),
    ] {
        let what = format!("{spec:?}");
        assert!(matches!(identity(spec), Err(Flaw::Identity(_))), "{what}");
    }
    let whole = format!("spiffe://{}/a", "t".repeat(255));
    assert_eq!(identity(LeafSpec::spiffe(&whole)), Ok(format!("uri:{whole}")));
}

#[test]
fn a_uri_that_is_not_ascii_makes_a_leaf_unreadable() {
    let flaw = identity(LeafSpec::spiffe("spiffe://td/é")).unwrap_err();
    assert!(matches!(flaw, Flaw::Malformed(_) | Flaw::Identity(_)), "{flaw}");
}

#[test]
fn a_dns_name_that_spells_something_else_is_no_identity() {
    let long = "a".repeat(254);
    for bad in
        ["spiffe://td/ns/a/sa/b", "uri:spiffe://td/a", "a b", "a\"b", "a;b", "a\nb", "a,b", "", &long, "a/b", "a:b"]
    {
        let flaw = identity(LeafSpec::dns(bad)).unwrap_err();
        assert!(matches!(flaw, Flaw::Identity(_) | Flaw::Malformed(_)), "{bad:?}: {flaw}");
    }
    assert!(identity(LeafSpec::dns("").common_name("x")).is_err(), "nor does the subject step in");
}

#[test]
fn a_leaf_without_any_name_has_no_identity() {
    let nameless = Draft::by(root(), name(&[])).signed_by(root());
    assert!(matches!(alone(&nameless, root()), Err(Flaw::Identity(_))));
    let empty_set = Draft::by(root(), name(&[&[]])).signed_by(root());
    assert!(matches!(alone(&empty_set, root()), Err(Flaw::Identity(_) | Flaw::Malformed(_))));
    for odd in [(0x87, [127, 0, 0, 1].as_slice()), (0x81, b"a@example.org"), (0x88, &[42])] {
        let leaf = Draft::by(root(), name(&[])).with(alternative_names(&[odd])).signed_by(root());
        assert!(matches!(alone(&leaf, root()), Err(Flaw::Identity(_))), "{odd:?}");
    }
}

#[test]
fn a_subject_of_more_than_1024_bytes_names_nobody() {
    let spelled = |length: usize| identity(LeafSpec::subject(&"x".repeat(length - 3)));
    assert!(spelled(1024).is_ok());
    assert!(matches!(spelled(1025), Err(Flaw::Identity(_))));
}

#[test]
fn odd_subjects_become_plain_text_that_ends_no_field_quotation_or_line() {
    for (odd, expected) in [
        ("\";URI=spiffe://td/admin", r#"CN=\"\;URI\=spiffe://td/admin"#),
        ("a,CN=b", r"CN=a\,CN\=b"),
        ("a+CN=b", r"CN=a\+CN\=b"),
        ("<a>", r"CN=\<a\>"),
        (r"a\", r"CN=a\\"),
        ("a\r\nX-Admin: yes", r"CN=a\0D\0AX-Admin: yes"),
        ("a\0b", r"CN=a\00b"),
        ("a\tb\x7f\x1b[31m", r"CN=a\09b\7F\1B[31m"),
        (" a ", r"CN=\ a\ "),
        ("  ", r"CN=\ \ "),
        (" ", r"CN=\ "),
        ("#04", r"CN=\#04"),
        ("a#b c", "CN=a#b c"),
        ("é", r"CN=\C3\A9"),
        ("а", r"CN=\D0\B0"),
        ("\u{202e}gpj.exe", r"CN=\E2\80\AEgpj.exe"),
        (r"\C3\A9", r"CN=\\C3\\A9"),
        ("", "CN="),
    ] {
        assert_eq!(subject_text(common_name(odd)), expected, "{odd:?}");
    }
}

#[test]
fn rdns_are_written_last_first_and_attributes_of_one_together() {
    let cn = |text: &str| attribute(COMMON_NAME, UTF8, text.as_bytes());
    let o = |text: &str| attribute(ORGANIZATION, UTF8, text.as_bytes());
    assert_eq!(subject_text(name(&[&[o("o")], &[cn("a")]])), "CN=a,O=o");
    assert_eq!(subject_text(name(&[&[o("o"), cn("a")]])), "O=o+CN=a");
    assert_eq!(subject_text(name(&[&[cn("a")], &[cn("b"), o("o")]])), "CN=b+O=o,CN=a");
}

#[test]
fn what_is_no_plain_string_or_no_well_known_type_is_written_as_its_whole_encoding() {
    let of = |oid: &[u64], tag, content: &[u8]| subject_text(name(&[&[attribute(oid, tag, content)]]));
    assert_eq!(of(COMMON_NAME, 0x1e, &[0, 0x41]), "CN=#1e020041");
    assert_eq!(of(COMMON_NAME, 0x14, b"a"), "CN=#140161");
    assert_eq!(of(COMMON_NAME, 0x04, b"a"), "CN=#040161");
    assert_eq!(of(COMMON_NAME, 0x8c, b"a"), "CN=#8c0161", "a tag of another class is no UTF8String");
    assert_eq!(of(&[1, 2, 840, 113549, 1, 9, 1], 0x16, b"a@b"), "1.2.840.113549.1.9.1=#1603614062");
    assert_eq!(of(&[2, 5, 4, 5], UTF8, b"7"), "2.5.4.5=#0c0137");
    assert_eq!(of(&[2, 999, 1 << 40], UTF8, b"7"), "2.999.1099511627776=#0c0137");
    assert_eq!(of(&[0, 39], UTF8, b"7"), "0.39=#0c0137");
}

#[test]
fn a_subject_pattern_is_the_very_text_of_a_certificate_or_is_refused_with_that_text() {
    for (written, meant) in [
        ("CN=Jürgen", r"CN=J\C3\BCrgen"),
        (r"CN=J\c3\bcrgen", r"CN=J\C3\BCrgen"),
        ("cn=a, o=b", "CN=a,O=b"),
        (" CN = a + OU = b , DC=c ", "CN=a+OU=b,DC=c"),
        ("2.5.4.3=a,0.9.2342.19200300.100.1.1=b", "CN=a,UID=b"),
        ("CN=a=b", r"CN=a\=b"),
        (r"CN=\a\62,O=\20c\20", r"CN=ab,O=\ c\ "),
        (r"CN=a\ ", r"CN=a\ "),
        (r"CN=\#a,O=", r"CN=\#a,O="),
        ("CN=#0C0161", "CN=a"),
        ("CN=#040161", "CN=#040161"),
        ("1.2.840.113549.1.9.1=#160161", "1.2.840.113549.1.9.1=#160161"),
        ("2.999.1099511627776=#0C0137", "2.999.1099511627776=#0c0137"),
    ] {
        let parsed = IdentityPattern::parse(&format!("subject:{written}"));
        match written == meant {
            true => assert!(parsed.is_ok(), "{written}: {parsed:?}"),
            false => {
                let why = parsed.unwrap_err().to_string();
                assert!(why.ends_with(&format!("write subject:{meant}")), "{written}: {why}");
                assert!(IdentityPattern::parse(&format!("subject:{meant}")).is_ok(), "{meant}");
            }
        }
    }
}

#[test]
fn a_subject_pattern_that_no_certificate_can_have_is_refused_with_the_form() {
    for hopeless in [
        "",
        "a",
        "=",
        "=a",
        "CN",
        "CN=a,",
        ",CN=a",
        "CN=a,,O=b",
        "commonName=a",
        "E=a@b",
        "/CN=a/O=b",
        "CN=\"a\"",
        "CN=a;O=b",
        "CN=<a>",
        r"CN=a\",
        r"CN=\ff",
        "CN=#",
        "CN=#0",
        "CN=#0c01",
        "CN=#0c016161",
        "CN=#xx",
        "2.5.4.5=7",
        "02.5.4.5=#0c0137",
        "2.5..4=#0c0137",
        "3.1=#0c0137",
        "1.40=#0c0137",
        "1=#0c0137",
        "2.9223372036854775808=#0c0137",
        "uri:spiffe://td/a",
    ] {
        let why = IdentityPattern::parse(&format!("subject:{hopeless}")).unwrap_err().to_string();
        assert!(why.contains("CN=a,O=b") && why.contains(r"\C3\A9"), "{hopeless}: {why}");
    }
    let long = |length: usize| IdentityPattern::parse(&format!("subject:CN={}", "x".repeat(length - 3)));
    assert!(long(1024).is_ok() && long(1025).is_err());
}

/// A value as the text has it: a string, or an encoding.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(Vec<u8>),
    Encoding(Vec<u8>),
}

/// Reads what `subject_text` wrote, by RFC 4514 alone: if this gives back the name, two names never share a text.
fn read_back(text: &str) -> Vec<Vec<(String, Value)>> {
    let mut rdns = vec![Vec::new()];
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let equals = rest.iter().position(|byte| *byte == b'=').unwrap();
        let kind = String::from_utf8(rest[..equals].to_vec()).unwrap();
        rest = &rest[equals + 1..];
        let encoded = rest.first() == Some(&b'#');
        let mut value = Vec::new();
        while let Some(byte) = rest.first().copied().filter(|byte| *byte != b',' && *byte != b'+') {
            let digits = |from: usize| u8::from_str_radix(std::str::from_utf8(&rest[from..from + 2]).unwrap(), 16);
            let (read, length) = match byte {
                b'#' if encoded && value.is_empty() && rest.len() > 2 => (digits(1).unwrap(), 3),
                _ if encoded => (digits(0).unwrap(), 2),
                b'\\' if rest[1].is_ascii_hexdigit() => (digits(1).unwrap(), 3),
                b'\\' => (rest[1], 2),
                _ => (byte, 1),
            };
            value.push(read);
            rest = &rest[length..];
        }
        let value = if encoded { Value::Encoding(value) } else { Value::Text(value) };
        rdns.last_mut().unwrap().push((kind, value));
        if rest.first() == Some(&b',') {
            rdns.push(Vec::new());
        }
        rest = rest.get(1..).unwrap_or(&[]);
    }
    rdns.reverse();
    rdns
}

/// An attribute: its DER, and what the text must say about it.
fn any_attribute() -> impl Strategy<Value = (Vec<u8>, (String, Value))> {
    const TYPES: [(&[u64], &str); 4] = [
        (COMMON_NAME, "CN"),
        (ORGANIZATION, "O"),
        (&[0, 9, 2342, 19200300, 100, 1, 25], "DC"),
        (&[2, 5, 4, 42], "2.5.4.42"),
    ];
    let hostile = prop::collection::vec(prop::sample::select(b",+=#\\ \"';<>0Aa\n\0\xc3\xa9".to_vec()), 0..6);
    let content = prop_oneof![hostile, prop::collection::vec(any::<u8>(), 0..40)];
    // UTF8String, PrintableString (with characters it must not have), BMPString, OCTET STRING, other classes.
    let tag = prop::sample::select(vec![UTF8, UTF8, 0x13, 0x1e, 0x04, 0x8c, 0x9e]);
    (prop::sample::select(TYPES.to_vec()), tag, content).prop_map(|((oid, kind), tag, content)| {
        let known = !kind.starts_with('2');
        let plain = known && matches!(tag, UTF8 | 0x13) && std::str::from_utf8(&content).is_ok();
        let value = match plain {
            true => Value::Text(content.clone()),
            false => Value::Encoding(testkit::der::value(tag, &content)),
        };
        (attribute(oid, tag, &content), (kind.to_owned(), value))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_name_can_be_read_back_from_its_text(
        rdns in prop::collection::vec(prop::collection::vec(any_attribute(), 1..3), 1..4),
    ) {
        let der: Vec<Vec<Vec<u8>>> = rdns.iter().map(|rdn| rdn.iter().map(|one| one.0.clone()).collect()).collect();
        let slices: Vec<&[Vec<u8>]> = der.iter().map(Vec::as_slice).collect();
        let certificate = Draft::by(root(), name(&slices)).signed_by(root());
        // Strings that break the rules of their own type are refused, not written.
        if let Ok(certificate) = Certificate::parse(&certificate) {
            let text = certificate.subject_text;
            prop_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{:?}", text);
            let expected: Vec<Vec<_>> = rdns.into_iter().map(|rdn| rdn.into_iter().map(|one| one.1).collect()).collect();
            prop_assert_eq!(read_back(&text), expected, "{}", text);
            if text.len() <= 1024 {
                let pattern = IdentityPattern::parse(&format!("subject:{text}"));
                prop_assert!(pattern.is_ok_and(|one| one.matches(&Identity::from_subject(&text).unwrap())), "{}", text);
            }
        }
    }

    #[test]
    fn patterns_and_ids_are_read_from_anything_without_a_panic(text in ".{0,80}", tail in "[a-z./*%-]{0,30}") {
        for candidate in [text.clone(), tail.clone(), format!("uri:spiffe://{tail}"), format!("dns:{text}"), format!("subject:{text}")] {
            let _ = SpiffeId::parse(&candidate);
            let _ = IdentityPattern::parse_spiffe(&candidate);
            if let Ok(IdentityPattern::Exact(identity)) = IdentityPattern::parse(&candidate) {
                prop_assert!(IdentityPattern::parse(identity.typed()).unwrap().matches(&identity));
            }
        }
    }

    #[test]
    fn a_spiffe_id_is_below_each_of_its_ancestors_and_no_others(
        domain in "[a-z0-9._-]{1,20}", segments in prop::collection::vec("[a-zA-Z0-9_-]{1,8}", 1..6), cut in 0_usize..60,
    ) {
        let uri = format!("spiffe://{domain}/{}", segments.join("/"));
        let id = SpiffeId::parse(&uri).unwrap();
        prop_assert_eq!(id.trust_domain(), &domain);
        let identity = Identity::from_spiffe(&uri).unwrap();
        prop_assert_eq!(identity.spiffe(), Some(id));
        for ancestor in id.ancestors() {
            let below = IdentityPattern::parse_spiffe(&format!("{ancestor}*")).unwrap();
            prop_assert!(below.matches(&identity));
        }
        prop_assert_eq!(id.ancestors().count(), segments.len());
        let prefix = &uri[..cut.min(uri.len())];
        if let Ok(pattern) = IdentityPattern::parse_spiffe(&format!("{prefix}*")) {
            prop_assert_eq!(pattern.matches(&identity), id.ancestors().any(|one| one == prefix));
        }
    }
}
