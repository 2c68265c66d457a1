//! From the certificates that a client presented to the path that verifies.
//!
//! Called in each handshake, and again for a session whose anchor left the bundle. rustls-webpki builds the path;
//! what it leaves to us is here: keyCertSign of every issuer, validity and right to speak of the anchor, the
//! strict rules for X.509-SVIDs. Revocation is not here: that is [`crate::judge`]'s, on every request.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::bundle::anchor_id;
use crate::{Bundle, Certificate, Identity, IdentityError, Place, Sha256, Time, serial_key, trimmed_serial};

/// Certificates that a client may present. AWS allows a depth of 4; ten leaves room for cross-signed extras.
pub const MAX_CHAIN_LENGTH: usize = 10;

/// One certificate of a verified path: the facts that are judged, and no bytes of it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Serial number, without leading zeros.
    pub serial: Box<[u8]>,
    /// Digest of the public key that signed it.
    pub issuer_key: Sha256,
    /// Digest of its own public key.
    pub public_key: Sha256,
    /// Digest of the certificate.
    pub fingerprint: Sha256,
    /// Digest of its twin: the same certificate with the other form of its ECDSA signature.
    pub twin: Option<Sha256>,
    /// [`serial_key`] of issuer key and serial.
    pub serial_key: u128,
    /// First moment of its validity.
    pub not_before: Time,
    /// Last moment of its validity, inclusive.
    pub not_after: Time,
    /// It may issue certificates, so a CRL for authorities speaks of it.
    pub is_authority: bool,
    /// Digests of its CRL distribution points' URIs.
    pub distribution_points: Box<[Sha256]>,
    /// RFC 9608: no CRL will come for it.
    pub no_revocation_available: bool,
    /// Digest of its issuer's name in DER: how a CRL that waits for its issuer is found.
    pub issuer_name: Sha256,
    /// Which of the presented certificates it is.
    pub position: usize,
}

impl Link {
    pub(crate) fn new(certificate: &Certificate, issuer_key: Sha256, position: usize) -> Link {
        Link {
            serial: trimmed_serial(&certificate.serial).into(),
            issuer_key,
            public_key: certificate.key_digest(),
            fingerprint: certificate.fingerprint,
            twin: certificate.twin,
            serial_key: serial_key(&issuer_key, &certificate.serial),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            is_authority: certificate.is_authority,
            distribution_points: certificate.distribution_points.clone(),
            no_revocation_available: certificate.no_revocation_available,
            issuer_name: Sha256::of(&certificate.issuer),
            position,
        }
    }
}

/// A path that verified: who the client is, and by which links.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Who.
    pub identity: Identity,
    /// The client's own certificate.
    pub leaf: Link,
    /// From the leaf's issuer up to, without, the anchor.
    pub intermediates: Box<[Link]>,
    /// The anchor's id in its [`Bundle`].
    pub anchor: Sha256,
    /// What bounded the path in the anchor's certificate: CA bit, key usage, path length, name constraints.
    pub anchor_bounds: Sha256,
}

/// Why presented certificates make no chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// More certificates than [`MAX_CHAIN_LENGTH`], or a path through more intermediates than webpki follows (six).
    TooLong,
    /// A certificate that cannot be read.
    Malformed(&'static str),
    /// No usable identity in the leaf.
    Identity(IdentityError),
    /// No path to an anchor.
    UnknownIssuer,
    /// A path, but to an anchor of another trust domain.
    AnchorOfAnotherTrustDomain,
    /// A signature does not verify.
    BadSignature,
    /// The extended key usage leaves out clientAuth.
    NotForClients,
    /// An issuer without the CA bit or keyCertSign, a path length or a name constraint exceeded.
    IssuerNotEntitled,
    /// Not valid yet.
    NotYetValid(Place),
    /// Not valid any more.
    Expired(Place),
    /// Anything else that webpki refuses: unknown critical extensions, unsupported algorithms, small keys.
    Unacceptable,
}

/// The labels of [`Flaw`], the closed list of metrics.
impl Flaw {
    /// One fixed word, for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Flaw::TooLong => "chain_too_long",
            Flaw::Malformed(_) => "malformed",
            Flaw::Identity(_) => "identity",
            Flaw::UnknownIssuer => "unknown_issuer",
            Flaw::AnchorOfAnotherTrustDomain => "anchor_of_another_trust_domain",
            Flaw::BadSignature => "bad_signature",
            Flaw::NotForClients => "not_for_clients",
            Flaw::IssuerNotEntitled => "issuer_not_entitled",
            Flaw::NotYetValid(_) => "not_yet_valid",
            Flaw::Expired(_) => "expired",
            Flaw::Unacceptable => "unacceptable",
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 11] = [
        "chain_too_long",
        "malformed",
        "identity",
        "unknown_issuer",
        "anchor_of_another_trust_domain",
        "bad_signature",
        "not_for_clients",
        "issuer_not_entitled",
        "not_yet_valid",
        "expired",
        "unacceptable",
    ];
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Malformed(why) => write!(f, "malformed: a presented certificate {why}"),
            Flaw::Identity(why) => write!(f, "identity: {why}"),
            Flaw::NotYetValid(place) | Flaw::Expired(place) => write!(f, "{} ({})", self.label(), place.name()),
            Flaw::TooLong
            | Flaw::UnknownIssuer
            | Flaw::AnchorOfAnotherTrustDomain
            | Flaw::BadSignature
            | Flaw::NotForClients
            | Flaw::IssuerNotEntitled
            | Flaw::Unacceptable => f.write_str(self.label()),
        }
    }
}

/// The path from `presented` (leaf first) to an anchor of `bundle` that may speak for the leaf's identity, all
/// of it valid at `now`.
pub fn verify(presented: &[CertificateDer<'_>], bundle: &Bundle, now: Time) -> Result<Chain, Flaw> {
    let Some((leaf_der, others)) = presented.split_first() else {
        return Err(Flaw::Malformed("is missing"));
    };
    if presented.len() > MAX_CHAIN_LENGTH {
        return Err(Flaw::TooLong);
    }
    let leaf = Certificate::parse(leaf_der).map_err(|malformed| Flaw::Malformed(malformed.0))?;
    let identity = leaf.identity().map_err(Flaw::Identity)?;
    in_force(&leaf, now).map_err(|error| flaw(&error, Place::Leaf))?;
    let entity = EndEntityCert::try_from(leaf_der).map_err(|error| flaw(&error, Place::Leaf))?;
    let moment = unix(now);
    let algorithms = bundle.signatures().algorithms();
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> = algorithms.iter().map(|one| one as _).collect();
    let path_to = |anchors| {
        entity.verify_for_usage(
            &algorithms,
            anchors,
            others,
            moment,
            KeyUsage::client_auth(),
            None,
            Some(&|path: &VerifiedPath<'_>| issuers_entitled(path, bundle, now)),
        )
    };
    let path = match path_to(bundle.entitled(&identity)) {
        Ok(path) => path,
        // The roots of two trust domains often share a name: then the wrong one's signature is what fails.
        Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
            if path_to(bundle.all()).is_ok() =>
        {
            return Err(Flaw::AnchorOfAnotherTrustDomain);
        }
        // The leaf is in force, so of an expiry only an issuer's is left; webpki does not say whose.
        Err(error) => return Err(flaw(&error, Place::Issuer)),
    };
    let anchor = anchor_id(path.anchor());
    let trusted = bundle.find(&anchor).ok_or(Flaw::UnknownIssuer)?;
    let (anchor_key, anchor_bounds) = (trusted.link.public_key, trusted.bounds);
    let mut issuers = Vec::new();
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let position = presented.iter().position(|one| one.as_ref() == der.as_ref()).unwrap_or(usize::MAX);
        let certificate = Certificate::parse(&der).map_err(|malformed| Flaw::Malformed(malformed.0))?;
        issuers.push((certificate, position));
    }
    // Each link is signed by the next one's key, the last by the anchor's.
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.0.key_digest()).chain([anchor_key]).collect();
    let leaf = Link::new(&leaf, keys.first().copied().unwrap_or(anchor_key), 0);
    let intermediates = issuers.iter().zip(keys.iter().skip(1));
    let intermediates = intermediates.map(|((certificate, position), key)| Link::new(certificate, *key, *position));
    Ok(Chain { identity, leaf, intermediates: intermediates.collect(), anchor, anchor_bounds })
}

/// What webpki does not look at: an issuer's keyCertSign, and of the anchor everything but its name, its key and its
/// name constraints.
fn issuers_entitled(path: &VerifiedPath<'_>, bundle: &Bundle, now: Time) -> Result<(), webpki::Error> {
    let mut below = 0_u32;
    for intermediate in path.intermediate_certificates() {
        let certificate = Certificate::parse(&intermediate.der()).map_err(|_| webpki::Error::BadDer)?;
        entitled(&certificate, now)?;
        // RFC 5280 §4.2.1.9: a path length does not count those that renew their own issuer.
        below = below.saturating_add(u32::from(certificate.subject != certificate.issuer));
    }
    let anchor = bundle.find(&anchor_id(path.anchor())).ok_or(webpki::Error::UnknownIssuer)?;
    if anchor.certificate.path_length.is_some_and(|longest| below > longest) {
        return Err(webpki::Error::PathLenConstraintViolated);
    }
    entitled(&anchor.certificate, now)
}

fn entitled(issuer: &Certificate, now: Time) -> Result<(), webpki::Error> {
    in_force(issuer, now)?;
    // Of an anchor webpki forgets the CA bit too: a leaf that strayed into the bundle must not vouch for others.
    if !issuer.is_authority || !issuer.may_sign_certificates {
        return Err(webpki::Error::EndEntityUsedAsCa);
    }
    Ok(())
}

/// Validity to the millisecond, as [`crate::judge`] counts it. webpki counts whole seconds: for a second after a
/// `notAfter` it would settle on a path that the judge denies, where another might be in force.
fn in_force(certificate: &Certificate, now: Time) -> Result<(), webpki::Error> {
    if now > certificate.not_after {
        return Err(webpki::Error::CertExpired { time: unix(now), not_after: unix(certificate.not_after) });
    }
    if now < certificate.not_before {
        return Err(webpki::Error::CertNotValidYet { time: unix(now), not_before: unix(certificate.not_before) });
    }
    Ok(())
}

fn unix(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_seconds()).unwrap_or(0)))
}

fn flaw(error: &webpki::Error, place: Place) -> Flaw {
    use webpki::Error as E;
    if matches!(error, E::CertExpired { .. }) {
        Flaw::Expired(place)
    } else if matches!(error, E::CertNotValidYet { .. }) {
        Flaw::NotYetValid(place)
    } else if matches!(error, E::UnknownIssuer) {
        Flaw::UnknownIssuer
    } else if matches!(error, E::MaximumPathDepthExceeded) {
        Flaw::TooLong
    } else if matches!(error, E::InvalidSignatureForPublicKey) {
        Flaw::BadSignature
    } else if matches!(error, E::RequiredEkuNotFoundContext(_)) {
        Flaw::NotForClients
    } else if matches!(
        error,
        E::CaUsedAsEndEntity
            | E::EndEntityUsedAsCa
            | E::PathLenConstraintViolated
            | E::NameConstraintViolation
            | E::MaximumSignatureChecksExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumNameConstraintComparisonsExceeded
    ) {
        Flaw::IssuerNotEntitled
    } else if matches!(error, E::BadDer | E::BadDerTime | E::TrailingData(_) | E::ExtensionValueInvalid) {
        Flaw::Malformed("is not valid DER of RFC 5280")
    } else {
        Flaw::Unacceptable
    }
}
