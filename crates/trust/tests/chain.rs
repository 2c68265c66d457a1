//! Which presented certificates make a chain, and what is said of those that make none; with real certificates.
//!
//! Run by `make test`. Names are tested in `names.rs`, foreign bytes in `hostile.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod forge;
mod stand;

use forge::{Draft, alone, basic_constraints, common_name};
use rustls_pki_types::CertificateDer;
use stand::*;
use testkit::{Authority, ExtendedKeyUsagePurpose, KeyUsagePurpose, LeafSpec, RawExtension};
use trust::*;

fn root() -> Authority {
    Authority::root_with(authority("root"))
}

fn svid() -> LeafSpec {
    timed(LeafSpec::spiffe(ID))
}

fn flaw(presented: &[CertificateDer<'static>], root: &Authority) -> Flaw {
    verify(presented, &bundle(&[root]), NOW).unwrap_err()
}

#[test]
fn a_leaf_of_an_anchor_is_a_chain() {
    let root = root();
    let leaf = root.issue(svid());
    let chain = verify(&leaf.chain(), &bundle(&[&root]), NOW).unwrap();
    assert_eq!(chain.identity.typed(), "uri:spiffe://td/ns/a/sa/b");
    assert_eq!((&*chain.leaf.serial, chain.leaf.position), (&*leaf.serial(), 0));
    assert_eq!(chain.leaf.issuer_key, Sha256(root.spki_sha256()));
    assert_eq!(chain.leaf.public_key, Sha256(leaf.spki_sha256()));
    assert_eq!(chain.leaf.fingerprint, Sha256(leaf.sha256()));
    assert_eq!(chain.leaf.serial_key, serial_key(&Sha256(root.spki_sha256()), &leaf.serial()));
    assert_eq!(chain.leaf.issuer_name, Sha256::of(&root.name_der()));
    assert!(chain.intermediates.is_empty());
    let anchor = &bundle(&[&root]);
    assert_eq!(anchor.find(&chain.anchor).unwrap().link.fingerprint, Sha256(root.sha256()));
}

#[test]
fn a_bundle_that_saw_a_good_chain_still_refuses_every_change_of_it_and_looks_at_validity_again() {
    let root = root();
    let intermediate = root.intermediate_with(authority("intermediate"));
    let leaf = intermediate.issue(svid());
    let seen = bundle(&[&root]);
    let verdict = |presented: &[CertificateDer<'static>], now| verify(presented, &seen, now).map(|_| ());
    for _ in 0..2 {
        assert_eq!(verdict(&leaf.chain(), NOW), Ok(()));
    }
    for (position, der) in [leaf.der(), intermediate.der()].into_iter().enumerate() {
        // The last octets are the signature's.
        for back in 1..=8 {
            let mut forged = der.to_vec();
            let place = forged.len() - back;
            forged[place] ^= 1;
            let mut presented = leaf.chain();
            presented[position] = forged.into();
            assert!(verdict(&presented, NOW).is_err(), "certificate {position}, octet {back} from its end");
        }
    }
    assert!(verdict(&leaf.chain(), at(50 * YEAR)).is_err());
    assert_eq!(verify(&leaf.chain(), &bundle(&[]), NOW).unwrap_err(), Flaw::UnknownIssuer);
}

#[test]
fn the_links_are_in_order_from_the_leaf_whatever_the_order_presented() {
    let root = root();
    let upper = root.intermediate_with(authority("upper"));
    let lower = upper.intermediate_with(authority("lower"));
    let leaf = lower.issue(svid());
    let stranger = Authority::root_with(authority("stranger"));
    let orders = [
        vec![leaf.der(), lower.der(), upper.der()],
        vec![leaf.der(), upper.der(), lower.der(), root.der()],
        vec![leaf.der(), stranger.der(), upper.der(), leaf.der(), lower.der(), lower.der()],
    ];
    for presented in orders {
        let presented: Vec<_> = presented.into_iter().cloned().collect();
        let chain = verify(&presented, &bundle(&[&root]), NOW).unwrap();
        let [first, second] = &*chain.intermediates else { panic!("{:?}", chain.intermediates) };
        assert_eq!(chain.leaf.issuer_key, Sha256(lower.spki_sha256()));
        assert_eq!((first.fingerprint, first.issuer_key), (Sha256(lower.sha256()), Sha256(upper.spki_sha256())));
        assert_eq!((second.fingerprint, second.issuer_key), (Sha256(upper.sha256()), Sha256(root.spki_sha256())));
        assert!(first.is_authority && second.is_authority && !chain.leaf.is_authority);
        for link in [first, second] {
            assert_eq!(Sha256::of(&presented[link.position]), link.fingerprint);
        }
    }
}

#[test]
fn of_two_anchors_over_a_cross_signed_intermediate_either_will_do() {
    let (old, new) = (Authority::root_with(authority("old")), Authority::root_with(authority("new")));
    let intermediate = old.intermediate_with(authority("intermediate"));
    let crossed = new.intermediate_with(authority("intermediate").reuse_key_of(&intermediate));
    let leaf = intermediate.issue(svid());
    let presented = [leaf.der(), intermediate.der(), crossed.der()].map(Clone::clone);
    let both = bundle(&[&old, &new]);
    let chain = verify(&presented, &both, NOW).unwrap();
    let anchor_of = |chain: &Chain| both.find(&chain.anchor).unwrap().certificate.subject_text.clone();
    for (remaining, through) in [(&old, &intermediate), (&new, &crossed)] {
        let chain = verify(&presented, &bundle(&[remaining]), NOW).unwrap();
        assert_eq!(anchor_of(&chain), format!("CN={}", remaining.name()));
        assert_eq!(chain.intermediates[0].fingerprint, Sha256(through.sha256()));
    }
    let session = Session::new(chain, presented.clone().into(), NOW);
    let case = Case::trusted().but(|case| case.anchors = vec![(new.der().clone(), Speaks::ForAnybody)]);
    let first = case.clone().but(|case| case.anchors[0].0 = old.der().clone());
    let (kept, gone) = if anchor_of(&session.chain) == "CN=old" { (first, case) } else { (case, first) };
    assert!(judge(&session, &kept.state(1), NOW).is_ok());
    assert_eq!(judge(&session, &gone.state(2), NOW).unwrap_err(), Denial::AnchorRemoved);
    let other = session.over(verify(&session.presented, &gone.state(2).bundle, NOW).unwrap());
    assert!(judge(&other, &gone.state(2), NOW).is_ok(), "another path lives on");
    assert_eq!(other.opened_at, session.opened_at, "and the session is no younger for it");
}

#[test]
fn an_expired_anchor_does_not_hide_a_path_to_another() {
    let old = Authority::root_with(authority("old").not_after(date(at(-1000))));
    let new = Authority::root_with(authority("new"));
    let intermediate = old.intermediate_with(authority("intermediate"));
    let crossed = new.intermediate_with(authority("intermediate").reuse_key_of(&intermediate));
    let presented = [intermediate.issue(svid()).der(), intermediate.der(), crossed.der()].map(Clone::clone);
    assert!(verify(&presented, &bundle(&[&old, &new]), NOW).is_ok());
    assert_eq!(flaw(&presented, &old), Flaw::Expired(Place::Issuer));
}

#[test]
fn nothing_presented_is_malformed() {
    assert_eq!(flaw(&[], &root()), Flaw::Malformed("is missing"));
}

#[test]
fn every_link_of_a_path_is_valid_to_the_millisecond() {
    let (from, to) = (date(at(-60_000)), date(NOW));
    let root = root();
    let middle = root.intermediate_with(authority("middle"));
    let short_middle = root.intermediate_with(authority("middle").not_before(from).not_after(to));
    let short_root = Authority::root_with(authority("short").not_before(from).not_after(to));
    let rows = [
        (middle.issue(svid().not_before(from).not_after(to)), &root, Place::Leaf),
        (short_middle.issue(svid()), &root, Place::Issuer),
        (short_root.issue(svid()), &short_root, Place::Issuer),
    ];
    for (leaf, root, place) in rows {
        let verdict = |millis| verify(&leaf.chain(), &bundle(&[root]), at(millis)).map(|_| ());
        assert_eq!(verdict(-60_001), Err(Flaw::NotYetValid(place)));
        assert_eq!(verdict(-60_000), Ok(()));
        assert_eq!(verdict(0), Ok(()), "notAfter is inclusive");
        assert_eq!(verdict(1), Err(Flaw::Expired(place)), "a millisecond after notAfter");
        assert_eq!(verdict(1000), Err(Flaw::Expired(place)));
        assert!(verify(&leaf.chain(), &bundle(&[root]), Time::BEGINNING).is_err());
        assert!(verify(&leaf.chain(), &bundle(&[root]), Time::NEVER).is_err());
    }
}

#[test]
fn an_issuer_needs_key_cert_sign() {
    let usages = &[KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let root = root();
    let intermediate = root.intermediate_with(authority("crl only").key_usages(usages));
    assert_eq!(flaw(&intermediate.issue(svid()).chain(), &root), Flaw::IssuerNotEntitled);
    let anchor = Authority::root_with(authority("crl only root").key_usages(usages));
    assert_eq!(flaw(&anchor.issue(svid()).chain(), &anchor), Flaw::IssuerNotEntitled);
    let silent = root.intermediate_with(authority("no key usage at all").key_usages(&[]));
    assert!(verify(&silent.issue(svid()).chain(), &bundle(&[&root]), NOW).is_ok());
}

#[test]
fn an_anchor_that_is_no_authority_vouches_for_nobody() {
    let root = root();
    let leaf = root.issue(svid());
    let verdict = |anchor: CertificateDer<'static>| {
        let bundle = Bundle::new(vec![(anchor, Speaks::ForAnybody)]).unwrap();
        verify(&leaf.chain(), &bundle, NOW).map(|_| ())
    };
    let draft = || Draft::of_root(&root);
    assert_eq!(verdict(draft().with(basic_constraints(true)).signed_by(&root)), Ok(()));
    assert_eq!(verdict(draft().with(basic_constraints(false)).signed_by(&root)), Err(Flaw::IssuerNotEntitled));
    assert_eq!(verdict(draft().signed_by(&root)), Err(Flaw::IssuerNotEntitled), "version 3, and silent about it");
    assert_eq!(verdict(Draft { version: None, ..draft() }.signed_by(&root)), Ok(()), "version 1 cannot say");
}

#[test]
fn a_leaf_issues_nothing() {
    let root = root();
    // What the root signed for Mallory's name and key is a leaf; Mallory signs with it all the same.
    let mallory = Authority::root_with(authority("mallory"));
    let public_key = Certificate::parse(mallory.der()).unwrap().public_key.into_vec();
    let own = || Draft { public_key: public_key.clone(), ..Draft::by(&root, mallory.name_der()) };
    let forged = mallory.issue(svid());
    for draft in [own(), own().with(basic_constraints(false))] {
        assert_eq!(flaw(&[forged.der().clone(), draft.signed_by(&root)], &root), Flaw::IssuerNotEntitled);
    }
    let entitled = own().with(basic_constraints(true)).signed_by(&root);
    assert!(verify(&[forged.der().clone(), entitled], &bundle(&[&root]), NOW).is_ok());
}

#[test]
fn a_leaf_with_the_ca_bit_is_no_client() {
    let root = root();
    let leaf = root.issue(timed(LeafSpec::dns("client.example")).ca(true));
    assert_eq!(flaw(&leaf.chain(), &root), Flaw::IssuerNotEntitled);
    let svid = root.issue(svid().ca(true));
    assert!(matches!(flaw(&svid.chain(), &root), Flaw::Identity(_)));
}

#[test]
fn a_path_length_is_kept() {
    let root = Authority::root_with(authority("root"));
    let upper = root.intermediate_with(authority("upper").path_len(0));
    let lower = upper.intermediate_with(authority("lower"));
    assert!(verify(&upper.issue(svid()).chain(), &bundle(&[&root]), NOW).is_ok());
    assert_eq!(flaw(&lower.issue(svid()).chain(), &root), Flaw::IssuerNotEntitled);
}

#[test]
fn a_certificate_for_servers_alone_is_not_for_clients() {
    let root = root();
    let verdict = |usages: &[ExtendedKeyUsagePurpose]| {
        verify(&root.issue(svid().extended_key_usages(usages)).chain(), &bundle(&[&root]), NOW).map(|_| ())
    };
    assert_eq!(verdict(&[ExtendedKeyUsagePurpose::ServerAuth]), Err(Flaw::NotForClients));
    assert_eq!(verdict(&[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]), Ok(()));
    assert_eq!(verdict(&[]), Ok(()), "no extension, no limit (RFC 5280 §4.2.1.12)");
}

#[test]
fn an_issuer_that_nobody_knows_is_unknown() {
    let (root, stranger) = (root(), Authority::root_with(authority("stranger")));
    assert_eq!(flaw(&stranger.issue(svid()).chain(), &root), Flaw::UnknownIssuer);
    let intermediate = root.intermediate_with(authority("intermediate"));
    let without = [intermediate.issue(svid()).der().clone()];
    assert_eq!(flaw(&without, &root), Flaw::UnknownIssuer, "an intermediate that was not presented");
}

#[test]
fn a_root_presented_as_a_leaf_is_no_client() {
    let root = root();
    assert_eq!(flaw(&[root.der().clone()], &root), Flaw::IssuerNotEntitled);
}

#[test]
fn an_anchor_of_another_trust_domain_is_told_apart_from_an_unknown_one() {
    let root = root();
    let leaf = root.issue(svid());
    let scoped = |domain: &str| {
        let speaks = Speaks::ForTrustDomain(domain.to_owned());
        Bundle::new(vec![(root.der().clone(), speaks)]).unwrap()
    };
    assert!(verify(&leaf.chain(), &scoped("td"), NOW).is_ok());
    assert_eq!(verify(&leaf.chain(), &scoped("td2"), NOW).unwrap_err(), Flaw::AnchorOfAnotherTrustDomain);
    let dns = root.issue(timed(LeafSpec::dns("td")));
    // SPIFFE servers name their roots alike.
    let namesake = Authority::root_with(authority("root"));
    let of = |anchor: &Authority, domain: &str| (anchor.der().clone(), Speaks::ForTrustDomain(domain.to_owned()));
    let alike = Bundle::new(vec![of(&namesake, "td"), of(&root, "td2")]).unwrap();
    assert_eq!(verify(&leaf.chain(), &alike, NOW).unwrap_err(), Flaw::AnchorOfAnotherTrustDomain);
    assert_eq!(verify(&dns.chain(), &scoped("td"), NOW).unwrap_err(), Flaw::AnchorOfAnotherTrustDomain);
}

#[test]
fn an_imposter_of_the_same_name_has_a_bad_signature() {
    let (root, imposter) = (root(), root());
    assert_eq!(flaw(&imposter.issue(svid()).chain(), &root), Flaw::BadSignature);
}

#[test]
fn an_unknown_critical_extension_is_unacceptable() {
    let root = root();
    let leaf = root.issue(svid().extension(RawExtension::unknown_critical()));
    assert_eq!(flaw(&leaf.chain(), &root), Flaw::Unacceptable);
}

#[test]
fn more_than_ten_certificates_are_too_many_and_a_path_through_seven_issuers_too_deep() {
    let root = root();
    let leaf = root.issue(svid());
    let padded = |count| [vec![leaf.der().clone()], vec![root.der().clone(); count - 1]].concat();
    assert!(verify(&padded(MAX_CHAIN_LENGTH), &bundle(&[&root]), NOW).is_ok());
    assert_eq!(flaw(&padded(MAX_CHAIN_LENGTH + 1), &root), Flaw::TooLong);
    let mut lowest = root.clone();
    for depth in 1..=6 {
        lowest = lowest.intermediate_with(authority(&format!("depth {depth}")));
    }
    assert!(verify(&lowest.issue(svid()).chain(), &bundle(&[&root]), NOW).is_ok());
    let deeper = lowest.intermediate_with(authority("depth 7"));
    assert_eq!(flaw(&deeper.issue(svid()).chain(), &root), Flaw::TooLong);
}

#[test]
fn the_certificate_that_counts_for_an_anchor_is_the_one_whose_constraints_bind() {
    let root = root();
    let leaf = root.issue(timed(LeafSpec::dns("client.example.org")));
    // permittedSubtrees: only names below example.com.
    let permitted = testkit::der::value(0xa0, &testkit::der::sequence(&[testkit::der::value(0x82, b"example.com")]));
    let constraints = testkit::der::extension(&[2, 5, 29, 30], true, &testkit::der::sequence(&[permitted]));
    let draft = |extension| Draft::of_root(&root).with(basic_constraints(true)).with(extension).signed_by(&root);
    let constrained = draft(constraints);
    let short = Authority::root_with(authority("root").reuse_key_of(&root).not_after(date(at(1000))));
    for pair in [[&constrained, short.der()], [short.der(), &constrained]] {
        let anchors = pair.map(|der| (der.clone(), Speaks::ForAnybody)).to_vec();
        let bundle = Bundle::new(anchors).unwrap();
        assert_eq!(bundle.len(), 1);
        assert_eq!(verify(&leaf.chain(), &bundle, NOW).unwrap_err(), Flaw::IssuerNotEntitled);
    }
}

#[test]
fn a_version_1_leaf_is_no_client() {
    let root = root();
    let leaf = Draft { version: None, ..Draft::by(&root, common_name("old")) }.signed_by(&root);
    assert!(alone(&leaf, &root).is_err());
}

#[test]
fn a_bundle_that_cannot_be_made_names_the_certificate() {
    let root = root();
    let broken = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    let error = Bundle::new(vec![(root.der().clone(), Speaks::ForAnybody), (broken, Speaks::ForAnybody)]).unwrap_err();
    assert_eq!((error.position, error.to_string().starts_with("certificate 2 ")), (1, true), "{error}");
    let shouted = Speaks::ForTrustDomain("TD".to_owned());
    assert!(Bundle::new(vec![(root.der().clone(), shouted)]).unwrap_err().why.contains("lower-case"));
}
