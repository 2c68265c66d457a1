//! One certificate, read into plain facts.
//!
//! The only file of this crate that parses X.509. Called for anchors when a bundle is loaded, for the links of a
//! path in each handshake, and by `revocation` for issuers of CRLs. It must never judge.

use std::fmt;

use asn1_rs::{FromDer, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::x509::X509Version;

use crate::identity::{Identity, IdentityError, MAX_SUBJECT};
use crate::{Sha256, Time, name, twin};

/// Why bytes are no certificate that can be used here; completes "this certificate …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// SHA-256 of the DER.
    pub fingerprint: Sha256,
    /// Fingerprint of the same certificate with its ECDSA signature in the other form; see `twin.rs`.
    pub twin: Option<Sha256>,
    /// DER of the subject Name.
    pub subject: Box<[u8]>,
    /// DER of the issuer Name.
    pub issuer: Box<[u8]>,
    /// DER of the SubjectPublicKeyInfo.
    pub public_key: Box<[u8]>,
    /// Content octets of the serial number.
    pub serial: Box<[u8]>,
    /// First moment of its validity.
    pub not_before: Time,
    /// Last moment of its validity, inclusive (RFC 5280 §4.1.2.5).
    pub not_after: Time,
    /// basicConstraints says CA, or the certificate is of version 1, which cannot say (old roots are).
    pub is_authority: bool,
    /// How many authorities may follow below it (pathLenConstraint, RFC 5280 §4.2.1.9).
    pub path_length: Option<u32>,
    /// A key usage extension is absent, or has keyCertSign.
    pub may_sign_certificates: bool,
    /// A key usage extension is absent, or has cRLSign.
    pub may_sign_crls: bool,
    /// A key usage extension is there and has keyCertSign or cRLSign: forbidden in an SVID.
    pub has_signing_usage: bool,
    /// URI SANs, in order.
    pub uris: Vec<String>,
    /// DNS SANs, in order.
    pub dns_names: Vec<String>,
    /// The subject in the form of RFC 4514; empty if there is none.
    pub subject_text: String,
    /// The subject's common name, if it has exactly one and it is plain text.
    pub common_name: Option<String>,
    /// Digests of the URIs in its CRL distribution points.
    pub distribution_points: Box<[Sha256]>,
    /// Its issuer promises no revocation information (RFC 9608).
    pub no_revocation_available: bool,
}

impl Certificate {
    /// Reads DER, all of it.
    pub fn parse(der: &[u8]) -> Result<Certificate, Malformed> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Malformed("is not valid DER of RFC 5280"))?;
        if !rest.is_empty() {
            return Err(Malformed("has bytes after its end"));
        }
        let basic = parsed.basic_constraints().map_err(|_| Malformed("has unreadable basic constraints"))?;
        let usage = parsed.key_usage().map_err(|_| Malformed("has an unreadable key usage"))?;
        let usage = usage.map(|extension| extension.value);
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        let names = parsed.subject_alternative_name();
        let names = names.map_err(|_| Malformed("has unreadable alternative names"))?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            if let GeneralName::URI(uri) = name {
                uris.push((*uri).to_owned());
            } else if let GeneralName::DNSName(dns) = name {
                dns_names.push((*dns).to_owned());
            } else if let GeneralName::Invalid(..) = name {
                return Err(Malformed("has an unreadable alternative name"));
            }
        }
        let validity = parsed.validity();
        Ok(Certificate {
            fingerprint: Sha256::of(der),
            twin: twin::fingerprint(&parsed),
            subject: parsed.subject().as_raw().into(),
            issuer: parsed.issuer().as_raw().into(),
            public_key: parsed.public_key().raw.into(),
            serial: parsed.raw_serial().into(),
            not_before: Time::from_seconds(validity.not_before.timestamp()),
            not_after: Time::from_seconds(validity.not_after.timestamp()),
            path_length: basic.as_ref().and_then(|extension| extension.value.path_len_constraint),
            is_authority: basic.map_or(parsed.version() == X509Version::V1, |extension| extension.value.ca),
            may_sign_certificates: usage.is_none_or(|usage| usage.key_cert_sign()),
            may_sign_crls: usage.is_none_or(|usage| usage.crl_sign()),
            has_signing_usage: usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()),
            uris,
            dns_names,
            subject_text: name::rfc4514(parsed.subject()).ok_or(Malformed("has an unreadable subject"))?,
            common_name: name::common_name(parsed.subject()),
            distribution_points: distribution_points(&parsed),
            no_revocation_available: parsed.iter_extensions().any(|one| one.oid == oid!(2.5.29.56)),
        })
    }

    /// The one identity of this leaf: its SPIFFE ID by the strict rules of X509-SVID §5.2 if any URI SAN claims
    /// one, else its first DNS SAN, else its subject.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        let claims = |uri: &String| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
        if self.uris.iter().any(claims) {
            let [uri] = self.uris.as_slice() else {
                return Err(IdentityError::new("an X.509-SVID has exactly one URI SAN"));
            };
            if self.is_authority || self.has_signing_usage {
                return Err(IdentityError::new("the X.509-SVID of a workload has no CA bit, keyCertSign or cRLSign"));
            }
            return Identity::from_spiffe(uri);
        }
        if let Some(name) = self.dns_names.first() {
            return Identity::from_dns(name);
        }
        if self.subject_text.len() > MAX_SUBJECT {
            return Err(IdentityError::new("a subject has at most 1024 bytes"));
        }
        Identity::from_subject(&self.subject_text)
    }

    /// SHA-256 of the SubjectPublicKeyInfo: how lists name an issuer or a key.
    #[must_use]
    pub fn key_digest(&self) -> Sha256 {
        Sha256::of(&self.public_key)
    }
}

/// What an issuer signed of a certificate, and the signature.
pub(crate) fn signed_part(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some((parsed.tbs_certificate.as_ref().to_vec(), parsed.signature_value.data.to_vec()))
}

fn distribution_points(parsed: &X509Certificate<'_>) -> Box<[Sha256]> {
    let mut digests = Vec::new();
    for extension in parsed.iter_extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
            for name in names {
                if let GeneralName::URI(uri) = name {
                    digests.push(Sha256::of(uri.as_bytes()));
                }
            }
        }
    }
    digests.into_boxed_slice()
}
