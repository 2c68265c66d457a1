//! The key files and signatures are those of the openssl binary: each side reads what the other wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use revocation::{Keys, Material, PublicKey, Requirements, SecretKey, read_under, sign};
use serde_json::{Value, json};
use trust::Sha256;

const KIND: &str = "application/vnd.portcullis.revocations+json";

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output();
    let output = output.expect("openssl must be installed; `make test` does it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn required(key: PublicKey) -> Requirements {
    Requirements { keys: Some(Arc::new(Keys::new(vec![key], 1).unwrap())), ..Requirements::default() }
}

fn header(body: &[u8]) -> String {
    format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":1,\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\",\
         \"sha256\":\"{}\",\"bytes\":{}}}",
        Sha256::of(body),
        body.len()
    )
}

fn encoded(payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {KIND} {} ", KIND.len(), payload.len()).as_bytes(), payload].concat()
}

#[test]
fn keys_that_openssl_made_are_read_and_written_as_openssl_does() {
    let folder = tempfile::tempdir().unwrap();
    let secret = openssl(folder.path(), &["genpkey", "-algorithm", "ed25519"]);
    std::fs::write(folder.path().join("secret"), &secret).unwrap();
    let public = openssl(folder.path(), &["pkey", "-in", "secret", "-pubout"]);
    let key = SecretKey::from_pem(&secret).unwrap();
    assert_eq!(key.to_pem().unwrap(), secret);
    assert_eq!(key.public().to_pem(), public);
    assert_eq!(PublicKey::from_pem(&public).unwrap(), key.public());
    // The id is what people compute by hand: SHA-256 of the key in DER.
    openssl(folder.path(), &["pkey", "-in", "secret", "-pubout", "-outform", "DER", "-out", "public.der"]);
    let digest = openssl(folder.path(), &["dgst", "-sha256", "-r", "public.der"]);
    assert!(digest.starts_with(&key.public().id().to_string()), "{digest}");
}

#[test]
fn keys_made_here_are_read_by_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::generate().unwrap();
    std::fs::write(folder.path().join("secret"), key.to_pem().unwrap()).unwrap();
    std::fs::write(folder.path().join("public"), key.public().to_pem()).unwrap();
    let text = openssl(folder.path(), &["pkey", "-in", "secret", "-noout", "-text"]);
    assert!(text.contains("ED25519 Private-Key"), "{text}");
    assert_eq!(openssl(folder.path(), &["pkey", "-in", "secret", "-pubout"]), key.public().to_pem());
    assert_eq!(openssl(folder.path(), &["pkey", "-pubin", "-in", "public", "-pubout"]), key.public().to_pem());
}

#[test]
fn a_list_that_openssl_signed_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = openssl(folder.path(), &["genpkey", "-algorithm", "ed25519"]);
    let key = SecretKey::from_pem(&secret).unwrap().public();
    let body = b"{\"trust_domain\":\"old.example\"}\n";
    let payload = header(body);
    std::fs::write(folder.path().join("secret"), &secret).unwrap();
    std::fs::write(folder.path().join("message"), encoded(payload.as_bytes())).unwrap();
    openssl(folder.path(), &["pkeyutl", "-sign", "-rawin", "-inkey", "secret", "-in", "message", "-out", "signature"]);
    let signature = STANDARD.encode(std::fs::read(folder.path().join("signature")).unwrap());
    let envelope = json!({
        "payload": STANDARD.encode(&payload),
        "payloadType": KIND,
        "signatures": [{ "sig": signature }],
    });
    let file = [envelope.to_string().as_bytes(), b"\n", body].concat();
    let Material::List(read) = read_under(file, &required(key)).unwrap() else { panic!("taken for CRLs") };
    assert_eq!(read.provenance.signed_by, [key.id()]);
}

#[test]
fn a_list_signed_here_verifies_with_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::generate().unwrap();
    let body = b"{\"trust_domain\":\"old.example\"}\n";
    let unsigned = [header(body).as_bytes(), b"\n", body].concat();
    let file = sign(unsigned, std::slice::from_ref(&key)).unwrap();
    let line = file.split(|byte| *byte == b'\n').next().unwrap();
    let envelope: Value = serde_json::from_slice(line).unwrap();
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    std::fs::write(folder.path().join("public"), key.public().to_pem()).unwrap();
    std::fs::write(folder.path().join("message"), encoded(&decode(&envelope["payload"]))).unwrap();
    std::fs::write(folder.path().join("signature"), decode(&envelope["signatures"][0]["sig"])).unwrap();
    let verify =
        ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public", "-in", "message", "-sigfile", "signature"];
    assert!(openssl(folder.path(), &verify).contains("Verified Successfully"));
}
