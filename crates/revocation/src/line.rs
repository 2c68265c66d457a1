//! One line of a list, as it is read.
//!
//! Called by `list.rs` for each line of a list that will be in force: of a million lines nothing is kept but keys. And
//! by `entry.rs` for lists that people change, where everything is kept. Never looks at a clock.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use trust::{IdentityPattern, Mode, Sha256, Terms, serial_key};

use crate::moment::Moment;
use crate::values::{Checked, Digest, Id, Key, Manner, Serial, TrustDomain, Why};

/// The values of a line as they come. What a note becomes is the caller's choice.
pub(crate) struct Line<N> {
    pub(crate) serial: Option<Serial>,
    pub(crate) issuer: Option<Digest>,
    pub(crate) spki: Option<Digest>,
    pub(crate) certificate: Option<Digest>,
    pub(crate) id: Option<Id>,
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) issued_before: Option<Moment>,
    pub(crate) until: Option<Moment>,
    pub(crate) reason: Option<Why>,
    pub(crate) note: Option<N>,
    pub(crate) mode: Option<Manner>,
}

/// Whom a line selects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// One certificate of an issuer's key.
    Serial(Sha256, Serial),
    /// The holder of this key.
    PublicKey(Sha256),
    /// This certificate.
    Certificate(Sha256),
    /// An identity, or all below a path.
    Id(IdentityPattern),
    /// All of a trust domain.
    TrustDomain(Box<str>),
    /// All that this key signed.
    Issuer(Sha256),
}

impl<N> Line<N> {
    fn empty() -> Line<N> {
        Line {
            serial: None,
            issuer: None,
            spki: None,
            certificate: None,
            id: None,
            trust_domain: None,
            issued_before: None,
            until: None,
            reason: None,
            note: None,
            mode: None,
        }
    }

    /// What narrows it. Rounded so that it never revokes less than said.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            issued_before: self.issued_before.map(Moment::ceiling),
            until: self.until.map(Moment::ceiling),
            reason: self.reason.as_ref().map(|why| why.0),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let kinds = [
            self.serial.is_some(),
            self.serial.is_none() && self.issuer.is_some(),
            self.spki.is_some(),
            self.certificate.is_some(),
            self.id.is_some(),
            self.trust_domain.is_some(),
        ];
        if self.serial.is_some() && self.issuer.is_none() {
            return Err(
                "a serial number says nothing without its issuer; add \"issuer\", the SHA-256 of the issuer's \
                        SubjectPublicKeyInfo",
            );
        }
        match kinds.iter().filter(|kind| **kind).count() {
            0 => Err("this entry selects nobody; give it one of serial with issuer, spki, certificate, id, \
                      trust_domain, issuer"),
            1 => Ok(()),
            _ => Err("this entry selects in several ways; write one entry for each"),
        }
    }

    /// Whom it selects; was checked to be one.
    pub(crate) fn selected(self) -> Option<Selected> {
        Some(match self {
            Line { serial: Some(serial), issuer: Some(Digest(key)), .. } => Selected::Serial(key, serial),
            Line { issuer: Some(Digest(key)), .. } => Selected::Issuer(key),
            Line { spki: Some(Digest(key)), .. } => Selected::PublicKey(key),
            Line { certificate: Some(Digest(fingerprint)), .. } => Selected::Certificate(fingerprint),
            Line { id: Some(Id(pattern)), .. } => Selected::Id(pattern),
            Line { trust_domain: Some(TrustDomain(domain)), .. } => Selected::TrustDomain(domain),
            Line { .. } => return None,
        })
    }
}

/// A line understood, without its note: what a list in force keeps.
pub(crate) struct Bare {
    pub(crate) selected: Selected,
    pub(crate) terms: Terms,
    pub(crate) mode: Mode,
}

impl Selected {
    /// The key under which a certificate of this serial number is looked up.
    pub(crate) fn serial_key(issuer: &Sha256, serial: &Serial) -> u128 {
        serial_key(issuer, serial.octets())
    }
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bare, D::Error> {
        let line = Line::<Checked>::deserialize(deserializer)?;
        let (terms, mode) = (line.terms(), line.mode.map_or(Mode::Enforce, |mode| mode.0));
        let selected = line.selected().ok_or_else(|| D::Error::custom("this entry selects nobody"))?;
        Ok(Bare { selected, terms, mode })
    }
}

impl<'de, N: Deserialize<'de>> Deserialize<'de> for Line<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Line<N>, D::Error> {
        struct Object<N>(std::marker::PhantomData<N>);
        impl<'de, N: Deserialize<'de>> Visitor<'de> for Object<N> {
            type Value = Line<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry, which is a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<N>, A::Error> {
                let mut line = Line::empty();
                while let Some(key) = map.next_key::<Key>()? {
                    match key {
                        Key::Serial => fill(&mut line.serial, &mut map)?,
                        Key::Issuer => fill(&mut line.issuer, &mut map)?,
                        Key::Spki => fill(&mut line.spki, &mut map)?,
                        Key::Certificate => fill(&mut line.certificate, &mut map)?,
                        Key::Id => fill(&mut line.id, &mut map)?,
                        Key::TrustDomain => fill(&mut line.trust_domain, &mut map)?,
                        Key::IssuedBefore => fill(&mut line.issued_before, &mut map)?,
                        Key::Until => fill(&mut line.until, &mut map)?,
                        Key::Reason => fill(&mut line.reason, &mut map)?,
                        Key::Note => fill(&mut line.note, &mut map)?,
                        Key::Mode => fill(&mut line.mode, &mut map)?,
                    }
                }
                line.check().map_err(A::Error::custom)?;
                Ok(line)
            }
        }
        deserializer.deserialize_map(Object(std::marker::PhantomData))
    }
}

fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(slot: &mut Option<T>, map: &mut A) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom("duplicate key; each may stand once in an entry"));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}
