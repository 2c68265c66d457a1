//! The anchors trusted now, and for whom each may speak.
//!
//! Made by `sources` from PEM files, held by a [`crate::TrustState`], read in every handshake and judgement.

use std::collections::{HashMap, HashSet};
use std::fmt;

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::EndEntityCert;

use crate::certificate::signed_part;
use crate::identity::check_trust_domain;
use crate::signatures::Signatures;
use crate::{Certificate, Identity, Link, Sha256};

/// For whom an anchor was configured to speak.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// Anybody, but for the trust domains that other anchors were configured for.
    ForAnybody,
    /// The SPIFFE IDs of this trust domain and nobody else.
    ForTrustDomain(String),
}

/// One trusted root.
#[derive(Debug)]
pub struct Anchor {
    /// What its certificate says; RFC 5280 §6.1.1(d) would forget all but name and key.
    pub certificate: Certificate,
    /// It as a link, so that its expiry and its revocation are judged like any other's.
    pub link: Link,
    /// It as webpki wants it, with the name constraints of this very certificate.
    root: TrustAnchor<'static>,
    der: CertificateDer<'static>,
    /// Under other bounds than these a path that ends here is verified anew.
    pub(crate) bounds: Sha256,
    speaks: HashSet<Speaks>,
}

/// Digest of all in an anchor's certificate that bounds the paths ending at it.
fn bounds(certificate: &Certificate, root: &TrustAnchor<'_>) -> Sha256 {
    let Certificate { is_authority, may_sign_certificates, path_length, .. } = certificate;
    let own = format!("{is_authority} {may_sign_certificates} {path_length:?}");
    Sha256::of_all(&[own.as_bytes(), root.name_constraints.as_ref().map_or(&[], |one| one.as_ref())])
}

/// Why a bundle cannot be made; `position` counts the certificates from 0.
#[derive(Debug, PartialEq, Eq)]
pub struct BundleError {
    /// Which certificate.
    pub position: usize,
    /// Completes "this certificate …".
    pub why: String,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} {}", self.position.saturating_add(1), self.why)
    }
}

/// All anchors, keyed by name and public key: a root renewed under its key is the same anchor.
#[derive(Debug, Default)]
pub struct Bundle {
    anchors: HashMap<Sha256, Anchor>,
    for_anybody: Vec<TrustAnchor<'static>>,
    for_trust_domain: HashMap<String, Vec<TrustAnchor<'static>>>,
    all: Vec<TrustAnchor<'static>>,
    signatures: Signatures,
}

/// The identity of an anchor: its name and its key.
pub(crate) fn anchor_id(anchor: &TrustAnchor<'_>) -> Sha256 {
    Sha256::of_two(&Sha256::of(&anchor.subject).0, &anchor.subject_public_key_info)
}

impl Bundle {
    /// A bundle of these certificates. Of two certificates of one anchor the one that ends later counts.
    pub fn new(certificates: Vec<(CertificateDer<'static>, Speaks)>) -> Result<Bundle, BundleError> {
        let mut bundle = Bundle::default();
        for (position, (der, speaks)) in certificates.into_iter().enumerate() {
            bundle.add(der, speaks).map_err(|why| BundleError { position, why })?;
        }
        bundle.find_issuers();
        bundle.index();
        Ok(bundle)
    }

    fn add(&mut self, der: CertificateDer<'static>, speaks: Speaks) -> Result<(), String> {
        let certificate = Certificate::parse(&der).map_err(|malformed| malformed.to_string())?;
        let anchor = webpki::anchor_from_trusted_cert(&der)
            .map_err(|error| format!("cannot be an anchor ({error})"))?
            .to_owned();
        let id = anchor_id(&anchor);
        if let Speaks::ForTrustDomain(domain) = &speaks {
            check_trust_domain(domain).map_err(|error| format!("is for the trust domain {domain:?}, but {error}"))?;
        }
        let mut spoken = HashSet::from([speaks]);
        if let Some(known) = self.anchors.remove(&id) {
            spoken.extend(known.speaks);
            if known.certificate.not_after > certificate.not_after {
                self.anchors.insert(id, Anchor { speaks: spoken, ..known });
                return Ok(());
            }
        }
        // A root signed itself; the issuer of another anchor is looked for once all are here.
        let issuer = if certificate.subject == certificate.issuer { certificate.key_digest() } else { Sha256([0; 32]) };
        let link = Link::new(&certificate, issuer, usize::MAX);
        let bounds = bounds(&certificate, &anchor);
        self.anchors.insert(id, Anchor { certificate, link, root: anchor, der, bounds, speaks: spoken });
        Ok(())
    }

    /// An intermediate that is an anchor beside its own root, as where a whole chain is in one file, is still revoked
    /// by that root. Of an anchor whose issuer is not here nobody can say by which key it was signed.
    fn find_issuers(&mut self) {
        let issued = self.anchors.iter().filter(|(_, one)| one.certificate.subject != one.certificate.issuer);
        let found: Vec<_> = issued.filter_map(|(id, one)| Some((*id, self.issuer_of(one)?))).collect();
        for (id, issuer) in found {
            if let Some(anchor) = self.anchors.get_mut(&id) {
                anchor.link = Link::new(&anchor.certificate, issuer, usize::MAX);
            }
        }
    }

    fn issuer_of(&self, anchor: &Anchor) -> Option<Sha256> {
        let (message, signature) = signed_part(&anchor.der)?;
        let mut namesakes = self.anchors.values().filter(|one| one.certificate.subject == anchor.certificate.issuer);
        let issuer = namesakes.find(|one| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            EndEntityCert::try_from(&one.der).is_ok_and(|issuer| {
                algorithms.iter().any(|algorithm| issuer.verify_signature(*algorithm, &message, &signature).is_ok())
            })
        });
        issuer.map(|one| one.link.public_key)
    }

    /// Sorts the anchors by whom they speak for, once it is known which certificate counts for each. Ordered by
    /// id: which of two good paths webpki finds first must not depend on the order of a hash map.
    fn index(&mut self) {
        let mut anchors: Vec<_> = self.anchors.iter().collect();
        anchors.sort_unstable_by_key(|(id, _)| **id);
        for (_, anchor) in anchors {
            self.all.push(anchor.root.clone());
            for speaks in &anchor.speaks {
                match speaks {
                    Speaks::ForAnybody => self.for_anybody.push(anchor.root.clone()),
                    Speaks::ForTrustDomain(domain) => {
                        self.for_trust_domain.entry(domain.clone()).or_default().push(anchor.root.clone());
                    }
                }
            }
        }
    }

    /// The anchor of this id, if it is trusted now.
    #[must_use]
    pub fn find(&self, id: &Sha256) -> Option<&Anchor> {
        self.anchors.get(id)
    }

    /// The anchors, in no particular order.
    pub fn anchors(&self) -> impl Iterator<Item = &Anchor> {
        self.anchors.values()
    }

    /// How many anchors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether the anchor of this id may vouch for `identity`: an anchor configured for the identity's trust
    /// domain, or, where no anchor is, one configured for anybody.
    #[must_use]
    pub fn may_speak(&self, id: &Sha256, identity: &Identity) -> bool {
        let entitled = |speaks: &Speaks| self.anchors.get(id).is_some_and(|anchor| anchor.speaks.contains(speaks));
        match identity.spiffe() {
            Some(spiffe) if self.for_trust_domain.contains_key(spiffe.trust_domain()) => {
                entitled(&Speaks::ForTrustDomain(spiffe.trust_domain().to_owned()))
            }
            _ => entitled(&Speaks::ForAnybody),
        }
    }

    /// The anchors that may vouch for `identity`.
    pub(crate) fn entitled(&self, identity: &Identity) -> &[TrustAnchor<'static>] {
        identity.spiffe().and_then(|id| self.for_trust_domain.get(id.trust_domain())).unwrap_or(&self.for_anybody)
    }

    /// Signatures that led to its anchors before.
    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// All anchors.
    pub(crate) fn all(&self) -> &[TrustAnchor<'static>] {
        &self.all
    }

    /// DER of the anchors' names, the hint of a CertificateRequest (RFC 8446 §4.2.4).
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.values().map(|anchor| &*anchor.certificate.subject)
    }
}
