//! Sessions in columns, for people.
//!
//! Used by `list` and `watch`, from what the sidecar answered. It must never print, nor pass on anything that could
//! steer a terminal.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde_json::Value;

use super::args::Sort;
use crate::remote::field;
use crate::revocations::remotely::{number, words};

/// The titles of the columns; a narrow window shows who, and until when.
const TITLES: [&str; 12] =
    ["id", "state", "age", "left", "ends by", "identity", "requests", "open", "in", "out", "protocol", "peer"];

/// The sessions of a list, sorted.
pub(super) fn sorted(list: &Value, by: Sort) -> Vec<&Value> {
    let mut sessions: Vec<&Value> = field(list, "sessions").as_array().into_iter().flatten().collect();
    let millis = |session: &Value, key: &str| field(session, key).as_f64().map(|seconds| (seconds * 1000.0) as i64);
    sessions.sort_by_key(|session| number(field(session, "id")));
    match by {
        // What never ends by itself comes last.
        Sort::Left => sessions.sort_by_key(|session| millis(session, "seconds_left").unwrap_or(i64::MAX)),
        Sort::Age => sessions.sort_by_key(|session| Reverse(millis(session, "age_seconds"))),
        Sort::Bytes => sessions.sort_by_key(|session| Reverse(bytes(session))),
        Sort::Requests => sessions.sort_by_key(|session| Reverse(number(field(session, "requests")))),
        Sort::Identity => sessions.sort_by_key(|session| field(session, "identity").as_str()),
    }
    sessions
}

fn bytes(session: &Value) -> u64 {
    number(field(session, "bytes_received")).saturating_add(number(field(session, "bytes_sent")))
}

/// Their rows, below the titles.
pub(super) fn rows(sessions: &[&Value]) -> Vec<Vec<String>> {
    let titles = TITLES.map(str::to_owned).to_vec();
    std::iter::once(titles).chain(sessions.iter().map(|session| row(session))).collect()
}

fn row(session: &Value) -> Vec<String> {
    let count = |key: &str| number(field(session, key)).to_string();
    vec![
        count("id"),
        state(session).to_owned(),
        span(field(session, "age_seconds")),
        left(session),
        words(field(session, "ends_by")),
        words(field(session, "identity")),
        count("requests"),
        count("open_requests"),
        size(number(field(session, "bytes_received"))),
        size(number(field(session, "bytes_sent"))),
        words(field(session, "protocol")),
        words(field(session, "peer")),
    ]
}

/// In one word.
pub(super) fn state(session: &Value) -> &'static str {
    if field(session, "leaving") == true {
        "leaving"
    } else if number(field(session, "open_requests")) > 0 {
        "busy"
    } else if field(session, "parked") == true {
        "parked"
    } else {
        "idle"
    }
}

/// How long it has, if anything ends it by itself.
pub(super) fn left(session: &Value) -> String {
    let seconds = field(session, "seconds_left");
    if seconds.is_null() { "-".to_owned() } else { span(seconds) }
}

/// Whether it has less than a minute.
pub(super) fn ends_soon(session: &Value) -> bool {
    field(session, "seconds_left").as_f64().is_some_and(|seconds| seconds < 60.0)
}

/// All of them in one line.
pub(super) fn total(list: &Value) -> String {
    let (mut clients, mut open, mut received, mut sent) = (HashSet::new(), 0_u64, 0_u64, 0_u64);
    for session in field(list, "sessions").as_array().into_iter().flatten() {
        clients.insert(field(session, "identity").as_str());
        open = open.saturating_add(number(field(session, "open_requests")));
        received = received.saturating_add(number(field(session, "bytes_received")));
        sent = sent.saturating_add(number(field(session, "bytes_sent")));
    }
    let (sessions, clients) = (number(field(list, "count")), clients.len());
    let (received, sent) = (size(received), size(sent));
    let mut text = format!("sessions {sessions}, clients {clients}, open requests {open}, in {received}, out {sent}");
    if field(list, "more") == true {
        text.push_str("; others were left out by --limit");
    }
    let unheard = number(field(list, "unheard"));
    if unheard > 0 {
        text.push_str(&format!("; {unheard} workers did not answer, their sessions are missing"));
    }
    text
}

/// Seconds in the two largest units that say enough.
pub(super) fn span(seconds: &Value) -> String {
    let seconds = seconds.as_f64().unwrap_or(0.0).max(0.0) as u64;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Bytes in the largest unit that says enough.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1_000),
        10_000_000..=9_999_999_999 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    fn list() -> Value {
        let session = |id: u64, left: Value, age: f64, sent: u64| {
            json!({
                "id": id, "identity": format!("uri:spiffe://td/{}", id % 2), "seconds_left": left, "age_seconds": age,
                "bytes_received": 5, "bytes_sent": sent, "requests": 10 - id, "open_requests": id % 2,
                "ends_by": "leaf_not_after", "protocol": "http2", "peer": "127.0.0.1:5", "parked": true,
            })
        };
        let sessions =
            [session(1, Value::Null, 5.0, 7), session(2, 3.5.into(), 90.0, 20_000), session(3, 9.0.into(), 2.0, 1)];
        json!({ "sessions": sessions, "count": 3, "more": false, "unheard": 0 })
    }

    #[test]
    fn each_order_puts_first_what_it_is_about() {
        let list = list();
        let ids = |by| sorted(&list, by).into_iter().map(|one| number(field(one, "id"))).collect::<Vec<_>>();
        assert_eq!(ids(Sort::Left), [2, 3, 1]);
        assert_eq!(ids(Sort::Age), [2, 1, 3]);
        assert_eq!(ids(Sort::Bytes), [2, 1, 3]);
        assert_eq!(ids(Sort::Requests), [1, 2, 3]);
        assert_eq!(ids(Sort::Identity), [2, 1, 3]);
    }

    #[test]
    fn a_row_is_one_line_of_plain_words() {
        let list = list();
        let rows = rows(&sorted(&list, Sort::Left));
        assert_eq!(rows.len(), 4);
        let who = "uri:spiffe://td/0";
        let expected =
            ["2", "parked", "1m30s", "3s", "leaf_not_after", who, "8", "0", "5 B", "20 kB", "http2", "127.0.0.1:5"];
        assert_eq!(rows[1], expected);
        assert_eq!((rows[3][1].as_str(), rows[3][3].as_str()), ("busy", "-"));
        assert_eq!(total(&list), "sessions 3, clients 2, open requests 2, in 15 B, out 20 kB");
    }

    #[test]
    fn spans_are_short() {
        let written = [0.9, 61.0, 3_661.0, 90_000.0].map(|seconds| span(&seconds.into()));
        assert_eq!(written, ["0s", "1m01s", "1h01m", "1d01h"]);
    }
}
