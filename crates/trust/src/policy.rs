//! What the operator decided once: who may come in, and for how long.
//!
//! Made from flags by `portcullis`, part of every [`crate::TrustState`].

use std::time::Duration;

use crate::{Identity, IdentityPattern, Time};

/// Who may come in at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Whoever an anchor vouches for (`--allow-any`).
    Anybody,
    /// These and nobody else (`--allow`); an empty list lets nobody in.
    Only(Vec<IdentityPattern>),
}

impl Allow {
    pub(crate) fn admits(&self, identity: &Identity) -> bool {
        match self {
            Allow::Anybody => true,
            Allow::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(identity)),
        }
    }
}

/// Which issued links need a current CRL of their issuer, once any CRL is configured (`--crl-coverage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlCoverage {
    /// Every one.
    All,
    /// The leaf.
    Leaf,
    /// None: CRLs only add revocations.
    None,
}

/// What becomes of knowledge past its expiry (`--stale`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    /// It denies.
    #[default]
    Deny,
    /// It stays in force for so long, and denies then.
    Grace(Duration),
    /// It stays in force until there is newer knowledge.
    Serve,
}

impl Stale {
    /// Until when knowledge that expires at `expires_at` is in force.
    #[must_use]
    pub fn end(self, expires_at: Time) -> Time {
        match self {
            Stale::Deny => expires_at,
            Stale::Grace(span) => expires_at.plus(span),
            Stale::Serve => Time::NEVER,
        }
    }
}

/// The operator's decisions; a limit that is `None` limits nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who may come in.
    pub allow: Allow,
    /// Which links need a CRL.
    pub crl_coverage: CrlCoverage,
    /// What becomes of knowledge past its expiry.
    pub stale: Stale,
    /// Knowledge issued longer ago than this denies, whatever `stale` says.
    pub snapshot_max_age: Option<Duration>,
    /// A session lives no longer.
    pub max_session_age: Option<Duration>,
    /// A leaf's `notBefore` lies no further back.
    pub max_certificate_age: Option<Duration>,
    /// A session without an open request ends after this.
    pub idle_timeout: Option<Duration>,
}
