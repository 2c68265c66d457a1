//! Why a session is not trusted: the closed list of reasons.
//!
//! Made by [`crate::judge`], but for [`Denial::Ended`], by which `proxy` tells that an operator ended a session; turned
//! into what a client sees by `proxy::refuse`, into labels by its metrics.

use std::fmt;
use std::sync::Arc;

use crate::{Reason, Selector};

/// Which certificate of a chain a denial speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The client's own.
    Leaf,
    /// One between the client's and the anchor.
    Intermediate,
    /// The anchor.
    Anchor,
    /// An intermediate or the anchor, where the path that failed is not known more exactly.
    Issuer,
}

impl Place {
    /// For logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Place::Leaf => "leaf",
            Place::Intermediate => "intermediate",
            Place::Anchor => "anchor",
            Place::Issuer => "issuer",
        }
    }
}

/// Trust says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No revocation knowledge has arrived yet. Remedy: supply a list or CRL at a `--revocations` path.
    NoSnapshot,
    /// The session's anchor left the bundle, or was renewed with other rights, and no path verifies now.
    AnchorRemoved,
    /// The anchor may not vouch for the identity's trust domain.
    AnchorOfAnotherTrustDomain,
    /// A certificate is not valid yet. Remedy: compare the clocks.
    NotYetValid(Place),
    /// A certificate is past its `notAfter`. Remedy: the client renews and connects again.
    Expired(Place),
    /// The leaf is older than `--max-certificate-age`.
    CertificateTooOld,
    /// Somebody revoked it.
    Revoked {
        /// By what it was named.
        selector: Selector,
        /// Which certificate of the chain.
        place: Place,
        /// Why, if the entry says so.
        reason: Option<Reason>,
        /// The list's name, or `crl`.
        list: Arc<str>,
    },
    /// A list is past its expiry, or older than `--snapshot-max-age`. Remedy: publish a fresh one.
    SnapshotOutdated,
    /// No current CRL speaks about a certificate that needs one (`--crl-coverage`).
    StatusUnknown(Place),
    /// No `--allow` names the identity.
    IdentityNotAllowed,
    /// Open longer than `--max-session-age`.
    SessionTooOld,
    /// No request for `--idle-timeout`.
    Idle,
    /// An operator ended this one session. The only denial that no judgement gives: it says nothing about the next
    /// session of the same client. Remedy: the client connects again.
    Ended,
}

/// Every label of [`Denial::label`].
pub const DENIAL_LABELS: [&str; 13] = [
    "no_snapshot",
    "anchor_removed",
    "anchor_of_another_trust_domain",
    "not_yet_valid",
    "expired",
    "certificate_too_old",
    "revoked",
    "snapshot_outdated",
    "status_unknown",
    "identity_not_allowed",
    "session_too_old",
    "idle",
    "ended_by_operator",
];

impl Denial {
    /// One fixed word: what the client is told, the label in metrics, the reason in logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Denial::NoSnapshot => "no_snapshot",
            Denial::AnchorRemoved => "anchor_removed",
            Denial::AnchorOfAnotherTrustDomain => "anchor_of_another_trust_domain",
            Denial::NotYetValid(_) => "not_yet_valid",
            Denial::Expired(_) => "expired",
            Denial::CertificateTooOld => "certificate_too_old",
            Denial::Revoked { .. } => "revoked",
            Denial::SnapshotOutdated => "snapshot_outdated",
            Denial::StatusUnknown(_) => "status_unknown",
            Denial::IdentityNotAllowed => "identity_not_allowed",
            Denial::SessionTooOld => "session_too_old",
            Denial::Idle => "idle",
            Denial::Ended => "ended_by_operator",
        }
    }

    /// The label's position in [`DENIAL_LABELS`].
    #[must_use]
    pub fn position(&self) -> usize {
        DENIAL_LABELS.iter().position(|label| *label == self.label()).unwrap_or(0)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Revoked { selector, place, reason, list } => {
                write!(f, "revoked ({} by {} in {list}", place.name(), selector.name())?;
                reason.map_or(Ok(()), |reason| write!(f, ", {}", reason.name()))?;
                f.write_str(")")
            }
            Denial::NotYetValid(place) | Denial::Expired(place) | Denial::StatusUnknown(place) => {
                write!(f, "{} ({})", self.label(), place.name())
            }
            Denial::NoSnapshot
            | Denial::AnchorRemoved
            | Denial::AnchorOfAnotherTrustDomain
            | Denial::CertificateTooOld
            | Denial::SnapshotOutdated
            | Denial::IdentityNotAllowed
            | Denial::SessionTooOld
            | Denial::Idle
            | Denial::Ended => f.write_str(self.label()),
        }
    }
}
