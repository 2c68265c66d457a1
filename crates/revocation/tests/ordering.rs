//! Named lists beside each other and after each other: sequence, clock, expiry.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use std::sync::Arc;
use std::time::Duration;

use forge::NOW;
use revocation::{
    Accepted, Keys, Library, MAX_JUMP, MAX_LISTS, Material, Refused, Requirements, SecretKey, read, read_under, sign,
};
use trust::{Bundle, Mode, Stale, Time};

/// A list of no entries; `mark` makes its bytes differ.
fn list(name: &str, sequence: u64, mark: usize) -> String {
    format!(
        "{{\"portcullis\":\"revocations/v1\",\"list\":\"{name}\",\"sequence\":{sequence},\"entries\":0,\
         \"issued_at\":\"2026-01-01T00:00:00Z\",\"expires_at\":\"2026-01-02T00:00:00Z\"{}}}",
        " ".repeat(mark)
    )
}

fn accept(library: &mut Library, text: &str, now: Time) -> Result<Accepted, Refused> {
    library.accept(read(text.as_bytes().to_vec()).unwrap(), &Bundle::default(), now)
}

fn sequences(library: &Library) -> Vec<(String, u64)> {
    let snapshot = library.snapshot().unwrap();
    snapshot.lists().iter().map(|list| (list.name.to_string(), list.sequence)).collect()
}

#[test]
fn within_one_name_the_highest_sequence_wins_in_either_order() {
    for (order, refused) in [([1, 2], false), ([2, 1], true)] {
        let mut library = Library::default();
        accept(&mut library, &list("prod", order[0], 0), NOW).unwrap();
        let second = accept(&mut library, &list("prod", order[1], 0), NOW);
        assert_eq!(second.is_err(), refused);
        if let Err(refused) = second {
            let text = refused.to_string();
            assert!(refused.label() == "older" && !refused.changed(), "{text}");
            assert!(text.contains("prod") && text.contains("sequence 1") && text.contains("sequence 2 is"), "{text}");
        }
        assert_eq!(sequences(&library), [("prod".to_owned(), 2)]);
    }
}

#[test]
fn lists_of_different_names_are_united() {
    let mut library = Library::default();
    accept(&mut library, &list("a", 900, 0), NOW).unwrap();
    accept(&mut library, &list("b", 1, 0), NOW).unwrap();
    assert_eq!(sequences(&library), [("a".to_owned(), 900), ("b".to_owned(), 1)]);
}

#[test]
fn the_same_bytes_are_nothing_new_and_other_bytes_under_the_same_sequence_are_refused() {
    let mut library = Library::default();
    accept(&mut library, &list("prod", 5, 0), NOW).unwrap();
    let before = library.snapshot().unwrap();
    // Even long after it expired: a file that lies there is no news.
    let later = NOW.plus(Duration::from_secs(1_000_000));
    assert!(matches!(accept(&mut library, &list("prod", 5, 0), later), Ok(Accepted::Unchanged(_))));
    let refused = accept(&mut library, &list("prod", 5, 1), NOW).unwrap_err();
    assert!(refused.label() == "same_number" && refused.to_string().contains("sequence 5"), "{refused}");
    assert!(std::sync::Arc::ptr_eq(&before, &library.snapshot().unwrap()));
}

#[test]
fn a_list_from_the_future_is_refused_beyond_clock_skew() {
    let issued = Time::from_seconds(1_767_225_600);
    let early = |seconds| Time::from_seconds(issued.as_seconds() - seconds);
    accept(&mut Library::default(), &list("prod", 1, 0), early(300)).unwrap();
    let mut library = Library::default();
    let refused = accept(&mut library, &list("prod", 1, 0), early(301)).unwrap_err();
    let text = refused.to_string();
    assert!(refused.label() == "from_the_future" && text.contains("2026-01-01T00:00:00Z"), "{text}");
    assert!(text.contains("clock") && library.snapshot().is_none(), "{text}");
}

#[test]
fn an_expired_list_is_refused_from_the_moment_of_its_expiry() {
    let expires = Time::from_seconds(1_767_312_000);
    accept(&mut Library::default(), &list("prod", 1, 0), Time::from_millis(expires.as_millis() - 1)).unwrap();
    let refused = accept(&mut Library::default(), &list("prod", 1, 0), expires).unwrap_err();
    assert!(refused.label() == "expired" && refused.to_string().contains("2026-01-02T00:00:00Z"), "{refused}");
}

#[test]
fn an_expired_list_is_taken_as_long_as_it_may_serve_and_its_number_binds() {
    let expires = Time::from_seconds(1_767_312_000);
    let hour = Duration::from_secs(3600);
    let accepted = |stale: Stale, sequence: u64, now: Time| {
        let mut library = Library::new(Requirements { stale, ..Requirements::default() });
        accept(&mut library, &list("prod", 2, 0), NOW).unwrap();
        accept(&mut library, &list("prod", sequence, 1), now).map_err(|refused| refused.label())
    };
    let end = expires.plus(hour);
    assert!(accepted(Stale::Grace(hour), 3, Time::from_millis(end.as_millis() - 1)).is_ok());
    assert_eq!(accepted(Stale::Grace(hour), 3, end).unwrap_err(), "expired");
    assert!(accepted(Stale::Serve, 3, end).is_ok());
    assert_eq!(accepted(Stale::Serve, 1, end).unwrap_err(), "older");
    assert_eq!(accepted(Stale::Deny, 3, expires).unwrap_err(), "expired");
}

#[test]
fn the_number_of_lists_is_limited_but_each_can_still_be_renewed() {
    let mut library = Library::default();
    for number in 0..MAX_LISTS {
        accept(&mut library, &list(&format!("list-{number}"), 1, 0), NOW).unwrap();
    }
    let refused = accept(&mut library, &list("more", 1, 0), NOW).unwrap_err();
    assert!(refused.label() == "too_many" && refused.to_string().contains("256 lists"), "{refused}");
    accept(&mut library, &list("list-7", 2, 0), NOW).unwrap();
}

/// Signed by these keys, read under all of them with a threshold of one.
fn signed(text: &str, keys: &[SecretKey]) -> (Material, Requirements) {
    let all = Keys::new(keys.iter().map(SecretKey::public).collect(), 1).unwrap();
    let under = Requirements { keys: Some(Arc::new(all)), ..Requirements::default() };
    let file = sign(text.as_bytes().to_vec(), &keys[..1]).unwrap();
    (read_under(file, &under).unwrap(), under)
}

#[test]
fn a_jump_that_nobody_counts_is_refused_unless_it_is_signed() {
    let near = 1 + MAX_JUMP;
    let mut library = Library::default();
    accept(&mut library, &list("prod", 1, 0), NOW).unwrap();
    for sequence in [near + 1, u64::MAX] {
        let refused = accept(&mut library, &list("prod", sequence, 0), NOW).unwrap_err();
        let text = refused.to_string();
        assert!(refused.label() == "absurd_jump" && !refused.changed() && text.contains("sequence 1, and"), "{text}");
    }
    accept(&mut library, &list("prod", near, 0), NOW).unwrap();
    // The first of a name has nothing to jump from.
    accept(&mut library, &list("other", u64::MAX, 0), NOW).unwrap();
    let keys = [SecretKey::generate().unwrap()];
    let (first, under) = signed(&list("prod", 1, 0), &keys);
    let mut library = Library::new(under);
    library.accept(first, &Bundle::default(), NOW).unwrap();
    library.accept(signed(&list("prod", u64::MAX, 0), &keys).0, &Bundle::default(), NOW).unwrap();
    assert_eq!(sequences(&library), [("prod".to_owned(), u64::MAX)]);
}

#[test]
fn a_list_that_only_observes_never_takes_the_place_of_one_that_acts() {
    let observing = |sequence| list("prod", sequence, 0).replace("\"prod\"", "\"prod\",\"mode\":\"observe\"");
    let mut library = Library::default();
    accept(&mut library, &observing(9), NOW).unwrap();
    assert!(library.snapshot().unwrap().knows_nothing());
    accept(&mut library, &list("prod", 1, 0), NOW).unwrap();
    accept(&mut library, &observing(10), NOW).unwrap();
    let snapshot = library.snapshot().unwrap();
    let modes: Vec<(Mode, u64)> = snapshot.lists().iter().map(|list| (list.mode, list.sequence)).collect();
    assert_eq!((modes, snapshot.sequence()), (vec![(Mode::Enforce, 1), (Mode::Observe, 10)], 1));
    let refused = accept(&mut library, &observing(3), NOW).unwrap_err();
    assert!(refused.label() == "older" && refused.to_string().starts_with("the observing list prod"), "{refused}");
    assert_eq!(library.provenance("prod", Mode::Observe).map(|one| one.confirms), Some(false));
    assert!(library.provenance("other", Mode::Observe).is_none());
}

#[test]
fn an_operator_can_take_a_floor_away_and_the_list_stays_in_force_until_the_next() {
    let mut library = Library::default();
    accept(&mut library, &list("prod", 500, 0), NOW).unwrap();
    assert!(library.reset_floor("other").is_empty());
    assert_eq!(library.reset_floor("prod"), [(Mode::Enforce, 500)]);
    assert_eq!(sequences(&library), [("prod".to_owned(), 500)]);
    accept(&mut library, &list("prod", 500, 0), NOW).unwrap();
    accept(&mut library, &list("prod", 7, 0), NOW).unwrap();
    assert_eq!(sequences(&library), [("prod".to_owned(), 7)]);
    // Once.
    assert_eq!(accept(&mut library, &list("prod", 6, 0), NOW).unwrap_err().label(), "older");
    let expired = Time::from_seconds(1_767_312_000);
    library.reset_floor("prod");
    assert_eq!(accept(&mut library, &list("prod", 1, 0), expired).unwrap_err().label(), "expired");
}

#[test]
fn a_library_under_keys_takes_only_what_was_read_under_them() {
    let (own, other) = ([SecretKey::generate().unwrap()], [SecretKey::generate().unwrap()]);
    let (material, under) = signed(&list("prod", 1, 0), &own);
    let mut library = Library::new(under);
    assert_eq!(accept(&mut library, &list("prod", 2, 0), NOW).unwrap_err().label(), "unsigned");
    let foreign = signed(&list("prod", 3, 0), &other).0;
    assert_eq!(library.accept(foreign, &Bundle::default(), NOW).unwrap_err().label(), "unsigned");
    library.accept(material, &Bundle::default(), NOW).unwrap();
    assert_eq!(library.provenance("prod", Mode::Enforce).unwrap().signed_by, [own[0].public().id()]);
}

#[test]
fn a_floor_binds_only_within_one_set_of_keys() {
    let keys = [SecretKey::generate().unwrap(), SecretKey::generate().unwrap()];
    let (old, _) = signed(&list("prod", 900, 0), &keys);
    let (new, _) = signed(&list("prod", 3, 0), &keys[1..]);
    // No keys of its own, so that it takes both.
    let mut library = Library::default();
    library.accept(old, &Bundle::default(), NOW).unwrap();
    library.accept(new, &Bundle::default(), NOW).unwrap();
    assert_eq!(sequences(&library), [("prod".to_owned(), 3)]);
    let older = signed(&list("prod", 2, 0), &keys[1..]).0;
    assert_eq!(library.accept(older, &Bundle::default(), NOW).unwrap_err().label(), "older");
}

#[test]
fn one_signature_more_under_the_same_number_is_nothing_new() {
    let keys = [SecretKey::generate().unwrap(), SecretKey::generate().unwrap()];
    let (_, under) = signed(&list("prod", 5, 0), &keys);
    let both = sign(list("prod", 5, 0).into_bytes(), &keys).unwrap();
    let changed = sign(list("prod", 5, 1).replace("2026-01-02", "2026-01-03").into_bytes(), &keys).unwrap();
    let mut library = Library::new(under.clone());
    let mut offer = |file: Vec<u8>| library.accept(read_under(file, &under).unwrap(), &Bundle::default(), NOW);
    assert!(matches!(offer(both.clone()), Ok(Accepted::Changed(_))));
    let more = sign(both, &keys).unwrap();
    assert!(matches!(offer(more), Ok(Accepted::Unchanged(_))));
    let one = sign(list("prod", 5, 0).into_bytes(), &keys[1..]).unwrap();
    assert!(matches!(offer(one), Ok(Accepted::Unchanged(_))));
    assert_eq!(offer(changed).unwrap_err().label(), "same_number");
}

#[test]
fn what_is_restored_may_have_expired_but_never_takes_the_place_of_something_newer() {
    let restore = |library: &mut Library, text: &str, now| {
        library.restore(read(text.as_bytes().to_vec()).unwrap(), &Bundle::default(), now)
    };
    let expired = Time::from_seconds(1_767_312_000);
    let mut library = Library::default();
    restore(&mut library, &list("prod", 5, 0), expired).unwrap();
    assert_eq!(library.snapshot().unwrap().expires_at(), Some(expired));
    assert_eq!(restore(&mut library, &list("prod", 4, 0), expired).unwrap_err().label(), "older");
    // A clock set back does not make it give way to an older file.
    let early = Time::from_seconds(0);
    let mut library = Library::default();
    restore(&mut library, &list("prod", 5, 0), early).unwrap();
    assert_eq!(accept(&mut library, &list("prod", 4, 0), NOW).unwrap_err().label(), "older");
    accept(&mut library, &list("prod", 6, 0), NOW).unwrap();
}

#[test]
fn what_is_tried_on_a_clone_leaves_the_library_as_it_was() {
    let mut library = Library::default();
    accept(&mut library, &list("prod", 1, 0), NOW).unwrap();
    let before = library.snapshot().unwrap();
    let mut trial = library.clone();
    accept(&mut trial, &list("prod", 2, 0), NOW).unwrap();
    assert!(Arc::ptr_eq(&before, &library.snapshot().unwrap()));
    assert_eq!((sequences(&trial), sequences(&library)), (vec![("prod".to_owned(), 2)], vec![("prod".to_owned(), 1)]));
}

#[test]
fn every_label_stands_in_its_closed_list() {
    let what = String::new;
    let all = [
        Refused::Older { what: what(), offered: what(), in_force: what() },
        Refused::SameNumber { what: what(), number: what() },
        Refused::AbsurdJump { what: what(), offered: what(), in_force: what() },
        Refused::Unsigned { what: what() },
        Refused::FromTheFuture { what: what(), issued_at: NOW, now: NOW },
        Refused::Expired { what: what(), expires_at: NOW },
        Refused::BadSignature { what: what() },
        Refused::NotEntitled { what: what() },
        Refused::UnknownAlgorithm { what: what() },
        Refused::Malformed { what: what(), why: what() },
        Refused::Unreadable { what: what(), number: what(), obstacle: revocation::Obstacle::Indirect },
        Refused::TooMany { what: what(), limit: what() },
    ];
    let labels: Vec<&str> = all.iter().map(Refused::label).collect();
    assert_eq!(labels, Refused::LABELS);
    let accepted = [Accepted::Changed(what()), Accepted::Unchanged(what()), Accepted::Waiting(what())];
    assert_eq!(accepted.each_ref().map(Accepted::label), Accepted::LABELS);
}
