//! The overlay, entries that only observe, and knowledge past its expiry: one sentence for each rule.
//!
//! Run by `make test`. What lists and CRLs revoke is in `judge_revoked.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stand::*;
use trust::*;

const YES: Result<(), Denial> = Ok(());
const OUTDATED: Result<(), Denial> = Err(Denial::SnapshotOutdated);

fn naming_the_client(terms: Terms) -> Selectors {
    Selectors { ids: HashMap::from([(format!("uri:{ID}"), vec![terms])]), ..Selectors::default() }
}

fn denied_by(list: &str) -> Denial {
    Denial::Revoked { selector: Selector::Id, place: Place::Leaf, reason: None, list: list.into() }
}

fn overlaid(terms: Terms) -> Case {
    Case::trusted().but(|case| case.overlay = Arc::new(Overlay::new(naming_the_client(terms))))
}

fn observing(mode: Mode) -> Arc<List> {
    Arc::new(List { mode, observed: naming_the_client(Terms::default()), ..list("trial", |_| {}) })
}

fn observed(case: &Case) -> Option<Denial> {
    observe(&case.session(), &case.state(EPOCH), NOW)
}

#[test]
fn a_denial_of_the_overlay_holds_until_its_end() {
    let case = overlaid(Terms { until: Some(at(1000)), ..Terms::default() });
    case.rows(&[("before its end", at(999), Err(denied_by(OVERLAY))), ("at its end", at(1000), YES)]);
}

#[test]
fn the_overlay_denies_without_any_other_knowledge_too() {
    let case = overlaid(Terms::default()).but(|case| case.knows = Knows::NotWanted);
    assert_eq!(case.verdict(NOW), Err(denied_by(OVERLAY)));
}

#[test]
fn an_overlay_is_no_knowledge_that_clears_anybody() {
    let case = overlaid(Terms { until: Some(NOW), ..Terms::default() }).but(|case| case.knows = Knows::Missing);
    assert_eq!(case.verdict(NOW), Err(Denial::NoSnapshot));
}

#[test]
fn an_entry_that_observes_denies_nobody_and_names_who_it_would() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let case = Case::trusted().but(|case| case.lists.push(observing(mode)));
        assert_eq!(case.verdict(NOW), YES);
        assert_eq!(observed(&case), Some(denied_by("trial")));
    }
    assert_eq!(observed(&Case::trusted()), None);
}

#[test]
fn a_list_that_observes_is_no_knowledge_that_clears_anybody() {
    let case = Case::trusted().but(|case| case.lists = vec![observing(Mode::Observe)]);
    assert_eq!(case.verdict(NOW), Err(Denial::NoSnapshot));
}

#[test]
fn the_age_and_expiry_of_a_list_that_observes_count_for_nothing() {
    let case = Case::trusted().but(|case| {
        case.policy.snapshot_max_age = Some(Duration::from_secs(366 * 86_400));
        let (issued_at, expires_at) = (at(-5 * YEAR), at(-1));
        case.lists.push(Arc::new(List { mode: Mode::Observe, issued_at, expires_at, ..list("trial", |_| {}) }));
    });
    assert_eq!(case.verdict(NOW), YES);
    let state = case.state(EPOCH);
    let snapshot = state.snapshot().unwrap();
    assert_eq!((snapshot.issued_at(), snapshot.expires_at()), (Some(at(-YEAR)), Some(Time::NEVER)));
}

fn expiring(stale: Stale) -> Case {
    Case::trusted().but(|case| {
        case.lists = vec![Arc::new(List { expires_at: at(1000), ..list("prod", |_| {}) })];
        case.policy.stale = stale;
    })
}

fn is_stale(case: &Case, now: Time) -> bool {
    case.state(EPOCH).snapshot().unwrap().is_stale(&case.policy, now)
}

#[test]
fn an_expired_list_stays_in_force_for_the_grace_and_no_longer() {
    let case = expiring(Stale::Grace(Duration::from_millis(500)));
    case.rows(&[("in force", at(999), YES), ("in grace", at(1499), YES), ("after it", at(1500), OUTDATED)]);
    assert_eq!([999, 1000, 1499, 1500].map(|now| is_stale(&case, at(now))), [false, true, true, false]);
}

#[test]
fn an_expired_list_is_served_on_if_the_operator_says_so_and_calls_itself_stale() {
    let case = expiring(Stale::Serve);
    assert_eq!(case.verdict(at(50 * 1000)), YES);
    assert_eq!([999, 1000, 50_000].map(|now| is_stale(&case, at(now))), [false, true, true]);
    assert!(!is_stale(&expiring(Stale::Deny), at(1000)), "what denies is not served");
}

#[test]
fn what_a_stale_list_revokes_stays_revoked() {
    let case = expiring(Stale::Serve).but(|case| {
        let selectors = naming_the_client(Terms::default());
        case.lists = vec![Arc::new(List { expires_at: at(1000), selectors, ..list("prod", |_| {}) })];
    });
    assert_eq!(case.verdict(at(2000)), Err(denied_by("prod")));
}

#[test]
fn a_maximum_age_denies_whatever_is_served_stale() {
    let case = expiring(Stale::Serve).but(|case| {
        case.lists = vec![Arc::new(List { issued_at: NOW, expires_at: at(1000), ..list("prod", |_| {}) })];
        case.policy.snapshot_max_age = Some(Duration::from_secs(2));
    });
    case.rows(&[("of that age", at(2000), YES), ("older", at(2001), OUTDATED)]);
}

#[test]
fn an_expired_crl_is_served_on_by_the_same_rule() {
    let issuers = [stand().chain.leaf.issuer_key, stand().chain.intermediates[0].issuer_key];
    let case = Case::trusted().but(|case| {
        let late = |issuer: &Sha256| Arc::new(Crl { next_update: at(1000), ..crl(*issuer, CrlScope::FULL, &[]) });
        case.crls = issuers.iter().map(late).collect();
        case.policy.stale = Stale::Grace(Duration::from_secs(1));
    });
    case.rows(&[("in grace", at(1999), YES), ("after it", at(2000), OUTDATED)]);
    assert!(is_stale(&case, at(1500)));
}
