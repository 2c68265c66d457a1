//! Authorities and CRLs of any shape, also shapes that no library would issue, byte by byte.
//!
//! For the tests, the bench and the memory example of this crate. Never imports it.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls_pki_types::CertificateDer;
use trust::{Bundle, KeySet, Sha256, Speaks, Time, serial_key};

/// ecdsa-with-SHA256.
const ALGORITHM: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// id-ecPublicKey, prime256v1.
const KEY_ALGORITHM: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];

/// 2026-01-01T12:00:00Z: when tests take place.
pub(crate) const NOW: Time = Time::from_seconds(1_767_268_800);

/// One element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    let octets = length.to_be_bytes();
    let octets = &octets[octets.iter().take_while(|octet| **octet == 0).count()..];
    if length >= 0x80 {
        out.push(0x80 | u8::try_from(octets.len()).unwrap());
        out.extend(octets);
    } else {
        out.push(u8::try_from(length).unwrap());
    }
    out.extend(content);
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(6, oid), flag, &tlv(4, value)])
}

pub(crate) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
pub(crate) const DELTA: &[u8] = &[0x55, 0x1d, 0x1b];
pub(crate) const ISSUING_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
pub(crate) const REASON: &[u8] = &[0x55, 0x1d, 0x15];
pub(crate) const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
pub(crate) const UNKNOWN: &[u8] = &[0x2a, 3, 4];

/// An issuing authority.
pub(crate) struct Authority {
    pub(crate) name: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) public_key: Vec<u8>,
    key: EcdsaKeyPair,
}

/// Key usage octet: keyCertSign and cRLSign.
pub(crate) const SIGNS_ALL: u8 = 0x06;
/// keyCertSign alone.
pub(crate) const SIGNS_CERTIFICATES: u8 = 0x04;

impl Authority {
    pub(crate) fn new(name: &str, usage: u8) -> Authority {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let attribute = sequence(&[&[6, 3, 0x55, 4, 3], &tlv(12, name.as_bytes())]);
        let name = tlv(0x30, &tlv(0x31, &attribute));
        let bits = [&[0], key.public_key().as_ref()].concat();
        let public_key = sequence(&[KEY_ALGORITHM, &tlv(3, &bits)]);
        let extensions = sequence(&[
            &extension(&[0x55, 0x1d, 0x13], true, &sequence(&[&[1, 1, 0xff]])),
            &extension(&[0x55, 0x1d, 0x0f], true, &tlv(3, &[1, usage])),
        ]);
        let tbs = sequence(&[
            &tlv(0xa0, &[2, 1, 2]),
            &[2, 1, 1],
            ALGORITHM,
            &name,
            &sequence(&[&tlv(23, b"250101000000Z"), &tlv(23, b"350101000000Z")]),
            &name,
            &public_key,
            &tlv(0xa3, &extensions),
        ]);
        let certificate = signed(&key, &tbs);
        Authority { name, certificate, public_key, key }
    }

    pub(crate) fn key_digest(&self) -> Sha256 {
        Sha256::of(&self.public_key)
    }

    /// RFC 5280 §4.2.1.2 method 1: what OpenSSL writes.
    pub(crate) fn old_key_id(&self) -> Vec<u8> {
        let digest = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        aws_lc_rs::digest::digest(digest, self.key.public_key().as_ref()).as_ref().to_vec()
    }

    /// RFC 7093 §2 method 1: what newer ones write.
    pub(crate) fn key_id(&self) -> Vec<u8> {
        Sha256::of(self.key.public_key().as_ref()).0[..20].to_vec()
    }

    pub(crate) fn crl(&self, spec: &Spec) -> Vec<u8> {
        self.sign(&self.to_be_signed(spec))
    }

    pub(crate) fn to_be_signed(&self, spec: &Spec) -> Vec<u8> {
        spec.to_be_signed(self)
    }

    /// Signs whatever it is.
    pub(crate) fn sign(&self, to_be_signed: &[u8]) -> Vec<u8> {
        signed(&self.key, to_be_signed)
    }
}

pub(crate) fn signed(key: &EcdsaKeyPair, tbs: &[u8]) -> Vec<u8> {
    let signature = key.sign(&SystemRandom::new(), tbs).unwrap();
    sequence(&[tbs, ALGORITHM, &tlv(3, &[&[0], signature.as_ref()].concat())])
}

pub(crate) fn bundle(authorities: &[&Authority]) -> Bundle {
    let anchors = authorities.iter().map(|one| (CertificateDer::from(one.certificate.clone()), Speaks::ForAnybody));
    Bundle::new(anchors.collect()).unwrap()
}

/// What a CRL says.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) version: &'static [u8],
    pub(crate) number: Option<Vec<u8>>,
    pub(crate) this_update: &'static str,
    pub(crate) next_update: Option<&'static str>,
    /// Each a whole SEQUENCE.
    pub(crate) entries: Vec<Vec<u8>>,
    /// Each a whole SEQUENCE.
    pub(crate) extensions: Vec<Vec<u8>>,
    /// Content of the AlgorithmIdentifier inside.
    pub(crate) algorithm: Vec<u8>,
}

impl Spec {
    pub(crate) fn number(number: u8) -> Spec {
        Spec {
            version: &[2, 1, 1],
            number: Some(vec![number]),
            this_update: "260101000000Z",
            next_update: Some("260102000000Z"),
            entries: vec![],
            extensions: vec![],
            algorithm: ALGORITHM.to_vec(),
        }
    }

    pub(crate) fn revoking(mut self, serials: &[u8]) -> Spec {
        self.entries.extend(serials.iter().map(|serial| entry(&[*serial], &[])));
        self
    }

    pub(crate) fn with(mut self, oid: &[u8], critical: bool, value: &[u8]) -> Spec {
        self.extensions.push(extension(oid, critical, value));
        self
    }

    pub(crate) fn entry(mut self, serial: u8, extensions: &[&[u8]]) -> Spec {
        self.entries.push(entry(&[serial], extensions));
        self
    }

    fn to_be_signed(&self, issuer: &Authority) -> Vec<u8> {
        let time = |text: &str| tlv(if text.len() == 13 { 23 } else { 24 }, text.as_bytes());
        let number = self.number.as_ref().map(|number| extension(CRL_NUMBER, false, &tlv(2, number)));
        let extensions: Vec<u8> = number.iter().chain(&self.extensions).flatten().copied().collect();
        sequence(&[
            self.version,
            &self.algorithm,
            &issuer.name,
            &time(self.this_update),
            &self.next_update.map(time).unwrap_or_default(),
            &if self.entries.is_empty() { vec![] } else { tlv(0x30, &self.entries.concat()) },
            &if extensions.is_empty() { vec![] } else { tlv(0xa0, &tlv(0x30, &extensions)) },
        ])
    }
}

pub(crate) fn entry(serial: &[u8], extensions: &[&[u8]]) -> Vec<u8> {
    let extensions = if extensions.is_empty() { vec![] } else { sequence(extensions) };
    sequence(&[&tlv(2, serial), &tlv(23, b"251231000000Z"), &extensions])
}

pub(crate) fn reason(code: u8) -> Vec<u8> {
    extension(REASON, false, &[10, 1, code])
}

/// Sixteen octets that nobody could tell from random ones, first bit clear.
pub(crate) fn serial(number: u32) -> Vec<u8> {
    let mut serial = Sha256::of(&number.to_be_bytes()).0[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// A CRL of many entries.
pub(crate) fn large_crl(authority: &Authority, entries: u32) -> Vec<u8> {
    let mut spec = Spec::number(1);
    spec.entries = (0..entries).map(|number| entry(&serial(number), &[])).collect();
    authority.crl(&spec)
}

/// A list of many serial numbers.
pub(crate) fn large_list(entries: u32) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":{entries},\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"}}\n"
    );
    let issuer = Sha256::of(b"issuer");
    for number in 0..entries {
        text.push_str("{\"serial\":\"");
        serial(number).iter().for_each(|octet| write!(text, "{octet:02x}").unwrap());
        writeln!(text, "\",\"issuer\":\"{issuer}\"}}").unwrap();
    }
    text.into_bytes()
}

/// A compiled list of many serial numbers, unsigned.
pub(crate) fn large_compiled(entries: u32) -> Vec<u8> {
    let issuer = Sha256::of(b"issuer");
    let mut keys: Vec<u128> =
        (0..entries).map(|number| KeySet::entry(serial_key(&issuer, &serial(number)), None)).collect();
    keys.sort_unstable();
    let mut body = Vec::with_capacity(24 + 16 * keys.len());
    for count in [u64::from(entries), 0, 0] {
        body.extend(count.to_be_bytes());
    }
    for key in keys {
        body.extend(key.to_be_bytes());
    }
    let header = format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"prod\",\"sequence\":1,\"entries\":{entries},\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\",\"encoding\":\"binary\",\
         \"sha256\":\"{}\",\"bytes\":{}}}\n",
        Sha256::of(&body),
        body.len()
    );
    let mut file = header.into_bytes();
    file.append(&mut body);
    file
}

pub(crate) fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = b"-----BEGIN X509 CRL-----\n".to_vec();
    for line in text.as_bytes().chunks(64) {
        out.extend(line);
        out.push(b'\n');
    }
    out.extend(b"-----END X509 CRL-----\n");
    out
}
