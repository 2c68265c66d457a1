//! Signed lists: who must have signed, over which bytes, and what no change of a byte gets past.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use revocation::{
    Encoding, Keys, Material, Provenance, ReadError, ReadList, Requirements, SecretKey, confirm, read, read_under, sign,
};
use serde_json::{Value, json};
use trust::Sha256;

static KEYS: LazyLock<[SecretKey; 3]> = LazyLock::new(|| std::array::from_fn(|_| SecretKey::generate().unwrap()));

const ENTRIES: &str = "{\"trust_domain\":\"old.example\"}\n{\"id\":\"spiffe://td/ns/*\"}\n";

fn unsigned() -> Vec<u8> {
    let header = "{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"scope\":\"eu\",\"sequence\":12,\"entries\":2,\
                  \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}\n";
    format!("{header}{ENTRIES}").into_bytes()
}

/// Signed by the keys of these numbers.
fn signed(by: &[usize]) -> Vec<u8> {
    by.iter().fold(unsigned(), |file, number| sign(file, std::slice::from_ref(&KEYS[*number])).unwrap())
}

/// So many of all three keys.
fn threshold(count: usize) -> Requirements {
    let keys = Keys::new(KEYS.iter().map(SecretKey::public).collect(), count).unwrap();
    Requirements { keys: Some(Arc::new(keys)), ..Requirements::default() }
}

fn list(file: Vec<u8>, under: &Requirements) -> Result<ReadList, ReadError> {
    match read_under(file, under)? {
        Material::List(read) => Ok(read),
        Material::Crls(_) => panic!("a list was taken for CRLs"),
    }
}

fn refusal(file: Vec<u8>, under: &Requirements) -> (&'static str, String) {
    let error = list(file, under).unwrap_err();
    assert!(ReadError::LABELS.contains(&error.label()) && error.why.contains("; "), "no remedy in: {error}");
    (error.label(), error.to_string())
}

fn split(file: &[u8]) -> (Value, Vec<u8>) {
    let end = file.iter().position(|byte| *byte == b'\n').unwrap();
    (serde_json::from_slice(&file[..end]).unwrap(), file[end + 1..].to_vec())
}

fn joined(envelope: &Value, body: &[u8]) -> Vec<u8> {
    [envelope.to_string().as_bytes(), b"\n", body].concat()
}

/// The file with its envelope changed.
fn with_envelope(file: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut envelope, body) = split(file);
    change(&mut envelope);
    joined(&envelope, &body)
}

/// An envelope whose payload is this header, signed by key 0 as DSSE says.
fn signed_header(header: &str, body: &[u8]) -> Vec<u8> {
    let (mut envelope, _) = split(&signed(&[0]));
    envelope["payload"] = STANDARD.encode(header).into();
    envelope["signatures"] = json!([{ "keyid": KEYS[0].public().id().to_string(), "sig": signature(header) }]);
    joined(&envelope, body)
}

fn signature(payload: &str) -> String {
    let kind = "application/vnd.portcullis.revocations+json";
    let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    let pem = KEYS[0].to_pem().unwrap();
    let der = STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
    STANDARD.encode(pair.sign(message.as_bytes()).as_ref())
}

fn body_fields(body: &[u8]) -> String {
    format!("\"sha256\":\"{}\",\"bytes\":{}", Sha256::of(body), body.len())
}

#[test]
fn a_list_that_enough_keys_signed_is_read_and_says_who_did() {
    let read = list(signed(&[2, 0]), &threshold(2)).unwrap();
    let mut ids = [KEYS[0].public().id(), KEYS[2].public().id()];
    ids.sort();
    let expected = Provenance {
        signed_by: ids.to_vec(),
        key_set: Some(threshold(2).keys.unwrap().id()),
        confirms: false,
        scope: Some(Arc::from("eu")),
        encoding: Encoding::Lines,
        content: read.provenance.content,
        size: u64::try_from(signed(&[2, 0]).len()).unwrap(),
    };
    assert_eq!(read.provenance, expected);
    assert_eq!((read.list.selectors.len(), read.list.sequence), (2, 12));
}

#[test]
fn any_two_of_three_will_do_and_no_one_alone_whoever_it_is() {
    for pair in [[0, 1], [1, 2], [0, 2]] {
        assert_eq!(list(signed(&pair), &threshold(2)).unwrap().provenance.signed_by.len(), 2);
    }
    for one in 0..3 {
        let (label, why) = refusal(signed(&[one]), &threshold(2));
        assert!(label == "under_signed" && why.contains("1 of the required keys signed the list, and 2 must"), "{why}");
    }
    assert_eq!(list(signed(&[0, 1, 2]), &threshold(3)).unwrap().provenance.signed_by.len(), 3);
}

#[test]
fn one_key_that_signed_many_times_counts_once() {
    let file = with_envelope(&signed(&[0]), |envelope| {
        let own = envelope["signatures"][0].clone();
        let mut nameless = own.clone();
        nameless.as_object_mut().unwrap().remove("keyid");
        let mut other = own.clone();
        other["keyid"] = KEYS[1].public().id().to_string().into();
        envelope["signatures"] = json!([own, own, nameless, other, nameless]);
    });
    assert_eq!(refusal(file.clone(), &threshold(2)).0, "under_signed");
    assert_eq!(list(file, &threshold(1)).unwrap().provenance.signed_by, [KEYS[0].public().id()]);
}

#[test]
fn an_unsigned_list_and_one_that_strangers_signed_are_refused_where_signatures_are_asked_for() {
    let (label, why) = refusal(unsigned(), &threshold(1));
    assert!(label == "unsigned" && why.contains("portcullis revocations sign"), "{why}");
    let stranger = SecretKey::generate().unwrap();
    assert_eq!(refusal(sign(unsigned(), &[stranger]).unwrap(), &threshold(1)).0, "under_signed");
    let emptied = with_envelope(&signed(&[0]), |envelope| envelope["signatures"] = json!([]));
    assert_eq!(refusal(emptied, &threshold(1)).0, "under_signed");
}

#[test]
fn without_keys_a_signed_list_is_read_but_its_digest_still_counts() {
    let none = Requirements::default();
    let read = list(signed(&[0]), &none).unwrap();
    assert!(read.provenance.signed_by.is_empty() && read.provenance.key_set.is_none());
    let mut changed = signed(&[0]);
    let last = changed.len() - 8;
    changed[last] ^= 1;
    assert_eq!(refusal(changed, &none).0, "digest_mismatch");
}

#[test]
fn an_envelope_of_another_kind_or_spelling_is_refused() {
    let good = signed(&[0]);
    let payload = |envelope: &Value| envelope["payload"].as_str().unwrap().to_owned();
    let other_kind = with_envelope(&good, |envelope| envelope["payloadType"] = "application/vnd.in-toto+json".into());
    let (label, why) = refusal(other_kind, &threshold(1));
    assert!(label == "malformed" && why.contains("payloadType") && why.contains("line 1, column"), "{why}");
    // Canonical base64 only: no missing or needless padding, no spaces.
    for spoil in [|text: String| text[1..].to_owned(), |text| text + "=", |text| text + "\n"] {
        let spoiled = with_envelope(&good, |envelope| envelope["payload"] = spoil(payload(envelope)).into());
        let (label, why) = refusal(spoiled, &threshold(1));
        assert!(label == "malformed" && why.contains("payload is no canonical base64"), "{why}");
    }
    let text = String::from_utf8(good.clone()).unwrap();
    let twice = text.replacen("{\"payload\":", "{\"payload\":\"e30=\",\"payload\":", 1);
    assert!(refusal(twice.into_bytes(), &threshold(1)).1.contains("duplicate field `payload`"));
    let many = with_envelope(&good, |envelope| {
        envelope["signatures"] = vec![envelope["signatures"][0].clone(); 65].into();
    });
    assert!(refusal(many, &threshold(1)).1.contains("more than 64 signatures"));
    // DSSE asks to skip what is unknown; it is not signed, and not used.
    let more = with_envelope(&good, |envelope| envelope["comment"] = "hello".into());
    list(more, &threshold(1)).unwrap();
}

#[test]
fn both_alphabets_of_base64_are_read() {
    let other = with_envelope(&signed(&[0]), |envelope| {
        let octets = STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap();
        let url_safe = base64::engine::general_purpose::URL_SAFE.encode(octets);
        envelope["signatures"][0]["sig"] = url_safe.into();
    });
    list(other, &threshold(1)).unwrap();
}

#[test]
fn a_signed_header_must_carry_the_digest_and_length_of_what_follows() {
    let header = |more: &str| {
        format!(
            "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":12,\"entries\":2{more},\
             \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}"
        )
    };
    let body = ENTRIES.as_bytes();
    let good = header(&format!(",{}", body_fields(body)));
    list(signed_header(&good, body), &threshold(1)).unwrap();
    let missing = refusal(signed_header(&header(""), body), &threshold(1));
    assert!(missing.1.contains("signed header has sha256 and bytes"), "{}", missing.1);
    let half = header(&format!(",\"sha256\":\"{}\"", Sha256::of(body)));
    assert!(refusal(signed_header(&half, body), &threshold(1)).1.contains("sha256 without bytes"));
    // Without keys the same is asked of a header in an envelope.
    assert!(list(signed_header(&header(""), body), &Requirements::default()).is_err());
}

#[test]
fn a_fault_inside_of_the_payload_is_shown_with_its_place_there() {
    let payload = "{\"portcullis\":\"revocations/v1\",\"who\":1}";
    let (label, why) = refusal(signed_header(payload, b""), &threshold(1));
    assert!(
        label == "malformed" && why.contains("in the signed payload, decoded, column 36: unknown field `who`"),
        "{why}"
    );
    assert!(why.starts_with("line 1, column 2: "), "{why}");
}

#[test]
fn what_follows_must_be_whole_unmixed_and_nothing_more() {
    let good = signed(&[0]);
    let under = threshold(1);
    let cut = good[..good.len() - 1].to_vec();
    let (label, why) = refusal(cut, &under);
    assert!(label == "truncated" && why.contains("announces 57 bytes") && why.contains("56 follow"), "{why}");
    let longer = [&good[..], b"\n"].concat();
    let (label, why) = refusal(longer, &under);
    assert!(label == "malformed" && why.contains("58 follow"), "{why}");
    // The body of another list of the same length: mix and match.
    let (envelope, body) = split(&good);
    let other = String::from_utf8(body).unwrap().replace("old.example", "new.example");
    let (label, why) = refusal(joined(&envelope, other.as_bytes()), &under);
    assert!(label == "digest_mismatch" && why.contains("changed or mixed up"), "{why}");
}

#[test]
fn a_signed_list_cut_at_any_byte_is_refused() {
    let good = signed(&[0, 1]);
    for under in [threshold(2), Requirements::default()] {
        for end in 0..good.len() {
            let error = list(good[..end].to_vec(), &under).map(|read| read.provenance).unwrap_err();
            assert_ne!(error.label(), "", "{end}");
        }
    }
}

#[test]
fn no_flipped_bit_of_a_signed_file_changes_what_is_believed() {
    let good = signed(&[0, 1]);
    let under = threshold(2);
    let expected = list(good.clone(), &under).unwrap();
    let line = good.len() - ENTRIES.len() - 1;
    let mut accepted = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let Ok(read) = list(bytes, &under) else { continue };
            // All that may differ is what nobody believes: how a signature names its key.
            assert!(at < line, "byte {at}, bit {bit}");
            assert_eq!(read.provenance, expected.provenance, "byte {at}, bit {bit}");
            accepted += 1;
        }
    }
    // The case of hexadecimal digits, and the five letters of "keyid", twice.
    assert!(accepted <= 2 * (64 + 5 * 8), "{accepted}");
}

#[test]
fn the_scope_must_be_the_one_asked_for() {
    let scoped = |scope: &str| Requirements { scope: Some(scope.to_owned()), ..threshold(1) };
    list(signed(&[0]), &scoped("eu")).unwrap();
    let (label, why) = refusal(signed(&[0]), &scoped("us"));
    assert!(label == "wrong_scope" && why.contains("has the scope eu, but us is asked for"), "{why}");
    let without = String::from_utf8(unsigned()).unwrap().replace("\"scope\":\"eu\",", "");
    let under = Requirements { keys: None, ..scoped("eu") };
    let (label, why) = refusal(without.into_bytes(), &under);
    assert!(label == "wrong_scope" && why.contains("has no scope"), "{why}");
}

#[test]
fn a_file_beyond_the_size_allowed_is_refused_unread() {
    let size = u64::try_from(unsigned().len()).unwrap();
    let limited = |max_bytes| Requirements { max_bytes, ..Requirements::default() };
    list(unsigned(), &limited(size)).unwrap();
    let (label, why) = refusal(unsigned(), &limited(size - 1));
    assert!(label == "too_large" && why.contains("--revocation-max-bytes"), "{why}");
    assert_eq!(read_under(vec![0x30; 100], &limited(99)).unwrap_err().label(), "too_large");
}

#[test]
fn a_confirmation_counts_only_where_signatures_do() {
    let confirmed = sign(confirm(unsigned()).unwrap(), &KEYS[..1]).unwrap();
    assert!(list(confirmed.clone(), &threshold(1)).unwrap().provenance.confirms);
    assert!(!list(confirmed.clone(), &Requirements::default()).unwrap().provenance.confirms);
    assert!(!list(signed(&[0]), &threshold(1)).unwrap().provenance.confirms);
    // Said already: the signatures stay. Said anew: they go.
    assert_eq!(confirm(confirmed.clone()).unwrap(), confirmed);
    assert_eq!(refusal(confirm(signed(&[0])).unwrap(), &threshold(1)).0, "unsigned");
}

#[test]
fn one_signature_more_changes_nothing_but_the_first_line() {
    let (one, two) = (signed(&[0]), signed(&[0, 1]));
    assert_eq!(split(&one).1, ENTRIES.as_bytes());
    assert_eq!(split(&one).0["payload"], split(&two).0["payload"]);
    let under = threshold(1);
    let (one, two) = (list(one, &under).unwrap(), list(two, &under).unwrap());
    assert_eq!(one.provenance.content, two.provenance.content);
    assert_ne!(one.list.digest, two.list.digest);
    // Ed25519 is deterministic: signing again is no change at all.
    assert_eq!(sign(signed(&[0, 1]), &KEYS[..2]).unwrap(), signed(&[0, 1]));
}

#[test]
fn what_is_no_good_list_is_not_signed() {
    let cut = unsigned()[..unsigned().len() - 30].to_vec();
    let mut changed = signed(&[0]);
    *changed.last_mut().unwrap() = b' ';
    for bad in [cut, changed, b"".to_vec(), b"hello".to_vec()] {
        assert!(sign(bad, &KEYS[..1]).is_err());
    }
    assert!(sign(unsigned(), &[]).unwrap_err().to_string().contains("--key"));
}

#[test]
fn a_list_without_entries_can_be_signed_with_or_without_a_line_end() {
    let header = "{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":0,\
                  \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}";
    for text in [header.to_owned(), format!("{header}\n"), format!("{header}\r\n")] {
        let file = sign(text.into_bytes(), &KEYS[..1]).unwrap();
        assert!(list(file, &threshold(1)).unwrap().list.selectors.is_empty());
    }
    assert!(matches!(read(unsigned()), Ok(Material::List(_))));
}

#[test]
fn a_first_line_beyond_any_header_is_refused_before_it_is_understood() {
    let padding = "x".repeat(2 << 20);
    let padded = with_envelope(&signed(&[0]), |envelope| envelope["unknown"] = json!(padding));
    let many =
        with_envelope(&signed(&[0]), |envelope| envelope["signatures"] = json!(vec![json!({"sig": ""}); 200_000]));
    for file in [padded, many] {
        let (label, why) = refusal(file, &threshold(1));
        assert!(label == "malformed" && why.contains("the first line has"), "{label}: {why}");
    }
}
