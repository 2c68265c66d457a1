//! The rules of the judge but revocation, one row for each side of each boundary: read it as the specification.
//!
//! Run by `make test`. Revocation has its own table in `judge_revoked.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand;

use std::sync::Arc;
use std::time::Duration;

use stand::*;
use testkit::Authority;
use trust::*;

const YES: Result<(), Denial> = Ok(());

fn foreign() -> Authority {
    Authority::root_with(authority("another root"))
}

#[test]
fn a_session_that_no_rule_speaks_against_is_trusted() {
    assert_eq!(Case::trusted().verdict(NOW), YES);
}

#[test]
fn before_the_first_snapshot_nobody_is_trusted() {
    let case = Case::trusted().but(|case| case.knows = Knows::Missing);
    assert_eq!(case.verdict(NOW), Err(Denial::NoSnapshot));
    assert_eq!(case.but(|case| case.knows = Knows::NotWanted).verdict(NOW), YES, "--no-revocations");
}

#[test]
fn a_snapshot_of_nothing_is_no_snapshot() {
    let case = Case::trusted().but(|case| case.lists = Vec::new());
    assert_eq!(case.verdict(NOW), Err(Denial::NoSnapshot));
}

#[test]
fn a_session_whose_anchor_left_the_bundle_is_not_trusted() {
    let removed = |case: &mut Case| case.anchors = vec![(foreign().der().clone(), Speaks::ForAnybody)];
    assert_eq!(Case::trusted().but(removed).verdict(NOW), Err(Denial::AnchorRemoved));
    assert_eq!(Case::trusted().but(|case| case.anchors.clear()).verdict(NOW), Err(Denial::AnchorRemoved));
}

#[test]
fn an_anchor_of_the_same_name_with_another_key_is_another_anchor() {
    let imposter = Authority::root_with(authority("root"));
    let case = Case::trusted().but(|case| case.anchors = vec![(imposter.der().clone(), Speaks::ForAnybody)]);
    assert_eq!(case.verdict(NOW), Err(Denial::AnchorRemoved));
}

#[test]
fn an_anchor_renewed_under_its_key_is_the_same_anchor() {
    let renewed = Authority::root_with(authority("root").reuse_key_of(&stand().root).not_after(date(at(9 * YEAR))));
    let case = Case::trusted().but(|case| case.anchors = vec![(renewed.der().clone(), Speaks::ForAnybody)]);
    assert_eq!(case.verdict(NOW), YES);
}

#[test]
fn an_anchor_speaks_for_whom_it_was_configured_and_nobody_else() {
    let (ours, other) = (stand().root.der(), foreign());
    let td = |domain: &str| Speaks::ForTrustDomain(domain.to_owned());
    let (dns, subject) = (Identity::from_dns("td").unwrap(), Identity::from_subject("CN=td").unwrap());
    let spiffe = Identity::from_spiffe(ID).unwrap();
    let (any, no) = (Speaks::ForAnybody, Err(Denial::AnchorOfAnotherTrustDomain));
    let rows = [
        ("an unscoped anchor speaks for a trust domain that nobody claims", &spiffe, vec![(ours, any.clone())], YES),
        ("and for the others", &spiffe, vec![(ours, any.clone()), (other.der(), td("td2"))], YES),
        ("but never for a claimed one", &spiffe, vec![(ours, any.clone()), (other.der(), td("td"))], no.clone()),
        ("a scoped anchor speaks for its own", &spiffe, vec![(ours, td("td"))], YES),
        ("one scoped twice for both", &spiffe, vec![(ours, td("td2")), (ours, td("td"))], YES),
        ("scoped and unscoped it speaks for its own", &spiffe, vec![(ours, td("td")), (ours, any.clone())], YES),
        ("never for another trust domain", &spiffe, vec![(ours, td("td2"))], no.clone()),
        ("never for a longer name", &spiffe, vec![(ours, td("td.example"))], no.clone()),
        ("never for a DNS name", &dns, vec![(ours, td("td"))], no.clone()),
        ("never for a subject", &subject, vec![(ours, td("td"))], no),
        ("an unscoped one speaks for a DNS name", &dns, vec![(ours, any.clone()), (other.der(), td("td"))], YES),
        ("and for a subject", &subject, vec![(ours, any)], YES),
    ];
    for (row, identity, anchors, expected) in rows {
        let anchors = anchors.into_iter().map(|(der, speaks)| (der.clone(), speaks)).collect();
        let case = Case::trusted().but(|case| (case.anchors, case.chain.identity) = (anchors, identity.clone()));
        assert_eq!(case.verdict(NOW), expected, "{row}");
    }
}

#[test]
fn every_link_is_valid_from_not_before_to_not_after_both_inclusive() {
    let (from, to) = (at(-1000), at(1000));
    for place in [Place::Leaf, Place::Intermediate, Place::Anchor] {
        let case = Case::trusted().timeless().but(|case| {
            let (from, to, root) = (date(from), date(to), &stand().root);
            let short = authority("root").reuse_key_of(root).not_before(from).not_after(to);
            if place == Place::Anchor {
                case.anchors[0].0 = Authority::root_with(short).der().clone();
            }
        });
        let case = case.but(|case| match place {
            Place::Leaf => (case.chain.leaf.not_before, case.chain.leaf.not_after) = (from, to),
            Place::Intermediate => {
                let link = &mut case.chain.intermediates[0];
                (link.not_before, link.not_after) = (from, to);
            }
            Place::Anchor | Place::Issuer => {}
        });
        case.rows(&[
            ("a millisecond before notBefore", past(from, -1), Err(Denial::NotYetValid(place))),
            ("at notBefore", from, YES),
            ("a millisecond after it", past(from, 1), YES),
            ("a millisecond before notAfter", past(to, -1), YES),
            ("at notAfter", to, YES),
            ("a millisecond after it", past(to, 1), Err(Denial::Expired(place))),
        ]);
    }
}

#[test]
fn of_two_certificates_of_one_anchor_the_one_that_ends_later_counts_in_either_order() {
    let spec = |end: Time| authority("root").reuse_key_of(&stand().root).not_after(date(end));
    let short = Authority::root_with(spec(at(1000))).der().clone();
    let long = Authority::root_with(spec(at(2000))).der().clone();
    for pair in [[short.clone(), long.clone()], [long, short]] {
        let case = Case::trusted().timeless();
        let case = case.but(|case| case.anchors = pair.map(|der| (der, Speaks::ForAnybody)).to_vec());
        case.rows(&[("the later end", at(2000), YES), ("after it", at(2001), Err(Denial::Expired(Place::Anchor)))]);
    }
}

#[test]
fn a_certificate_is_too_old_once_its_age_reaches_the_limit() {
    let case = Case::trusted().but(|case| {
        case.chain.leaf.not_before = NOW;
        case.policy.max_certificate_age = Some(Duration::from_secs(60));
    });
    case.rows(&[
        ("a millisecond before", at(59_999), YES),
        ("at", at(60_000), Err(Denial::CertificateTooOld)),
        ("a millisecond after", at(60_001), Err(Denial::CertificateTooOld)),
    ]);
    let case = case.but(|case| case.chain.intermediates[0].not_before = at(-YEAR));
    assert_eq!(case.verdict(NOW), YES, "the limit is for the leaf alone");
}

#[test]
fn one_outdated_list_denies_everybody() {
    let dated = |name: &str, expires_at: Time| Arc::new(List { expires_at, ..list(name, |_| {}) });
    let case = Case::trusted().but(|case| case.lists = vec![dated("long", at(9000)), dated("short", at(1000))]);
    case.rows(&[
        ("a millisecond before the first expiry", at(999), YES),
        ("at", at(1000), Err(Denial::SnapshotOutdated)),
        ("a millisecond after", at(1001), Err(Denial::SnapshotOutdated)),
    ]);
}

#[test]
fn a_list_older_than_the_snapshot_max_age_denies_everybody() {
    let case = Case::trusted().but(|case| {
        let issued_at = NOW;
        case.lists = vec![Arc::new(List { issued_at, expires_at: at(30_000), ..list("prod", |_| {}) })];
        case.policy.snapshot_max_age = Some(Duration::from_secs(10));
    });
    case.rows(&[
        ("a millisecond younger", at(9_999), YES),
        ("of that age", at(10_000), YES),
        ("older", at(10_001), Err(Denial::SnapshotOutdated)),
    ]);
    let case = case.but(|case| case.policy.snapshot_max_age = Some(Duration::from_secs(3600)));
    case.rows(&[("its own expiry", at(29_999), YES), ("comes first", at(30_000), Err(Denial::SnapshotOutdated))]);
}

#[test]
fn an_identity_is_allowed_if_any_pattern_names_it() {
    let only =
        |patterns: &[&str]| Allow::Only(patterns.iter().map(|one| IdentityPattern::parse(one).unwrap()).collect());
    let no = Err(Denial::IdentityNotAllowed);
    let dns = Identity::from_dns("API.example.org").unwrap();
    let subject = Identity::from_subject("CN=uri:spiffe://td/ns/a/sa/b").unwrap();
    let spiffe = Identity::from_spiffe(ID).unwrap();
    for (identity, allow, expected) in [
        (&spiffe, Allow::Anybody, YES),
        (&spiffe, only(&[]), no.clone()),
        (&spiffe, only(&["uri:spiffe://td/ns/a/sa/b"]), YES),
        (&spiffe, only(&["dns:x", "uri:spiffe://td/ns/a/sa/b"]), YES),
        (&spiffe, only(&["uri:spiffe://td/ns/a/sa/bb", "uri:spiffe://td/ns/a/sa"]), no.clone()),
        (&spiffe, only(&["uri:spiffe://td/ns/a/*"]), YES),
        (&spiffe, only(&["uri:spiffe://td/*"]), YES),
        (&spiffe, only(&["uri:spiffe://td/ns/a/sa/b/*", "uri:spiffe://td2/*"]), no.clone()),
        (&dns, only(&["dns:api.EXAMPLE.org"]), YES),
        (&dns, only(&["dns:example.org", "subject:CN=api.example.org"]), no.clone()),
        (&subject, only(&["uri:spiffe://td/ns/a/sa/b", "uri:spiffe://td/*"]), no),
        (&subject, only(&["subject:CN=uri:spiffe://td/ns/a/sa/b"]), YES),
    ] {
        let case = Case::trusted();
        let case = case.but(|case| (case.chain.identity, case.policy.allow) = (identity.clone(), allow.clone()));
        assert_eq!(case.verdict(NOW), expected, "{identity} under {allow:?}");
    }
}

#[test]
fn a_session_ends_once_its_age_reaches_the_limit_however_busy() {
    let case = Case::trusted().but(|case| case.policy.max_session_age = Some(Duration::from_secs(60)));
    case.rows(&[
        ("a clock that stepped back", at(-1), YES),
        ("a millisecond before", at(59_999), YES),
        ("at", at(60_000), Err(Denial::SessionTooOld)),
        ("a millisecond after", at(60_001), Err(Denial::SessionTooOld)),
    ]);
}

#[test]
fn an_idle_session_ends_at_the_timeout_and_a_busy_one_does_not() {
    let case = Case::trusted().but(|case| {
        case.policy.idle_timeout = Some(Duration::from_secs(60));
        case.idle_since = Some(at(5000));
    });
    case.rows(&[
        ("a millisecond before", at(64_999), YES),
        ("at", at(65_000), Err(Denial::Idle)),
        ("a millisecond after", at(65_001), Err(Denial::Idle)),
    ]);
    let busy = case.clone().but(|case| case.idle_since = None);
    assert_eq!(busy.verdict(at(43_200_000)), YES, "twelve hours in one request");
    let fresh = Session::new(case.chain.clone(), Box::new([]), NOW);
    assert_eq!(fresh.idle_since(), Some(NOW), "a session is born idle");
    assert!(judge(&fresh, &case.state(1), at(59_999)).is_ok());
    assert_eq!(judge(&fresh, &case.state(1), at(60_000)).unwrap_err(), Denial::Idle);
}

#[test]
fn a_memo_ends_when_a_session_falls_idle_and_the_timeout_passes() {
    let case = Case::trusted().but(|case| case.policy.idle_timeout = Some(Duration::from_secs(60)));
    let session = case.session();
    let _ = judge(&session, &case.state(EPOCH), NOW).unwrap();
    assert!(session.still_permitted(EPOCH, at(100_000)).is_some(), "busy");
    session.idle(at(100_000));
    assert!(session.still_permitted(EPOCH, at(159_999)).is_some());
    assert!(session.still_permitted(EPOCH, at(160_000)).is_none());
}

/// Every denial at once; each row takes one fault away, and the next reason in the order shows.
#[test]
fn the_order_of_reasons_is_fixed() {
    let chain = &stand().chain;
    let short = authority("root").reuse_key_of(&stand().root);
    let expired = Authority::root_with(short.not_after(date(at(-1000)))).der().clone();
    let second = Some(Duration::from_secs(1));
    let case = Case::trusted().but(|case| {
        case.knows = Knows::Missing;
        case.anchors = vec![(foreign().der().clone(), Speaks::ForTrustDomain("td".to_owned()))];
        case.chain.leaf.not_after = at(-1);
        case.chain.intermediates[0].not_before = at(1);
        case.lists =
            vec![Arc::new(List { expires_at: NOW, ..list("prod", |s| s.serials = keys(&[chain.leaf.serial_key])) })];
        case.unreadable = [chain.leaf.issuer_key].into();
        case.policy = Policy { allow: Allow::Only(Vec::new()), snapshot_max_age: second, ..case.policy.clone() };
        (case.policy.max_session_age, case.policy.max_certificate_age) = (second, second);
        (case.policy.idle_timeout, case.opened_at, case.idle_since) = (second, at(-1000), Some(at(-1000)));
    });
    let scoped = Speaks::ForTrustDomain("td".to_owned());
    let list_denial =
        Denial::Revoked { selector: Selector::Serial, place: Place::Leaf, reason: None, list: "prod".into() };
    type Change<'a> = Box<dyn FnOnce(&mut Case) + 'a>;
    let steps: Vec<(Denial, Change<'_>)> = vec![
        (Denial::NoSnapshot, Box::new(|case| case.knows = Knows::Lists)),
        (Denial::AnchorRemoved, Box::new(|case| case.anchors.push((expired.clone(), Speaks::ForAnybody)))),
        (Denial::AnchorOfAnotherTrustDomain, Box::new(|case| case.anchors.push((expired.clone(), scoped.clone())))),
        (Denial::Expired(Place::Leaf), Box::new(|case| case.chain.leaf.not_after = at(1000))),
        (Denial::NotYetValid(Place::Intermediate), Box::new(|case| case.chain.intermediates[0].not_before = at(-1000))),
        (
            Denial::Expired(Place::Anchor),
            Box::new(|case| case.anchors = vec![(stand().root.der().clone(), scoped.clone())]),
        ),
        (Denial::CertificateTooOld, Box::new(|case| case.chain.leaf.not_before = at(-500))),
        (list_denial, Box::new(|case| case.lists = vec![Arc::new(List { expires_at: NOW, ..list("prod", |_| {}) })])),
        (
            Denial::SnapshotOutdated,
            Box::new(|case| case.lists = vec![Arc::new(List { issued_at: NOW, ..list("prod", |_| {}) })]),
        ),
        (
            Denial::StatusUnknown(Place::Leaf),
            Box::new(|case| {
                case.unreadable = [chain.intermediates[0].issuer_key].into();
                let issuer = chain.leaf.issuer_key;
                case.crls = vec![Arc::new(Crl { this_update: NOW, ..crl(issuer, CrlScope::FULL, &[]) })];
            }),
        ),
        (Denial::StatusUnknown(Place::Intermediate), Box::new(|case| case.unreadable.clear())),
        (
            Denial::StatusUnknown(Place::Intermediate),
            Box::new(|case| {
                let issuer = chain.intermediates[0].issuer_key;
                case.crls.push(Arc::new(Crl { this_update: NOW, ..crl(issuer, CrlScope::FULL, &[]) }));
            }),
        ),
        (Denial::IdentityNotAllowed, Box::new(|case| case.policy.allow = Allow::Anybody)),
        (Denial::SessionTooOld, Box::new(|case| case.opened_at = NOW)),
        (Denial::Idle, Box::new(|case| case.idle_since = None)),
    ];
    let mut case = case;
    for (expected, remedy) in steps {
        assert_eq!(case.verdict(NOW), Err(expected));
        case = case.but(remedy);
    }
    assert_eq!(case.verdict(NOW), YES);
}

#[test]
fn every_denial_has_its_own_label_from_the_closed_list() {
    let all = [
        Denial::NoSnapshot,
        Denial::AnchorRemoved,
        Denial::AnchorOfAnotherTrustDomain,
        Denial::NotYetValid(Place::Leaf),
        Denial::Expired(Place::Leaf),
        Denial::CertificateTooOld,
        Denial::Revoked { selector: Selector::Crl, place: Place::Leaf, reason: None, list: "crl".into() },
        Denial::SnapshotOutdated,
        Denial::StatusUnknown(Place::Leaf),
        Denial::IdentityNotAllowed,
        Denial::SessionTooOld,
        Denial::Idle,
        Denial::Ended,
    ];
    assert_eq!(all.each_ref().map(Denial::label), DENIAL_LABELS);
    for (position, denial) in all.iter().enumerate() {
        assert_eq!(denial.position(), position);
        assert!(denial.to_string().starts_with(denial.label()), "{denial}");
    }
}
