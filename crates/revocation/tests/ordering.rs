//! Named lists beside each other and after each other: sequence, clock, expiry.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod forge;

use std::time::Duration;

use forge::NOW;
use revocation::{Accepted, Library, MAX_LISTS, Refused, read};
use trust::{Bundle, Time};

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
        let mut library = Library::new();
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
    let mut library = Library::new();
    accept(&mut library, &list("a", 900, 0), NOW).unwrap();
    accept(&mut library, &list("b", 1, 0), NOW).unwrap();
    assert_eq!(sequences(&library), [("a".to_owned(), 900), ("b".to_owned(), 1)]);
}

#[test]
fn the_same_bytes_are_nothing_new_and_other_bytes_under_the_same_sequence_are_refused() {
    let mut library = Library::new();
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
    accept(&mut Library::new(), &list("prod", 1, 0), early(300)).unwrap();
    let mut library = Library::new();
    let refused = accept(&mut library, &list("prod", 1, 0), early(301)).unwrap_err();
    let text = refused.to_string();
    assert!(refused.label() == "from_the_future" && text.contains("2026-01-01T00:00:00Z"), "{text}");
    assert!(text.contains("clock") && library.snapshot().is_none(), "{text}");
}

#[test]
fn an_expired_list_is_refused_from_the_moment_of_its_expiry() {
    let expires = Time::from_seconds(1_767_312_000);
    accept(&mut Library::new(), &list("prod", 1, 0), Time::from_millis(expires.as_millis() - 1)).unwrap();
    let refused = accept(&mut Library::new(), &list("prod", 1, 0), expires).unwrap_err();
    assert!(refused.label() == "expired" && refused.to_string().contains("2026-01-02T00:00:00Z"), "{refused}");
}

#[test]
fn the_number_of_lists_is_limited_but_each_can_still_be_renewed() {
    let mut library = Library::new();
    for number in 0..MAX_LISTS {
        accept(&mut library, &list(&format!("list-{number}"), 1, 0), NOW).unwrap();
    }
    let refused = accept(&mut library, &list("more", 1, 0), NOW).unwrap_err();
    assert!(refused.label() == "too_many" && refused.to_string().contains("256 lists"), "{refused}");
    accept(&mut library, &list("list-7", 2, 0), NOW).unwrap();
}

#[test]
fn every_label_stands_in_its_closed_list() {
    let what = String::new;
    let all = [
        Refused::Older { what: what(), offered: what(), in_force: what() },
        Refused::SameNumber { what: what(), number: what() },
        Refused::FromTheFuture { what: what(), issued_at: NOW, now: NOW },
        Refused::Expired { what: what(), expires_at: NOW },
        Refused::BadSignature { what: what() },
        Refused::NotEntitled { what: what() },
        Refused::UnknownAlgorithm { what: what() },
        Refused::Malformed { what: what(), why: what() },
        Refused::Unreadable { what: what(), number: what(), obstacle: revocation::Obstacle::Delta },
        Refused::TooMany { what: what(), limit: what() },
    ];
    let labels: Vec<&str> = all.iter().map(Refused::label).collect();
    assert_eq!(labels, Refused::LABELS);
    let accepted = [Accepted::Changed(what()), Accepted::Unchanged(what()), Accepted::Waiting(what())];
    assert_eq!(accepted.each_ref().map(Accepted::label), Accepted::LABELS);
}
