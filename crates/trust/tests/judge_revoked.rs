//! The rules of revocation, one row for each selector, place and term: read it as the specification.
//!
//! Run by `make test`. The other rules are in `judge_table.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use stand::*;
use testkit::LeafSpec;
use trust::*;

const YES: Result<(), Denial> = Ok(());
const PLACES: [Place; 3] = [Place::Leaf, Place::Intermediate, Place::Anchor];

fn link(place: Place) -> Link {
    let chain = &stand().chain;
    match place {
        Place::Leaf => chain.leaf.clone(),
        Place::Intermediate => chain.intermediates[0].clone(),
        Place::Anchor | Place::Issuer => bundle(&[&stand().root]).find(&chain.anchor).unwrap().link.clone(),
    }
}

fn revoked(selector: Selector, place: Place, reason: Option<Reason>) -> Result<(), Denial> {
    let list = if selector == Selector::Crl { "crl" } else { "prod" };
    Err(Denial::Revoked { selector, place, reason, list: list.into() })
}

fn with<K: Eq + Hash>(key: K, terms: Terms) -> HashMap<K, Vec<Terms>> {
    HashMap::from([(key, vec![terms])])
}

type Fill = Box<dyn Fn(&mut Selectors, Terms)>;

/// Every selector that can name the certificate at `place`, to be filled in with terms.
fn selectors(place: Place) -> Vec<(Selector, Fill)> {
    let (one, two, three, four) = (link(place), link(place), link(place), link(place));
    let mut all: Vec<(Selector, Fill)> = vec![
        (Selector::Serial, Box::new(move |s, terms| s.serials_with_terms = with(one.serial_key, terms))),
        (Selector::PublicKey, Box::new(move |s, terms| s.public_keys_with_terms = with(two.public_key, terms))),
        (Selector::Certificate, Box::new(move |s, terms| s.certificates_with_terms = with(three.fingerprint, terms))),
    ];
    if place != Place::Anchor {
        all.push((Selector::Issuer, Box::new(move |s, terms| s.issuers = with(four.issuer_key, terms))));
    }
    if place == Place::Leaf {
        all.push((Selector::Id, Box::new(|s, terms| s.ids = with(format!("uri:{ID}"), terms))));
        for prefix in ["spiffe://td/", "spiffe://td/ns/", "spiffe://td/ns/a/", "spiffe://td/ns/a/sa/"] {
            all.push((Selector::Id, Box::new(move |s, terms| s.id_prefixes = with(prefix.to_owned(), terms))));
        }
        all.push((Selector::TrustDomain, Box::new(|s, terms| s.trust_domains = with("td".to_owned(), terms))));
    }
    all
}

#[test]
fn a_plain_entry_of_each_numerous_kind_revokes_each_certificate_of_the_chain() {
    for place in PLACES {
        let one = link(place);
        let case = Case::trusted();
        let serial = case.clone().listing(|s| s.serials = keys(&[one.serial_key]));
        assert_eq!(serial.verdict(NOW), revoked(Selector::Serial, place, None));
        let spki = case.clone().listing(|s| s.public_keys = keys(&[one.public_key.key()]));
        assert_eq!(spki.verdict(NOW), revoked(Selector::PublicKey, place, None));
        let certificate = case.listing(|s| s.certificates = keys(&[one.fingerprint.key()]));
        assert_eq!(certificate.verdict(NOW), revoked(Selector::Certificate, place, None));
    }
}

#[test]
fn every_selector_revokes_at_every_place_it_can_name() {
    for place in PLACES {
        for (selector, fill) in selectors(place) {
            let case = Case::trusted().listing(|s| fill(s, Terms::default()));
            assert_eq!(case.verdict(NOW), revoked(selector, place, None));
        }
    }
}

#[test]
fn an_entry_names_its_reason_whatever_the_selector() {
    for (reason, _, _) in REASONS {
        let terms = Terms { reason: Some(reason), ..Terms::default() };
        for place in PLACES {
            for (selector, fill) in selectors(place) {
                let case = Case::trusted().listing(|s| fill(s, terms));
                assert_eq!(case.verdict(NOW), revoked(selector, place, Some(reason)));
            }
        }
        let entry = KeySet::entry(link(Place::Leaf).serial_key, Some(reason));
        let case = Case::trusted().listing(|s| s.serials = KeySet::new(vec![entry]).unwrap());
        assert_eq!(case.verdict(NOW), revoked(Selector::Serial, Place::Leaf, Some(reason)));
    }
}

#[test]
fn issued_before_spares_a_certificate_issued_at_that_moment_or_later() {
    for place in PLACES {
        let issued = link(place).not_before;
        for (selector, fill) in selectors(place) {
            let no = revoked(selector, place, None);
            for (limit, expected) in [(past(issued, -1), YES), (issued, YES), (past(issued, 1), no)] {
                let terms = Terms { issued_before: Some(limit), ..Terms::default() };
                let case = Case::trusted().listing(|s| fill(s, terms));
                assert_eq!(case.verdict(NOW), expected, "{selector:?} at {place:?}");
            }
        }
    }
}

#[test]
fn an_entry_has_force_before_its_until_and_none_from_then_on() {
    for place in PLACES {
        for (selector, fill) in selectors(place) {
            let terms = Terms { until: Some(NOW), ..Terms::default() };
            let no = revoked(selector, place, None);
            Case::trusted().listing(|s| fill(s, terms)).rows(&[
                ("a millisecond before", at(-1), no.clone()),
                ("at", NOW, YES),
                ("a millisecond after", at(1), YES),
            ]);
        }
    }
}

#[test]
fn of_several_entries_for_one_certificate_any_one_that_holds_revokes() {
    let lapsed = Terms { until: Some(at(-1)), reason: Some(Reason::Superseded), ..Terms::default() };
    let holds = Terms { issued_before: Some(at(1)), reason: Some(Reason::KeyCompromise), ..Terms::default() };
    let key = link(Place::Leaf).serial_key;
    let case = Case::trusted().listing(|s| s.serials_with_terms = HashMap::from([(key, vec![lapsed, holds])]));
    assert_eq!(case.verdict(NOW), revoked(Selector::Serial, Place::Leaf, Some(Reason::KeyCompromise)));
}

/// A root's certificate is signed by the root's own key, and older than everything it issued: if an entry for the
/// issuer spoke of it too, no `issued_before` could ever spare a renewed certificate.
#[test]
fn a_certificate_issued_anew_by_a_root_survives_an_issuer_entry_for_the_old_ones() {
    let leaf = stand().root.issue(timed(LeafSpec::spiffe(ID)));
    let chain = verify(&leaf.chain(), &bundle(&[&stand().root]), NOW).unwrap();
    let issued = chain.leaf.not_before;
    let issuer = chain.leaf.issuer_key;
    for (limit, expected) in [
        (Some(issued), YES),
        (Some(past(issued, 1)), revoked(Selector::Issuer, Place::Leaf, None)),
        (None, revoked(Selector::Issuer, Place::Leaf, None)),
    ] {
        let terms = Terms { issued_before: limit, ..Terms::default() };
        let case = Case::trusted().but(|case| case.chain = chain.clone());
        assert_eq!(case.listing(|s| s.issuers = with(issuer, terms)).verdict(NOW), expected);
    }
}

#[test]
fn what_resembles_a_certificate_or_identity_revokes_nobody() {
    let chain = &stand().chain;
    let other = Sha256::of(b"another issuer");
    let serial = serial_key(&other, &chain.leaf.serial);
    let case = Case::trusted().listing(|s| {
        s.serials = keys(&[serial, chain.leaf.serial_key ^ 0x10, chain.leaf.serial_key ^ (1 << 127)]);
        s.public_keys = keys(&[chain.leaf.fingerprint.key()]);
        s.certificates = keys(&[chain.leaf.public_key.key()]);
        s.issuers = with(chain.leaf.public_key, Terms::default());
        s.trust_domains = with("td/ns".to_owned(), Terms::default());
        for id in [ID, "uri:spiffe://td/ns/a/sa", "uri:spiffe://td/ns/a/sa/b/", "uri:spiffe://td/ns/a/sa/B", "dns:td"] {
            s.ids.insert(id.to_owned(), vec![Terms::default()]);
        }
        for prefix in ["spiffe://td/ns", "spiffe://t", "spiffe://", "", "spiffe://td/ns/a/sa/b/", "spiffe://td/ns/a/s/"]
        {
            s.id_prefixes.insert(prefix.to_owned(), vec![Terms::default()]);
        }
    });
    assert_eq!(case.verdict(NOW), YES);
}

#[test]
fn a_name_of_another_type_is_not_reached_by_entries_for_spiffe_ids() {
    for identity in [Identity::from_dns("td").unwrap(), Identity::from_subject(ID).unwrap()] {
        let case = Case::trusted().but(|case| case.chain.identity = identity.clone()).listing(|s| {
            s.ids = with(format!("uri:{ID}"), Terms::default());
            s.id_prefixes = with("spiffe://td/".to_owned(), Terms::default());
            s.trust_domains = with("td".to_owned(), Terms::default());
        });
        assert_eq!(case.verdict(NOW), YES, "{identity}");
        let case = case.listing(|s| s.ids = with(identity.typed().to_owned(), Terms::default()));
        assert_eq!(case.verdict(NOW), revoked(Selector::Id, Place::Leaf, None));
    }
}

#[test]
fn lists_are_united_and_the_denial_names_the_one_that_spoke() {
    let key = link(Place::Leaf).serial_key;
    let lists = || vec![Arc::new(list("a", |_| {})), Arc::new(list("b", |s| s.serials = keys(&[key])))];
    let denial = |list: &str| {
        let (selector, place, reason) = (Selector::Serial, Place::Leaf, None);
        Err(Denial::Revoked { selector, place, reason, list: list.into() })
    };
    assert_eq!(Case::trusted().but(|case| case.lists = lists()).verdict(NOW), denial("b"));
    let reversed = Case::trusted().but(|case| case.lists = lists().into_iter().rev().collect());
    assert_eq!(reversed.verdict(NOW), denial("b"));
}

#[test]
fn an_outdated_list_still_revokes() {
    let key = link(Place::Leaf).serial_key;
    let old = List { expires_at: at(-1), ..list("prod", |s| s.serials = keys(&[key])) };
    let case = Case::trusted().but(|case| case.lists = vec![Arc::new(old)]);
    assert_eq!(case.verdict(NOW), revoked(Selector::Serial, Place::Leaf, None));
}

/// CRLs of both issuers, speaking of all their certificates.
fn full_crls() -> Vec<Arc<Crl>> {
    let issuers = [link(Place::Leaf).issuer_key, link(Place::Intermediate).issuer_key];
    issuers.map(|issuer| Arc::new(crl(issuer, CrlScope::FULL, &[]))).to_vec()
}

#[test]
fn a_crl_revokes_what_its_own_issuer_signed_and_nothing_else() {
    for coverage in [CrlCoverage::All, CrlCoverage::Leaf, CrlCoverage::None] {
        for (place, issuer) in [(Place::Leaf, 0), (Place::Intermediate, 1)] {
            let one = link(place);
            let case = Case::trusted().but(|case| {
                (case.crls, case.policy.crl_coverage) = (full_crls(), coverage);
                case.crls[issuer] = Arc::new(crl(one.issuer_key, CrlScope::FULL, &[one.serial_key]));
            });
            assert_eq!(case.verdict(NOW), revoked(Selector::Crl, place, None));
            let foreign = case.but(|case| {
                case.crls = full_crls();
                case.crls[1 - issuer] = Arc::new(crl(link(place).public_key, CrlScope::FULL, &[one.serial_key]));
                case.policy.crl_coverage = CrlCoverage::None;
            });
            assert_eq!(foreign.verdict(NOW), YES);
        }
    }
    let anchor = link(Place::Anchor);
    let case = Case::trusted().but(|case| {
        case.crls = full_crls();
        case.crls[1] = Arc::new(crl(anchor.issuer_key, CrlScope::FULL, &[anchor.serial_key]));
    });
    assert_eq!(case.verdict(NOW), YES, "no CRL speaks of an anchor: who removes it edits the bundle");
}

#[test]
fn a_crl_that_clears_nobody_still_revokes() {
    let one = link(Place::Leaf);
    let partial = CrlScope { all_reasons: false, ..CrlScope::FULL };
    let authorities = CrlScope { users: false, ..CrlScope::FULL };
    for scope in [partial, authorities] {
        let case = Case::trusted().but(|case| {
            case.crls = full_crls();
            let old = Crl { next_update: at(-1), ..crl(one.issuer_key, scope.clone(), &[one.serial_key]) };
            case.crls.push(Arc::new(old));
        });
        assert_eq!(case.verdict(NOW), revoked(Selector::Crl, Place::Leaf, None), "{scope:?}");
    }
}

#[test]
fn which_links_need_a_crl_is_the_coverage() {
    let unknown = |place| Err(Denial::StatusUnknown(place));
    let [of_leaf, of_intermediate] = [full_crls()[0].clone(), full_crls()[1].clone()];
    use CrlCoverage::{All, Leaf, None};
    for (crls, coverage, expected) in [
        (vec![], All, YES),
        (vec![&of_leaf, &of_intermediate], All, YES),
        (vec![&of_intermediate], All, unknown(Place::Leaf)),
        (vec![&of_leaf], All, unknown(Place::Intermediate)),
        (vec![&of_leaf], Leaf, YES),
        (vec![&of_intermediate], Leaf, unknown(Place::Leaf)),
        (vec![&of_intermediate], None, YES),
    ] {
        let case = Case::trusted().but(|case| {
            case.crls = crls.into_iter().cloned().collect();
            case.policy.crl_coverage = coverage;
        });
        assert_eq!(case.verdict(NOW), expected, "{coverage:?}");
    }
}

#[test]
fn a_crl_clears_whom_its_scope_covers() {
    let point = |uri: &str| Sha256::of(uri.as_bytes());
    let partition = |uri: &str| CrlScope { distribution_points: Some([point(uri)].into()), ..CrlScope::FULL };
    let leaf = |authority: bool, points: &[&str]| {
        let mut leaf = link(Place::Leaf);
        (leaf.is_authority, leaf.distribution_points) = (authority, points.iter().map(|uri| point(uri)).collect());
        leaf
    };
    let users = CrlScope { authorities: false, ..CrlScope::FULL };
    let authorities = CrlScope { users: false, ..CrlScope::FULL };
    let some_reasons = CrlScope { all_reasons: false, ..CrlScope::FULL };
    let (yes, no) = (YES, Err(Denial::StatusUnknown(Place::Leaf)));
    for (row, scope, leaf, expected) in [
        ("users' CRL, a user", &users, leaf(false, &[]), yes.clone()),
        ("users' CRL, an authority", &users, leaf(true, &[]), no.clone()),
        ("authorities' CRL, a user", &authorities, leaf(false, &[]), no.clone()),
        ("authorities' CRL, an authority", &authorities, leaf(true, &[]), yes.clone()),
        ("some reasons", &some_reasons, leaf(false, &[]), no.clone()),
        ("its partition", &partition("a"), leaf(false, &["b", "a"]), yes),
        ("another partition", &partition("a"), leaf(false, &["b"]), no.clone()),
        ("no partition", &partition("a"), leaf(false, &[]), no),
    ] {
        let case = Case::trusted().but(|case| {
            case.crls = vec![Arc::new(crl(leaf.issuer_key, scope.clone(), &[]))];
            (case.chain.leaf, case.policy.crl_coverage) = (leaf, CrlCoverage::Leaf);
        });
        assert_eq!(case.verdict(NOW), expected, "{row}");
    }
}

#[test]
fn a_crl_is_current_before_its_next_update_and_the_best_of_several_counts() {
    let issuer = link(Place::Leaf).issuer_key;
    let until = |next_update: Time| Arc::new(Crl { next_update, ..crl(issuer, CrlScope::FULL, &[]) });
    let case = Case::trusted().but(|case| {
        case.crls = vec![until(at(-5)), until(at(1000))];
        case.policy.crl_coverage = CrlCoverage::Leaf;
    });
    case.rows(&[
        ("a millisecond before", at(999), YES),
        ("at", at(1000), Err(Denial::SnapshotOutdated)),
        ("a millisecond after", at(1001), Err(Denial::SnapshotOutdated)),
    ]);
    let aged = case.but(|case| {
        case.crls = vec![Arc::new(Crl { this_update: NOW, ..crl(issuer, CrlScope::FULL, &[]) })];
        case.lists.clear();
        case.policy.snapshot_max_age = Some(Duration::from_secs(10));
    });
    aged.rows(&[
        ("of that age", at(10_000), YES),
        ("older than --snapshot-max-age", at(10_001), Err(Denial::SnapshotOutdated)),
    ]);
}

#[test]
fn an_issuer_whose_crl_cannot_be_read_or_waits_leaves_its_certificates_unknown() {
    let one = link(Place::Leaf);
    let leaf_only = Case::trusted().but(|case| case.policy.crl_coverage = CrlCoverage::Leaf);
    let unknown = Err(Denial::StatusUnknown(Place::Leaf));
    let unreadable = leaf_only.clone().but(|case| case.unreadable = [one.issuer_key].into());
    assert_eq!(unreadable.verdict(NOW), unknown);
    let beside = unreadable.but(|case| case.crls = full_crls());
    assert_eq!(beside.verdict(NOW), unknown, "a readable one beside it does not help");
    let waiting = leaf_only.but(|case| case.waiting = [one.issuer_name].into());
    assert_eq!(waiting.verdict(NOW), unknown);
}

#[test]
fn no_rev_avail_excuses_a_missing_crl_of_a_leaf_and_nothing_else() {
    let one = Link { no_revocation_available: true, ..link(Place::Leaf) };
    let unknown = |place| Err(Denial::StatusUnknown(place));
    let case = Case::trusted().but(|case| {
        (case.chain.leaf, case.crls) = (one.clone(), full_crls());
        case.crls.remove(0);
    });
    assert_eq!(case.verdict(NOW), YES);
    let listed = case.clone().listing(|s| s.serials = keys(&[one.serial_key]));
    assert_eq!(listed.verdict(NOW), revoked(Selector::Serial, Place::Leaf, None), "an entry in a list");
    let crl_entry = case.clone().but(|case| {
        case.crls.push(Arc::new(crl(one.issuer_key, CrlScope::FULL, &[one.serial_key])));
    });
    assert_eq!(crl_entry.verdict(NOW), revoked(Selector::Crl, Place::Leaf, None), "an entry in a CRL");
    let unreadable = case.clone().but(|case| case.unreadable = [one.issuer_key].into());
    assert_eq!(unreadable.verdict(NOW), unknown(Place::Leaf), "a CRL that is there and cannot be read");
    let waiting = case.clone().but(|case| case.waiting = [one.issuer_name].into());
    assert_eq!(waiting.verdict(NOW), unknown(Place::Leaf), "a CRL that is there and not yet verified");
    let of_authority = case.but(|case| {
        case.crls = vec![full_crls()[0].clone()];
        case.chain.intermediates[0].no_revocation_available = true;
    });
    assert_eq!(of_authority.verdict(NOW), unknown(Place::Intermediate), "an authority's certificate");
}
