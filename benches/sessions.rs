//! What a list of sessions costs a worker: how long it is kept from its other work for one piece, and for all of them.
//!
//! Run by `make bench`. Target: no piece takes a millisecond. One worker has all the sessions; half of 10,000, since
//! each takes two descriptors here.
#![allow(missing_docs, dead_code, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use proxy::Wanted;
use trust::IdentityPattern;

use support::House;

const SESSIONS: usize = 5_000;
const LISTS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Nobody asks anything: no app is needed behind it.
    let hour = Duration::from_secs(3600);
    let house = House::before(([127, 0, 0, 1], 9).into()).workers(1);
    let house = house.limits(|limits| limits.request_head = hour).start();
    let clients = ["fleet/a", "fleet/b", "one"].map(|name| house.client(name));
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let client = &clients[if number == 0 { 2 } else { number % 2 }];
        sessions.push(client.connect(house.address(), &["http/1.1"]).await.unwrap());
    }
    house.wait_for_metric("portcullis_sessions_active", &[], SESSIONS as f64).await;
    let one = IdentityPattern::parse("uri:spiffe://td/one").unwrap();
    let wishes = [
        ("all", Wanted::default(), SESSIONS),
        ("one by its identity", Wanted { identity: Some(one), ..Wanted::default() }, 1),
    ];
    for (what, wanted, expected) in wishes {
        let (mut whole, mut longest) = (Vec::new(), Vec::new());
        for _ in 0..LISTS {
            let (began, mut told) = (Instant::now(), 0);
            let mut roster = house.live.sessions(wanted.clone());
            while let Some(rows) = roster.next().await {
                told += rows.len();
            }
            assert_eq!((told, roster.unheard()), (expected, 0));
            whole.push(began.elapsed());
            longest.push(roster.longest_slice());
        }
        let (whole, longest) = (Spread::of(whole), Spread::of(longest));
        println!("list of {what}, {SESSIONS} sessions, {LISTS} times: whole {whole}; its longest piece {longest}");
    }
}

/// Median, 99th of a hundred, and the longest.
struct Spread([Duration; 3]);

impl Spread {
    fn of(mut all: Vec<Duration>) -> Spread {
        all.sort_unstable();
        let at = |percent: usize| all[(all.len() - 1) * percent / 100];
        Spread([at(50), at(99), at(100)])
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, most, longest] = self.0.map(|span| span.as_micros());
        write!(f, "p50 {median} µs, p99 {most} µs, max {longest} µs")
    }
}
