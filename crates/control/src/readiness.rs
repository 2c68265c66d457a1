//! Is this proxy able to let anybody in? Each condition with its state in words.
//!
//! Asked by `answer.rs` for `/readyz`. It must never judge a session: it only tells whether the judge has what it
//! needs, so that no traffic is sent where every session would be denied.

use proxy::Live;
use trust::{Bundle, CrlCoverage, Knowledge, Policy, Snapshot, Time};

use crate::bypass::Bypass;

/// One condition: met, or not; either way with a sentence.
pub(crate) struct Condition {
    /// One word.
    pub(crate) name: &'static str,
    /// What is the case.
    pub(crate) state: Result<String, String>,
}

/// Every condition of readiness, in a fixed order.
pub(crate) fn conditions(live: &Live, stopping: bool, held: usize, bypass: Option<&Bypass>) -> [Condition; 7] {
    let now = live.now();
    let published = live.current();
    let state = &published.state;
    let own = live.credential();
    [
        Condition { name: "certificate", state: certificate(own.not_before, own.not_after, now) },
        Condition { name: "bundle", state: bundle(&state.bundle, now) },
        Condition { name: "snapshot", state: knowledge(&state.knowledge, &state.policy, now) },
        Condition { name: "stale", state: Ok(stale(live.is_stale())) },
        Condition { name: "held", state: Ok(waiting(held)) },
        Condition { name: "bypass", state: bypass.map_or_else(|| Ok("not looked at".to_owned()), Bypass::condition) },
        Condition { name: "running", state: running(stopping) },
    ]
}

/// No obstacle: `--stale` says that it serves. Whoever looks shall see it all the same.
fn stale(is_stale: bool) -> String {
    if is_stale {
        return "yes: something is past its expiry and serves because --stale says so; publish fresh knowledge"
            .to_owned();
    }
    "nothing in force is past its expiry".to_owned()
}

/// No obstacle: what was in force before stays in force.
fn waiting(held: usize) -> String {
    match held {
        0 => "nothing waits to be confirmed".to_owned(),
        1 => "1 waits, because it would cut more than --max-cut-fraction allows; confirm it, or publish another"
            .to_owned(),
        _ => format!("{held} wait, because they would cut more than --max-cut-fraction allows; confirm them"),
    }
}

fn running(stopping: bool) -> Result<String, String> {
    if stopping {
        return Err("the proxy is stopping; open requests may end, new connections go elsewhere".to_owned());
    }
    Ok("not stopping".to_owned())
}

fn certificate(not_before: Time, not_after: Time, now: Time) -> Result<String, String> {
    if now < not_before {
        let wait = not_before.since(now).as_secs();
        return Err(format!("the proxy's own certificate is not valid for another {wait} s; compare the clocks"));
    }
    if now > not_after {
        let late = now.since(not_after).as_secs();
        return Err(format!("the proxy's own certificate expired {late} s ago; replace the files of --cert and --key"));
    }
    Ok(format!("valid for another {} s", not_after.since(now).as_secs()))
}

fn bundle(bundle: &Bundle, now: Time) -> Result<String, String> {
    let valid = bundle.anchors().filter(|anchor| anchor.link.not_before <= now && now <= anchor.link.not_after);
    anchors(bundle.len(), valid.count())
}

fn anchors(all: usize, valid: usize) -> Result<String, String> {
    match (all, valid) {
        (0, _) => Err("no anchor is trusted; put certificates where --client-ca points".to_owned()),
        (all, 0) => Err(format!("none of {all} anchors is valid now; put current ones where --client-ca points")),
        (all, valid) if valid < all => Ok(format!("{all} trusted, {valid} of them valid now")),
        (all, _) => Ok(format!("{all} trusted")),
    }
}

fn knowledge(knowledge: &Knowledge, policy: &Policy, now: Time) -> Result<String, String> {
    match knowledge {
        Knowledge::NotWanted => Ok("none wanted (--no-revocations)".to_owned()),
        Knowledge::Known(snapshot) if !snapshot.knows_nothing() => {
            lists(snapshot, policy, now).and_then(|text| crls(snapshot, policy, now, text))
        }
        Knowledge::Missing | Knowledge::Known(_) => {
            Err("no revocation knowledge yet; put a list or CRL where --revocations points".to_owned())
        }
    }
}

/// A list speaks of anybody: if one is outdated, everybody is denied (`trust::judge`).
fn lists(snapshot: &Snapshot, policy: &Policy, now: Time) -> Result<String, String> {
    for list in snapshot.enforcing() {
        if now >= list.current_until(policy) {
            let why = outdated((list.issued_at, list.expires_at), policy, now);
            return Err(format!("the list {:?} {why}; publish a fresh one", list.name));
        }
    }
    Ok(format!("lists: {} current", snapshot.enforcing().count()))
}

/// A CRL speaks of its issuer's certificates only, so a late one denies only those, and so does one that nobody can
/// read: nobody can come in once all are like that. One that waits for its issuer is no obstacle: the first handshake
/// brings that issuer, and a proxy that is not ready would never see one.
fn crls(snapshot: &Snapshot, policy: &Policy, now: Time, lists: String) -> Result<String, String> {
    let (mut current, mut late) = (0_usize, 0_usize);
    for crl in snapshot.crls().filter(|crl| crl.is_complete()) {
        *(if now >= crl.current_until(policy) { &mut late } else { &mut current }) += 1;
    }
    let unreadable = snapshot.unreadable_issuers();
    if current > 0 || policy.crl_coverage == CrlCoverage::None {
        return Ok(format!("{lists}; CRLs: {current} current, {late} outdated"));
    }
    if late > 0 {
        return Err(format!("all {late} CRLs are outdated; publish fresh ones"));
    }
    if unreadable > 0 && !snapshot.waits() {
        return Err("every CRL is of a kind that cannot be read; publish complete, direct ones".to_owned());
    }
    Ok(format!("{lists}; CRLs: {current} current, {late} outdated"))
}

/// Which limit an outdated one is past, in words that complete "the list …".
fn outdated((issued_at, expires_at): (Time, Time), policy: &Policy, now: Time) -> String {
    match policy.snapshot_max_age {
        Some(age) if now > issued_at.plus(age) => {
            format!("was issued {} s ago, --snapshot-max-age is {} s", now.since(issued_at).as_secs(), age.as_secs())
        }
        Some(_) | None => format!("expired {} s ago", now.since(expires_at).as_secs()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use trust::{Allow, Crl, CrlScope, List, Mode, Selectors, Sha256, Stale};

    use super::*;

    const fn at(seconds: i64) -> Time {
        Time::from_seconds(seconds)
    }

    fn policy(max_age: Option<u64>, crl_coverage: CrlCoverage) -> Policy {
        Policy {
            allow: Allow::Anybody,
            crl_coverage,
            stale: trust::Stale::Deny,
            snapshot_max_age: max_age.map(Duration::from_secs),
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        }
    }

    fn list(issued_at: i64, expires_at: i64) -> Arc<List> {
        Arc::new(List {
            name: Arc::from("prod"),
            sequence: 1,
            digest: Sha256([0; 32]),
            issued_at: at(issued_at),
            expires_at: at(expires_at),
            mode: trust::Mode::Enforce,
            selectors: Selectors::default(),
            observed: Selectors::default(),
            absorbs: Box::default(),
        })
    }

    fn crl(next_update: i64) -> Arc<Crl> {
        Arc::new(Crl {
            issuer_key: Sha256([1; 32]),
            scope: CrlScope::FULL,
            number: Box::new([1]),
            digest: Sha256([0; 32]),
            this_update: at(0),
            next_update: at(next_update),
            serials: Arc::default(),
            form: trust::CrlForm::Complete,
        })
    }

    fn known(lists: Vec<Arc<List>>, crls: Vec<Arc<Crl>>) -> Knowledge {
        Knowledge::Known(Arc::new(Snapshot::new(lists, crls, HashSet::new(), HashSet::new())))
    }

    #[test]
    fn the_own_certificate_is_valid_up_to_and_including_its_last_moment() {
        assert!(certificate(at(10), at(20), at(9)).unwrap_err().contains("not valid for another 1 s"));
        assert!(certificate(at(10), at(20), at(10)).is_ok());
        assert!(certificate(at(10), at(20), at(20)).is_ok());
        assert!(certificate(at(10), at(20), at(20).next()).unwrap_err().contains("--cert"));
    }

    #[test]
    fn one_outdated_list_makes_the_proxy_unready_and_is_named() {
        let plain = policy(None, CrlCoverage::All);
        let both = known(vec![list(0, 200), list(0, 100)], vec![]);
        assert!(knowledge(&both, &plain, at(99)).is_ok());
        let why = knowledge(&both, &plain, at(100)).unwrap_err();
        assert_eq!(why, "the list \"prod\" expired 0 s ago; publish a fresh one");
    }

    #[test]
    fn a_list_older_than_the_snapshot_max_age_makes_the_proxy_unready() {
        let strict = policy(Some(10), CrlCoverage::All);
        let one = known(vec![list(0, 1000)], vec![]);
        assert!(knowledge(&one, &strict, at(10)).is_ok());
        assert!(knowledge(&one, &strict, at(10).next()).unwrap_err().contains("--snapshot-max-age"));
    }

    #[test]
    fn knowledge_in_its_grace_is_ready_as_long_as_the_judge_lets_it_serve() {
        let grace = Policy { stale: Stale::Grace(Duration::from_secs(50)), ..policy(None, CrlCoverage::All) };
        let serve = Policy { stale: Stale::Serve, ..grace.clone() };
        for one in [known(vec![list(0, 100)], vec![]), known(vec![], vec![crl(100)])] {
            assert!(knowledge(&one, &grace, at(149)).is_ok());
            assert!(knowledge(&one, &grace, at(150)).is_err());
            assert!(knowledge(&one, &serve, at(1_000_000)).is_ok());
        }
    }

    #[test]
    fn a_list_that_only_observes_is_no_obstacle_and_no_knowledge_either() {
        let plain = policy(None, CrlCoverage::All);
        let observing = || Arc::new(List { mode: Mode::Observe, ..Arc::into_inner(list(0, 100)).unwrap() });
        assert!(knowledge(&known(vec![list(0, 200), observing()], vec![]), &plain, at(150)).is_ok());
        let why = knowledge(&known(vec![observing()], vec![]), &plain, at(50)).unwrap_err();
        assert!(why.contains("no revocation knowledge yet"), "{why}");
    }

    #[test]
    fn crls_that_nobody_can_read_make_the_proxy_unready_if_there_are_no_others() {
        let unreadable = |crls, waiting: HashSet<Sha256>| {
            let issuers = HashSet::from([Sha256([7; 32])]);
            Knowledge::Known(Arc::new(Snapshot::new(Vec::new(), crls, issuers, waiting)))
        };
        let all = policy(None, CrlCoverage::All);
        assert!(
            knowledge(&unreadable(Vec::new(), HashSet::new()), &all, at(0)).unwrap_err().contains("cannot be read")
        );
        assert!(knowledge(&unreadable(Vec::new(), HashSet::from([Sha256([8; 32])])), &all, at(0)).is_ok());
        assert!(knowledge(&unreadable(vec![crl(100)], HashSet::new()), &all, at(0)).is_ok());
        let none = policy(None, CrlCoverage::None);
        assert!(knowledge(&unreadable(Vec::new(), HashSet::new()), &none, at(0)).is_ok());
    }

    #[test]
    fn anchors_of_which_none_is_in_force_let_nobody_in() {
        assert_eq!(anchors(2, 2).unwrap(), "2 trusted");
        assert_eq!(anchors(2, 1).unwrap(), "2 trusted, 1 of them valid now");
        assert!(anchors(2, 0).unwrap_err().contains("--client-ca"));
        assert!(anchors(0, 0).unwrap_err().contains("--client-ca"));
    }

    #[test]
    fn crls_make_the_proxy_unready_only_when_all_are_outdated_and_somebody_needs_them() {
        let some = known(vec![], vec![crl(100), crl(200)]);
        assert!(knowledge(&some, &policy(None, CrlCoverage::All), at(150)).is_ok());
        assert!(knowledge(&some, &policy(None, CrlCoverage::All), at(200)).is_err());
        assert!(knowledge(&some, &policy(None, CrlCoverage::None), at(200)).is_ok());
    }

    #[test]
    fn missing_knowledge_is_not_ready_and_knowledge_not_wanted_is() {
        let plain = policy(None, CrlCoverage::All);
        assert!(knowledge(&Knowledge::Missing, &plain, at(0)).is_err());
        assert!(knowledge(&Knowledge::NotWanted, &plain, at(0)).is_ok());
        assert!(bundle(&Bundle::default(), at(0)).is_err() && running(true).is_err() && running(false).is_ok());
    }
}
