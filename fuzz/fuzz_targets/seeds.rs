//! Writes the seed corpora: `cargo run --bin seeds` in `fuzz/`.

#[path = "../../crates/revocation/tests/forge/mod.rs"]
mod forge;

use std::path::Path;

use forge::{AUTHORITY_KEY_ID, Authority, ISSUING_POINT, SIGNS_ALL, Spec, large_list, pem, reason, sequence, tlv};

fn main() -> std::io::Result<()> {
    let root = Authority::new("root", SIGNS_ALL);
    let rich = Spec::number(1)
        .revoking(&[1, 2])
        .entry(3, &[&reason(1)])
        .with(AUTHORITY_KEY_ID, false, &sequence(&[&tlv(0x80, &root.key_id())]))
        .with(ISSUING_POINT, true, &sequence(&[&tlv(0xa0, &tlv(0xa0, &tlv(0x86, b"http://a/"))), &[0x81, 1, 0xff]]));
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
    write("crl", "to_be_signed", &root.to_be_signed(&rich))?;
    write("crl", "smallest_to_be_signed", &root.to_be_signed(&Spec::number(1)))?;
    write("crl", "der", &root.crl(&rich))?;
    write("crl", "pem", &pem(&root.crl(&rich)))?;
    write("certificate", "root", &root.certificate)
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}
