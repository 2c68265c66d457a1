//! The judge: may this session act at this moment?
//!
//! Called by `proxy` in the handshake, when a session enters its worker's list, on every request, and on every
//! publish and deadline. The checks run in one fixed order, so that the same input gives the same reason.
//! Only this file can make a [`Permit`].

use std::time::Duration;

use crate::{CrlCoverage, Denial, Knowledge, Link, Place, Session, Time, TrustState};

/// Proof that one request was judged and may be forwarded. It cannot be made, copied or used again elsewhere:
///
/// ```compile_fail,E0451
/// let forged = trust::Permit { epoch: 1, from: trust::Time::BEGINNING, until: trust::Time::NEVER, idle: None };
/// ```
/// ```compile_fail,E0599
/// fn twice(permit: trust::Permit) -> (trust::Permit, trust::Permit) { (permit.clone(), permit) }
/// ```
/// ```compile_fail,E0382
/// fn forward(_: trust::Permit) {}
/// fn reuse(permit: trust::Permit) { forward(permit); forward(permit); }
/// ```
#[derive(Debug)]
#[must_use = "a permit is worth something only to the one request it was made for"]
pub struct Permit {
    epoch: u64,
    from: Time,
    until: Time,
    idle: Option<Duration>,
}

impl Permit {
    /// The epoch it was judged under.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// The range in which the last permit would be given again: one epoch, `from ≤ now < until`.
///
/// Exactly equivalent to judging again: between the moment of a yes and the first end of any limit no check can
/// change its answer under one state. `from` is the moment of judging itself, since a clock that steps back may
/// come before a `notBefore`, or before the `until` of an entry that had lapsed.
#[derive(Clone, Copy, Debug)]
pub struct Memo {
    epoch: u64,
    from: Time,
    until: Time,
    idle: Option<Duration>,
}

impl Memo {
    pub(crate) const NONE: Memo = Memo { epoch: 0, from: Time::NEVER, until: Time::BEGINNING, idle: None };

    /// The first moment at which the session must be judged again.
    #[must_use]
    pub fn until(&self) -> Time {
        self.until
    }

    /// The epoch of the last permit; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Idleness begins at `now`: its end may be nearer than the others.
    pub(crate) fn idle_from(self, now: Time) -> Memo {
        Memo { until: self.idle.map_or(self.until, |limit| self.until.min(now.plus(limit))), ..self }
    }
}

impl Session {
    /// The fast path of a request: a permit if the last judgement still holds, without looking at anything else.
    #[inline]
    pub fn still_permitted(&self, epoch: u64, now: Time) -> Option<Permit> {
        let Memo { epoch: judged, from, until, idle } = self.memo.get();
        (judged == epoch && from <= now && now < until).then_some(Permit { epoch, from, until, idle })
    }

    /// What the last permit said.
    #[must_use]
    pub fn memo(&self) -> Memo {
        self.memo.get()
    }
}

/// Judges `session` under `state` at `now`, and remembers a yes in the session.
pub fn judge(session: &Session, state: &TrustState, now: Time) -> Result<Permit, Denial> {
    let until = decide(session, state, now)?;
    let permit = Permit { epoch: state.epoch, from: now, until, idle: state.policy.idle_timeout };
    session.memo.set(Memo { epoch: permit.epoch, from: permit.from, until: permit.until, idle: permit.idle });
    Ok(permit)
}

/// What [`judge`] would say, without a permit and without a trace: of a state that is not published.
pub fn preview(session: &Session, state: &TrustState, now: Time) -> Result<(), Denial> {
    decide(session, state, now).map(|_| ())
}

/// The entry that would deny `session` if it did more than observe. For sessions that are permitted.
#[must_use]
pub fn observe(session: &Session, state: &TrustState, now: Time) -> Option<Denial> {
    let snapshot = state.snapshot()?;
    let anchor = state.bundle.find(&session.chain.anchor)?;
    snapshot.observe(&session.chain, &anchor.link, now)
}

/// Until when the answer is yes, if nothing is published meanwhile.
fn decide(session: &Session, state: &TrustState, now: Time) -> Result<Time, Denial> {
    let chain = &session.chain;
    let policy = &*state.policy;
    match &state.knowledge {
        Knowledge::Missing => return Err(Denial::NoSnapshot),
        Knowledge::Known(snapshot) if snapshot.knows_nothing() => return Err(Denial::NoSnapshot),
        Knowledge::Known(_) | Knowledge::NotWanted => {}
    }
    // Renewed with other rights it is another anchor to this path.
    let anchor = state.bundle.find(&chain.anchor).filter(|anchor| anchor.bounds == chain.anchor_bounds);
    let anchor = anchor.ok_or(Denial::AnchorRemoved)?;
    if !state.bundle.may_speak(&chain.anchor, &chain.identity) {
        return Err(Denial::AnchorOfAnotherTrustDomain);
    }
    let mut until = in_force(&chain.leaf, Place::Leaf, now)?;
    for link in &chain.intermediates {
        until = until.min(in_force(link, Place::Intermediate, now)?);
    }
    until = until.min(in_force(&anchor.link, Place::Anchor, now)?);
    until = until.min(within(chain.leaf.not_before, policy.max_certificate_age, now, Denial::CertificateTooOld)?);
    if let Some(denied) = state.overlay.find(chain, &anchor.link, now) {
        return Err(denied);
    }
    if let Knowledge::Known(snapshot) = &state.knowledge {
        if let Some(revoked) = snapshot.find(chain, &anchor.link, now) {
            return Err(revoked);
        }
        until = until.min(snapshot.current(policy, now)?);
        if policy.crl_coverage != CrlCoverage::None {
            until = until.min(snapshot.status_known((&chain.leaf, Place::Leaf), policy, now)?);
        }
        if policy.crl_coverage == CrlCoverage::All {
            for link in &chain.intermediates {
                until = until.min(snapshot.status_known((link, Place::Intermediate), policy, now)?);
            }
        }
    }
    if !policy.allow.admits(&chain.identity) {
        return Err(Denial::IdentityNotAllowed);
    }
    until = until.min(within(session.opened_at, policy.max_session_age, now, Denial::SessionTooOld)?);
    if let Some(since) = session.idle_since() {
        until = until.min(within(since, policy.idle_timeout, now, Denial::Idle)?);
    }
    Ok(until)
}

fn in_force(link: &Link, place: Place, now: Time) -> Result<Time, Denial> {
    if now < link.not_before {
        return Err(Denial::NotYetValid(place));
    }
    let end = link.not_after.next();
    if now < end { Ok(end) } else { Err(Denial::Expired(place)) }
}

fn within(start: Time, limit: Option<Duration>, now: Time, denial: Denial) -> Result<Time, Denial> {
    let end = limit.map_or(Time::NEVER, |limit| start.plus(limit));
    if now < end { Ok(end) } else { Err(denial) }
}
