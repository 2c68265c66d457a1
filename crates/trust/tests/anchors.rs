//! Anchors: which certificate of one counts, what it may do, and its own revocation.
//!
//! Run by `make test`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod forge;
mod stand;

use std::sync::Arc;

use forge::{Draft, basic_constraints};
use stand::*;
use testkit::{Authority, KeyUsagePurpose, LeafSpec};
use trust::*;

fn root() -> Authority {
    Authority::root_with(authority("root"))
}

fn svid() -> LeafSpec {
    timed(LeafSpec::spiffe(ID))
}

fn flaw(presented: &[rustls_pki_types::CertificateDer<'static>], root: &Authority) -> Flaw {
    verify(presented, &bundle(&[root]), NOW).unwrap_err()
}

#[test]
fn an_anchors_own_path_length_is_kept() {
    let root = Authority::root_with(authority("root").path_len(0));
    let lower = root.intermediate_with(authority("lower"));
    assert!(verify(&root.issue(svid()).chain(), &bundle(&[&root]), NOW).is_ok());
    assert_eq!(flaw(&lower.issue(svid()).chain(), &root), Flaw::IssuerNotEntitled);
    let roomy = Authority::root_with(authority("root").path_len(1));
    let lower = roomy.intermediate_with(authority("lower"));
    assert!(verify(&lower.issue(svid()).chain(), &bundle(&[&roomy]), NOW).is_ok());
    let lowest = lower.intermediate_with(authority("lowest"));
    assert_eq!(flaw(&lowest.issue(svid()).chain(), &roomy), Flaw::IssuerNotEntitled);
}

#[test]
fn an_anchor_renewed_under_its_key_with_narrower_rights_ends_the_sessions_that_these_do_not_cover() {
    let root = root();
    let lower = root.intermediate_with(authority("lower"));
    let leaf = lower.issue(timed(LeafSpec::dns("client.example.org")));
    let chain = verify(&leaf.chain(), &bundle(&[&root]), NOW).unwrap();
    let session = Session::new(chain, leaf.chain().into(), NOW);
    let renewed = |spec: testkit::AuthoritySpec| Authority::root_with(spec.reuse_key_of(&root)).der().clone();
    let constrained = |subtree: &[u8]| {
        let permitted = testkit::der::value(0xa0, &testkit::der::sequence(&[testkit::der::value(0x82, subtree)]));
        let constraints = testkit::der::extension(&[2, 5, 29, 30], true, &testkit::der::sequence(&[permitted]));
        Draft::of_root(&root).with(basic_constraints(true)).with(constraints).signed_by(&root)
    };
    for (anchor, lives_on) in [
        (renewed(authority("root").not_after(date(at(YEAR)))), true),
        (renewed(authority("root").key_usages(&[KeyUsagePurpose::CrlSign])), false),
        (renewed(authority("root").path_len(0)), false),
        (renewed(authority("root").path_len(1)), true),
        (constrained(b"example.com"), false),
        (constrained(b"example.org"), true),
    ] {
        let state = Case::trusted().but(|case| case.anchors = vec![(anchor, Speaks::ForAnybody)]).state(2);
        let first = preview(&session, &state, NOW);
        assert!(matches!(first, Ok(()) | Err(Denial::AnchorRemoved)), "{first:?}");
        let again = verify(&session.presented, &state.bundle, NOW).map(|chain| session.over(chain));
        let judged = first.is_ok() || again.is_ok_and(|again| judge(&again, &state, NOW).is_ok());
        assert_eq!(judged, lives_on, "{first:?}");
    }
}

/// A client of an intermediate that is an anchor beside its own root, as where a whole chain is in one file.
fn anchored_intermediate() -> (Authority, Authority, Case) {
    let root = root();
    let lower = root.intermediate_with(authority("lower"));
    let chain = verify(&lower.issue(svid()).chain(), &bundle(&[&root, &lower]), NOW).unwrap();
    assert!(chain.intermediates.is_empty(), "the path ends at the first anchor");
    let anchors = [&root, &lower].map(|one| (one.der().clone(), Speaks::ForAnybody)).to_vec();
    (root, lower, Case::trusted().but(|case| (case.chain, case.anchors) = (chain, anchors)))
}

fn revoked(selector: Selector) -> Result<(), Denial> {
    let list = if selector == Selector::Crl { "crl" } else { "prod" };
    Err(Denial::Revoked { selector, place: Place::Anchor, reason: None, list: list.into() })
}

#[test]
fn an_anchor_that_another_anchor_issued_is_revoked_by_serial_and_with_all_that_its_issuer_signed() {
    let (root, lower, case) = anchored_intermediate();
    let issuer = Sha256(root.spki_sha256());
    let key = serial_key(&issuer, &lower.serial());
    assert_eq!(case.verdict(NOW), Ok(()));
    assert_eq!(case.clone().listing(|all| all.serials = keys(&[key])).verdict(NOW), revoked(Selector::Serial));
    let terms = |issued_before| vec![Terms { issued_before: Some(issued_before), ..Terms::default() }];
    let by_issuer = |issued_before| case.clone().listing(|all| drop(all.issuers.insert(issuer, terms(issued_before))));
    assert_eq!(by_issuer(NOW).verdict(NOW), revoked(Selector::Issuer));
    assert_eq!(by_issuer(at(-50 * YEAR)).verdict(NOW), Ok(()), "issued later than the entry speaks of");
}

#[test]
fn an_anchor_that_another_anchor_issued_is_revoked_by_that_ones_crl_and_needs_none() {
    let (root, lower, case) = anchored_intermediate();
    let (above, own) = (Sha256(root.spki_sha256()), Sha256(lower.spki_sha256()));
    let with = |serials: &[u128]| {
        let crls = vec![Arc::new(crl(own, CrlScope::FULL, &[])), Arc::new(crl(above, CrlScope::FULL, serials))];
        case.clone().but(|case| case.crls = crls)
    };
    assert_eq!(with(&[]).verdict(NOW), Ok(()));
    assert_eq!(with(&[serial_key(&above, &lower.serial())]).verdict(NOW), revoked(Selector::Crl));
    let own_alone = case.clone().but(|case| case.crls = vec![Arc::new(crl(own, CrlScope::FULL, &[]))]);
    assert_eq!(own_alone.verdict(NOW), Ok(()), "an anchor is trusted by the operator's word, no CRL must speak of it");
}

#[test]
fn a_namesake_that_did_not_sign_an_anchor_is_not_its_issuer() {
    let (root, lower, case) = anchored_intermediate();
    let namesake = Authority::root_with(authority("root"));
    let issuers = [&namesake, &root];
    for order in [[0, 1], [1, 0]] {
        let all = order.map(|position| issuers[position]).into_iter().chain([&lower]);
        let anchors: Vec<_> = all.map(|one| (one.der().clone(), Speaks::ForAnybody)).collect();
        let case = case.clone().but(|case| case.anchors = anchors);
        let by = |issuer: &Authority| serial_key(&Sha256(issuer.spki_sha256()), &lower.serial());
        let listing = |key: u128| case.clone().listing(|all| all.serials = keys(&[key])).verdict(NOW);
        assert_eq!(listing(by(&namesake)), Ok(()));
        assert_eq!(listing(by(&root)), revoked(Selector::Serial));
    }
}
