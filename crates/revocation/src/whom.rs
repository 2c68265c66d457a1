//! Whom an entry names.
//!
//! Made by `entry.rs` of a line, and by the commands of what people type. Every value was checked when it was made, so
//! that whatever is written into a list can be read again. It must never be what judges: that is `trust`.

use std::fmt;

use trust::{IdentityPattern, KeySet, Sha256};

use crate::line::Selected;
use crate::values::{Id, Serial, TrustDomain, Written};

/// Whom an entry names. Ordered from many to one: trust domains and issuers stand before single certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whom(Named);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    TrustDomain(Box<str>),
    Issuer(Sha256),
    /// As lists write it: `spiffe://…`, `dns:…`, `subject:…`.
    Id(Box<str>),
    PublicKey(Sha256),
    Certificate(Sha256),
    Serial(Sha256, Serial),
    /// What a compiled list keeps of the three numerous kinds; the last four bits are zero.
    Key(Kind, u128),
}

/// The three kinds of which there can be millions, in the order of a compiled list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Serial,
    PublicKey,
    Certificate,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Serial, Kind::PublicKey, Kind::Certificate];

    fn name(self) -> &'static str {
        match self {
            Kind::Serial => "serial",
            Kind::PublicKey => "spki",
            Kind::Certificate => "certificate",
        }
    }
}

impl Whom {
    /// All of a trust domain: `prod.example`.
    pub fn trust_domain(text: &str) -> Result<Whom, String> {
        TrustDomain::read(text).map(|domain| Whom(Named::TrustDomain(domain.0)))
    }

    /// All that the key of this SHA-256 signed.
    #[must_use]
    pub fn issuer(key: Sha256) -> Whom {
        Whom(Named::Issuer(key))
    }

    /// An identity, or all below one: `spiffe://td/path`, `spiffe://td/path/*`, `dns:name`, `subject:CN=…`.
    pub fn id(text: &str) -> Result<Whom, String> {
        Id::read(text).map(|id| Whom::pattern(&id.0))
    }

    /// The holder of the key of this SHA-256.
    #[must_use]
    pub fn public_key(key: Sha256) -> Whom {
        Whom(Named::PublicKey(key))
    }

    /// The certificate of this SHA-256.
    #[must_use]
    pub fn certificate(fingerprint: Sha256) -> Whom {
        Whom(Named::Certificate(fingerprint))
    }

    /// A certificate by its issuer's key and its serial number in hexadecimal.
    pub fn serial(issuer: Sha256, hexadecimal: &str) -> Result<Whom, String> {
        Serial::read(hexadecimal).map(|serial| Whom(Named::Serial(issuer, serial)))
    }

    /// A certificate by its issuer's key and its serial number's content octets.
    pub fn serial_octets(issuer: Sha256, octets: &[u8]) -> Result<Whom, String> {
        let serial = Serial::of(octets).ok_or("a serial number has at most 20 octets (RFC 5280 §4.1.2.2)")?;
        Ok(Whom(Named::Serial(issuer, serial)))
    }

    pub(crate) fn key(kind: Kind, entry: u128) -> Whom {
        Whom(Named::Key(kind, KeySet::parts(entry).0))
    }

    pub(crate) fn of(selected: Selected) -> Whom {
        match selected {
            Selected::TrustDomain(domain) => Whom(Named::TrustDomain(domain)),
            Selected::Issuer(key) => Whom::issuer(key),
            Selected::Id(pattern) => Whom::pattern(&pattern),
            Selected::PublicKey(key) => Whom::public_key(key),
            Selected::Certificate(fingerprint) => Whom::certificate(fingerprint),
            Selected::Serial(issuer, serial) => Whom(Named::Serial(issuer, serial)),
        }
    }

    fn pattern(pattern: &IdentityPattern) -> Whom {
        let text = match pattern {
            IdentityPattern::Exact(id) => id.typed().strip_prefix("uri:").unwrap_or(id.typed()).into(),
            IdentityPattern::Below(prefix) => format!("{prefix}*").into_boxed_str(),
        };
        Whom(Named::Id(text))
    }

    /// The key under which a list names it: `serial`, `issuer`, `spki`, `certificate`, `id` or `trust_domain`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Named::TrustDomain(_) => "trust_domain",
            Named::Issuer(_) => "issuer",
            Named::Id(_) => "id",
            Named::PublicKey(_) => Kind::PublicKey.name(),
            Named::Certificate(_) => Kind::Certificate.name(),
            Named::Serial(..) => Kind::Serial.name(),
            Named::Key(kind, _) => kind.name(),
        }
    }

    /// Whether this is all that a compiled list kept: it names the same, but nobody can tell whom it was written for.
    #[must_use]
    pub fn is_compiled(&self) -> bool {
        matches!(self.0, Named::Key(..))
    }

    /// Whether both name the same, one in a compiled list and the other not, or both in the same way.
    #[must_use]
    pub fn is_same(&self, other: &Whom) -> bool {
        if self.is_compiled() || other.is_compiled() { self.compiled() == other.compiled() } else { self == other }
    }

    /// As a compiled list would keep it.
    pub(crate) fn compiled(&self) -> Whom {
        match &self.0 {
            Named::Serial(issuer, serial) => Whom::key(Kind::Serial, Selected::serial_key(issuer, serial)),
            Named::PublicKey(key) => Whom::key(Kind::PublicKey, key.key()),
            Named::Certificate(key) => Whom::key(Kind::Certificate, key.key()),
            Named::TrustDomain(_) | Named::Issuer(_) | Named::Id(_) | Named::Key(..) => self.clone(),
        }
    }

    /// Kind and key of one of the numerous kinds.
    pub(crate) fn compact(&self) -> Option<(Kind, u128)> {
        match self.compiled().0 {
            Named::Key(kind, key) => Some((kind, key)),
            Named::TrustDomain(_)
            | Named::Issuer(_)
            | Named::Id(_)
            | Named::PublicKey(_)
            | Named::Certificate(_)
            | Named::Serial(..) => None,
        }
    }

    /// The keys and values by which a line names it; a compiled one has a key that no list may hold.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        match &self.0 {
            Named::TrustDomain(text) | Named::Id(text) => vec![(self.kind(), text.to_string())],
            Named::Issuer(digest) | Named::PublicKey(digest) | Named::Certificate(digest) => {
                vec![(self.kind(), digest.to_string())]
            }
            Named::Serial(issuer, serial) => vec![("serial", serial.to_string()), ("issuer", issuer.to_string())],
            Named::Key(Kind::Serial, key) => vec![("serial_key", format!("{key:032x}"))],
            Named::Key(Kind::PublicKey, key) => vec![("spki_key", format!("{key:032x}"))],
            Named::Key(Kind::Certificate, key) => vec![("certificate_key", format!("{key:032x}"))],
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Named::TrustDomain(text) => write!(f, "trust domain {text}"),
            Named::Issuer(key) => write!(f, "everything issued by {key}"),
            Named::Id(text) => write!(f, "id {text}"),
            Named::PublicKey(key) => write!(f, "public key {key}"),
            Named::Certificate(fingerprint) => write!(f, "certificate {fingerprint}"),
            Named::Serial(issuer, serial) => write!(f, "serial {serial} of issuer {issuer}"),
            Named::Key(kind, key) => write!(f, "{} key {key:032x}", kind.name()),
        }
    }
}
