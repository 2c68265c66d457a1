//! Lists in JSON lines: what is understood, and what refuses the whole file, with its line and column.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use revocation::{Material, ReadError, read};
use trust::{List, Mode, Reason, Sha256, Terms, Time, serial_key};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn header(entries: usize) -> String {
    format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":12,\"entries\":{entries},\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}"
    )
}

fn list(text: &str) -> Result<List, ReadError> {
    match read(text.as_bytes().to_vec())? {
        Material::List(read) => Ok(read.list),
        Material::Crls(_) => panic!("{text:?} was taken for CRLs"),
    }
}

fn with(entry: &str) -> Result<List, ReadError> {
    list(&format!("{}\n{entry}\n", header(1)))
}

#[test]
fn every_kind_of_entry_is_understood() {
    let other = Sha256::of(b"other");
    let entries = [
        format!("{{\"serial\":\"0aBc\",\"issuer\":\"{HEX}\"}}"),
        format!("{{\"spki\":\"{HEX}\",\"reason\":\"keyCompromise\"}}"),
        format!("{{\"certificate\":\"{}\",\"note\":\"job 812\"}}", HEX.to_uppercase()),
        "{\"id\":\"spiffe://td/ns/a\"}".to_owned(),
        "{\"id\":\"uri:spiffe://td/ns/*\",\"until\":\"2026-01-01T00:00:00.5+01:00\"}".to_owned(),
        "{\"id\":\"spiffe://td/*\"}".to_owned(),
        "{\"id\":\"dns:Web.example\"}".to_owned(),
        "{\"id\":\"subject:CN=a\\\\,b\"}".to_owned(),
        "{\"trust_domain\":\"old.example\"}".to_owned(),
        format!("{{\"issuer\":\"{other}\",\"issued_before\":\"2026-01-01T00:00:00Z\"}}"),
        format!("{{\"issuer\":\"{HEX}\",\"serial\":\"7\",\"until\":\"2027-01-01T00:00:00Z\"}}"),
        format!("{{\"spki\":\"{other}\",\"issued_before\":\"2026-01-01T00:00:00Z\",\"reason\":\"superseded\"}}"),
        format!("{{\"certificate\":\"{other}\",\"until\":\"2027-01-01T00:00:00Z\"}}"),
    ];
    let list = list(&format!("{}\n{}\n", header(entries.len()), entries.join("\n"))).unwrap();
    let digest = Sha256::from_hex(HEX).unwrap();
    let all = &list.selectors;
    assert_eq!((&*list.name, list.sequence, all.len()), ("prod", 12, entries.len()));
    assert_eq!(list.issued_at.as_seconds(), 1_767_225_600);
    assert_eq!(list.expires_at.since(list.issued_at).as_secs(), 86_400);
    assert_eq!(all.serials.find(serial_key(&digest, &[0x0a, 0xbc])), Some(None));
    assert_eq!(all.public_keys.find(digest.key()), Some(Some(Reason::KeyCompromise)));
    assert_eq!(all.certificates.find(digest.key()), Some(None));
    for id in ["uri:spiffe://td/ns/a", "dns:web.example", "subject:CN=a\\,b"] {
        assert_eq!(all.ids[id], [Terms::default()], "{id}");
    }
    let until = Some(Time::from_millis(1_767_222_000_500));
    assert_eq!(all.id_prefixes["spiffe://td/ns/"], [Terms { until, ..Terms::default() }]);
    assert_eq!(all.id_prefixes["spiffe://td/"].len(), 1);
    assert_eq!(all.trust_domains["old.example"].len(), 1);
    let issued_before = Some(Time::from_seconds(1_767_225_600));
    assert_eq!(all.issuers[&other], [Terms { issued_before, ..Terms::default() }]);
    assert_eq!(all.serials_with_terms[&serial_key(&digest, &[7])].len(), 1);
    let reason = Some(Reason::Superseded);
    assert_eq!(all.public_keys_with_terms[&other], [Terms { issued_before, until: None, reason }]);
    assert_eq!(all.certificates_with_terms[&other].len(), 1);
}

#[test]
fn a_serial_number_means_the_same_however_it_is_spelled() {
    let issuer = Sha256::from_hex(HEX).unwrap();
    let twenty = "f".repeat(40);
    for (text, octets) in [
        ("abc", vec![0x0a, 0xbc]),
        ("0ABC", vec![0x0a, 0xbc]),
        ("000000000000000000000000000000000000000000000000abc", vec![0x0a, 0xbc]),
        ("0", vec![]),
        ("00", vec![]),
        (&twenty, vec![0xff; 20]),
        (&format!("00{twenty}"), vec![0xff; 20]),
    ] {
        let list = with(&format!("{{\"serial\":\"{text}\",\"issuer\":\"{HEX}\"}}")).unwrap();
        assert_eq!(list.selectors.serials.find(serial_key(&issuer, &octets)), Some(None), "{text}");
    }
}

#[test]
fn both_line_ends_a_missing_last_one_and_spaces_are_accepted() {
    let entry = "{\"trust_domain\":\"td\"}";
    for text in [
        format!("{}\r\n{entry}\r\n", header(1)),
        format!("{}\n{entry}", header(1)),
        format!("  {} \n\t{entry} \n", header(1)),
    ] {
        assert_eq!(list(&text).unwrap().selectors.len(), 1, "{text:?}");
    }
    assert!(list(&header(0)).unwrap().selectors.is_empty());
    assert!(list(&format!("{}\n", header(0))).unwrap().selectors.is_empty());
}

#[test]
fn escapes_in_keys_and_values_mean_what_json_says() {
    let list = with("{\"i\\u0064\":\"spiffe:\\/\\/td\\/a\"}").unwrap();
    assert!(list.selectors.ids.contains_key("uri:spiffe://td/a"));
}

#[test]
fn the_digest_is_that_of_the_file() {
    let text = header(0);
    assert_eq!(list(&text).unwrap().digest, Sha256::of(text.as_bytes()));
}

/// The column of the last byte of the last `fragment` in `line`.
fn end_of(fragment: &str, line: &str) -> usize {
    line.rfind(fragment).unwrap_or_else(|| panic!("no {fragment:?} in {line:?}")) + fragment.len()
}

/// An entry, the fragment at whose end the fault is shown, and a part of the sentence.
#[test]
fn a_bad_entry_refuses_the_whole_file_with_line_and_column() {
    let bad_digest = format!("{}g", &HEX[1..]);
    let long_serial = "1".repeat(41);
    let long_note = "n".repeat(1025);
    let cases: &[(&str, &str, &str)] = &[
        ("{'id':'spiffe://td/a','who':1}", "'who'", "unknown key 'who'"),
        ("{'trust_domain':'td','trust_domain':'td'}", "'trust_domain'", "duplicate key"),
        ("{'trust_domain':'td','trust_\\u0064omain':'td'}", "omain'", "duplicate key"),
        (&format!("{{'spki':'{bad_digest}'}}"), "g'", "bad hexadecimal digit 'g' at position 64"),
        ("{'spki':'abcd'}", "'abcd'", "64 hexadecimal digits, this one has 4"),
        (&format!("{{'serial':'0x1','issuer':'{HEX}'}}"), "'0x1'", "bad hexadecimal digit 'x' at position 2"),
        (&format!("{{'serial':'','issuer':'{HEX}'}}"), "''", "at least one hexadecimal digit"),
        (&format!("{{'serial':'{long_serial}','issuer':'{HEX}'}}"), "1',", "at most 20 octets"),
        (&format!("{{'serial':12,'issuer':'{HEX}'}}"), "12", "invalid type: integer `12`"),
        ("{'serial':'12'}", "}", "nothing without its issuer"),
        ("{}", "}", "selects nobody"),
        ("{'reason':'keyCompromise'}", "}", "selects nobody"),
        (&format!("{{'spki':'{HEX}','certificate':'{HEX}'}}"), "}", "selects in several ways"),
        (&format!("{{'spki':'{HEX}','issuer':'{HEX}'}}"), "}", "selects in several ways"),
        ("{'id':'spiffe://td/a','trust_domain':'td'}", "}", "selects in several ways"),
        ("{'id':'spiffe://td'}", "td'", "has a path"),
        ("{'id':'spiffe://td/a*'}", "a*'", "whole segments"),
        ("{'id':'dns:*.example'}", "example'", "without '*'"),
        ("{'id':'web.example'}", "example'", "begins with spiffe://"),
        ("{'id':null}", "null", "invalid type: null"),
        ("{'id':[[[[]]]]}", "'id':", "invalid type: sequence"),
        ("{'trust_domain':'spiffe://td'}", "td'", "is no trust domain"),
        ("{'trust_domain':'TD'}", "TD'", "is no trust domain"),
        ("{'trust_domain':'td/*'}", "td/*'", "is no trust domain"),
        ("{'until':'tomorrow','trust_domain':'td'}", "tomorrow'", "no time of RFC 3339"),
        ("{'trust_domain':'td','until':'2026-02-30T00:00:00Z'}", "Z'", "no time of RFC 3339"),
        ("{'trust_domain':'td','issued_before':0}", "0", "invalid type: integer `0`"),
        ("{'reason':'bored','trust_domain':'td'}", "bored'", "unknown reason 'bored'"),
        ("{'reason':'removeFromCRL','trust_domain':'td'}", "CRL'", "unknown reason"),
        (&format!("{{'note':'{long_note}','trust_domain':'td'}}"), "n',", "at most 1024 bytes"),
        ("['td']", "", "invalid type: sequence"),
        ("'td'", "'td'", "invalid type: string"),
        ("{'trust_domain':'td'} {}", "} {", "trailing characters"),
        ("{'trust_domain':'td',}", "}", "trailing comma"),
        ("{'trust_domain':'td'", "'td'", "EOF while parsing an object"),
        ("{'trust_domain':'t", "'t", "EOF while parsing a string"),
        ("{`trust_domain`:'td'}", "{`", "key must be a string"),
        ("", "", "a blank line"),
        ("   ", "", "a blank line"),
    ];
    for (entry, fragment, why) in cases {
        // Quotes are written as apostrophes above, for the eyes.
        let (entry, fragment) = (entry.replace('\'', "\""), fragment.replace('\'', "\""));
        let why = why.replace("key '", "key \"").replace("reason '", "reason \"").replace("who'", "who\"");
        let why = why.replace("bored'", "bored\"");
        let error = with(&entry).unwrap_err();
        let comma = usize::from(fragment.ends_with(','));
        // An empty fragment stands for the beginning of the line.
        let column = if fragment.is_empty() { 1 } else { end_of(&fragment, &entry) - comma };
        assert!(error.why.contains(&why), "{entry}: {error}");
        assert_eq!((error.line, error.column), (Some(2), Some(column)), "{entry}: {error}");
        assert!(error.to_string().starts_with(&format!("line 2, column {column}: ")), "{error}");
        assert!(error.why.contains("; "), "there is no remedy in: {error}");
    }
}

#[test]
fn a_bad_header_refuses_the_whole_file_with_line_and_column() {
    let good = header(0);
    let end = "2026-01-02T00:00:00Z\"";
    // What is replaced by what, the fragment at whose end the fault is shown, and a part of the sentence.
    let cases = [
        ("revocations/v1", "revocations/v2", "v2\"", "unknown format \"revocations/v2\""),
        ("\"portcullis\":\"revocations/v1\",", "", "}", "missing field `portcullis`"),
        ("\"list\":\"prod\",", "", "}", "missing field `list`"),
        ("\"sequence\":12,", "", "}", "missing field `sequence`"),
        ("\"entries\":0,", "", "}", "missing field `entries`"),
        (",\"expires_at\":\"2026-01-02T00:00:00Z\"", "", "}", "missing field `expires_at`"),
        ("\"sequence\":12", "\"sequence\":-12", "-12", "invalid value: integer `-12`"),
        ("\"sequence\":12", "\"sequence\":\"12\"", "\"12\"", "invalid type: string \"12\""),
        ("\"sequence\":12", "\"sequence\":1.5", "1.5", "invalid type: floating point"),
        ("\"sequence\":12", "\"sequence\":99999999999999999999", "99", "invalid type: floating point"),
        ("\"sequence\":12", "\"sequence\":12,\"sequence\":12", "\"sequence\"", "duplicate field `sequence`"),
        ("\"sequence\":12", "\"moda\":\"observe\",\"sequence\":12", "\"moda\"", "unknown field `moda`"),
        ("\"sequence\":12", "\"mode\":\"watch\",\"sequence\":12", "\"watch\"", "unknown mode \"watch\"; the modes are"),
        ("\"sequence\":12", "\"encoding\":\"zip\",\"sequence\":12", "\"zip\"", "unknown encoding \"zip\""),
        (
            "\"sequence\":12",
            "\"encoding\":\"binary\",\"sequence\":12",
            "prod\",\"",
            "compiled list has sha256 and bytes",
        ),
        ("\"sequence\":12", "\"scope\":\"a b\",\"sequence\":12", "a b\"", "scope \"a b\" is not made of"),
        ("\"sequence\":12", "\"confirm\":1,\"sequence\":12", "confirm\":1", "invalid type: integer `1`"),
        ("\"sequence\":12", "\"absorbs\":[\"a/b\"],\"sequence\":12", "a/b\"", "id of a denial \"a/b\""),
        ("\"sequence\":12", "\"bytes\":0,\"sequence\":12", "prod\",\"", "bytes without sha256"),
        ("\"prod\"", "\"\"", "\"\"", "name \"\" is not made of"),
        ("\"prod\"", "\"a b\"", "a b\"", "name \"a b\" is not made of"),
        ("\"prod\"", "\"é\"", "é\"", "is not made of"),
        ("2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "13-01T00:00:00Z\"", "no time of RFC 3339"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", ",\"", "expires_at is not later"),
        ("2026-01-02T00:00:00Z", "2025-01-02T00:00:00Z", ",\"", "expires_at is not later"),
        ("}", "", end, "EOF while parsing"),
    ];
    for (from, to, fragment, why) in cases {
        assert!(good.contains(from), "{from}");
        let text = good.replace(from, to);
        let error = list(&text).unwrap_err();
        assert!(error.why.contains(why), "{from} → {to}: {error}");
        assert_eq!((error.line, error.column), (Some(1), Some(end_of(fragment, &text))), "{from} → {to}: {error}");
    }
    let long = good.replace("prod", &"p".repeat(65));
    assert!(list(&long).unwrap_err().why.contains("1 to 64 letters"));
}

#[test]
fn a_file_that_does_not_hold_as_many_entries_as_it_says_is_refused() {
    let entry = "{\"trust_domain\":\"td\"}\n";
    let short = list(&format!("{}\n{entry}", header(2))).unwrap_err();
    assert!(short.why.contains("announces 2 entries, but 1 follow"), "{short}");
    assert_eq!((short.line, short.column), (Some(1), header(2).find("\"entries\"").map(|at| at + 1)));
    let long = list(&format!("{}\n{entry}{entry}", header(1))).unwrap_err();
    assert!(long.why.contains("announces 1 entries, but here is one more"), "{long}");
    assert_eq!((long.line, long.column), (Some(3), Some(1)));
    let absurd = list(&header(0).replace("\"entries\":0", "\"entries\":18446744073709551615")).unwrap_err();
    assert!(absurd.why.contains("but 0 follow"), "{absurd}");
}

#[test]
fn blank_lines_are_refused_wherever_they_are() {
    let entry = "{\"trust_domain\":\"td\"}";
    for (text, line) in [
        (format!("\n{}\n{entry}\n", header(1)), 1),
        (format!("{}\n\n{entry}\n", header(1)), 2),
        (format!("{}\n{entry}\n\n{entry}\n", header(2)), 3),
        (format!("{}\n{entry}\n\n", header(1)), 3),
    ] {
        let error = list(&text).unwrap_err();
        assert_eq!(error.line, Some(line), "{text:?}: {error}");
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_refused() {
    let mut text = format!("{}\n{{\"trust_domain\":\"td\",\"note\":\"", header(1)).into_bytes();
    text.extend(b"\xff\"}\n");
    let error = read(text).unwrap_err();
    assert_eq!(error.line, Some(2), "{error}");
}

#[test]
fn what_is_neither_a_list_nor_a_crl_is_refused_with_what_it_seems_to_be() {
    for (bytes, line, why) in [
        (b"".as_slice(), None, "the file is empty"),
        (b" \r\n\t\n", None, "the file is empty"),
        (b"\n\n-----BEGIN CERTIFICATE-----\n", Some(3), "no CRL"),
        (b"\xef\xbb\xbf{}", Some(1), "byte order mark"),
        (b"hello", Some(1), "neither a list"),
        (b" \x30\x00", Some(1), "neither a list"),
        (b"\x30\x00", None, "malformed"),
        (b"\x30", None, "malformed"),
        (b"{", Some(1), "EOF while parsing"),
        (b"-----BEGIN X509 CRL-----", Some(1), "no END line"),
        (b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n", None, "malformed"),
    ] {
        let error = read(bytes.to_vec()).unwrap_err();
        assert!(error.line == line && error.why.contains(why), "{bytes:?}: {error}");
    }
}

#[test]
fn a_list_cut_at_any_byte_is_refused() {
    let text = format!("{}\n{{\"serial\":\"0a\",\"issuer\":\"{HEX}\"}}\n{{\"id\":\"spiffe://td/a\"}}\n", header(2));
    // But for the last line's end, which may be missing.
    for end in 0..text.len() - 1 {
        assert!(list(&text[..end]).is_err(), "{:?}", &text[..end]);
    }
    assert!(list(&text[..text.len() - 1]).is_ok());
}

#[test]
fn an_entry_or_a_list_marked_to_observe_only_observes() {
    let entries = "{\"trust_domain\":\"a\",\"mode\":\"observe\"}\n{\"trust_domain\":\"b\",\"mode\":\"enforce\"}";
    let mixed = list(&format!("{}\n{entries}\n", header(2))).unwrap();
    assert_eq!((mixed.mode, mixed.selectors.len(), mixed.observed.len()), (Mode::Enforce, 1, 1));
    assert!(mixed.observed.trust_domains.contains_key("a") && mixed.selectors.trust_domains.contains_key("b"));
    let whole = header(2).replace("\"prod\"", "\"prod\",\"mode\":\"observe\"");
    let whole = list(&format!("{whole}\n{entries}\n")).unwrap();
    assert_eq!((whole.mode, whole.selectors.len(), whole.observed.len()), (Mode::Observe, 0, 2));
}

#[test]
fn a_header_may_carry_the_digest_of_an_unsigned_list() {
    let entry = "{\"trust_domain\":\"td\"}\n";
    let with = |digest: Sha256, bytes: usize| {
        let more = format!("\"prod\",\"sha256\":\"{digest}\",\"bytes\":{bytes}");
        list(&format!("{}\n{entry}", header(1).replace("\"prod\"", &more)))
    };
    let good = Sha256::of(entry.as_bytes());
    assert_eq!(with(good, entry.len()).unwrap().selectors.len(), 1);
    assert_eq!(with(Sha256::of(b""), entry.len()).unwrap_err().label(), "digest_mismatch");
    assert_eq!(with(good, entry.len() + 1).unwrap_err().label(), "truncated");
    assert_eq!(with(good, entry.len() - 1).unwrap_err().label(), "malformed");
}

#[test]
fn a_refusal_has_one_word_for_metrics() {
    for (bytes, label) in [
        (b"".to_vec(), "empty"),
        (b" \n".to_vec(), "empty"),
        (b"hello".to_vec(), "malformed"),
        (header(1).into_bytes(), "truncated"),
        (header(0).as_bytes()[..40].to_vec(), "truncated"),
        (format!("{}\n{{\"id\":", header(1)).into_bytes(), "truncated"),
        (format!("{}\n{{}}\n", header(1)).into_bytes(), "malformed"),
        (b"-----BEGIN X509 CRL-----\n".to_vec(), "truncated"),
        (b"\x30\x00".to_vec(), "malformed"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.label() == label && ReadError::LABELS.contains(&label), "{label}: {error}");
    }
}
