//! Certificate authorities: roots and intermediates that sign leaves and CRLs, all ECDSA P-256.
//! Tests of every crate call it first.
//! It must never refuse to forge: an authority without keyCertSign, expired or with a foreign key is what tests ask for.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber, SigningKey,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use crate::encoding::{pem, sha256};
use crate::leaf::{Leaf, LeafSpec};

/// The curve of an ECDSA key.
#[derive(Clone, Copy, Debug)]
pub enum Curve {
    /// secp256r1, with SHA-256.
    P256,
    /// secp384r1, with SHA-384.
    P384,
    /// secp521r1, with SHA-512.
    P521,
}

/// What an authority's certificate says. Valid from a day ago for ten years, keyCertSign and cRLSign, unless told otherwise.
#[derive(Clone, Debug)]
pub struct AuthoritySpec {
    name: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    key_usages: Vec<KeyUsagePurpose>,
    path_length: Option<u8>,
    key: Option<Arc<KeyPair>>,
    spiffe: Option<String>,
}

impl AuthoritySpec {
    /// An ordinary authority with this common name.
    pub fn new(name: &str) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            name: name.to_owned(),
            not_before: now - Duration::days(1),
            not_after: now + Duration::days(3650),
            key_usages: vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
            path_length: None,
            key: None,
            spiffe: None,
        }
    }

    /// The first moment of validity.
    pub fn not_before(mut self, at: OffsetDateTime) -> Self {
        self.not_before = at;
        self
    }

    /// The last moment of validity.
    pub fn not_after(mut self, at: OffsetDateTime) -> Self {
        self.not_after = at;
        self
    }

    /// Exactly these key usages; an empty list leaves the extension out.
    pub fn key_usages(mut self, usages: &[KeyUsagePurpose]) -> Self {
        self.key_usages = usages.to_vec();
        self
    }

    /// How many further authorities may follow below this one.
    pub fn path_len(mut self, length: u8) -> Self {
        self.path_length = Some(length);
        self
    }

    /// The same key and name as another authority in a new certificate: a renewal, or a cross-signature.
    pub fn reuse_key_of(mut self, other: &Authority) -> Self {
        self.name.clone_from(&other.name);
        self.key = Some(Arc::clone(&other.key));
        self
    }

    /// A key on another curve than P-256.
    pub fn curve(mut self, curve: Curve) -> Self {
        let algorithm = match curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Curve::P521 => &rcgen::PKCS_ECDSA_P521_SHA512,
        };
        self.key = Some(Arc::new(KeyPair::generate_for(algorithm).expect("the system has random bytes for a key")));
        self
    }

    /// A URI name in the authority's own certificate, for example `spiffe://td`.
    pub fn uri(mut self, uri: &str) -> Self {
        self.spiffe = Some(uri.to_owned());
        self
    }

    fn certificate_params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.name.as_str());
        params.is_ca = IsCa::Ca(match self.path_length {
            Some(length) => BasicConstraints::Constrained(length),
            None => BasicConstraints::Unconstrained,
        });
        params.key_usages.clone_from(&self.key_usages);
        params.serial_number = Some(SerialNumber::from_slice(&random_serial()));
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = self.spiffe.iter().map(|uri| crate::leaf::uri_names(uri)).collect();
        params
    }
}

/// An authority: its certificate, its key, and the intermediates between it and its root. Cloning shares the key.
#[derive(Clone, Debug)]
pub struct Authority {
    name: String,
    params: CertificateParams,
    key: Arc<KeyPair>,
    certificate: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A self-signed root.
    pub fn root(name: &str) -> Self {
        Self::root_with(AuthoritySpec::new(name))
    }

    /// A self-signed root to measure.
    pub fn root_with(spec: AuthoritySpec) -> Self {
        let params = spec.certificate_params();
        let key = key_for(&spec);
        let certificate = params.self_signed(&*key).expect("rcgen signs every root that a spec describes");
        Self { name: spec.name, params, key, certificate: certificate.into(), chain: Vec::new() }
    }

    /// An authority whose certificate this one signs.
    pub fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(AuthoritySpec::new(name))
    }

    /// An authority to measure whose certificate this one signs.
    pub fn intermediate_with(&self, spec: AuthoritySpec) -> Self {
        let params = spec.certificate_params();
        let key = key_for(&spec);
        let certificate: CertificateDer<'static> = params
            .signed_by(&*key, &self.issuer())
            .expect("rcgen signs every intermediate that a spec describes")
            .into();
        let mut chain = vec![certificate.clone()];
        chain.extend_from_slice(&self.chain);
        Self { name: spec.name, params, key, certificate, chain }
    }

    /// A certificate for a client or server, signed by this authority.
    pub fn issue(&self, spec: LeafSpec) -> Leaf {
        spec.issued_by(self)
    }

    /// A certificate, signed by this authority, over a public key whose other half nobody need have.
    pub fn issue_over(&self, spec: LeafSpec, spki: &[u8]) -> CertificateDer<'static> {
        spec.issued_over(spki, self)
    }

    /// A CRL of this authority, in DER.
    pub fn crl(&self, spec: crate::crl_der::CrlSpec) -> Vec<u8> {
        spec.signed_by(self)
    }

    /// The authority's certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate in PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// This authority and those above it, nearest to the leaf first, without the root. Empty for a root.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The common name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The serial of the authority's own certificate.
    pub fn serial(&self) -> Vec<u8> {
        self.params.serial_number.as_ref().map(|serial| serial.as_ref().to_vec()).unwrap_or_default()
    }

    /// SHA-256 of the authority's certificate.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.certificate)
    }

    /// SHA-256 of the DER of the whole SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.key.subject_public_key_info())
    }

    /// The subject as the DER of its Name, as it stands in the certificate.
    pub fn name_der(&self) -> Vec<u8> {
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&self.certificate).expect("a certificate from this forge parses");
        parsed.subject().as_raw().to_vec()
    }

    /// The subject key identifier, as an authority key identifier has to repeat it.
    pub fn key_identifier(&self) -> Vec<u8> {
        self.params.key_identifier(&*self.key)
    }

    /// An ecdsa-with-SHA256 signature (DER) of the message by the authority's key.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("an ECDSA key signs every message")
    }

    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &*self.key)
    }
}

fn key_for(spec: &AuthoritySpec) -> Arc<KeyPair> {
    spec.key.clone().unwrap_or_else(|| Arc::new(new_key()))
}

pub(crate) fn new_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("the system has random bytes for a key")
}

pub(crate) fn random_serial() -> [u8; 16] {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).expect("the system has random bytes for a serial");
    // Positive and of full length, so that every rendering of it (hex, DER, openssl) has the same digits.
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}
