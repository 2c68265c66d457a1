//! One line of a list: an entry that revokes.
//!
//! Called by `list.rs` for each line. Reads values straight out of the line: of a million lines nothing is kept
//! but keys. Judges spelling inside the visitors, so that serde_json knows the column. Never looks at a clock.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use trust::{IdentityPattern, REASONS, Reason, Sha256, Terms, serial_key};

use crate::moment::{Moment, excerpt};

/// RFC 5280 §4.1.2.2: a serial number has at most 20 octets.
const MAX_SERIAL: usize = 20;
/// A note is for people who read the file: a paragraph.
const MAX_NOTE: usize = 1024;

/// Whom a line selects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// The [`serial_key`] of one certificate.
    Serial(u128),
    /// The holder of this key.
    PublicKey(Sha256),
    /// This certificate.
    Certificate(Sha256),
    /// An identity, or all below a path.
    Id(IdentityPattern),
    /// All of a trust domain.
    TrustDomain(String),
    /// All that this key signed.
    Issuer(Sha256),
}

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) selected: Selected,
    pub(crate) terms: Terms,
}

/// The values of a line as they come.
#[derive(Default)]
struct Line {
    serial: Option<Serial>,
    issuer: Option<Digest>,
    spki: Option<Digest>,
    certificate: Option<Digest>,
    id: Option<Id>,
    trust_domain: Option<TrustDomain>,
    issued_before: Option<Moment>,
    until: Option<Moment>,
    reason: Option<Why>,
    note: Option<Note>,
}

impl Line {
    fn entry(self) -> Result<Entry, &'static str> {
        let kinds = [
            self.serial.is_some(),
            self.serial.is_none() && self.issuer.is_some(),
            self.spki.is_some(),
            self.certificate.is_some(),
            self.id.is_some(),
            self.trust_domain.is_some(),
        ];
        match kinds.iter().filter(|kind| **kind).count() {
            0 => {
                return Err("this entry selects nobody; give it one of serial with issuer, spki, certificate, id, \
                            trust_domain, issuer");
            }
            1 => {}
            _ => return Err("this entry selects in several ways; write one entry for each"),
        }
        let selected = match self {
            Line { serial: Some(serial), issuer: Some(issuer), .. } => {
                Selected::Serial(serial_key(&issuer.0, serial.octets()))
            }
            Line { serial: Some(_), issuer: None, .. } => {
                return Err("a serial number says nothing without its issuer; add \"issuer\", the SHA-256 of the \
                            issuer's SubjectPublicKeyInfo");
            }
            Line { issuer: Some(Digest(key)), .. } => Selected::Issuer(key),
            Line { spki: Some(Digest(key)), .. } => Selected::PublicKey(key),
            Line { certificate: Some(Digest(fingerprint)), .. } => Selected::Certificate(fingerprint),
            Line { id: Some(Id(pattern)), .. } => Selected::Id(pattern),
            Line { trust_domain: Some(TrustDomain(domain)), .. } => Selected::TrustDomain(domain),
            Line { .. } => return Err("this entry selects nobody"),
        };
        let terms = Terms {
            issued_before: self.issued_before.map(Moment::ceiling),
            until: self.until.map(Moment::ceiling),
            reason: self.reason.map(|why| why.0),
        };
        Ok(Entry { selected, terms })
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry, which is a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut line = Line::default();
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
                    }
                }
                line.entry().map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(slot: &mut Option<T>, map: &mut A) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom("duplicate key; each may stand once in an entry"));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

#[derive(Clone, Copy)]
enum Key {
    Serial,
    Issuer,
    Spki,
    Certificate,
    Id,
    TrustDomain,
    IssuedBefore,
    Until,
    Reason,
    Note,
}

/// A value that is written as a string: how it is called, and what a string must be to be one.
trait Written: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Result<Self, String>;
}

/// Reads a [`Written`] without keeping the string.
fn read_written<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(std::marker::PhantomData<T>);
    impl<T: Written> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::read(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(std::marker::PhantomData))
}

macro_rules! deserialize_written {
    ($($kind:ty),*) => {$(
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read_written(deserializer)
            }
        }
    )*};
}

deserialize_written!(Key, Serial, Digest, Id, TrustDomain, Why, Note);

impl Written for Key {
    const EXPECTED: &'static str = "a key of an entry";
    fn read(text: &str) -> Result<Key, String> {
        Ok(match text {
            "serial" => Key::Serial,
            "issuer" => Key::Issuer,
            "spki" => Key::Spki,
            "certificate" => Key::Certificate,
            "id" => Key::Id,
            "trust_domain" => Key::TrustDomain,
            "issued_before" => Key::IssuedBefore,
            "until" => Key::Until,
            "reason" => Key::Reason,
            "note" => Key::Note,
            unknown => {
                return Err(format!(
                    "unknown key {:?}; an entry has serial, issuer, spki, certificate, id, trust_domain, \
                     issued_before, until, reason, note",
                    excerpt(unknown)
                ));
            }
        })
    }
}

/// A serial number without leading zeros.
struct Serial {
    octets: [u8; MAX_SERIAL],
    start: usize,
}

impl Serial {
    fn octets(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }
}

impl Written for Serial {
    const EXPECTED: &'static str = "a serial number in hexadecimal, as a string";
    fn read(text: &str) -> Result<Serial, String> {
        if text.is_empty() {
            return Err("a serial number has at least one hexadecimal digit".to_owned());
        }
        let digits = text.as_bytes();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let digits = digits.get(zeros..).unwrap_or_default();
        if digits.len() > 2 * MAX_SERIAL {
            return Err("a serial number has at most 20 octets (RFC 5280 §4.1.2.2)".to_owned());
        }
        // From the last digit, so that an odd count means what people mean by it.
        let mut serial = Serial { octets: [0; MAX_SERIAL], start: MAX_SERIAL - digits.len().div_ceil(2) };
        let pairs = digits.rchunks(2);
        for (octet, pair) in serial.octets.iter_mut().rev().zip(pairs) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or_else(|| bad_digit(text))?;
                *octet = (*octet << 4) | u8::try_from(value).unwrap_or(0);
            }
        }
        Ok(serial)
    }
}

fn bad_digit(text: &str) -> String {
    let bad = text.chars().enumerate().find(|(_, digit)| !digit.is_ascii_hexdigit());
    let (position, digit) = bad.unwrap_or_default();
    format!("bad hexadecimal digit {digit:?} at position {}; digits are 0-9 and a-f", position + 1)
}

struct Digest(Sha256);

impl Written for Digest {
    const EXPECTED: &'static str = "a SHA-256 in hexadecimal, as a string";
    fn read(text: &str) -> Result<Digest, String> {
        Sha256::from_hex(text).map(Digest).ok_or_else(|| {
            if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                format!("a SHA-256 has 64 hexadecimal digits, this one has {}", text.len())
            } else {
                bad_digit(text)
            }
        })
    }
}

struct Id(IdentityPattern);

impl Written for Id {
    const EXPECTED: &'static str = "an identity like \"spiffe://td/path\", as a string";
    fn read(text: &str) -> Result<Id, String> {
        let typed = ["uri:", "dns:", "subject:"].iter().any(|kind| text.starts_with(kind));
        let pattern = if typed { IdentityPattern::parse(text) } else { IdentityPattern::parse_spiffe(text) };
        pattern.map(Id).map_err(|error| format!("{:?} names nobody: {error}", excerpt(text)))
    }
}

struct TrustDomain(String);

impl Written for TrustDomain {
    const EXPECTED: &'static str = "a trust domain like \"prod.example\", as a string";
    fn read(text: &str) -> Result<TrustDomain, String> {
        let whole = !text.contains(['/', '*']) && IdentityPattern::parse_spiffe(&format!("spiffe://{text}/*")).is_ok();
        if whole {
            return Ok(TrustDomain(text.to_owned()));
        }
        Err(format!(
            "{:?} is no trust domain: 1 to 255 lower-case letters, digits, '.', '-' or '_', without spiffe://",
            excerpt(text)
        ))
    }
}

struct Why(Reason);

impl Written for Why {
    const EXPECTED: &'static str = "a reason like \"keyCompromise\", as a string";
    fn read(text: &str) -> Result<Why, String> {
        Reason::from_name(text).map(Why).ok_or_else(|| {
            let names: Vec<&str> = REASONS.iter().map(|row| row.2).collect();
            format!("unknown reason {:?}; the reasons are {}", excerpt(text), names.join(", "))
        })
    }
}

struct Note;

impl Written for Note {
    const EXPECTED: &'static str = "a note, as a string";
    fn read(text: &str) -> Result<Note, String> {
        if text.len() <= MAX_NOTE { Ok(Note) } else { Err("a note has at most 1024 bytes".to_owned()) }
    }
}
