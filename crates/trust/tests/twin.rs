//! A certificate and its twin, whose ECDSA signature is written as (r, n − s): an entry for one is an entry for both.
//!
//! Run by `make test`. The twin is made here by an arithmetic of its own, and webpki's verdict proves it right.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod stand;

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use stand::*;
use testkit::authority::Curve;
use testkit::der::{sequence, unsigned, value};
use testkit::{Authority, AuthoritySpec, LeafSpec};
use trust::*;

const CURVES: [(Curve, &str); 3] = [
    (Curve::P256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
    (Curve::P384, "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973"),
    (
        Curve::P521,
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b889\
         9c47aebb6fb71e91386409",
    ),
];

/// The whole elements that a constructed value holds.
fn elements(der: &[u8]) -> Vec<&[u8]> {
    let (mut found, mut rest) = (Vec::new(), content(der));
    while !rest.is_empty() {
        let (head, length) = head(rest);
        found.push(&rest[..head + length]);
        rest = &rest[head + length..];
    }
    found
}

fn head(der: &[u8]) -> (usize, usize) {
    match usize::from(der[1]) {
        length @ 0..0x80 => (2, length),
        long => (2 + long - 0x80, der[2..2 + long - 0x80].iter().fold(0, |sum, octet| sum * 256 + usize::from(*octet))),
    }
}

fn content(der: &[u8]) -> &[u8] {
    let (head, length) = head(der);
    &der[head..head + length]
}

fn difference(order: &str, number: &[u8]) -> Vec<u8> {
    let order: Vec<i32> =
        (0..order.len()).step_by(2).map(|at| i32::from_str_radix(&order[at..at + 2], 16).unwrap()).collect();
    let trimmed: Vec<u8> = number.iter().copied().skip_while(|octet| *octet == 0).collect();
    let (mut result, mut debt) = (Vec::new(), 0);
    for (place, digit) in order.iter().rev().enumerate() {
        let taken = place.checked_add(1).and_then(|back| trimmed.len().checked_sub(back)).map_or(0, |at| trimmed[at]);
        let left = digit - i32::from(taken) - debt;
        debt = i32::from(left < 0);
        result.push(u8::try_from(left.rem_euclid(256)).unwrap());
    }
    result.reverse();
    result.into_iter().skip_while(|octet| *octet == 0).collect()
}

fn twin(der: &[u8], order: &str) -> CertificateDer<'static> {
    let [signed, algorithm, signature] = elements(der)[..] else { panic!("a certificate has three parts") };
    let numbers = &content(signature)[1..];
    let [r, s] = elements(numbers)[..] else { panic!("an ECDSA signature has two numbers") };
    let other = sequence(&[r, &unsigned(&difference(order, content(s)))]);
    let bits = value(0x03, &[&[0], &*other].concat());
    sequence(&[signed, algorithm, &bits]).into()
}

/// Enough certificates for numbers with and without a sign octet, and now and then a shorter one.
#[test]
fn an_entry_for_a_certificate_revokes_its_twin_too() {
    for (curve, order) in CURVES {
        let root = Authority::root_with(AuthoritySpec::new("root").curve(curve));
        let trusted = Arc::new(Bundle::new(vec![(root.der().clone(), Speaks::ForAnybody)]).unwrap());
        for number in 0..40 {
            let leaf = root.issue(LeafSpec::spiffe(ID));
            let now = Time::from_seconds(testkit::OffsetDateTime::now_utc().unix_timestamp());
            let twin = twin(leaf.der(), order);
            assert_ne!(&twin, leaf.der());
            let chain = verify(std::slice::from_ref(&twin), &trusted, now).unwrap();
            assert_eq!(chain.leaf.twin, Some(Sha256(leaf.sha256())), "{curve:?}, certificate {number}");
            let session = Session::new(chain, Box::new([]), now);
            let entry = keys(&[Sha256(leaf.sha256()).key()]);
            let listed = List { issued_at: now, ..list("prod", |selectors| selectors.certificates = entry) };
            let state = Case::trusted().but(|case| case.lists = vec![Arc::new(listed)]).state(EPOCH);
            let state = TrustState { bundle: trusted.clone(), ..state };
            let verdict = judge(&session, &state, now).map(|_| ()).unwrap_err();
            assert_eq!(verdict.to_string(), "revoked (leaf by certificate in prod)");
        }
    }
}
