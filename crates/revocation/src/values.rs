//! The values of a list: how each is written, and what is wrong with one that is not.
//!
//! Used by `line.rs` and `header.rs`, and by `entry.rs` for what people type. Judges spelling inside the visitors, so
//! that serde_json knows the column. It must never accept two spellings of which one means something else elsewhere.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error, Visitor};
use trust::{IdentityPattern, Mode, REASONS, Reason, Sha256, trimmed_serial};

use crate::moment::excerpt;

/// RFC 5280 §4.1.2.2: a serial number has at most 20 octets.
const MAX_SERIAL: usize = 20;
/// A note is for people who read the file: a paragraph.
pub(crate) const MAX_NOTE: usize = 1024;
/// Names stand in logs and sentences: a word, not a text.
const MAX_WORD: usize = 64;

/// The key of a value.
#[derive(Clone, Copy)]
pub(crate) enum Key {
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
    Mode,
}

/// A value that is written as a string: how it is called, and what a string must be to be one.
pub(crate) trait Written: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Result<Self, String>;
}

/// Reads a [`Written`] without keeping the string.
pub(crate) fn read_written<'de, T: Written, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
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

/// Makes a [`Written`] readable by serde.
macro_rules! deserialize_written {
    ($($kind:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::values::read_written(deserializer)
            }
        }
    )*};
}
pub(crate) use deserialize_written;

deserialize_written!(
    Key,
    Serial,
    Digest,
    Id,
    TrustDomain,
    Why,
    Checked,
    Note,
    Manner,
    Name,
    Scope,
    OverlayId,
    Encoding
);

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
            "mode" => Key::Mode,
            unknown => {
                return Err(format!(
                    "unknown key {:?}; an entry has serial, issuer, spki, certificate, id, trust_domain, \
                     issued_before, until, reason, note, mode",
                    excerpt(unknown)
                ));
            }
        })
    }
}

/// A serial number, in order of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial {
    /// With leading zeros.
    octets: [u8; MAX_SERIAL],
}

impl Serial {
    /// Without leading zeros, as [`trust::serial_key`] and `openssl` take it.
    pub(crate) fn octets(&self) -> &[u8] {
        trimmed_serial(&self.octets)
    }

    /// Of an INTEGER's content octets; `None` if there are more than RFC 5280 allows.
    pub(crate) fn of(octets: &[u8]) -> Option<Serial> {
        let octets = trimmed_serial(octets);
        let mut serial = Serial { octets: [0; MAX_SERIAL] };
        let room = serial.octets.get_mut(MAX_SERIAL.checked_sub(octets.len())?..)?;
        room.copy_from_slice(octets);
        Some(serial)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.octets().is_empty() {
            return f.write_str("00");
        }
        self.octets().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
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
        let mut serial = Serial { octets: [0; MAX_SERIAL] };
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

/// A digest.
pub(crate) struct Digest(pub(crate) Sha256);

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

/// An identity or a pattern of identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) IdentityPattern);

impl Written for Id {
    const EXPECTED: &'static str = "an identity like \"spiffe://td/path\", as a string";
    fn read(text: &str) -> Result<Id, String> {
        let typed = ["uri:", "dns:", "subject:"].iter().any(|kind| text.starts_with(kind));
        let pattern = if typed { IdentityPattern::parse(text) } else { IdentityPattern::parse_spiffe(text) };
        pattern.map(Id).map_err(|error| format!("{:?} names nobody: {error}", excerpt(text)))
    }
}

/// A trust domain.
pub(crate) struct TrustDomain(pub(crate) Box<str>);

impl Written for TrustDomain {
    const EXPECTED: &'static str = "a trust domain like \"prod.example\", as a string";
    fn read(text: &str) -> Result<TrustDomain, String> {
        let whole = !text.contains(['/', '*']) && IdentityPattern::parse_spiffe(&format!("spiffe://{text}/*")).is_ok();
        if whole {
            return Ok(TrustDomain(text.into()));
        }
        Err(format!(
            "{:?} is no trust domain: 1 to 255 lower-case letters, digits, '.', '-' or '_', without spiffe://",
            excerpt(text)
        ))
    }
}

/// A reason.
pub(crate) struct Why(pub(crate) Reason);

impl Written for Why {
    const EXPECTED: &'static str = "a reason like \"keyCompromise\", as a string";
    fn read(text: &str) -> Result<Why, String> {
        Reason::from_name(text).map(Why).ok_or_else(|| {
            let names: Vec<&str> = REASONS.iter().map(|row| row.2).collect();
            format!("unknown reason {:?}; the reasons are {}", excerpt(text), names.join(", "))
        })
    }
}

/// A note that nobody keeps.
pub(crate) struct Checked;

impl Written for Checked {
    const EXPECTED: &'static str = "a note, as a string";
    fn read(text: &str) -> Result<Checked, String> {
        if text.len() <= MAX_NOTE {
            return Ok(Checked);
        }
        Err(format!("a note has at most {MAX_NOTE} bytes, this one has {}", text.len()))
    }
}

/// A note.
pub(crate) struct Note(pub(crate) Box<str>);

impl Written for Note {
    const EXPECTED: &'static str = Checked::EXPECTED;
    fn read(text: &str) -> Result<Note, String> {
        Checked::read(text).map(|_| Note(text.into()))
    }
}

/// A mode.
#[derive(Clone, Copy)]
pub(crate) struct Manner(pub(crate) Mode);

impl Manner {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self.0 {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe",
        }
    }
}

impl Written for Manner {
    const EXPECTED: &'static str = "a mode, which is \"enforce\" or \"observe\"";
    fn read(text: &str) -> Result<Manner, String> {
        match text {
            "enforce" => Ok(Manner(Mode::Enforce)),
            "observe" => Ok(Manner(Mode::Observe)),
            unknown => Err(format!("unknown mode {:?}; the modes are enforce, observe", excerpt(unknown))),
        }
    }
}

/// How a list is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// One JSON object a line.
    #[default]
    Lines,
    /// Sorted keys, then lines for the rest.
    Binary,
}

impl Encoding {
    /// The word for it, in headers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Lines => "lines",
            Encoding::Binary => "binary",
        }
    }
}

impl Written for Encoding {
    const EXPECTED: &'static str = "an encoding, which is \"lines\" or \"binary\"";
    fn read(text: &str) -> Result<Encoding, String> {
        match text {
            "lines" => Ok(Encoding::Lines),
            "binary" => Ok(Encoding::Binary),
            unknown => Err(format!("unknown encoding {:?}; the encodings are lines, binary", excerpt(unknown))),
        }
    }
}

/// The name of a list.
pub(crate) struct Name(pub(crate) Arc<str>);
/// Whom a list is meant for.
pub(crate) struct Scope(pub(crate) Arc<str>);
/// A denial of the overlay.
pub(crate) struct OverlayId(pub(crate) Arc<str>);

fn word(what: &str, text: &str) -> Result<Arc<str>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(plain) {
        return Ok(Arc::from(text));
    }
    Err(format!("{what} {:?} is not made of 1 to {MAX_WORD} letters, digits, '.', '_' and '-'", excerpt(text)))
}

impl Written for Name {
    const EXPECTED: &'static str = "the list's name";
    fn read(text: &str) -> Result<Name, String> {
        word("the list's name", text).map(Name)
    }
}

impl Written for Scope {
    const EXPECTED: &'static str = "the list's scope";
    fn read(text: &str) -> Result<Scope, String> {
        word("the scope", text).map(Scope)
    }
}

impl Written for OverlayId {
    const EXPECTED: &'static str = "the id of a denial, as a string";
    fn read(text: &str) -> Result<OverlayId, String> {
        word("the id of a denial", text).map(OverlayId)
    }
}
