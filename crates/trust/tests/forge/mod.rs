//! Certificates put together by hand where the forge of `testkit` is too polite: odd names, doubled extensions,
//! foreign versions.
//!
//! Used by the tests of `verify` in this folder. It must never check what it writes.
#![allow(dead_code, unreachable_pub)]

use rustls_pki_types::CertificateDer;
use testkit::der::{self, BIT_STRING, extension, object_identifier, sequence, unsigned, value};
use testkit::{Authority, LeafSpec};
use trust::Certificate;

use crate::stand::{NOW, at, date};

pub const UTF8: u8 = 0x0c;
pub const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
pub const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];

/// One attribute: type, then value as any tag and bytes.
pub fn attribute(oid: &[u64], tag: u8, text: &[u8]) -> Vec<u8> {
    sequence(&[object_identifier(oid), value(tag, text)])
}

/// A Name of these RDNs, each of these attributes.
pub fn name(rdns: &[&[Vec<u8>]]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = rdns.iter().map(|attributes| value(0x31, &attributes.concat())).collect();
    sequence(&sets)
}

/// A Name that is a UTF8String common name alone.
pub fn common_name(text: &str) -> Vec<u8> {
    name(&[&[attribute(COMMON_NAME, UTF8, text.as_bytes())]])
}

/// basicConstraints with or without the CA bit.
pub fn basic_constraints(authority: bool) -> Vec<u8> {
    let content = if authority { sequence(&[value(0x01, &[0xff])]) } else { sequence::<Vec<u8>>(&[]) };
    extension(&[2, 5, 29, 19], true, &content)
}

/// subjectAltName of these tags and bytes.
pub fn alternative_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| value(*tag, name)).collect();
    extension(&[2, 5, 29, 17], false, &sequence(&names))
}

/// A certificate to be.
pub struct Draft {
    /// Version 3 unless absent, which means 1.
    pub version: Option<u8>,
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub public_key: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
}

impl Draft {
    /// A draft of a certificate by `issuer` for a new key.
    pub fn by(issuer: &Authority, subject: Vec<u8>) -> Draft {
        let key = issuer.issue(LeafSpec::subject("key"));
        let public_key = Certificate::parse(key.der()).unwrap().public_key.into_vec();
        Draft { version: Some(2), subject, issuer: issuer.name_der(), public_key, extensions: Vec::new() }
    }

    /// A draft of an authority's own certificate.
    pub fn of_root(root: &Authority) -> Draft {
        let public_key = Certificate::parse(root.der()).unwrap().public_key.into_vec();
        Draft { public_key, ..Draft::by(root, root.name_der()) }
    }

    /// One more extension.
    pub fn with(mut self, extension: Vec<u8>) -> Draft {
        self.extensions.push(extension);
        self
    }

    /// The certificate, signed by `signer` whatever the issuer's name says.
    pub fn signed_by(self, signer: &Authority) -> CertificateDer<'static> {
        let algorithm = sequence(&[object_identifier(ECDSA_WITH_SHA256)]);
        let mut parts = Vec::new();
        parts.extend(self.version.map(|version| value(0xa0, &unsigned(&[version]))));
        parts.extend([unsigned(&[0x51]), algorithm.clone(), self.issuer]);
        parts.push(sequence(&[der::moment(date(at(-86_400_000))), der::moment(date(at(86_400_000)))]));
        parts.extend([self.subject, self.public_key]);
        if !self.extensions.is_empty() {
            parts.push(value(0xa3, &sequence(&self.extensions)));
        }
        let body = sequence(&parts);
        let signature = [vec![0], signer.sign(&body)].concat();
        CertificateDer::from(sequence(&[body, algorithm, value(BIT_STRING, &signature)]))
    }
}

/// The answer of `verify` for this leaf alone, right now.
pub fn alone(leaf: &CertificateDer<'static>, root: &Authority) -> Result<trust::Chain, trust::Flaw> {
    trust::verify(std::slice::from_ref(leaf), &crate::stand::bundle(&[root]), NOW)
}
