//! Is this proxy able to let anybody in? Each condition with its state in words.
//!
//! Asked by `answer.rs` for `/readyz`. It must never judge a session: it only tells whether the judge has what it
//! needs, so that no traffic is sent where every session would be denied.

use proxy::Live;
use trust::{Bundle, CrlCoverage, Knowledge, Policy, Snapshot, Time};

/// One condition: met, or not; either way with a sentence.
pub(crate) struct Condition {
    /// One word.
    pub(crate) name: &'static str,
    /// What is the case.
    pub(crate) state: Result<String, String>,
}

/// Every condition of readiness, in a fixed order.
pub(crate) fn conditions(live: &Live, stopping: bool) -> [Condition; 4] {
    let now = live.now();
    let published = live.current();
    let state = &published.state;
    let own = live.credential();
    [
        Condition { name: "certificate", state: certificate(own.not_before, own.not_after, now) },
        Condition { name: "bundle", state: bundle(&state.bundle) },
        Condition { name: "snapshot", state: knowledge(&state.knowledge, &state.policy, now) },
        Condition { name: "running", state: running(stopping) },
    ]
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

fn bundle(bundle: &Bundle) -> Result<String, String> {
    match bundle.len() {
        0 => Err("no anchor is trusted; put certificates where --client-ca points".to_owned()),
        count => Ok(format!("{count} trusted")),
    }
}

fn knowledge(knowledge: &Knowledge, policy: &Policy, now: Time) -> Result<String, String> {
    match knowledge {
        Knowledge::NotWanted => Ok("none wanted (--no-revocations)".to_owned()),
        Knowledge::Missing => {
            Err("no revocation knowledge yet; put a list or CRL where --revocations points".to_owned())
        }
        Knowledge::Known(snapshot) => lists(snapshot, policy, now).and_then(|text| crls(snapshot, policy, now, text)),
    }
}

/// A list speaks of anybody: if one is outdated, everybody is denied (`trust::judge`).
fn lists(snapshot: &Snapshot, policy: &Policy, now: Time) -> Result<String, String> {
    for list in snapshot.lists() {
        outdated(list.issued_at, list.expires_at, policy, now)
            .map_or(Ok(()), |why| Err(format!("the list {:?} {why}; publish a fresh one", list.name)))?;
    }
    Ok(format!("lists: {} current", snapshot.lists().len()))
}

/// A CRL speaks of its issuer's certificates only, so a late one denies only those: nobody can come in once every
/// CRL is late. One that waits for its issuer is no obstacle: the first handshake brings that issuer, and a proxy
/// that is not ready would never see one.
fn crls(snapshot: &Snapshot, policy: &Policy, now: Time, lists: String) -> Result<String, String> {
    let (mut current, mut late) = (0_usize, 0_usize);
    for crl in snapshot.crls() {
        let counter =
            if outdated(crl.this_update, crl.next_update, policy, now).is_some() { &mut late } else { &mut current };
        *counter += 1;
    }
    if late > 0 && current == 0 && policy.crl_coverage != CrlCoverage::None {
        return Err(format!("all {late} CRLs are outdated; publish fresh ones"));
    }
    Ok(format!("{lists}; CRLs: {current} current, {late} outdated"))
}

/// Completes "the list …"; the same rule as the judge's.
fn outdated(issued_at: Time, expires_at: Time, policy: &Policy, now: Time) -> Option<String> {
    if now >= expires_at {
        return Some(format!("expired {} s ago", now.since(expires_at).as_secs()));
    }
    let age = policy.snapshot_max_age?;
    (now > issued_at.plus(age)).then(|| {
        format!("was issued {} s ago, --snapshot-max-age is {} s", now.since(issued_at).as_secs(), age.as_secs())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::Duration;

    use trust::{Allow, Crl, CrlScope, KeySet, List, Selectors, Sha256};

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
            serials: KeySet::default(),
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
        assert!(bundle(&Bundle::default()).is_err() && running(true).is_err() && running(false).is_ok());
    }
}
