//! Writes the seed corpora: `cargo run --bin seeds` in `fuzz/`.

#[path = "../../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::path::Path;

use forge::{
    AUTHORITY_KEY_ID, Authority, DELTA, ISSUING_POINT, SIGNS_ALL, Spec, large_list, pem, reason, sequence, tlv,
};
use revocation::{Document, SecretKey, sign};

fn main() -> std::io::Result<()> {
    let root = Authority::new("root", SIGNS_ALL);
    let rich = Spec::number(1)
        .revoking(&[1, 2])
        .entry(3, &[&reason(1)])
        .with(AUTHORITY_KEY_ID, false, &sequence(&[&tlv(0x80, &root.key_id())]))
        .with(ISSUING_POINT, true, &sequence(&[&tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://a/"))), &[0x81, 1, 0xff]]));
    let delta = Spec::number(2)
        .revoking(&[4])
        .entry(1, &[&reason(8)])
        .entry(2, &[&reason(8)])
        .entry(3, &[&reason(1)])
        .with(DELTA, true, &[2, 1, 1]);
    let header = |entries: usize| {
        format!(
            "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":{entries},\
             \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n"
        )
    };
    let digest = trust::Sha256::of(b"");
    let lines = [
        format!("{{\"spki\":\"{digest}\",\"issued_before\":\"2026-01-01T00:00:00.5+01:00\",\"note\":\"\\u0041\"}}"),
        format!("{{\"certificate\":\"{digest}\",\"reason\":\"keyCompromise\"}}"),
        format!("{{\"issuer\":\"{digest}\",\"until\":\"2026-01-01T00:00:00Z\"}}"),
        "{\"id\":\"spiffe://td/ns/*\"}\n{\"id\":\"dns:a.example\"}\n{\"trust_domain\":\"td\"}".to_owned(),
    ];
    let all_kinds = format!("{}{}\n", header(6), lines.join("\n"));
    write("list", "serials", &large_list(3))?;
    write("list", "empty", header(0).as_bytes())?;
    write("list", "all_kinds", all_kinds.as_bytes())?;
    lists(&all_kinds)?;
    write("crl", "to_be_signed", &root.to_be_signed(&rich))?;
    write("crl", "smallest_to_be_signed", &root.to_be_signed(&Spec::number(1)))?;
    write("crl", "der", &root.crl(&rich))?;
    write("crl", "delta_to_be_signed", &root.to_be_signed(&delta))?;
    let partition = sequence(&[&[0x81, 1, 0xff]]);
    write("crl", "delta_of_a_scope", &root.crl(&delta.with(ISSUING_POINT, true, &partition)))?;
    write("crl", "pem", &pem(&root.crl(&rich)))?;
    write("certificate", "root", &root.certificate)
}

/// One list in every form.
fn lists(lines: &str) -> std::io::Result<()> {
    let key = SecretKey::generate().expect("there is randomness");
    let document = Document::parse(lines.as_bytes().to_vec()).expect("a good list");
    let compiled = document.compile().expect("it can be compiled");
    let (header, body) = compiled.split_at(compiled.iter().position(|byte| *byte == b'\n').expect("a first line"));
    write("list", "observing", lines.replace("\"prod\"", "\"prod\",\"mode\":\"observe\"").as_bytes())?;
    write("list", "compiled", &compiled)?;
    let entries = u8::try_from(document.entries().len()).expect("a few");
    write("compiled", "all_kinds", &[&[entries], body.strip_prefix(b"\n").expect("the line's end")].concat())?;
    write("compiled", "empty", &[0; 25])?;
    write("signed", "compiled", &[header, body].concat())?;
    write("signed", "envelope", &sign(lines.as_bytes().to_vec(), &[key]).expect("a good list"))
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}
