//! What trust costs: the fast path of a request, a full judgement, a lookup, and the sweep after a publish.
//!
//! Run by `make bench`. Targets: fast path 20 ns, full judgement of a 3-link chain against 1,000,000 revocations
//! 1 µs, sweep of 10,000 sessions 5 ms.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../crates/trust/tests/stand/mod.rs"]
mod stand;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use stand::*;
use trust::*;

const REVOKED: u32 = 1_000_000;
const SESSIONS: u32 = 10_000;

/// The key of the certificate with this number; those below [`REVOKED`] are revoked.
fn key(number: u32) -> u128 {
    serial_key(&stand().chain.leaf.issuer_key, &number.to_be_bytes())
}

fn a_million() -> KeySet {
    KeySet::new((0..REVOKED).map(|number| KeySet::entry(key(number), None)).collect()).unwrap()
}

/// A list of a million serials with some of every other selector, CRLs of both issuers that know as many, and
/// every limit of the policy.
fn full() -> Case {
    Case::trusted().but(|case| {
        let terms = || vec![Terms { until: Some(at(-1)), ..Terms::default() }];
        case.lists = vec![Arc::new(list("prod", |selectors| {
            selectors.serials = a_million();
            for number in 0..1000_u32 {
                let digest = Sha256::of(&number.to_be_bytes());
                selectors.public_keys_with_terms.insert(digest, terms());
                selectors.serials_with_terms.insert(digest.key(), terms());
                selectors.issuers.insert(digest, terms());
                selectors.ids.insert(format!("uri:spiffe://td/ns/{number}/sa/x"), terms());
                selectors.id_prefixes.insert(format!("spiffe://td/ns/{number}/"), terms());
                selectors.trust_domains.insert(format!("td{number}"), terms());
            }
        }))];
        let issuers = [stand().chain.leaf.issuer_key, stand().chain.intermediates[0].issuer_key];
        case.crls = issuers
            .map(|issuer| Arc::new(Crl { serials: Arc::new(a_million()), ..crl(issuer, CrlScope::FULL, &[]) }))
            .to_vec();
        let year = Some(Duration::from_secs(365 * 86_400));
        case.policy = Policy {
            allow: Allow::Only(vec![IdentityPattern::parse("uri:spiffe://td/ns/*").unwrap()]),
            stale: trust::Stale::Deny,
            snapshot_max_age: Some(Duration::from_secs(730 * 86_400)),
            max_session_age: year,
            max_certificate_age: year,
            idle_timeout: year,
            ..free()
        };
    })
}

/// The plain case: one list of a million serials and nothing else.
fn plain() -> Case {
    Case::trusted().listing(|selectors| selectors.serials = a_million())
}

/// The session of the certificate with this number.
fn session(case: &Case, number: u32) -> Session {
    let case = case.clone().but(|case| {
        case.chain.leaf.serial_key = key(number);
        case.chain.leaf.fingerprint = Sha256::of(&number.to_be_bytes());
        case.chain.leaf.public_key = Sha256::of_two(b"key", &number.to_be_bytes());
    });
    case.session()
}

fn request(criterion: &mut Criterion) {
    let case = plain();
    let (session, state) = (session(&case, REVOKED), case.state(EPOCH));
    let _ = judge(&session, &state, NOW).unwrap();
    criterion.bench_function("request_fast_path", |bencher| {
        bencher.iter(|| black_box(&session).still_permitted(black_box(EPOCH), black_box(NOW)).is_some());
    });
}

fn full_judgement(criterion: &mut Criterion) {
    for (name, case) in [("list", plain()), ("list_crls_and_every_limit", full())] {
        let state = case.state(EPOCH);
        let warm = session(&case, REVOKED);
        criterion.bench_function(&format!("judge_3_links_1m/{name}/one_session"), |bencher| {
            bencher.iter(|| judge(black_box(&warm), black_box(&state), black_box(NOW)).is_ok());
        });
        // Another session each time: what it reads of the million is in no cache.
        let sessions: Vec<Session> = (0..SESSIONS).map(|number| session(&case, REVOKED + number)).collect();
        let mut turn = sessions.iter().cycle();
        criterion.bench_function(&format!("judge_3_links_1m/{name}/many_sessions"), |bencher| {
            bencher.iter(|| judge(turn.next().unwrap(), black_box(&state), black_box(NOW)).is_ok());
        });
        criterion.bench_function(&format!("sweep_10k_1m/{name}"), |bencher| {
            bencher.iter(|| sessions.iter().filter(|one| judge(one, &state, NOW).is_err()).count());
        });
    }
}

fn lookup(criterion: &mut Criterion) {
    let set = a_million();
    let resident = set.resident_bytes();
    assert!(resident <= 20 * set.len(), "{resident} bytes");
    for (name, first) in [("hit", 0), ("miss", REVOKED)] {
        let keys: Vec<u128> = (first..first + REVOKED).step_by(10).map(key).collect();
        let mut turn = keys.iter().cycle();
        criterion.bench_function(&format!("key_set_1m/{name}"), |bencher| {
            bencher.iter(|| set.find(black_box(*turn.next().unwrap())));
        });
    }
}

criterion_group!(benches, request, full_judgement, lookup);
criterion_main!(benches);
