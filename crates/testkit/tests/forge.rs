//! The forge's certificates and CRLs before the judgement of a stranger: the openssl program.
//! Run by the workspace's tests. It must never compare the forge with itself.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use testkit::{
    Authority, AuthoritySpec, CrlEntry, CrlScope, CrlSpec, Duration, ExtendedKeyUsagePurpose, KeyUsagePurpose, Leaf,
    LeafSpec, OffsetDateTime, RawExtension, atomic_write, hex, pem,
};

/// Standard output and error together, and whether the program was content.
fn openssl(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output().expect("openssl is installed");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn described(leaf: &Leaf) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    atomic_write(folder.path().join("leaf.pem"), leaf.cert_pem()).expect("a writable folder");
    let (fine, text) =
        openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-text", "-nameopt", "utf8,sep_comma_plus"]);
    assert!(fine, "{text}");
    text
}

fn crl_described(crl: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    atomic_write(folder.path().join("list.pem"), pem("X509 CRL", crl)).expect("a writable folder");
    let (fine, text) = openssl(folder.path(), &["crl", "-in", "list.pem", "-noout", "-text"]);
    assert!(fine, "{text}");
    text
}

/// What `openssl verify` says to a leaf below a root, with the leaf's own intermediates.
fn verified(root: &Authority, leaf: &Leaf, crls: &[Vec<u8>]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: String| atomic_write(folder.path().join(name), text).expect("a writable folder");
    write("root.pem", root.pem());
    write("leaf.pem", leaf.cert_pem());
    write("above.pem", leaf.chain()[1..].iter().map(|der| pem("CERTIFICATE", der)).collect());
    write("lists.pem", crls.iter().map(|crl| pem("X509 CRL", crl)).collect());
    let mut arguments = vec!["verify", "-CAfile", "root.pem", "-purpose", "sslclient", "-x509_strict"];
    if leaf.chain().len() > 1 {
        arguments.extend(["-untrusted", "above.pem"]);
    }
    if !crls.is_empty() {
        arguments.extend(["-crl_check_all", "-CRLfile", "lists.pem"]);
    }
    arguments.push("leaf.pem");
    openssl(folder.path(), &arguments)
}

#[test]
fn a_leaf_below_an_intermediate_verifies_with_openssl() {
    let root = Authority::root("Root");
    let leaf = root.intermediate("Issuing").issue(LeafSpec::spiffe("spiffe://example.org/ns/shop/sa/cart"));
    let (fine, text) = verified(&root, &leaf, &[]);
    assert!(fine, "{text}");
    assert_eq!(leaf.chain().len(), 2);
}

#[test]
fn a_leaf_of_another_root_does_not_verify_with_openssl() {
    let leaf = Authority::root("Root").issue(LeafSpec::dns("a.example"));
    let (fine, text) = verified(&Authority::root("Root"), &leaf, &[]);
    assert!(!fine, "{text}");
}

#[test]
fn a_path_length_of_zero_ends_below_the_next_authority() {
    let root = Authority::root("Root");
    let last = root.intermediate_with(AuthoritySpec::new("Last").path_len(0));
    let (fine, text) = verified(&root, &last.issue(LeafSpec::dns("a.example")), &[]);
    assert!(fine, "{text}");
    let (fine, text) = verified(&root, &last.intermediate("Beyond").issue(LeafSpec::dns("a.example")), &[]);
    assert!(!fine && text.contains("path length"), "{text}");
}

#[test]
fn an_authority_without_key_cert_sign_is_forged_and_openssl_notices() {
    let root = Authority::root("Root");
    let spec = AuthoritySpec::new("Mute").key_usages(&[KeyUsagePurpose::CrlSign]);
    let (fine, text) = verified(&root, &root.intermediate_with(spec).issue(LeafSpec::dns("a.example")), &[]);
    assert!(!fine, "{text}");
}

#[test]
fn a_renewed_root_with_the_same_key_vouches_for_the_old_leaves() {
    let old = Authority::root("Root");
    let leaf = old.issue(LeafSpec::dns("a.example"));
    let renewed = Authority::root_with(AuthoritySpec::new("ignored").reuse_key_of(&old));
    let (fine, text) = verified(&renewed, &leaf, &[]);
    assert!(fine, "{text}");
    assert_ne!(old.der(), renewed.der());
    assert_eq!(old.spki_sha256(), renewed.spki_sha256());
    assert_eq!(old.name_der(), renewed.name_der());
}

#[test]
fn the_digests_of_certificate_and_key_are_those_of_openssl() {
    let leaf = Authority::root("Root").issue(LeafSpec::subject("client"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    leaf.write_to(folder.path(), "leaf");
    let (fine, print) = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-fingerprint", "-sha256"]);
    assert!(fine && print.replace(':', "").to_lowercase().contains(&hex(&leaf.sha256())), "{print}");
    let (fine, text) = openssl(folder.path(), &["pkey", "-in", "leaf.key", "-pubout", "-outform", "DER", "-out", "k"]);
    assert!(fine, "{text}");
    let (fine, digest) = openssl(folder.path(), &["dgst", "-sha256", "k"]);
    assert!(fine && digest.contains(&hex(&leaf.spki_sha256())), "{digest}");
    let (fine, serial) = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-serial"]);
    assert!(fine && serial.to_lowercase().contains(&format!("serial={}", leaf.serial_hex())), "{serial}");
}

#[test]
fn every_setter_of_a_leaf_shows_in_the_certificate() {
    let spec = LeafSpec::spiffe("spiffe://example.org/a")
        .uri("spiffe://example.org/\";URI=forged")
        .and_dns("b.example")
        .common_name("evil\";URI=spiffe://x;\"")
        .organization("Shop")
        .serial(&[0, 0, 0xff, 1])
        .ca(true)
        .key_usages(&[KeyUsagePurpose::KeyCertSign])
        .extended_key_usages(&[ExtendedKeyUsagePurpose::ServerAuth])
        .crl_distribution_point("http://crl.example/1")
        .no_rev_avail()
        .big(5000);
    let leaf = Authority::root("Root").issue(spec);
    let text = described(&leaf);
    let expected = [
        "URI:spiffe://example.org/a",
        "spiffe://example.org/\";URI=forged",
        "DNS:b.example",
        "O=Shop",
        "URI=spiffe://x",
        "CA:TRUE",
        "Certificate Sign",
        "TLS Web Server Authentication",
        "http://crl.example/1",
    ];
    for part in expected {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("TLS Web Client Authentication"), "{text}");
    assert!(text.contains("2.5.29.56") || text.contains("No Revocation Available"), "{text}");
    assert_eq!(leaf.serial(), [0xff, 1]);
    assert!(leaf.der().len() > 5000);
}

#[test]
fn a_leaf_can_carry_bytes_beyond_ascii_in_its_uri() {
    let leaf = Authority::root("Root").issue(LeafSpec::spiffe("spiffe://example.org/ü\u{0}\n"));
    let needle = "spiffe://example.org/ü\u{0}\n".as_bytes();
    assert!(leaf.der().windows(needle.len()).any(|window| window == needle));
}

#[test]
fn validity_ends_in_the_second_that_was_asked_for() {
    let at = OffsetDateTime::from_unix_timestamp(2_000_000_000).expect("a valid time");
    let leaf = Authority::root("Root").issue(LeafSpec::dns("a.example").not_after(at + Duration::milliseconds(900)));
    assert_eq!(leaf.not_after(), at);
    assert!(described(&leaf).contains("Not After : May 18 03:33:20 2033 GMT"));
    let late = OffsetDateTime::from_unix_timestamp(4_000_000_000).expect("a valid time");
    let crl = Authority::root("Root").crl(CrlSpec::new(1).next_update(late));
    assert!(crl_described(&crl).contains("Next Update: Oct  2 07:06:40 2096 GMT"));
}

#[test]
fn a_renewed_leaf_keeps_the_key_and_changes_the_rest() {
    let root = Authority::root("Root");
    let old = root.issue(LeafSpec::dns("a.example"));
    let new = root.issue(LeafSpec::dns("a.example").reuse_key_of(&old));
    assert_eq!(old.spki_sha256(), new.spki_sha256());
    assert_ne!(old.serial(), new.serial());
}

#[test]
fn crls_verify_with_openssl_and_revoke_exactly_their_serials() {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Issuing");
    let (good, bad) = (issuing.issue(LeafSpec::dns("good.example")), issuing.issue(LeafSpec::dns("bad.example")));
    let crls =
        [root.crl(CrlSpec::new(1)), issuing.crl(CrlSpec::new(7).revoke_with_reason(&bad.serial(), 1).revoke(&[0x80]))];
    let (fine, text) = verified(&root, &good, &crls);
    assert!(fine, "{text}");
    let (fine, text) = verified(&root, &bad, &crls);
    assert!(!fine && text.contains("certificate revoked"), "{text}");
}

#[test]
fn the_signature_of_a_crl_is_its_authoritys() {
    let root = Authority::root("Root");
    let folder = tempfile::tempdir().expect("a temporary folder");
    atomic_write(folder.path().join("root.pem"), root.pem()).expect("a writable folder");
    let check = |crl: Vec<u8>| {
        atomic_write(folder.path().join("list.pem"), pem("X509 CRL", &crl)).expect("a writable folder");
        openssl(folder.path(), &["crl", "-in", "list.pem", "-noout", "-CAfile", "root.pem"]).1
    };
    assert!(check(root.crl(CrlSpec::new(1).revoke(&[1]))).contains("verify OK"));
    let foreign = Authority::root("Root").crl(CrlSpec::new(1).without_key_identifier());
    assert!(!check(foreign).contains("verify OK"));
}

#[test]
fn openssl_reads_every_part_of_a_crl() {
    let root = Authority::root("Root");
    let scope = CrlScope::new().uri("http://crl.example/part").only_user_certificates().indirect();
    let spec = CrlSpec::new(0x1234)
        .issuing_distribution_point(scope)
        .delta_of(0x1200)
        .entry(CrlEntry::new(&[0xab, 0xcd]).reason(8).certificate_issuer(&Authority::root("Other").name_der()))
        .extension(RawExtension::unknown_critical());
    let text = crl_described(&root.crl(spec));
    let expected = [
        "ecdsa-with-SHA256",
        "X509v3 CRL Number: \n                4660",
        "X509v3 Delta CRL Indicator: critical\n                4608",
        "URI:http://crl.example/part",
        "Only User Certificates",
        "Indirect CRL",
        "Serial Number: ABCD",
        "Remove From CRL",
        "DirName:/CN=Other",
        "1.3.6.1.4.1.32473.2: critical",
    ];
    for part in expected {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_crl_without_next_update_and_number_is_read_by_openssl() {
    let spec = CrlSpec::new(1).without_next_update().without_number().without_key_identifier();
    let text = crl_described(&Authority::root("Root").crl(spec));
    assert!(text.contains("Next Update: NONE") && !text.contains("CRL Number"), "{text}");
}

#[test]
fn a_crl_of_a_hundred_thousand_entries_takes_less_than_two_seconds() {
    let root = Authority::root("Root");
    let began = Instant::now();
    let crl = root.crl(CrlSpec::new(1).revoke_all((0..100_000_u64).map(|serial| serial.to_be_bytes())));
    let took = began.elapsed();
    assert!(took.as_secs_f64() < 2.0, "it took {took:?}");
    let serials: HashSet<String> = crl_described(&crl)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Serial Number: ").map(str::to_owned))
        .collect();
    assert_eq!(serials.len(), 100_000);
}
