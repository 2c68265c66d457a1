//! The development PKI, judged by openssl.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use std::os::unix::fs::PermissionsExt as _;

use program::{Pki, assert_refused, openssl, portcullis, stderr, stdout};

#[test]
fn every_certificate_verifies_for_its_purpose_and_names_whom_it_should() {
    let pki = Pki::new();
    let folder = pki.path("");
    for (name, purpose) in
        [("server", "sslserver"), ("alice", "sslclient"), ("bob", "sslclient"), ("carol", "sslclient")]
    {
        let chain = format!("{name}.pem");
        let verified =
            ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "-untrusted", &chain, &chain];
        assert_eq!(openssl(&verified, &folder).trim(), format!("{chain}: OK"));
        let names = openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", &chain], &folder);
        let expected = match name {
            "server" => "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1".to_owned(),
            client => format!("URI:spiffe://dev.portcullis/ns/demo/sa/{client}"),
        };
        assert!(names.contains(&expected), "{names}");
        let key = pki.path(&format!("{name}.key"));
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        let key = format!("{name}.key");
        let of_key = openssl(&["pkey", "-pubout", "-in", &key], &folder);
        assert_eq!(of_key, openssl(&["x509", "-pubkey", "-noout", "-in", &chain], &folder));
    }
}

#[test]
fn carol_lives_as_long_as_she_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let output = portcullis().arg("certs").arg(folder.path()).args(["--carol", "90s"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    openssl(&["x509", "-noout", "-checkend", "30", "-in", "carol.pem"], folder.path());
    let later = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-checkend", "120", "-in", "carol.pem"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(later.status.code(), Some(1), "{}", stdout(&later));
    assert_refused(&portcullis().args(["certs", "x", "--carol", "soon"]).output().unwrap(), &["--carol"]);
}

#[test]
fn a_second_run_renews_everything_and_raises_the_sequence() {
    let pki = Pki::new();
    let before = std::fs::read(pki.path("alice.pem")).unwrap();
    std::fs::write(pki.path("README.md"), "committed").unwrap();
    let again = portcullis().arg("certs").arg(pki.path("")).output().unwrap();
    assert!(again.status.success(), "{}", stderr(&again));
    assert_ne!(before, std::fs::read(pki.path("alice.pem")).unwrap());
    let list = std::fs::read_to_string(pki.path("revocations.jsonl")).unwrap();
    assert!(list.contains("\"sequence\":2,\"entries\":0"), "{list}");
    assert_eq!(std::fs::read_to_string(pki.path("README.md")).unwrap(), "committed");
}

#[test]
fn files_of_others_are_left_alone_unless_it_is_forced() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("server.key");
    std::fs::write(&foreign, "precious").unwrap();
    let run = |more: &[&str]| portcullis().arg("certs").arg(folder.path()).args(more).output().unwrap();
    assert_refused(&run(&[]), &["server.key", "--force"]);
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    std::fs::write(folder.path().join("notes"), "mine").unwrap();
    assert!(run(&["--force"]).status.success());
    assert_ne!(std::fs::read_to_string(&foreign).unwrap(), "precious");
    assert_eq!(std::fs::read_to_string(folder.path().join("notes")).unwrap(), "mine");
    assert_refused(&run(&[]), &["notes"]);
}
