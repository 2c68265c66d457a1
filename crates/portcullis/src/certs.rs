//! `portcullis certs DIR`: a development PKI. Root → intermediate → a server and three clients, and an empty list.
//!
//! Called by `main.rs` and by the demo, which asks for more certificates later. It must never touch a file that it did
//! not make, unless it is forced to; and no other part of the program issues certificates.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use trust::{Certificate, Time};

use crate::args::CertsWish;
use crate::moment::{calendar, rfc3339};
use crate::{Failure, duration, print};

/// The trust domain of every development client.
pub(crate) const TRUST_DOMAIN: &str = "dev.portcullis";
/// The name of the development list.
const LIST: &str = "dev";
/// Says that this program made the folder's files, and which.
const MARK: &str = ".made-by-portcullis";
/// Everything that is made here.
const FILES: [&str; 12] = [
    MARK,
    "root.pem",
    "intermediate.pem",
    "server.pem",
    "server.key",
    "alice.pem",
    "alice.key",
    "bob.pem",
    "bob.key",
    "carol.pem",
    "carol.key",
    "revocations.jsonl",
];
/// What a folder may hold beside the marked files.
const COMMITTED: [&str; 2] = ["README.md", ".gitignore"];
const DAY: Duration = Duration::from_secs(86_400);
/// Long enough for a week's work; a development key is nobody's to keep.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// The authorities', so that no leaf outlives its issuer, and no proxy warns of their end from the first day.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of containers and hosts differ by a few seconds.
const BACKDATED: Duration = Duration::from_secs(60);

/// Makes the PKI and says what was made.
pub(crate) fn certs(wish: &CertsWish) -> Result<(), Failure> {
    let at_start = Failure::AtStart;
    let carol = duration::parse(&wish.carol).map_err(|why| at_start(format!("--carol {:?}: {why}", wish.carol)))?;
    let authority = make(&wish.folder, wish.force, carol).map_err(at_start)?;
    print::out(&authority.summary());
    Ok(())
}

/// The made PKI, able to issue more.
pub(crate) struct Authority {
    folder: PathBuf,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    now: Time,
}

/// A certificate just issued: what a list needs to name it.
pub(crate) struct Issued {
    /// Serial number, hexadecimal.
    pub(crate) serial: String,
    /// SHA-256 of the issuer's public key, hexadecimal.
    pub(crate) issuer: String,
    /// The last moment of its validity.
    pub(crate) not_after: Time,
}

/// Makes everything in `folder`; an error is one sentence.
pub(crate) fn make(folder: &Path, force: bool, carol: Duration) -> Result<Authority, String> {
    fs::create_dir_all(folder).map_err(|error| format!("the folder {} cannot be made ({error})", folder.display()))?;
    if !force {
        refuse_files_of_others(folder)?;
    }
    let now = proxy::Clock::real().now();
    let root = ca("portcullis development root", now, None)?;
    let intermediate = ca("portcullis development intermediate", now, Some(&root))?;
    let authority = Authority { folder: folder.to_owned(), intermediate, now };
    // The mark first: a run that is killed midway leaves nothing that the next one would take for somebody else's.
    authority.write(MARK, &format!("Made by `portcullis certs`, which may replace:\n{}\n", FILES.join("\n")), 0o644)?;
    authority.write("root.pem", &root.pem(), 0o644)?;
    let pem = authority.intermediate.pem();
    authority.write("intermediate.pem", &pem, 0o644)?;
    authority.server()?;
    for (name, lifetime) in [("alice", LIFETIME), ("bob", LIFETIME), ("carol", carol)] {
        authority.client(name, now.plus(lifetime))?;
    }
    let sequence = last_sequence(folder).saturating_add(1);
    authority.list(sequence, &[])?;
    Ok(authority)
}

impl Authority {
    fn server(&self) -> Result<(), String> {
        let mut params = leaf("portcullis development server", self.now.plus(LIFETIME), self.now)?;
        let localhost = "localhost".try_into().map_err(unmade)?;
        params.subject_alt_names = vec![
            SanType::DnsName(localhost),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("server", &params).map(|_| ())
    }

    /// Issues `NAME.pem` and `NAME.key` for the client `name`, valid up to `not_after`.
    pub(crate) fn client(&self, name: &str, not_after: Time) -> Result<Issued, String> {
        let issued_at = proxy::Clock::real().now();
        let mut params = leaf(name, not_after, issued_at)?;
        params.subject_alt_names = vec![SanType::URI(spiffe_id(name).as_str().try_into().map_err(unmade)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, &params)
    }

    fn issue(&self, name: &str, params: &CertificateParams) -> Result<Issued, String> {
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = params.signed_by(&key, &self.intermediate).map_err(unmade)?;
        // The key first: a proxy that watches the folder finds a pair that does not match for a moment either way,
        // and tries again at the next change.
        self.write(&format!("{name}.key"), &key.serialize_pem(), 0o600)?;
        let chain = format!("{}{}", certificate.pem(), self.intermediate.pem());
        self.write(&format!("{name}.pem"), &chain, 0o644)?;
        self.issued(certificate.der())
    }

    /// What a list needs to name the certificate in `NAME.pem`.
    pub(crate) fn named(&self, name: &str) -> Result<Issued, String> {
        let path = self.path(&format!("{name}.pem"));
        let der = CertificateDer::from_pem_file(&path)
            .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
        self.issued(&der)
    }

    fn issued(&self, der: &[u8]) -> Result<Issued, String> {
        let parsed = Certificate::parse(der).map_err(unmade)?;
        let issuer = Certificate::parse(self.intermediate.der()).map_err(unmade)?;
        Ok(Issued {
            serial: parsed.serial.iter().map(|octet| format!("{octet:02x}")).collect(),
            issuer: issuer.key_digest().to_string(),
            not_after: parsed.not_after,
        })
    }

    /// Replaces the revocation list; each entry is one line of JSON.
    pub(crate) fn list(&self, sequence: u64, entries: &[String]) -> Result<(), String> {
        self.write("revocations.jsonl", &self.list_of(sequence, entries), 0o644)
    }

    /// The text of a list that is issued now.
    pub(crate) fn list_of(&self, sequence: u64, entries: &[String]) -> String {
        let now = proxy::Clock::real().now();
        let header = format!(
            "{{\"portcullis\":\"revocations/v1\",\"list\":\"{LIST}\",\"sequence\":{sequence},\"entries\":{},\
             \"issued_at\":\"{}\",\"expires_at\":\"{}\"}}",
            entries.len(),
            rfc3339(now),
            rfc3339(now.plus(DAY))
        );
        let lines = std::iter::once(&header).chain(entries);
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The sequence of the list that is there now.
    pub(crate) fn sequence(&self) -> u64 {
        last_sequence(&self.folder)
    }

    /// The path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whole or not at all: a file written beside, then renamed over the old one.
    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), String> {
        let path = self.path(name);
        let beside = self.folder.join(format!(".{name}.new"));
        let written = (|| {
            // What a killed run left behind may be open to others; a new file has the right mode from its first byte.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&beside, &path)
        })();
        written.map_err(|error: io::Error| {
            format!("{} cannot be written ({error}); choose a folder that you may write", path.display())
        })
    }

    fn summary(&self) -> String {
        let folder = self.folder.display();
        let file = |name: &str| self.path(name).display().to_string();
        format!(
            "a development PKI is in {folder}, good for {}; never use it for anything else\n  \
             {}  the anchor: --client-ca of the proxy, --cacert of curl\n  \
             {}  what issued the rest\n  \
             {} and .key  the proxy's own: localhost, 127.0.0.1, ::1\n  \
             {} and .key  a client, {}\n  \
             {} and .key  a client, {}\n  \
             {} and .key  a client, {}, short-lived\n  \
             {}  the list {LIST:?}, sequence {}, nothing revoked, expires in 24 h\n",
            duration::written(LIFETIME),
            file("root.pem"),
            file("intermediate.pem"),
            file("server.pem"),
            file("alice.pem"),
            spiffe_id("alice"),
            file("bob.pem"),
            spiffe_id("bob"),
            file("carol.pem"),
            spiffe_id("carol"),
            file("revocations.jsonl"),
            self.sequence(),
        )
    }
}

/// The SPIFFE ID of a development client.
pub(crate) fn spiffe_id(name: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/demo/sa/{name}")
}

fn unmade(error: impl std::fmt::Display) -> String {
    format!("a certificate cannot be made ({error})")
}

fn dated(name: &str, not_before: Time, not_after: Time) -> Result<CertificateParams, String> {
    let beyond = || unmade("its dates are beyond the calendar");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = calendar(not_before).ok_or_else(beyond)?;
    params.not_after = calendar(not_after).ok_or_else(beyond)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn before(moment: Time, span: Duration) -> Time {
    Time::from_millis(moment.as_millis().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

fn leaf(name: &str, not_after: Time, now: Time) -> Result<CertificateParams, String> {
    let mut params = dated(name, before(now, BACKDATED), not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// A root, or an intermediate of `parent` that may issue leaves only. The root's key is
/// forgotten once the intermediate is signed.
fn ca(
    name: &str,
    now: Time,
    parent: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> Result<CertifiedIssuer<'static, KeyPair>, String> {
    let mut params = dated(name, before(now, DAY), now.plus(AUTHORITY_LIFETIME))?;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(unmade)?;
    match parent {
        None => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, key).map_err(unmade)
        }
        Some(parent) => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            CertifiedIssuer::signed_by(params, key, parent).map_err(unmade)
        }
    }
}

/// A folder may be written if it holds nothing but what the mark names.
fn refuse_files_of_others(folder: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("the folder {} cannot be read ({error})", folder.display());
    let marked = fs::read_to_string(folder.join(MARK)).unwrap_or_default();
    let ours: HashSet<&str> = marked.lines().chain(COMMITTED).collect();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        let beside = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
        if !ours.contains(name.as_str()) && !beside.is_some_and(|name| ours.contains(name)) {
            return Err(format!(
                "the folder {} holds {name:?}, which this program did not make; choose another folder, or --force to \
                 write beside it",
                folder.display()
            ));
        }
    }
    Ok(())
}

/// The sequence in the header of the list that is there, or 0: a proxy that watches the folder refuses a lower one.
fn last_sequence(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("revocations.jsonl")).unwrap_or_default();
    let header = text.lines().next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    header.and_then(|header| header.get("sequence").and_then(serde_json::Value::as_u64)).unwrap_or(0)
}

/// A list's line that names one certificate.
pub(crate) fn entry(issued: &Issued, note: &str) -> String {
    serde_json::json!({ "serial": issued.serial, "issuer": issued.issuer, "reason": "keyCompromise", "note": note })
        .to_string()
}

/// A list's line that names a development client, whatever its certificate.
pub(crate) fn entry_for(name: &str) -> String {
    serde_json::json!({ "id": spiffe_id(name) }).to_string()
}
