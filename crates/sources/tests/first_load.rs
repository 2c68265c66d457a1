//! The first load: what is right, and the sentence for everything that is wrong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sources::{CredentialPaths, Paths};
use stage::{Files, Volume, failure, list, load};
use testkit::{
    Authority, AuthoritySpec, CrlSpec, Duration, ExtendedKeyUsagePurpose, KeyUsagePurpose, LeafSpec, ListSpec,
    OffsetDateTime, RawExtension,
};
use trust::{Knowledge, Speaks};

/// Asserts that a load fails with a sentence that holds all of `parts`.
fn refuses(paths: &Paths, parts: &[&str]) {
    let sentence = failure(paths);
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in: {sentence}");
    }
    assert!(!sentence.contains('\n'), "one sentence, one line: {sentence}");
}

fn days(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days)
}

#[test]
fn good_files_load_with_everything_they_say() {
    let files = Files::good();
    fs::set_permissions(files.at("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let loaded = files.load();
    assert_eq!(loaded.bundle.len(), 1);
    assert_eq!(loaded.credential.key.cert.len(), 1);
    assert!(matches!(&loaded.knowledge, Knowledge::Known(snapshot) if snapshot.sequence() == 1));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn key_and_chain_in_one_file_load() {
    let files = Files::good();
    let issuing = files.root.intermediate("issuing");
    let leaf = issuing.issue(LeafSpec::dns("server"));
    fs::write(files.at("both.pem"), leaf.key_pem() + &leaf.chain_pem()).unwrap();
    let paths = Paths { credential: CredentialPaths::Bundle(files.at("both.pem")), ..files.paths() };
    assert_eq!(load(&paths).unwrap().credential.key.cert.len(), 2);
    fs::write(files.at("both.pem"), leaf.chain_pem()).unwrap();
    refuses(&paths, &["--credential-bundle", "both.pem", "no private key"]);
}

#[test]
fn a_credential_that_cannot_be_used_is_named_with_its_remedy() {
    let files = Files::good();
    let paths = files.paths();
    let with_cert = |bytes: &str, parts: &[&str]| {
        fs::write(files.at("server.pem"), bytes).unwrap();
        refuses(&paths, &[&["--cert ", "server.pem"], parts].concat());
    };
    with_cert("", &["is empty"]);
    with_cert("hello\n", &["no certificate"]);
    let pem = files.server().cert_pem();
    with_cert(&pem[..pem.len() / 2], &["cut short"]);
    with_cert("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", &["base64"]);
    with_cert("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &["certificate 1"]);
    let dated = |from, to| files.root.issue(LeafSpec::dns("server").not_before(days(from)).not_after(days(to)));
    let (expired, _) = dated(-2, -1).write_to(files.folder.path(), "server");
    refuses(&paths, &[expired.to_str().unwrap(), "has expired", "issue a new one"]);
    dated(1, 2).write_to(files.folder.path(), "server");
    refuses(&paths, &["--cert ", "is not valid yet"]);
    let (server, other) = (files.server(), files.server());
    fs::write(files.at("server.pem"), server.cert_pem()).unwrap();
    fs::write(files.at("server.key"), other.key_pem()).unwrap();
    refuses(&paths, &["--key ", "server.key", "does not belong", "server.pem"]);
    fs::remove_file(files.at("server.pem")).unwrap();
    refuses(&paths, &["--cert ", "does not exist"]);
    fs::create_dir(files.at("server.pem")).unwrap();
    refuses(&paths, &["--cert ", "is a folder", "name a regular file"]);
}

#[test]
fn a_key_that_cannot_be_used_is_named_and_never_shown() {
    let files = Files::good();
    let paths = files.paths();
    let with_key = |bytes: &str, parts: &[&str]| {
        fs::write(files.at("server.key"), bytes).unwrap();
        refuses(&paths, &[&["--key ", "server.key"], parts].concat());
    };
    let pem = files.server().key_pem();
    with_key(&pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), &["encrypted", "decrypted"]);
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    with_key(legacy, &["encrypted"]);
    with_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &["kind that is not supported"]);
    with_key(&files.root.pem(), &["no private key"]);
    with_key(&(pem.clone() + &pem), &["more than one private key"]);
    fs::write(files.at("server.key"), &pem[..pem.len() / 2]).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!failure(&paths).contains(&secret[..16]));
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let files = Files::good();
    fs::set_permissions(files.at("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let warnings = files.load().warnings;
    assert!(matches!(warnings.as_slice(), [one] if one.contains("--key") && one.contains("mode 640")), "{warnings:?}");
}

#[test]
fn an_anchor_that_vouches_for_nobody_is_refused_by_file_and_number() {
    let files = Files::good();
    let paths = files.paths();
    let with = |bytes: &str, parts: &[&str]| {
        fs::write(files.at("ca.pem"), bytes).unwrap();
        refuses(&paths, &[&["--client-ca ", "ca.pem"], parts].concat());
    };
    with("", &["is empty"]);
    with("no anchors today\n", &["no certificate"]);
    with(&(files.root.pem() + &files.server().cert_pem()), &["certificate 2", "no CA certificate"]);
    let mute = AuthoritySpec::new("mute").key_usages(&[KeyUsagePurpose::CrlSign]);
    with(&Authority::root_with(mute).pem(), &["certificate 1", "keyCertSign"]);
    fs::remove_file(files.at("ca.pem")).unwrap();
    refuses(&paths, &["--client-ca ", "does not exist"]);
}

#[test]
fn a_folder_of_anchors_is_read_whole_or_not_at_all() {
    let files = Files::good();
    let folder = files.at("anchors");
    fs::create_dir(&folder).unwrap();
    let paths = Paths {
        client_cas: vec![
            (Speaks::ForAnybody, files.at("ca.pem")),
            (Speaks::ForTrustDomain("td".to_owned()), folder.clone()),
        ],
        ..files.paths()
    };
    refuses(&paths, &["--client-ca ", "anchors", "holds no file"]);
    fs::write(folder.join("one.pem"), Authority::root("one").pem()).unwrap();
    fs::write(folder.join("two.pem"), Authority::root("two").pem()).unwrap();
    fs::write(folder.join(".draft"), "half").unwrap();
    assert_eq!(load(&paths).unwrap().bundle.len(), 3);
    fs::write(folder.join("three.pem"), "").unwrap();
    refuses(&paths, &["--client-ca ", "three.pem", "is empty"]);
}

#[test]
fn anchors_that_expire_soon_or_have_expired_are_warned_of() {
    let files = Files::good();
    let dated =
        |name, to| Authority::root_with(AuthoritySpec::new(name).not_before(days(-100)).not_after(days(to))).pem();
    fs::write(files.at("ca.pem"), dated("soon", 10) + &dated("gone", -1) + &files.root.pem()).unwrap();
    let loaded = files.load();
    let about: Vec<_> = loaded.warnings.iter().filter(|one| one.contains("--client-ca")).collect();
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(about[0].contains("soon") && about[0].contains("expires in 9 days"), "{about:?}");
    assert!(about[1].contains("gone") && about[1].contains("has expired"), "{about:?}");
}

#[test]
fn revocations_that_cannot_be_used_are_named_with_line_and_column() {
    let files = Files::good();
    let paths = files.paths();
    let with = |bytes: &str, parts: &[&str]| {
        fs::write(files.at("list.jsonl"), bytes).unwrap();
        refuses(&paths, &[&["--revocations ", "list.jsonl"], parts].concat());
    };
    with("", &["is empty"]);
    with(&ListSpec::new("prod", 1).entry("{\"serial\":}").text(), &["line 2, column"]);
    with(&ListSpec::new("prod", 1).claiming(3).text(), &["cut short"]);
    let past = OffsetDateTime::now_utc() - Duration::hours(2);
    with(&ListSpec::new("prod", 1).issued_at(past).expires_in(Duration::hours(1)).text(), &["expired"]);
    with(&ListSpec::new("prod", 1).issued_at(days(1)).expires_at(days(2)).text(), &["set the clock"]);
    fs::remove_file(files.at("list.jsonl")).unwrap();
    refuses(&paths, &["--revocations ", "does not exist"]);
    let endless = Paths { revocations: vec!["/dev/zero".into()], ..files.paths() };
    refuses(&endless, &["--revocations /dev/zero", "not a regular file"]);
}

#[test]
fn until_every_path_said_something_nothing_is_known() {
    let files = Files::good();
    fs::create_dir(files.at("empty")).unwrap();
    let paths = Paths { revocations: vec![files.at("list.jsonl"), files.at("empty")], ..files.paths() };
    let loaded = load(&paths).unwrap();
    assert!(matches!(loaded.knowledge, Knowledge::Missing));
    assert!(loaded.warnings.iter().any(|one| one.contains("empty") && one.contains("everybody is denied")));
    let none = Paths { revocations: Vec::new(), no_revocations: true, ..files.paths() };
    assert!(matches!(load(&none).unwrap().knowledge, Knowledge::NotWanted));
}

#[test]
fn an_older_or_expired_list_beside_its_successor_is_no_obstacle() {
    let files = Files::good();
    let folder = files.at("lists");
    fs::create_dir(&folder).unwrap();
    let past = OffsetDateTime::now_utc() - Duration::hours(2);
    let expired = ListSpec::new("prod", 11).issued_at(past).expires_in(Duration::hours(1)).text();
    fs::write(folder.join("a"), expired).unwrap();
    fs::write(folder.join("b"), list("prod", 13)).unwrap();
    fs::write(folder.join("c"), list("prod", 12)).unwrap();
    let loaded = load(&Paths { revocations: vec![folder], ..files.paths() }).unwrap();
    assert!(matches!(&loaded.knowledge, Knowledge::Known(snapshot) if snapshot.sequence() == 13));
    assert_eq!(loaded.warnings.iter().filter(|one| one.contains("sequence 13 is in force")).count(), 2);
}

#[test]
fn a_crl_that_cannot_be_read_is_warned_of_and_does_not_clear_its_issuer() {
    let files = Files::good();
    let folder = files.at("crls");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("full"), files.root.crl(CrlSpec::new(7))).unwrap();
    let strange = CrlSpec::new(8).extension(RawExtension::unknown_critical());
    fs::write(folder.join("strange"), files.root.crl(strange)).unwrap();
    let loaded = load(&Paths { revocations: vec![folder], ..files.paths() }).unwrap();
    assert!(matches!(loaded.knowledge, Knowledge::Known(_)));
    assert!(loaded.warnings.iter().any(|one| one.contains("critical extension")), "{:?}", loaded.warnings);
}

#[test]
fn a_crl_of_an_issuer_that_nobody_knows_waits_and_counts_as_said() {
    let files = Files::good();
    let issuing = files.root.intermediate("issuing");
    fs::write(files.at("list.jsonl"), issuing.crl(CrlSpec::new(1))).unwrap();
    let loaded = files.load();
    assert!(matches!(&loaded.knowledge, Knowledge::Known(snapshot) if snapshot.waits()));
}

#[test]
fn a_projected_volume_loads_through_its_links() {
    let files = Files::good();
    let leaf = files.root.issue(LeafSpec::dns("server").extended_key_usages(&[ExtendedKeyUsagePurpose::ServerAuth]));
    let content = [("tls.crt", leaf.cert_pem().into_bytes()), ("tls.key", leaf.key_pem().into_bytes())];
    Volume::new(&files.at("volume"), &content);
    let (cert, key) = (files.at("volume/tls.crt"), files.at("volume/tls.key"));
    load(&Paths { credential: CredentialPaths::CertAndKey { cert, key }, ..files.paths() }).unwrap();
}
