//! Laws of delta CRLs, for any history of an issuer, any choice of its CRLs, in any order: what is in force is what
//! the issuer said with the newest number that can be known, and one order gives the same as another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use forge::*;
use proptest::prelude::*;
use revocation::{Library, read};
use trust::{Bundle, Snapshot, serial_key};

/// Certificates, by serial number.
const SERIALS: std::ops::Range<u8> = 1..7;
const HOLD: u8 = 6;
const REMOVE: u8 = 8;

static ISSUER: LazyLock<(Authority, Bundle)> = LazyLock::new(|| {
    let root = Authority::new("root", SIGNS_ALL);
    let anchors = bundle(&[&root]);
    (root, anchors)
});

/// Who is revoked at one number: serial → reason code.
type Status = BTreeMap<u8, u8>;

/// An issuer's states, one for each CRLNumber from 1 on: certificates are put on hold, released, or revoked for good.
fn history() -> impl Strategy<Value = Vec<Status>> {
    proptest::collection::vec((SERIALS, 0..3_u8), 1..12).prop_map(|events| {
        let mut status = Status::new();
        let mut all = vec![status.clone()];
        for (serial, kind) in events {
            match (kind, status.get(&serial)) {
                (0, None) => drop(status.insert(serial, HOLD)),
                (1, Some(&HOLD)) => drop(status.remove(&serial)),
                (2, _) => drop(status.insert(serial, 1)),
                _ => {}
            }
            all.push(status.clone());
        }
        all
    })
}

/// One file: number, and base for a delta CRL.
type File = (u8, Option<u8>);

fn files() -> impl Strategy<Value = (Vec<Status>, Vec<File>)> {
    let choice = |states: Vec<Status>| {
        let last = u8::try_from(states.len()).unwrap();
        let one = (1..=last, proptest::option::weighted(0.7, 1..=last))
            .prop_map(|(number, base)| (number, base.map(|base| base.min(number))));
        (Just(states), proptest::collection::btree_set(one, 1..7))
    };
    history().prop_flat_map(choice).prop_flat_map(|(states, files)| {
        // One number is issued once, complete or as a delta CRL of one base.
        let mut seen = BTreeSet::new();
        let files: Vec<File> =
            files.into_iter().filter(|(number, base)| seen.insert((*number, base.is_some()))).collect();
        (Just(states), Just(files).prop_shuffle())
    })
}

/// What a conforming issuer puts into a file: a delta CRL lists who changed at any time since its base.
fn spec(states: &[Status], (number, base): File) -> Spec {
    let at = |number: u8| &states[usize::from(number) - 1];
    let now = at(number);
    let Some(base) = base else {
        return now.iter().fold(Spec::number(number), |spec, (serial, code)| spec.entry(*serial, &[&reason(*code)]));
    };
    let spec = Spec::number(number).with(DELTA, true, &[2, 1, base]);
    SERIALS.filter(|serial| (base..=number).any(|then| at(then).get(serial) != at(base).get(serial))).fold(
        spec,
        |spec, serial| {
            let code = now.get(&serial).copied().unwrap_or(REMOVE);
            spec.entry(serial, &[&reason(code)])
        },
    )
}

fn library(states: &[Status], files: &[File]) -> Library {
    let (root, anchors) = &*ISSUER;
    let mut library = Library::default();
    for file in files {
        let _ = library.accept(read(root.crl(&spec(states, *file))).unwrap(), anchors, NOW);
    }
    library
}

/// All that judging could tell: what each CRL in force says of each serial, its number, dates and size.
fn view(snapshot: &Snapshot) -> BTreeSet<String> {
    let key = |serial: u8| serial_key(&ISSUER.0.key_digest(), &[serial]);
    let one = |crl: &trust::Crl| {
        let found: Vec<_> = SERIALS.map(|serial| crl.find(key(serial))).collect();
        let dates = (crl.this_update, crl.next_update);
        format!("{:?} {dates:?} {} {} {found:?}", crl.number, crl.is_complete(), crl.entries())
    };
    snapshot.crls().map(|crl| one(crl)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_delta_crl_on_a_complete_one_is_the_complete_crl_of_its_number((states, files) in files()) {
        let snapshot = library(&states, &files).snapshot().unwrap();
        let complete = files.iter().filter(|(_, base)| base.is_none()).map(|(number, _)| *number).max();
        let clearing: Vec<_> = snapshot.crls().filter(|crl| crl.is_complete()).collect();
        let Some(complete) = complete else {
            prop_assert!(clearing.is_empty());
            return Ok(());
        };
        let applies = |(number, base): &File| base.is_some_and(|base| base <= complete) && *number > complete;
        let newest = files.iter().filter(|file| applies(file)).map(|(number, _)| *number).max().unwrap_or(complete);
        prop_assert_eq!(clearing.len(), 1);
        let alone = library(&states, &[(newest, None)]).snapshot().unwrap();
        let expected: Vec<_> = alone.crls().collect();
        for serial in SERIALS {
            let key = serial_key(&ISSUER.0.key_digest(), &[serial]);
            prop_assert_eq!(clearing[0].find(key), expected[0].find(key), "serial {}", serial);
        }
        prop_assert_eq!((&clearing[0].number, clearing[0].entries()), (&expected[0].number, expected[0].entries()));
    }

    #[test]
    fn the_order_of_files_does_not_matter((states, files) in files(), seed in any::<u64>()) {
        let mut other = files.clone();
        let mut state = seed | 1;
        other.sort_by_key(|_| { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 33 });
        let (one, two) = (library(&states, &files), library(&states, &other));
        prop_assert_eq!(view(&one.snapshot().unwrap()), view(&two.snapshot().unwrap()));
    }

    #[test]
    fn a_delta_crl_that_waits_clears_nobody((states, files) in files(), base in 1..4_u8) {
        let before = library(&states, &files);
        let last = u8::try_from(states.len()).unwrap();
        let (root, anchors) = &*ISSUER;
        // One of a base that nobody has, taking everybody back.
        let ahead = Spec::number(last + base + 1).with(DELTA, true, &[2, 1, last + base]);
        let ahead = SERIALS.fold(ahead, |spec, serial| spec.entry(serial, &[&reason(REMOVE)]));
        let mut after = before.clone();
        let _ = after.accept(read(root.crl(&ahead)).unwrap(), anchors, NOW);
        let (before, after) = (before.snapshot().unwrap(), after.snapshot().unwrap());
        prop_assert!(view(&after).is_superset(&view(&before)));
    }

    #[test]
    fn a_delta_crl_damaged_before_it_was_signed_never_panics_and_releases_nobody_but_from_hold(
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4)
    ) {
        let (root, anchors) = &*ISSUER;
        let mut library = Library::default();
        let complete = Spec::number(1).revoking(&[1]).entry(2, &[&reason(1)]).entry(3, &[&reason(HOLD)]);
        library.accept(read(root.crl(&complete)).unwrap(), anchors, NOW).unwrap();
        let delta = Spec::number(2).with(DELTA, true, &[2, 1, 1]);
        let delta = [1, 2, 3].iter().fold(delta, |spec, serial| spec.entry(*serial, &[&reason(REMOVE)]));
        let mut bytes = root.to_be_signed(&delta);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let Ok(material) = read(root.sign(&bytes)) else { return Ok(()) };
        let _ = library.accept(material, anchors, NOW);
        let snapshot = library.snapshot().unwrap();
        let combined = snapshot.crls().filter(|crl| matches!(crl.form, trust::CrlForm::Combined(_)));
        for crl in combined {
            for serial in [1, 2] {
                prop_assert!(crl.find(serial_key(&root.key_digest(), &[serial])).is_some(), "{:02x?}", bytes);
            }
        }
    }
}
