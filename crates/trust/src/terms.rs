//! The terms on which an entry revokes: who it selects, since when, until when, and why.
//!
//! Built by `revocation` from the lines of a list; asked by [`crate::Snapshot`]. It must never know a format.

use std::collections::HashMap;

use crate::{Identity, KeySet, Link, Sha256, SpiffeId, Time};

/// Why something was revoked: the reasons of RFC 5280 §5.3.1 (removeFromCRL is an instruction, not a reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// unspecified (0).
    Unspecified,
    /// keyCompromise (1).
    KeyCompromise,
    /// cACompromise (2).
    CaCompromise,
    /// affiliationChanged (3).
    AffiliationChanged,
    /// superseded (4).
    Superseded,
    /// cessationOfOperation (5).
    CessationOfOperation,
    /// certificateHold (6).
    CertificateHold,
    /// privilegeWithdrawn (9).
    PrivilegeWithdrawn,
    /// aACompromise (10).
    AaCompromise,
}

/// Every reason, with its code in a CRL and its name in a list.
pub const REASONS: [(Reason, u8, &str); 9] = [
    (Reason::Unspecified, 0, "unspecified"),
    (Reason::KeyCompromise, 1, "keyCompromise"),
    (Reason::CaCompromise, 2, "cACompromise"),
    (Reason::AffiliationChanged, 3, "affiliationChanged"),
    (Reason::Superseded, 4, "superseded"),
    (Reason::CessationOfOperation, 5, "cessationOfOperation"),
    (Reason::CertificateHold, 6, "certificateHold"),
    (Reason::PrivilegeWithdrawn, 9, "privilegeWithdrawn"),
    (Reason::AaCompromise, 10, "aACompromise"),
];

impl Reason {
    /// The name that lists and logs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        REASONS.iter().find(|row| row.0 == self).map_or("unspecified", |row| row.2)
    }

    /// The reason of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Reason> {
        REASONS.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// The reason of this CRLReason code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Reason> {
        REASONS.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    pub(crate) fn code_plus_one(self) -> u8 {
        REASONS.iter().find(|row| row.0 == self).map_or(1, |row| row.1 + 1)
    }

    pub(crate) fn from_code_plus_one(nibble: u128) -> Option<Reason> {
        u8::try_from(nibble).ok()?.checked_sub(1).and_then(Reason::from_code)
    }
}

/// What narrows an entry: all of it optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Only certificates whose `notBefore` is earlier: a renewed one lives.
    pub issued_before: Option<Time>,
    /// The entry has no force from this moment on.
    pub until: Option<Time>,
    /// Why; for logs.
    pub reason: Option<Reason>,
}

impl Terms {
    fn hold(&self, link: &Link, now: Time) -> bool {
        self.issued_before.is_none_or(|limit| link.not_before < limit) && self.until.is_none_or(|end| now < end)
    }
}

/// By what an entry named the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Issuer key and serial number, in a list.
    Serial,
    /// The certificate's own public key.
    PublicKey,
    /// The certificate's fingerprint.
    Certificate,
    /// The client's identity, exact or by prefix.
    Id,
    /// The client's trust domain.
    TrustDomain,
    /// The key that issued it.
    Issuer,
    /// An RFC 5280 CRL.
    Crl,
}

impl Selector {
    /// The key under which a list names it; `crl` for a CRL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Selector::Serial => "serial",
            Selector::PublicKey => "spki",
            Selector::Certificate => "certificate",
            Selector::Id => "id",
            Selector::TrustDomain => "trust_domain",
            Selector::Issuer => "issuer",
            Selector::Crl => "crl",
        }
    }
}

/// All entries of one list. Plain ones of the three numerous kinds lie in [`KeySet`]s; the rest in maps.
#[derive(Debug, Default)]
pub struct Selectors {
    /// [`crate::serial_key`]s without terms.
    pub serials: KeySet,
    /// [`Sha256::key`]s of public keys, without terms.
    pub public_keys: KeySet,
    /// [`Sha256::key`]s of certificates, without terms.
    pub certificates: KeySet,
    /// Serial keys with terms.
    pub serials_with_terms: HashMap<u128, Vec<Terms>>,
    /// Public keys with terms.
    pub public_keys_with_terms: HashMap<Sha256, Vec<Terms>>,
    /// Certificates with terms.
    pub certificates_with_terms: HashMap<Sha256, Vec<Terms>>,
    /// Typed identities, exact: `uri:spiffe://…`, `dns:…`, `subject:…`.
    pub ids: HashMap<String, Vec<Terms>>,
    /// SPIFFE ID prefixes: `spiffe://td/path/` for the entry `spiffe://td/path/*`.
    pub id_prefixes: HashMap<String, Vec<Terms>>,
    /// Trust domains.
    pub trust_domains: HashMap<String, Vec<Terms>>,
    /// Digests of issuers' public keys.
    pub issuers: HashMap<Sha256, Vec<Terms>>,
}

impl Selectors {
    /// The first entry that revokes `link`, if one does.
    pub(crate) fn find_link(&self, link: &Link, now: Time) -> Option<(Selector, Option<Reason>)> {
        self.find_certificate(link, now).or_else(|| {
            let all = self.issuers.get(&link.issuer_key)?;
            all.iter().find(|one| one.hold(link, now)).map(|one| (Selector::Issuer, one.reason))
        })
    }

    /// The first entry that names `link` itself. For a root this is all: an entry for an issuer speaks of what the
    /// root's key issued, and if it spoke of the root too, an `issued_before` could spare no renewed leaf.
    pub(crate) fn find_certificate(&self, link: &Link, now: Time) -> Option<(Selector, Option<Reason>)> {
        let among = |terms: Option<&Vec<Terms>>| {
            terms.and_then(|all| all.iter().find(|one| one.hold(link, now))).map(|one| one.reason)
        };
        let plain = |set: &KeySet, key: u128| set.find(key);
        (plain(&self.serials, link.serial_key))
            .or_else(|| among(self.serials_with_terms.get(&link.serial_key)))
            .map(|reason| (Selector::Serial, reason))
            .or_else(|| {
                // Its holder can turn a certificate into its twin, so an entry for one is an entry for both.
                let mut both = std::iter::once(&link.fingerprint).chain(&link.twin);
                both.find_map(|fingerprint| {
                    plain(&self.certificates, fingerprint.key())
                        .or_else(|| among(self.certificates_with_terms.get(fingerprint)))
                })
                .map(|reason| (Selector::Certificate, reason))
            })
            .or_else(|| self.find_key(link, now))
    }

    /// The first entry that names the public key of `link`.
    pub(crate) fn find_key(&self, link: &Link, now: Time) -> Option<(Selector, Option<Reason>)> {
        let with_terms = || {
            let all = self.public_keys_with_terms.get(&link.public_key)?;
            all.iter().find(|one| one.hold(link, now)).map(|one| one.reason)
        };
        let found = self.public_keys.find(link.public_key.key()).or_else(with_terms);
        found.map(|reason| (Selector::PublicKey, reason))
    }

    /// The first entry that names `identity`, whose leaf is `leaf`.
    pub(crate) fn find_identity(
        &self,
        identity: &Identity,
        leaf: &Link,
        now: Time,
    ) -> Option<(Selector, Option<Reason>)> {
        let among = |terms: Option<&Vec<Terms>>, selector: Selector| {
            let all = terms?;
            all.iter().find(|one| one.hold(leaf, now)).map(|one| (selector, one.reason))
        };
        if !self.ids.is_empty() {
            let exact = among(self.ids.get(identity.typed()), Selector::Id);
            if exact.is_some() {
                return exact;
            }
        }
        let id = identity.spiffe()?;
        self.find_prefix(id, leaf, now).or_else(|| {
            if self.trust_domains.is_empty() {
                return None;
            }
            among(self.trust_domains.get(id.trust_domain()), Selector::TrustDomain)
        })
    }

    fn find_prefix(&self, id: SpiffeId<'_>, leaf: &Link, now: Time) -> Option<(Selector, Option<Reason>)> {
        if self.id_prefixes.is_empty() {
            return None;
        }
        id.ancestors().find_map(|prefix| {
            let all = self.id_prefixes.get(prefix)?;
            all.iter().find(|one| one.hold(leaf, now)).map(|one| (Selector::Id, one.reason))
        })
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        fn in_map<K>(map: &HashMap<K, Vec<Terms>>) -> usize {
            map.values().map(Vec::len).sum()
        }
        self.serials.len()
            + self.public_keys.len()
            + self.certificates.len()
            + in_map(&self.serials_with_terms)
            + in_map(&self.public_keys_with_terms)
            + in_map(&self.certificates_with_terms)
            + in_map(&self.ids)
            + in_map(&self.id_prefixes)
            + in_map(&self.trust_domains)
            + in_map(&self.issuers)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Asked in each judgement: no map is walked.
        self.serials.is_empty()
            && self.public_keys.is_empty()
            && self.certificates.is_empty()
            && self.serials_with_terms.is_empty()
            && self.public_keys_with_terms.is_empty()
            && self.certificates_with_terms.is_empty()
            && self.ids.is_empty()
            && self.id_prefixes.is_empty()
            && self.trust_domains.is_empty()
            && self.issuers.is_empty()
    }
}
