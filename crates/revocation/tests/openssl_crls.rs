//! CRLs and delta CRLs made by the openssl program, and its verdict on each certificate beside ours.
//!
//! It must never compare the forge with itself: nothing here is made by this workspace.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;

use revocation::{Library, Material, read};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use trust::{Bundle, Certificate, Reason, Speaks, Time, serial_key};

const CONFIGURATION: &str = "
[complete]
database = complete.txt
crlnumber = number
private_key = ca.key
certificate = ca.pem
default_md = sha256
default_crl_days = 30
crl_extensions = complete_extensions
[changes]
database = changes.txt
crlnumber = number
private_key = ca.key
certificate = ca.pem
default_md = sha256
default_crl_days = 30
crl_extensions = changes_extensions
[complete_extensions]
authorityKeyIdentifier = keyid
freshestCRL = URI:http://crl.example/delta
[changes_extensions]
authorityKeyIdentifier = keyid
2.5.29.27 = critical, DER:02:01:05
";

/// A certificate authority in a folder of its own.
struct Issuer {
    folder: tempfile::TempDir,
}

/// Standard output and error together, and whether the program was content.
fn openssl(folder: &Path, arguments: &str) -> (bool, String) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

impl Issuer {
    /// Serials 0x11, 0x12, … are issued; the next CRL has this number.
    fn new(certificates: u8, number: &str) -> Issuer {
        let issuer = Issuer { folder: tempfile::tempdir().unwrap() };
        issuer.write("ca.cnf", CONFIGURATION);
        issuer.write("number", &format!("{number}\n"));
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256";
        issuer.run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=openssl -days 30"));
        for serial in (0x11..).take(certificates.into()) {
            issuer.run(&format!("req -new {key} -keyout {serial}.key -out {serial}.csr -subj /CN={serial}"));
            let by = "-CA ca.pem -CAkey ca.key -days 30";
            issuer.run(&format!("x509 -req -in {serial}.csr {by} -set_serial {serial} -out {serial}.pem"));
        }
        issuer
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    fn run(&self, arguments: &str) {
        let (fine, text) = openssl(self.folder.path(), arguments);
        assert!(fine, "{arguments}: {text}");
    }

    /// A CRL of these entries: `complete` or `changes`, by openssl's own database.
    fn crl(&self, kind: &str, entries: &[(u8, &str)]) -> Vec<u8> {
        let line = |(serial, reason): &(u8, &str)| {
            let reason = if reason.is_empty() { String::new() } else { format!(",{reason}") };
            format!("R\t491231000000Z\t260101000000Z{reason}\t{serial:02X}\tunknown\t/CN={serial}\n")
        };
        self.write(&format!("{kind}.txt"), &entries.iter().map(line).collect::<String>());
        self.run(&format!("ca -gencrl -config ca.cnf -name {kind} -out {kind}.pem"));
        self.read(&format!("{kind}.pem"))
    }

    /// What openssl says of one certificate under these CRLs.
    fn is_revoked_by_openssl(&self, serial: u8, crls: &[&[u8]]) -> bool {
        std::fs::write(self.folder.path().join("crls.pem"), crls.concat()).unwrap();
        let check = "-crl_check -extended_crl -use_deltas";
        let arguments = format!("verify {check} -CAfile ca.pem -CRLfile crls.pem {serial}.pem");
        let (fine, text) = openssl(self.folder.path(), &arguments);
        assert!(fine || text.contains("certificate revoked"), "{text}");
        !fine
    }

    /// What the CRL in force here says.
    fn found(&self, crls: &[&[u8]], serial: u8) -> Option<Option<Reason>> {
        let certificate = CertificateDer::from_pem_slice(&self.read("ca.pem")).unwrap();
        let key = Certificate::parse(&certificate).unwrap().key_digest();
        let bundle = Bundle::new(vec![(certificate, Speaks::ForAnybody)]).unwrap();
        let now = Time::from_seconds(OffsetDateTime::now_utc().unix_timestamp());
        let mut library = Library::default();
        for crl in crls {
            let material = read(crl.to_vec()).unwrap();
            assert!(matches!(&material, Material::Crls(crls) if crls.len() == 1));
            library.accept(material, &bundle, now).unwrap();
        }
        let snapshot = library.snapshot().unwrap();
        assert_eq!(snapshot.crls().count(), 1);
        snapshot.crls().next().unwrap().find(serial_key(&key, &[serial]))
    }
}

#[test]
fn a_delta_crl_of_openssl_changes_what_openssl_says_it_changes() {
    let issuer = Issuer::new(5, "05");
    let complete =
        issuer.crl("complete", &[(0x11, "keyCompromise"), (0x12, "certificateHold"), (0x13, "certificateHold")]);
    let changes = issuer.crl("changes", &[(0x12, "removeFromCRL"), (0x13, "superseded"), (0x14, "")]);
    let expected = [
        (0x11, Some(Some(Reason::KeyCompromise))),
        (0x12, None),
        (0x13, Some(Some(Reason::Superseded))),
        (0x14, Some(None)),
        (0x15, None),
    ];
    for (serial, expected) in expected {
        for crls in [[complete.as_slice(), &changes], [&changes, &complete]] {
            assert_eq!(issuer.found(&crls, serial), expected, "{serial:02x}");
        }
        assert_eq!(issuer.is_revoked_by_openssl(serial, &[&complete, &changes]), expected.is_some(), "{serial:02x}");
    }
}

#[test]
fn the_difference_that_openssl_makes_of_two_complete_crls_leads_from_one_to_the_other() {
    let issuer = Issuer::new(5, "05");
    // Of openssl's own doing it lists only certificates that the older one does not: no other reasons, no releases.
    let older = issuer.crl("complete", &[(0x11, "keyCompromise"), (0x12, "certificateHold")]);
    issuer.write("older.pem", &String::from_utf8_lossy(&older));
    let newer =
        issuer.crl("complete", &[(0x11, "keyCompromise"), (0x12, "certificateHold"), (0x13, ""), (0x14, "superseded")]);
    issuer.run("crl -in older.pem -gendelta complete.pem -key ca.key -sha256 -out difference.pem");
    let difference = issuer.read("difference.pem");
    for serial in 0x11..0x16 {
        let together = issuer.found(&[&older, &difference], serial);
        assert_eq!(together, issuer.found(&[&newer], serial), "{serial:02x}");
        assert_eq!(issuer.is_revoked_by_openssl(serial, &[&older, &difference]), together.is_some(), "{serial:02x}");
    }
}
