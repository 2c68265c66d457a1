//! Two clients, one revoked, by curl: her stream breaks off at once, her next connection is refused, the other's
//! stream goes on. It must never judge by a single measurement: a busy machine delays any one process.

use std::time::Instant;

use crate::stage::Stage;
use crate::stream::{PROMISE, Stream};
use crate::tools::{curl, run, status};

const CLIENTS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

async fn one_after_the_other_is_revoked(version: &str) {
    let stage = Stage::new().await;
    stage.client("other");
    let leaves = CLIENTS.map(|name| stage.client(name));
    let program = stage.start().await;
    let other = Stream::open(&stage, &program, ("other", version)).await;
    let mut list = stage.list(1);
    let mut took = Vec::new();
    for (number, (name, leaf)) in (2..).zip(CLIENTS.iter().zip(&leaves)) {
        let hers = Stream::open(&stage, &program, (name, version)).await;
        list = list.header_field("sequence", &u64::to_string(&number)).serial(leaf);
        let renamed = Instant::now();
        stage.publish(&list);
        let end = hers.end().await;
        end.assert_broken();
        took.push(end.at - renamed);
        let again = run(curl(&stage, Some(name)).args([version, &program.url("/hello")])).await;
        assert!(again.err.contains("alert certificate revoked"), "{again:?}");
        assert_eq!((again.code.is_some_and(|code| code != 0), again.out.as_str()), (true, ""), "{again:?}");
        other.flows().await;
    }
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < PROMISE, "half of the streams outlived the rename by {median:?} or more: {took:?}");
    assert_eq!(status(&stage, "other", &program.url("/hello")).await, 200);
    let cuts = program.metric("portcullis_cuts_total", &[("reason", "revoked")]).await;
    assert_eq!(cuts, CLIENTS.len() as f64);
}

#[tokio::test]
async fn of_two_curl_clients_over_http1_the_revoked_one_is_cut_and_the_other_never_notices() {
    one_after_the_other_is_revoked("--http1.1").await;
}

#[tokio::test]
async fn of_two_curl_clients_over_http2_the_revoked_one_is_cut_and_the_other_never_notices() {
    one_after_the_other_is_revoked("--http2").await;
}
