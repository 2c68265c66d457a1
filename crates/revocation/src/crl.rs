//! A CRL whose frame was read and whose signature was not checked yet (RFC 5280 §5.1).
//!
//! Made by [`crate::read`], verified by `signature.rs`, held by [`crate::Library`] while it waits for its issuer.
//! It must not read the entries: that is for `entries.rs`, after the signature.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use trust::{CrlScope, Sha256, Time};

use crate::Obstacle;
use crate::der::{BIT_STRING, DerFlaw, Element, GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, Walk};
use crate::extensions::{self, Extensions};

/// An issuer's name stands in sentences: longer ones are cut.
const MAX_ISSUER_TEXT: usize = 256;

/// A CRL, as it came. A clone shares the bytes.
#[derive(Clone)]
pub struct UnverifiedCrl {
    /// Not `Arc<[u8]>`, which would copy them.
    der: Arc<Vec<u8>>,
    places: Places,
    facts: Facts,
}

/// Where the parts lie in the DER.
#[derive(Clone)]
struct Places {
    /// tbsCertList, tag and length included: what was signed.
    signed: Range<usize>,
    /// Content of the AlgorithmIdentifier.
    algorithm: Range<usize>,
    /// The signature's octets.
    signature: Range<usize>,
    /// The issuer's Name, tag and length included.
    issuer: Range<usize>,
    /// Content of revokedCertificates; empty if there is none.
    entries: Range<usize>,
}

/// What stays known of a CRL when its bytes are gone.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The issuer's name, for people.
    pub(crate) issuer: String,
    /// Digest of the issuer's name in DER.
    pub(crate) issuer_name: Sha256,
    pub(crate) order: Order,
    /// Whether it has a CRLNumber.
    pub(crate) numbered: bool,
    /// BaseCRLNumber, if it is a delta CRL.
    pub(crate) base: Option<Box<[u8]>>,
    pub(crate) next_update: Time,
    /// Digest of the DER.
    pub(crate) digest: Sha256,
    /// keyIdentifier of the AuthorityKeyIdentifier.
    pub(crate) key_id: Option<Box<[u8]>>,
    pub(crate) scope: CrlScope,
    /// One for each scope; see `extensions.rs`.
    pub(crate) scope_id: Sha256,
    /// What keeps it from being read, if something does.
    pub(crate) obstacle: Option<Obstacle>,
}

/// By what two CRLs of one issuer and scope are ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// CRLNumber without leading zeros; empty if there is none, or if it is zero.
    pub(crate) number: Box<[u8]>,
    pub(crate) this_update: Time,
}

impl Order {
    /// By number; without numbers by date (RFC 5280 asks for numbers, version 1 has none).
    pub(crate) fn compare(&self, other: &Order) -> Ordering {
        let by_number = compare_numbers(&self.number, &other.number);
        let undated = !self.number.is_empty();
        by_number.then_with(|| if undated { Ordering::Equal } else { self.this_update.cmp(&other.this_update) })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.number.is_empty() {
            return write!(f, "no CRLNumber and thisUpdate {}", crate::moment::show(self.this_update));
        }
        write!(f, "CRLNumber {}", number_text(&self.number))
    }
}

/// Compares numbers without leading zeros.
pub(crate) fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    (one.len(), one).cmp(&(other.len(), other))
}

/// A number as people write it.
pub(crate) fn number_text(number: &[u8]) -> String {
    if number.len() <= 16 {
        return number.iter().fold(0_u128, |sum, octet| (sum << 8) | u128::from(*octet)).to_string();
    }
    number.iter().fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}"))
}

impl UnverifiedCrl {
    /// Reads the frame of one CRL in DER.
    pub(crate) fn read(der: Vec<u8>) -> Result<UnverifiedCrl, DerFlaw> {
        let (places, facts) = frame(&der)?;
        Ok(UnverifiedCrl { der: Arc::new(der), places, facts })
    }

    /// Digest of the DER: under it the CRL is known.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.facts.digest
    }

    /// The CRL in DER, as it came.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How many bytes it keeps in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.der.len()
    }

    /// The exact bytes that were signed.
    pub(crate) fn signed(&self) -> &[u8] {
        self.part(&self.places.signed)
    }

    /// Content of the signature's AlgorithmIdentifier.
    pub(crate) fn algorithm(&self) -> &[u8] {
        self.part(&self.places.algorithm)
    }

    /// The signature.
    pub(crate) fn signature(&self) -> &[u8] {
        self.part(&self.places.signature)
    }

    /// The issuer's Name in DER.
    pub(crate) fn issuer(&self) -> &[u8] {
        self.part(&self.places.issuer)
    }

    /// A walk over the entries.
    pub(crate) fn entries(&self) -> Walk<'_> {
        Walk::new(self.part(&self.places.entries), self.places.entries.start)
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for UnverifiedCrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedCrl").field("bytes", &self.der.len()).field("facts", &self.facts).finish()
    }
}

fn frame(der: &[u8]) -> Result<(Places, Facts), DerFlaw> {
    let mut whole = Walk::new(der, 0);
    let list = whole.require(SEQUENCE, "this is no CertificateList")?;
    whole.end("there are bytes after the CRL's end")?;
    let mut parts = list.walk();
    let signed = parts.require(SEQUENCE, "tbsCertList is no SEQUENCE")?;
    let outer = parts.require(SEQUENCE, "signatureAlgorithm is no SEQUENCE")?;
    let signature = parts.require(BIT_STRING, "the signature is no BIT STRING")?;
    parts.end("there is something after the signature")?;
    // A signature is whole octets: no unused bits.
    let Some((0, octets)) = signature.content.split_first() else {
        return Err(signature.flaw("the signature does not consist of whole octets"));
    };

    let mut fields = signed.walk();
    let version = fields.optional(INTEGER)?;
    if version.is_some_and(|version| version.content != [1]) {
        return Err(signed.flaw("the version is neither absent nor 2"));
    }
    let algorithm = fields.require(SEQUENCE, "the signature algorithm is no SEQUENCE")?;
    if algorithm.content != outer.content {
        // RFC 5280 §5.1.1.2: the same inside and outside of what is signed.
        return Err(algorithm.flaw("the signature algorithm inside differs from the one outside"));
    }
    let issuer = fields.require(SEQUENCE, "the issuer is no Name")?;
    let issuer_text = name(&issuer)?;
    let this_update = time(&fields.step()?)?;
    let next_update = match fields.clone().step() {
        Ok(element) if matches!(element.tag, UTC_TIME | GENERALIZED_TIME) => time(&fields.step()?)?,
        _ => return Err(signed.flaw("there is no nextUpdate, so nobody can tell until when the CRL is current")),
    };
    if next_update <= this_update {
        return Err(signed.flaw("nextUpdate is not later than thisUpdate"));
    }
    let entries = fields.optional(SEQUENCE)?;
    let extensions = match fields.optional(0xa0)? {
        Some(element) if version.is_some() => extensions::read(&element)?,
        Some(element) => return Err(element.flaw("a CRL of version 1 has no extensions")),
        None => Extensions::default(),
    };
    fields.end("there is something after the extensions")?;

    let places = Places {
        signed: signed.at..signed.at + signed.whole.len(),
        algorithm: outer.content_at()..outer.content_at() + outer.content.len(),
        signature: signature.content_at() + 1..signature.content_at() + 1 + octets.len(),
        issuer: issuer.at..issuer.at + issuer.whole.len(),
        entries: entries.map_or(0..0, |element| element.content_at()..element.content_at() + element.content.len()),
    };
    let facts = Facts {
        issuer: issuer_text,
        issuer_name: Sha256::of(issuer.whole),
        order: Order { number: extensions.number, this_update },
        numbered: extensions.numbered,
        base: extensions.base,
        next_update,
        digest: Sha256::of(der),
        key_id: extensions.key_id,
        scope: extensions.scope,
        scope_id: extensions.scope_id,
        obstacle: extensions.obstacle,
    };
    Ok((places, facts))
}

fn name(issuer: &Element<'_>) -> Result<String, DerFlaw> {
    if issuer.content.is_empty() {
        return Err(issuer.flaw("the issuer has no name"));
    }
    let (_, parsed) = X509Name::from_der(issuer.whole).map_err(|_| issuer.flaw("the issuer's name is unreadable"))?;
    // Foreign text on its way to a log: no control characters, no endless line.
    Ok(parsed.to_string().chars().take(MAX_ISSUER_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

fn time(element: &Element<'_>) -> Result<Time, DerFlaw> {
    match ASN1Time::from_der(element.whole) {
        Ok(([], time)) => Ok(Time::from_seconds(time.timestamp())),
        _ => Err(element.flaw("this is no time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: &[u8], seconds: i64) -> Order {
        Order { number: number.into(), this_update: Time::from_seconds(seconds) }
    }

    #[test]
    fn numbers_order_first_and_dates_only_without_numbers() {
        assert_eq!(order(&[2], 0).compare(&order(&[1], 9)), Ordering::Greater);
        assert_eq!(order(&[1, 0], 0).compare(&order(&[0xff], 9)), Ordering::Greater);
        assert_eq!(order(&[5], 0).compare(&order(&[5], 9)), Ordering::Equal);
        assert_eq!(order(&[], 3).compare(&order(&[], 9)), Ordering::Less);
        assert_eq!(order(&[], 9).compare(&order(&[1], 0)), Ordering::Less);
    }

    #[test]
    fn a_number_is_shown_as_people_write_it() {
        assert_eq!(order(&[1, 0], 0).to_string(), "CRLNumber 256");
        assert_eq!(order(&[1; 17], 0).to_string(), format!("CRLNumber 0x{}", "01".repeat(17)));
        assert_eq!(order(&[], 0).to_string(), "no CRLNumber and thisUpdate 1970-01-01T00:00:00Z");
    }
}
