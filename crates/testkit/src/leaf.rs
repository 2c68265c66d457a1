//! Leaf certificates of clients and servers.
//! Tests reach it through `Authority::issue`.
//! It must never refuse or tidy a name: hostile subjects and malformed URIs have to arrive in the certificate as written.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::authority::{Authority, new_key, random_serial};
use crate::crl_der::RawExtension;
use crate::der;
use crate::encoding::{hex, pem, sha256};

const URI_NAME: u8 = 0x86;
const DNS_NAME: u8 = 0x82;
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];
const NO_REV_AVAIL: [u64; 4] = [2, 5, 29, 56];
/// An arc reserved for examples by IANA (RFC 5612): no parser knows it.
const BALLAST: [u64; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];

/// What a leaf certificate says. Valid from an hour ago for the next 24 hours, random 16-byte serial,
/// digitalSignature, clientAuth and serverAuth, unless told otherwise.
#[derive(Clone, Debug)]
pub struct LeafSpec {
    common_name: Option<String>,
    organization: Option<String>,
    names: Vec<(u8, String)>,
    serial: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    ca: bool,
    key_usages: Vec<KeyUsagePurpose>,
    extended_key_usages: Vec<ExtendedKeyUsagePurpose>,
    distribution_points: Vec<String>,
    extensions: Vec<RawExtension>,
    key: Option<Vec<u8>>,
}

impl LeafSpec {
    /// A certificate without any name; add names with the setters.
    pub fn new() -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            common_name: None,
            organization: None,
            names: Vec::new(),
            serial: random_serial().to_vec(),
            not_before: now - Duration::hours(1),
            not_after: now + Duration::hours(24),
            ca: false,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            extended_key_usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            distribution_points: Vec::new(),
            extensions: Vec::new(),
            key: None,
        }
    }

    /// An X.509-SVID: one URI name, no subject.
    pub fn spiffe(id: &str) -> Self {
        Self::new().uri(id)
    }

    /// A certificate for a host: one DNS name, no subject.
    pub fn dns(name: &str) -> Self {
        Self::new().and_dns(name)
    }

    /// A certificate with a common name only.
    pub fn subject(common_name: &str) -> Self {
        Self::new().common_name(common_name)
    }

    /// One more URI name, written as it stands, whatever its characters.
    pub fn uri(mut self, uri: &str) -> Self {
        self.names.push((URI_NAME, uri.to_owned()));
        self
    }

    /// One more DNS name, written as it stands, whatever its characters.
    pub fn and_dns(mut self, name: &str) -> Self {
        self.names.push((DNS_NAME, name.to_owned()));
        self
    }

    /// The subject's common name (UTF8String), whatever its characters.
    pub fn common_name(mut self, name: &str) -> Self {
        self.common_name = Some(name.to_owned());
        self
    }

    /// The subject's organization (UTF8String), whatever its characters.
    pub fn organization(mut self, name: &str) -> Self {
        self.organization = Some(name.to_owned());
        self
    }

    /// The serial as a magnitude; leading zeros do not survive DER and are dropped.
    pub fn serial(mut self, serial: &[u8]) -> Self {
        self.serial = serial.iter().copied().skip_while(|byte| *byte == 0).collect();
        self
    }

    /// The first moment of validity.
    pub fn not_before(mut self, at: OffsetDateTime) -> Self {
        self.not_before = at;
        self
    }

    /// The last moment of validity. Certificates count whole seconds.
    pub fn not_after(mut self, at: OffsetDateTime) -> Self {
        self.not_after = at;
        self
    }

    /// Valid until this long from now.
    pub fn valid_for(self, duration: Duration) -> Self {
        self.not_after(OffsetDateTime::now_utc() + duration)
    }

    /// With the CA bit of BasicConstraints, which no leaf should have.
    pub fn ca(mut self, ca: bool) -> Self {
        self.ca = ca;
        self
    }

    /// Exactly these key usages; an empty list leaves the extension out.
    pub fn key_usages(mut self, usages: &[KeyUsagePurpose]) -> Self {
        self.key_usages = usages.to_vec();
        self
    }

    /// Exactly these extended key usages; an empty list leaves the extension out.
    pub fn extended_key_usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.extended_key_usages = usages.to_vec();
        self
    }

    /// One more CRL distribution point.
    pub fn crl_distribution_point(mut self, uri: &str) -> Self {
        self.distribution_points.push(uri.to_owned());
        self
    }

    /// With the noRevAvail extension of RFC 9608.
    pub fn no_rev_avail(self) -> Self {
        self.extension(RawExtension::new(&NO_REV_AVAIL, false, &[0x05, 0x00]))
    }

    /// With an unknown extension, not critical, of this many bytes.
    pub fn big(self, bytes: usize) -> Self {
        self.extension(RawExtension::new(&BALLAST, false, &der::value(der::OCTET_STRING, &vec![0x5a; bytes])))
    }

    /// One more extension, written as it stands.
    pub fn extension(mut self, extension: RawExtension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// The key of an earlier certificate instead of a new one.
    pub fn reuse_key_of(mut self, other: &Leaf) -> Self {
        self.key = Some(other.key.clone());
        self
    }

    pub(crate) fn issued_by(self, authority: &Authority) -> Leaf {
        let key = match &self.key {
            Some(key) => KeyPair::try_from(key.as_slice()).expect("a key from this forge can be read back"),
            None => new_key(),
        };
        let certificate = self
            .certificate_params()
            .signed_by(&key, &authority.issuer())
            .expect("rcgen signs every leaf that a spec describes");
        let mut chain: Vec<CertificateDer<'static>> = vec![certificate.into()];
        chain.extend(authority.chain());
        Leaf {
            chain,
            spki: sha256(&key.subject_public_key_info()),
            key: key.serialize_der(),
            serial: self.serial,
            issuer_spki: authority.spki_sha256(),
            not_after: self.not_after,
        }
    }

    /// A certificate over a public key whose other half nobody need have, given as the DER of its
    /// SubjectPublicKeyInfo.
    pub(crate) fn issued_over(self, spki: &[u8], authority: &Authority) -> CertificateDer<'static> {
        let key = SubjectPublicKeyInfo::from_der(spki).expect("rcgen knows the key's algorithm");
        let signed = self.certificate_params().signed_by(&key, &authority.issuer());
        signed.expect("rcgen signs every leaf that a spec describes").into()
    }

    fn certificate_params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = &self.organization {
            params.distinguished_name.push(DnType::OrganizationName, name.as_str());
        }
        if let Some(name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.is_ca = if self.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages.clone_from(&self.key_usages);
        params.extended_key_usages.clone_from(&self.extended_key_usages);
        params.serial_number = Some(SerialNumber::from_slice(&self.serial));
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            self.distribution_points.iter().map(|uri| CrlDistributionPoint { uris: vec![uri.clone()] }).collect();
        if !self.names.is_empty() {
            // RFC 5280 §4.2.1.6: critical where the subject is empty.
            let critical = self.common_name.is_none() && self.organization.is_none();
            params.custom_extensions.push(alternative_names(&self.names, critical));
        }
        for extension in &self.extensions {
            params.custom_extensions.push(extension.for_certificate());
        }
        params
    }
}

impl Default for LeafSpec {
    fn default() -> Self {
        Self::new()
    }
}

/// Written by hand because rcgen accepts ASCII only, and bytes beyond it are a test of their own.
fn alternative_names(names: &[(u8, String)], critical: bool) -> CustomExtension {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| der::value(*tag, name.as_bytes())).collect();
    let mut extension = CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, der::sequence(&names));
    extension.set_criticality(critical);
    extension
}

pub(crate) fn uri_names(uri: &str) -> CustomExtension {
    alternative_names(&[(URI_NAME, uri.to_owned())], false)
}

/// A leaf certificate with its key and the intermediates above it.
#[derive(Clone, Debug)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    serial: Vec<u8>,
    spki: [u8; 32],
    issuer_spki: [u8; 32],
    not_after: OffsetDateTime,
}

impl Leaf {
    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The key as PKCS #8 DER.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// The leaf first, then the issuing intermediates, without the root.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The certificate in PEM.
    pub fn cert_pem(&self) -> String {
        pem("CERTIFICATE", self.der())
    }

    /// The chain in PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// The serial's magnitude, without leading zeros.
    pub fn serial(&self) -> Vec<u8> {
        self.serial.clone()
    }

    /// The serial in hex.
    pub fn serial_hex(&self) -> String {
        hex(&self.serial)
    }

    /// SHA-256 of the certificate.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(self.der())
    }

    /// SHA-256 of the DER of the whole SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki
    }

    /// SHA-256 of the issuer's SubjectPublicKeyInfo.
    pub fn issuer_spki_sha256(&self) -> [u8; 32] {
        self.issuer_spki
    }

    /// The last moment of validity in whole seconds, as the certificate has it.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after.replace_nanosecond(0).expect("zero is a valid nanosecond")
    }

    /// Writes `<stem>.pem` (the chain) and `<stem>.key` into the folder.
    pub fn write_to(&self, folder: impl AsRef<Path>, stem: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.as_ref().join(format!("{stem}.pem"));
        let key = folder.as_ref().join(format!("{stem}.key"));
        fs::write(&certificate, self.chain_pem()).expect("the test's folder can be written");
        fs::write(&key, self.key_pem()).expect("the test's folder can be written");
        (certificate, key)
    }
}
