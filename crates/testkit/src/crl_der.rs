//! Certificate revocation lists assembled by hand: good ones, and every shape that RFC 5280 allows or forbids.
//! Tests reach it through `Authority::crl`.
//! It must never hold entries in any form but their final DER: lists of a million entries are built in tests.

use time::{Duration, OffsetDateTime};

use crate::authority::Authority;
use crate::der;

const REASON_CODE: [u64; 4] = [2, 5, 29, 21];
const CRL_NUMBER: [u64; 4] = [2, 5, 29, 20];
const DELTA_CRL_INDICATOR: [u64; 4] = [2, 5, 29, 27];
const ISSUING_DISTRIBUTION_POINT: [u64; 4] = [2, 5, 29, 28];
const CERTIFICATE_ISSUER: [u64; 4] = [2, 5, 29, 29];
const AUTHORITY_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 35];
const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10045, 4, 3, 2];

/// An extension as raw parts: object identifier, critical or not, DER value.
#[derive(Clone, Debug)]
pub struct RawExtension {
    oid: Vec<u64>,
    critical: bool,
    value: Vec<u8>,
}

impl RawExtension {
    /// The extension with these parts.
    pub fn new(oid: &[u64], critical: bool, value: &[u8]) -> Self {
        Self { oid: oid.to_vec(), critical, value: value.to_vec() }
    }

    /// A critical extension that no reader knows (an arc reserved for examples, RFC 5612).
    pub fn unknown_critical() -> Self {
        Self::new(&[1, 3, 6, 1, 4, 1, 32473, 2], true, &[0x05, 0x00])
    }

    pub(crate) fn for_certificate(&self) -> rcgen::CustomExtension {
        let mut extension = rcgen::CustomExtension::from_oid_content(&self.oid, self.value.clone());
        extension.set_criticality(self.critical);
        extension
    }

    fn der(&self) -> Vec<u8> {
        der::extension(&self.oid, self.critical, &self.value)
    }
}

/// One revoked certificate in a CRL.
#[derive(Clone, Debug)]
pub struct CrlEntry {
    serial: Vec<u8>,
    revoked_at: OffsetDateTime,
    extensions: Vec<RawExtension>,
}

impl CrlEntry {
    /// This serial, revoked an hour ago.
    pub fn new(serial: &[u8]) -> Self {
        let revoked_at = OffsetDateTime::now_utc() - Duration::hours(1);
        Self { serial: serial.to_vec(), revoked_at, extensions: Vec::new() }
    }

    /// The date of revocation.
    pub fn revoked_at(mut self, at: OffsetDateTime) -> Self {
        self.revoked_at = at;
        self
    }

    /// The reason code (RFC 5280 §5.3.1): 1 keyCompromise, 4 superseded, 6 certificateHold, 8 removeFromCRL.
    pub fn reason(self, code: u8) -> Self {
        self.extension(RawExtension::new(&REASON_CODE, false, &der::value(der::ENUMERATED, &[code])))
    }

    /// The certificate's issuer where that is not the CRL's (indirect CRLs), as the DER of its Name.
    pub fn certificate_issuer(self, name: &[u8]) -> Self {
        let names = der::sequence(&[der::value(0xa4, name)]);
        self.extension(RawExtension::new(&CERTIFICATE_ISSUER, true, &names))
    }

    /// One more entry extension.
    pub fn extension(mut self, extension: RawExtension) -> Self {
        self.extensions.push(extension);
        self
    }
}

/// The issuing distribution point (RFC 5280 §5.2.5): which certificates a CRL speaks about.
#[derive(Clone, Debug, Default)]
pub struct CrlScope {
    uri: Option<String>,
    flags: Vec<u8>,
}

impl CrlScope {
    /// A scope that limits nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only certificates that name this distribution point.
    pub fn uri(mut self, uri: &str) -> Self {
        self.uri = Some(uri.to_owned());
        self
    }

    /// Only end-entity certificates.
    pub fn only_user_certificates(self) -> Self {
        self.flag(0x81)
    }

    /// Only authorities.
    pub fn only_ca_certificates(self) -> Self {
        self.flag(0x82)
    }

    /// Only some reasons, of which this one is keyCompromise.
    pub fn only_key_compromise(mut self) -> Self {
        // BIT STRING 0100 0000 with six unused bits: bit 1 is keyCompromise.
        self.flags.extend(der::value(0x83, &[0x06, 0x40]));
        self
    }

    /// An indirect CRL.
    pub fn indirect(self) -> Self {
        self.flag(0x84)
    }

    /// Only attribute certificates.
    pub fn only_attribute_certificates(self) -> Self {
        self.flag(0x85)
    }

    fn flag(mut self, tag: u8) -> Self {
        self.flags.extend(der::value(tag, &[0xff]));
        self
    }

    fn extension(&self) -> RawExtension {
        let mut content = Vec::new();
        if let Some(uri) = &self.uri {
            let full_name = der::value(0xa0, &der::value(0x86, uri.as_bytes()));
            content.extend(der::value(0xa0, &full_name));
        }
        content.extend_from_slice(&self.flags);
        RawExtension::new(&ISSUING_DISTRIBUTION_POINT, true, &der::value(der::SEQUENCE, &content))
    }
}

/// What a CRL says. From an hour ago to 24 hours from now, with its number and its issuer's key, unless told otherwise.
#[derive(Clone, Debug)]
pub struct CrlSpec {
    issuer_name: Option<Vec<u8>>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    entries: Vec<u8>,
    key_identifier: bool,
    number: Option<Vec<u8>>,
    extensions: Vec<RawExtension>,
    /// Encoded once: formatting a date for each of a million entries would take longer than everything else.
    usual_date: Vec<u8>,
}

impl CrlSpec {
    /// An empty CRL with this number.
    pub fn new(number: u64) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            issuer_name: None,
            this_update: now - Duration::hours(1),
            next_update: Some(now + Duration::hours(24)),
            entries: Vec::new(),
            key_identifier: true,
            number: Some(number.to_be_bytes().to_vec()),
            extensions: Vec::new(),
            usual_date: der::moment(now - Duration::hours(1)),
        }
    }

    /// Revokes this serial.
    pub fn revoke(mut self, serial: &[u8]) -> Self {
        self.append_plain(serial);
        self
    }

    /// Revokes this serial with a reason code (RFC 5280 §5.3.1).
    pub fn revoke_with_reason(self, serial: &[u8], code: u8) -> Self {
        self.entry(CrlEntry::new(serial).reason(code))
    }

    /// Revokes all these serials; made for a million of them.
    pub fn revoke_all<Serial: AsRef<[u8]>>(mut self, serials: impl IntoIterator<Item = Serial>) -> Self {
        for serial in serials {
            self.append_plain(serial.as_ref());
        }
        self
    }

    /// One entry with its own date and extensions.
    pub fn entry(mut self, entry: CrlEntry) -> Self {
        let mut content = der::unsigned(&entry.serial);
        content.extend(der::moment(entry.revoked_at));
        if !entry.extensions.is_empty() {
            let extensions: Vec<Vec<u8>> = entry.extensions.iter().map(RawExtension::der).collect();
            content.extend(der::sequence(&extensions));
        }
        der::append(&mut self.entries, der::SEQUENCE, &content);
        self
    }

    /// When the CRL was issued.
    pub fn this_update(mut self, at: OffsetDateTime) -> Self {
        self.this_update = at;
        self
    }

    /// When the next one is due at the latest.
    pub fn next_update(mut self, at: OffsetDateTime) -> Self {
        self.next_update = Some(at);
        self
    }

    /// Without nextUpdate, which RFC 5280 forbids and some authorities do.
    pub fn without_next_update(mut self) -> Self {
        self.next_update = None;
        self
    }

    /// Without the CRL number.
    pub fn without_number(mut self) -> Self {
        self.number = None;
        self
    }

    /// The CRL number as a magnitude, for numbers of up to 20 bytes.
    pub fn big_number(mut self, number: &[u8]) -> Self {
        self.number = Some(number.to_vec());
        self
    }

    /// Without the authority key identifier.
    pub fn without_key_identifier(mut self) -> Self {
        self.key_identifier = false;
        self
    }

    /// The issuer's Name in DER instead of the signing authority's.
    pub fn issuer_name(mut self, name: &[u8]) -> Self {
        self.issuer_name = Some(name.to_vec());
        self
    }

    /// Limits the CRL to a scope.
    pub fn issuing_distribution_point(self, scope: CrlScope) -> Self {
        self.extension(scope.extension())
    }

    /// A delta CRL on top of the complete one with this number.
    pub fn delta_of(self, base: u64) -> Self {
        self.extension(RawExtension::new(&DELTA_CRL_INDICATOR, true, &der::unsigned(&base.to_be_bytes())))
    }

    /// One more CRL extension.
    pub fn extension(mut self, extension: RawExtension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// The part that is signed (TBSCertList), for tests that sign it in their own way with `signed_list`.
    pub fn to_be_signed(&self, authority: &Authority) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.entries.len() + 1024);
        content.extend(der::unsigned(&[1]));
        content.extend(signature_algorithm());
        content.extend(self.issuer_name.clone().unwrap_or_else(|| authority.name_der()));
        content.extend(der::moment(self.this_update));
        content.extend(self.next_update.into_iter().flat_map(der::moment));
        if !self.entries.is_empty() {
            der::append(&mut content, der::SEQUENCE, &self.entries);
        }
        let extensions: Vec<Vec<u8>> = self.all_extensions(authority).iter().map(RawExtension::der).collect();
        if !extensions.is_empty() {
            content.extend(der::value(0xa0, &der::sequence(&extensions)));
        }
        der::value(der::SEQUENCE, &content)
    }

    pub(crate) fn signed_by(&self, authority: &Authority) -> Vec<u8> {
        let signed = self.to_be_signed(authority);
        let signature = authority.sign(&signed);
        signed_list(&signed, &signature)
    }

    fn append_plain(&mut self, serial: &[u8]) {
        let mut content = Vec::with_capacity(40);
        der::append_unsigned(&mut content, serial);
        content.extend_from_slice(&self.usual_date);
        der::append(&mut self.entries, der::SEQUENCE, &content);
    }

    fn all_extensions(&self, authority: &Authority) -> Vec<RawExtension> {
        let mut all = Vec::new();
        if self.key_identifier {
            let identifier = der::sequence(&[der::value(0x80, &authority.key_identifier())]);
            all.push(RawExtension::new(&AUTHORITY_KEY_IDENTIFIER, false, &identifier));
        }
        if let Some(number) = &self.number {
            all.push(RawExtension::new(&CRL_NUMBER, false, &der::unsigned(number)));
        }
        all.extend_from_slice(&self.extensions);
        all
    }
}

/// A CertificateList from the part that is signed and a signature over it.
pub fn signed_list(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(signature);
    let mut content = Vec::with_capacity(to_be_signed.len() + 128);
    content.extend_from_slice(to_be_signed);
    content.extend(signature_algorithm());
    der::append(&mut content, der::BIT_STRING, &bits);
    der::value(der::SEQUENCE, &content)
}

fn signature_algorithm() -> Vec<u8> {
    der::sequence(&[der::object_identifier(&ECDSA_WITH_SHA256)])
}
