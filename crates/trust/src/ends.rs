//! Which limits end a session, and when each of them does.
//!
//! Asked by `proxy`: to let a session leave before an end that was known from its beginning, and to tell how much time
//! is left and what sets it. For a session that is permitted the earliest of these ends is the end of its permit, under
//! the label of the denial that follows (`tests/laws.rs`). It must never decide: only [`crate::judge`] does.

use std::time::Duration;

use crate::{CrlCoverage, Denial, Place, Session, Time, TrustState};

/// What ends a session by the mere passing of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The client's certificate expires.
    LeafNotAfter,
    /// One between the client's and the anchor does.
    IntermediateNotAfter,
    /// The anchor does.
    AnchorNotAfter,
    /// The client's certificate reaches `--max-certificate-age`.
    MaxCertificateAge,
    /// A list reaches its expiry or `--snapshot-max-age`.
    List,
    /// A CRL that speaks of one of the certificates does.
    Crl,
    /// The session reaches `--max-session-age`.
    MaxSessionAge,
    /// It stays without an open request for `--idle-timeout`.
    IdleTimeout,
}

impl Limit {
    /// Every limit, in the order in which [`crate::judge`] asks.
    pub const ALL: [Limit; 8] = [
        Limit::LeafNotAfter,
        Limit::IntermediateNotAfter,
        Limit::AnchorNotAfter,
        Limit::MaxCertificateAge,
        Limit::List,
        Limit::Crl,
        Limit::MaxSessionAge,
        Limit::IdleTimeout,
    ];

    /// One fixed word: in logs, metrics and listings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Limit::LeafNotAfter => "leaf_not_after",
            Limit::IntermediateNotAfter => "intermediate_not_after",
            Limit::AnchorNotAfter => "anchor_not_after",
            Limit::MaxCertificateAge => "max_certificate_age",
            Limit::List => "list_expiry",
            Limit::Crl => "crl_expiry",
            Limit::MaxSessionAge => "max_session_age",
            Limit::IdleTimeout => "idle_timeout",
        }
    }

    /// How the judge will say it.
    #[must_use]
    pub fn denial(self) -> Denial {
        match self {
            Limit::LeafNotAfter => Denial::Expired(Place::Leaf),
            Limit::IntermediateNotAfter => Denial::Expired(Place::Intermediate),
            Limit::AnchorNotAfter => Denial::Expired(Place::Anchor),
            Limit::MaxCertificateAge => Denial::CertificateTooOld,
            Limit::List | Limit::Crl => Denial::SnapshotOutdated,
            Limit::MaxSessionAge => Denial::SessionTooOld,
            Limit::IdleTimeout => Denial::Idle,
        }
    }

    /// Whether it was known from the session's beginning, so that the client can be asked to leave before. Knowledge is
    /// renewed while sessions last, and where it is not, a client that left could not come back; an idle session has
    /// nothing to bring to an end.
    #[must_use]
    pub fn is_planned(self) -> bool {
        match self {
            Limit::LeafNotAfter
            | Limit::IntermediateNotAfter
            | Limit::AnchorNotAfter
            | Limit::MaxCertificateAge
            | Limit::MaxSessionAge => true,
            Limit::List | Limit::Crl | Limit::IdleTimeout => false,
        }
    }
}

/// Every limit that will end `session` under `state`, with the first moment that it denies, in the judge's order.
pub fn ends(session: &Session, state: &TrustState) -> impl Iterator<Item = (Limit, Time)> {
    let [leaf, intermediates, anchor, certificate_age, session_age] = planned(session, state);
    let (list, crl) = knowledge(session, state);
    let idle = age(session.idle_since(), state.policy.idle_timeout);
    let all = [leaf, intermediates, anchor, certificate_age, list, crl, session_age, idle];
    Limit::ALL.into_iter().zip(all).filter(|(_, end)| *end < Time::NEVER)
}

/// The limit that will end `session` first.
#[must_use]
pub fn first_end(session: &Session, state: &TrustState) -> Option<(Limit, Time)> {
    ends(session, state).min_by_key(|(_, end)| *end)
}

/// The same of the limits that were known from its beginning. Nothing is looked up in a snapshot for it: every session
/// is asked about after every publish.
#[must_use]
pub fn planned_end(session: &Session, state: &TrustState) -> Option<(Limit, Time)> {
    let limits = Limit::ALL.into_iter().filter(|limit| limit.is_planned());
    limits.zip(planned(session, state)).filter(|(_, end)| *end < Time::NEVER).min_by_key(|(_, end)| *end)
}

/// The ends of the planned limits, in their order.
fn planned(session: &Session, state: &TrustState) -> [Time; 5] {
    let (chain, policy) = (&session.chain, &*state.policy);
    let intermediates = chain.intermediates.iter().map(|link| link.not_after.next()).min();
    let anchor = state.bundle.find(&chain.anchor).map(|anchor| anchor.link.not_after.next());
    [
        chain.leaf.not_after.next(),
        intermediates.unwrap_or(Time::NEVER),
        anchor.unwrap_or(Time::NEVER),
        age(Some(chain.leaf.not_before), policy.max_certificate_age),
        age(Some(session.opened_at), policy.max_session_age),
    ]
}

fn age(start: Option<Time>, limit: Option<Duration>) -> Time {
    start.zip(limit).map_or(Time::NEVER, |(start, limit)| start.plus(limit))
}

/// When the lists, and the CRLs that speak of the session's certificates, are outdated.
fn knowledge(session: &Session, state: &TrustState) -> (Time, Time) {
    let (chain, policy) = (&session.chain, &*state.policy);
    let Some(snapshot) = state.snapshot() else { return (Time::NEVER, Time::NEVER) };
    // Asked as of the beginning of time, both tell the end of what they would otherwise deny for being past it.
    let list = snapshot.current(policy, Time::BEGINNING).unwrap_or(Time::NEVER);
    let status = |link, place| snapshot.status_known((link, place), policy, Time::BEGINNING).unwrap_or(Time::NEVER);
    let mut crl = Time::NEVER;
    if policy.crl_coverage != CrlCoverage::None {
        crl = status(&chain.leaf, Place::Leaf);
    }
    if policy.crl_coverage == CrlCoverage::All {
        let issuers = chain.intermediates.iter().map(|link| status(link, Place::Intermediate));
        crl = issuers.fold(crl, Time::min);
    }
    (list, crl)
}
