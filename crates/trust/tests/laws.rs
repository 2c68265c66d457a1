//! Laws of the judge: what holds for every state, every moment and every order of events.
//!
//! Run by `make test`. The world is forty milliseconds long and crowded with limits, so that they meet.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use stand::*;
use testkit::Authority;
use trust::*;

/// A moment of the world, most of them between −20 ms and 20 ms around [`NOW`].
fn moment() -> impl Strategy<Value = Time> {
    prop_oneof![20 => (-20_i64..20).prop_map(at), 1 => Just(Time::BEGINNING), 1 => Just(Time::NEVER)]
}

/// The end of a limit: mostly far away, so that the others have their say.
fn end() -> impl Strategy<Value = Time> {
    prop_oneof![6 => Just(Time::NEVER), 1 => moment()]
}

/// The beginning of a limit: mostly in the past, for the same reason.
fn beginning() -> impl Strategy<Value = Time> {
    prop_oneof![6 => (-25_i64..-15).prop_map(at), 1 => moment()]
}

fn limit() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![6 => Just(None), 1 => (0_u64..50).prop_map(|millis| Some(Duration::from_millis(millis)))]
}

/// Bundles: the root ending now, the same root renewed and beginning now, for anybody, for a trust domain, absent.
fn anchors() -> impl Strategy<Value = Vec<(CertificateDer<'static>, Speaks)>> {
    static ROOTS: OnceLock<[CertificateDer<'static>; 4]> = OnceLock::new();
    let [steady, ending, beginning, other] = ROOTS.get_or_init(|| {
        let again = || authority("root").reuse_key_of(&stand().root);
        let der = |spec| Authority::root_with(spec).der().clone();
        let (ending, beginning) = (again().not_after(date(NOW)), again().not_before(date(NOW)));
        [stand().root.der().clone(), der(ending), der(beginning), der(authority("another root"))]
    });
    let td = |domain: &str| Speaks::ForTrustDomain(domain.to_owned());
    prop_oneof![
        12 => Just(vec![(steady.clone(), Speaks::ForAnybody)]),
        2 => Just(vec![(ending.clone(), Speaks::ForAnybody)]),
        2 => Just(vec![(beginning.clone(), td("td"))]),
        1 => Just(vec![(steady.clone(), Speaks::ForAnybody), (other.clone(), td("td"))]),
        1 => Just(vec![(other.clone(), Speaks::ForAnybody)]),
    ]
}

fn terms() -> impl Strategy<Value = Terms> {
    let reason = prop::sample::select(REASONS.map(|row| row.0).to_vec());
    (prop::option::of(moment()), prop::option::of(moment()), prop::option::of(reason))
        .prop_map(|(issued_before, until, reason)| Terms { issued_before, until, reason })
}

/// One revocation: the kind of selector, which certificate it is about, and its terms.
#[derive(Clone, Debug)]
struct Entry {
    kind: usize,
    subject: usize,
    terms: Terms,
}

fn entry() -> impl Strategy<Value = Entry> {
    (0_usize..10, 0_usize..4, terms()).prop_map(|(kind, subject, terms)| Entry { kind, subject, terms })
}

/// The chain's certificates, and one of nobody.
fn subject(number: usize) -> Link {
    let chain = &stand().chain;
    let nobody = Sha256::of(b"nobody");
    match number {
        0 => chain.leaf.clone(),
        1 => chain.intermediates[0].clone(),
        2 => bundle(&[&stand().root]).find(&chain.anchor).unwrap().link.clone(),
        _ => Link {
            issuer_key: nobody,
            public_key: nobody,
            fingerprint: nobody,
            twin: None,
            serial_key: nobody.key(),
            ..chain.leaf.clone()
        },
    }
}

fn selectors(entries: &[Entry]) -> Selectors {
    let mut selectors = Selectors::default();
    let (mut serials, mut public_keys, mut certificates) = (Vec::new(), Vec::new(), Vec::new());
    let names = ["td", "td2", "td/ns", "ns"];
    for Entry { kind, subject: number, terms } in entries.iter().cloned() {
        let link = subject(number);
        let key = |key: u128| KeySet::entry(key, terms.reason);
        match kind {
            0 => serials.push(key(link.serial_key)),
            1 => public_keys.push(key(link.public_key.key())),
            2 => certificates.push(key(link.fingerprint.key())),
            3 => selectors.serials_with_terms.entry(link.serial_key).or_default().push(terms),
            4 => selectors.public_keys_with_terms.entry(link.public_key).or_default().push(terms),
            5 => selectors.certificates_with_terms.entry(link.fingerprint).or_default().push(terms),
            6 => selectors.issuers.entry(link.issuer_key).or_default().push(terms),
            7 => selectors.ids.entry(format!("uri:spiffe://{}/ns/a/sa/b", names[number])).or_default().push(terms),
            8 => selectors.id_prefixes.entry(format!("spiffe://{}/", names[number])).or_default().push(terms),
            _ => selectors.trust_domains.entry(names[number].to_owned()).or_default().push(terms),
        }
    }
    selectors.serials = KeySet::new(serials).unwrap();
    selectors.public_keys = KeySet::new(public_keys).unwrap();
    selectors.certificates = KeySet::new(certificates).unwrap();
    selectors
}

/// A list: when it was issued, when it expires, whom it revokes.
fn a_list() -> impl Strategy<Value = (Time, Time, Vec<Entry>)> {
    // Most lists revoke nobody here: a world in which everybody is always denied proves little.
    let entries = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(entry(), 1..4)];
    (beginning(), end(), entries)
}

/// A CRL: whose certificate's issuer publishes it, of whom it speaks, its dates, whom it revokes.
fn a_crl() -> impl Strategy<Value = Arc<Crl>> {
    let revoked = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(0_usize..4, 1..3)];
    (0_usize..2, prop::array::uniform3(prop::bool::weighted(0.9)), beginning(), end(), revoked).prop_map(
        |(of, [users, authorities, all_reasons], this_update, next_update, revoked)| {
            let scope = CrlScope { users, authorities, all_reasons, distribution_points: None };
            let keys: Vec<u128> = revoked.into_iter().map(|number| subject(number).serial_key).collect();
            Arc::new(Crl { this_update, next_update, ..crl(subject(of).issuer_key, scope, &keys) })
        },
    )
}

fn knowledge() -> impl Strategy<Value = Case> {
    let knows = prop_oneof![12 => Just(Knows::Lists), 1 => Just(Knows::Missing), 1 => Just(Knows::NotWanted)];
    let crls = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(a_crl(), 2..6)];
    let overlay = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(entry(), 1..3)];
    let named = (knows, prop::collection::vec(a_list(), 0..4), crls, overlay);
    let marks = (prop::option::weighted(0.05, 0_usize..2), prop::option::weighted(0.05, 0_usize..2));
    (named, marks).prop_map(|((knows, lists, crls, overlay), (unreadable, waiting))| {
        Case::trusted().but(|case| {
            case.knows = knows;
            case.overlay = Arc::new(Overlay::new(selectors(&overlay)));
            let lists = lists.into_iter().enumerate();
            let made = lists.map(|(number, (issued_at, expires_at, entries))| {
                let selectors = selectors(&entries);
                Arc::new(List { issued_at, expires_at, selectors, ..list(&number.to_string(), |_| {}) })
            });
            case.lists = made.collect();
            case.crls = crls;
            case.unreadable = unreadable.map(|of| subject(of).issuer_key).into_iter().collect();
            case.waiting = waiting.map(|of| subject(of).issuer_name).into_iter().collect();
        })
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let idle = prop::option::of((10_u64..50).prop_map(Duration::from_millis));
    let coverage = prop::sample::select(vec![CrlCoverage::All, CrlCoverage::Leaf, CrlCoverage::None]);
    let allow = prop_oneof![
        8 => Just(Allow::Anybody),
        2 => Just(Allow::Only(vec![IdentityPattern::parse("uri:spiffe://td/*").unwrap()])),
        1 => Just(Allow::Only(Vec::new())),
    ];
    let stale = prop_oneof![
        3 => Just(Stale::Deny),
        1 => (1_u64..50).prop_map(|span| Stale::Grace(Duration::from_millis(span))),
        1 => Just(Stale::Serve),
    ];
    (allow, coverage, stale, (limit(), limit(), limit()), idle).prop_map(
        |(allow, crl_coverage, stale, (snapshot, session, cert), idle)| {
            let (snapshot_max_age, max_session_age, max_certificate_age) = (snapshot, session, cert);
            Policy {
                allow,
                crl_coverage,
                stale,
                snapshot_max_age,
                max_session_age,
                max_certificate_age,
                idle_timeout: idle,
            }
        },
    )
}

/// Any state, with any session in it.
fn world() -> impl Strategy<Value = Case> {
    let validity = prop::array::uniform2((beginning(), end()));
    let session = (beginning(), prop::option::of(beginning()), prop::bool::weighted(0.1));
    (knowledge(), policy(), anchors(), validity, session).prop_map(
        |(case, policy, anchors, [leaf, issuer], (opened_at, idle_since, no_rev_avail))| {
            case.but(|case| {
                (case.policy, case.anchors, case.opened_at, case.idle_since) = (policy, anchors, opened_at, idle_since);
                (case.chain.leaf.not_before, case.chain.leaf.not_after) = leaf;
                let link = &mut case.chain.intermediates[0];
                (link.not_before, link.not_after) = issuer;
                case.chain.leaf.no_revocation_available = no_rev_avail;
            })
        },
    )
}

/// What happens to a session.
#[derive(Clone, Debug)]
enum Event {
    Publish(Box<Case>),
    Clock(Time),
    Request,
    Busy,
    Idle,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => world().prop_map(|case| Event::Publish(Box::new(case))),
        5 => moment().prop_map(Event::Clock),
        5 => Just(Event::Request),
        2 => Just(Event::Busy),
        2 => Just(Event::Idle),
    ]
}

/// What a judge says who has never seen this session.
fn fresh(session: &Session, state: &TrustState, now: Time) -> Result<(), Denial> {
    judge(&session.over(session.chain.clone()), state, now).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_memo_says_yes_only_where_a_full_judgement_does(
        first in world(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let session = first.session();
        let (mut state, mut epoch, mut now) = (first.state(1), 1, NOW);
        for event in events {
            match event {
                Event::Publish(case) => { epoch += 1; state = case.state(epoch); }
                Event::Clock(moment) => now = moment,
                Event::Request => {}
                Event::Busy => session.busy(),
                Event::Idle => session.idle(now),
            }
            let full = fresh(&session, &state, now);
            match session.still_permitted(epoch, now) {
                Some(permit) => {
                    prop_assert_eq!(&full, &Ok(()), "at {:?}", now);
                    prop_assert_eq!(permit.epoch(), epoch);
                }
                None => {
                    let judged = judge(&session, &state, now);
                    prop_assert_eq!(judged.map(|_| ()), full.clone());
                    prop_assert_eq!(session.still_permitted(epoch, now).is_some(), full.is_ok());
                }
            }
        }
    }

    #[test]
    fn a_memo_ends_exactly_where_the_answer_changes(case in world(), now in moment()) {
        let (session, state) = (case.session(), case.state(EPOCH));
        if judge(&session, &state, now).is_ok() {
            let until = session.memo().until();
            prop_assert!(until > now);
            prop_assert!(session.still_permitted(EPOCH, past(until, -1)).is_some());
            prop_assert_eq!(fresh(&session, &state, past(until, -1)), Ok(()));
            prop_assert!(session.still_permitted(EPOCH, until).is_none());
            prop_assert!(until == Time::NEVER || fresh(&session, &state, until).is_err(), "judged again for nothing");
            prop_assert!(session.still_permitted(EPOCH + 1, now).is_none() && session.still_permitted(0, now).is_none());
        }
    }

    #[test]
    fn the_first_limit_that_ends_a_session_is_the_end_of_its_permit_and_names_the_denial(
        case in world(),
        now in moment(),
    ) {
        let (session, state) = (case.session(), case.state(EPOCH));
        if judge(&session, &state, now).is_ok() {
            let first = first_end(&session, &state);
            prop_assert_eq!(first.map_or(Time::NEVER, |(_, end)| end), session.memo().until());
            if let Some((limit, end)) = first {
                prop_assert_eq!(fresh(&session, &state, end), Err(limit.denial()), "{}", limit.label());
            }
            let planned = ends(&session, &state).filter(|(limit, _)| limit.is_planned()).map(|(_, end)| end).min();
            prop_assert_eq!(planned_end(&session, &state).map(|(_, end)| end), planned);
        }
    }

    #[test]
    fn a_further_revocation_never_turns_no_into_yes(case in world(), more in a_list(), entry in entry(), now in moment()) {
        let before = case.verdict(now);
        let (issued_at, expires_at, entries) = more;
        let further = List { issued_at, expires_at, selectors: selectors(&entries), ..list("further", |_| {}) };
        // A first list is knowledge where there was none; only then may it turn a no into a yes.
        let first = case.lists.is_empty() && case.state(1).snapshot().is_some_and(|one| one.knows_nothing());
        let with_list = case.clone().but(|case| case.lists.push(Arc::new(further)));
        prop_assert!(first || before.is_ok() || with_list.verdict(now).is_err());
        if let Some(list) = case.lists.first() {
            let selectors = selectors(std::slice::from_ref(&entry));
            let one = List { name: list.name.clone(), selectors, ..stand::list("x", |_| {}) };
            let with_entry = case.clone().but(|case| case.lists.insert(0, Arc::new(one)));
            prop_assert!(before.is_ok() || with_entry.verdict(now).is_err());
        }
        let alone = Crl { form: CrlForm::DeltaAlone, ..crl(subject(entry.subject).issuer_key, CrlScope::FULL, &[]) };
        let with_delta = case.clone().but(|case| case.crls.push(Arc::new(alone)));
        prop_assert!(before.is_ok() || with_delta.verdict(now).is_err());
        let denials = Arc::new(Overlay::new(selectors(&[entry])));
        if case.overlay.is_empty() {
            let with_denial = case.clone().but(|case| case.overlay = denials);
            prop_assert!(before.is_ok() || with_denial.verdict(now).is_err());
        }
        if let Some(crl) = case.crls.first() {
            let serials = Arc::new(keys(&[0, 1, 2, 3].map(|number| subject(number).serial_key)));
            let longer = Crl { scope: crl.scope.clone(), number: crl.number.clone(), serials, form: CrlForm::Complete, ..**crl };
            let with_serials = case.clone().but(|case| case.crls[0] = Arc::new(longer));
            prop_assert!(before.is_ok() || with_serials.verdict(now).is_err());
        }
    }

    #[test]
    fn what_only_observes_changes_no_answer(case in world(), more in a_list(), now in moment()) {
        let (issued_at, expires_at, entries) = more;
        let observed = selectors(&entries);
        let trial = List { issued_at, expires_at, observed, mode: Mode::Observe, ..list("trial", |_| {}) };
        let with_trial = case.clone().but(|case| case.lists.insert(0, Arc::new(trial)));
        prop_assert_eq!(with_trial.verdict(now), case.verdict(now));
    }

    #[test]
    fn the_same_question_has_the_same_answer(case in world(), now in moment(), other in moment()) {
        let (session, state) = (case.session(), case.state(EPOCH));
        let answer = fresh(&session, &state, now);
        let _ = judge(&session, &state, other);
        prop_assert_eq!(judge(&session, &state, now).map(|_| ()), answer.clone());
        prop_assert_eq!(fresh(&session, &case.state(EPOCH + 1), now), answer);
    }

    #[test]
    fn what_has_ended_by_its_own_limit_stays_ended(case in world(), one in moment(), other in moment()) {
        let (now, later) = (one.min(other), one.max(other));
        let ends = |denial: &Denial| !matches!(denial, Denial::NotYetValid(_) | Denial::Revoked { .. });
        if let Err(denial) = case.verdict(now) && ends(&denial) {
            prop_assert!(case.verdict(later).is_err(), "{} came back", denial);
        }
    }

    #[test]
    fn a_key_set_is_a_set(
        members in prop::collection::vec(any::<u128>(), 0..300),
        near in prop::collection::vec((0_usize..300, 0_u32..128), 0..50),
        strangers in prop::collection::vec(any::<u128>(), 0..50),
        spread in 0_u32..128,
    ) {
        // Crowded into few buckets or spread over all of them, the answers are the same.
        let members: Vec<u128> = members.into_iter().map(|key| key >> spread << 4).collect();
        let set = KeySet::new(members.iter().map(|key| KeySet::entry(*key, None)).collect()).unwrap();
        let model: HashSet<u128> = members.iter().copied().collect();
        prop_assert_eq!(set.len(), model.len());
        let near = near.into_iter().filter_map(|(at, bit)| members.get(at).map(|key| key ^ (1 << bit)));
        for key in members.iter().copied().chain(near).chain(strangers) {
            // The last four bits hold the reason; two keys that differ only there are one.
            prop_assert_eq!(set.find(key).is_some(), model.contains(&(key & !0xf)), "{:x}", key);
        }
    }

    #[test]
    fn a_key_set_keeps_the_reason_of_every_key(
        members in prop::collection::hash_map(any::<u128>(), prop::option::of(0_usize..REASONS.len()), 0..300),
    ) {
        let model: HashMap<u128, Option<Reason>> =
            members.into_iter().map(|(key, reason)| (key & !0xf, reason.map(|row| REASONS[row].0))).collect();
        let set = KeySet::new(model.iter().map(|(key, reason)| KeySet::entry(*key, *reason)).collect()).unwrap();
        for (key, reason) in &model {
            prop_assert_eq!(set.find(*key), Some(*reason));
        }
    }
}
