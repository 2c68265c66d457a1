//! What an operator counts: sessions, cuts by reason, and how long each cut took.

use std::time::{Duration, Instant};

use testkit::RecordingApp;

use crate::stage::{Line, Stream, Wire, assert_cut, assert_left, stage};
use crate::support::House;

#[tokio::test]
async fn every_session_is_opened_once_and_closed_once_for_its_reason() {
    let (_app, house) = stage().await;
    let [mut one, mut two] = Line::both(&house, &house.client("idle")).await;
    let [streaming_one, streaming_two] = Stream::both(&house, &house.client("streaming")).await;
    let leaving = Line::both(&house, &house.client("leaving")).await;
    let staying = Line::both(&house, &house.client("staying")).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 8.0).await;
    let since = Instant::now();
    house.publish_list(house.list().id("spiffe://td/idle").id("spiffe://td/streaming").text());
    tokio::join!(streaming_one.must_be_cut(since), streaming_two.must_be_cut(since));
    one.closed().await;
    two.closed().await;
    assert_left(&house, 4.0, since).await;
    assert_cut(&house, "revoked", 4.0).await;
    drop(leaving);
    house.wait_for_metric("portcullis_sessions_active", &[], 2.0).await;
    // Once more with the same entries: who is cut is not cut again.
    house.publish_list(house.list().id("spiffe://td/idle").id("spiffe://td/streaming").text());
    drop(staying);
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 8.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 8.0);
    assert_cut(&house, "revoked", 4.0).await;
}

#[tokio::test]
async fn cuts_are_told_apart_by_their_reasons() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr())
        .with_clock()
        .policy(|policy| {
            policy.max_session_age = Some(Duration::from_secs(600));
            policy.idle_timeout = Some(Duration::from_secs(60));
        })
        .start();
    let [idle, _] = Line::both(&house, &house.client("a")).await;
    let streaming = Stream::over(Line::Two(house.client("b").http2(house.address()).await.unwrap())).await;
    let revoked = Stream::over(Line::One(house.client("c").http1(house.address()).await.unwrap())).await;
    let since = Instant::now();
    house.revoke("c");
    revoked.must_be_cut(since).await;
    house.advance(Duration::from_secs(60));
    house.wait_for_metric("portcullis_cuts_total", &[("reason", "idle")], 1.0).await;
    drop(idle);
    let since = Instant::now();
    house.advance(Duration::from_secs(540));
    streaming.must_be_cut(since).await;
    for reason in ["revoked", "idle", "session_too_old"] {
        assert_eq!(house.metric("portcullis_cuts_total", &[("reason", reason)]), 1.0, "{reason}");
        house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], 1.0).await;
    }
    assert_eq!(house.metric("portcullis_cuts_total", &[]), 3.0);
    assert_eq!(house.metric("portcullis_cut_seconds_count", &[]), 3.0);
    assert_eq!(house.metric("portcullis_sessions_active", &[]), 0.0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_cut() {
    let (_app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    wire.until(b"chunk 3\n").await;
    drop(wire);
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "error")]), 1.0);
    assert_eq!(house.metric("portcullis_cut_seconds_count", &[]), 0.0);
}

#[tokio::test]
async fn a_thousand_sessions_are_all_cut_within_the_promise() {
    let (_app, house) = stage().await;
    let client = house.client("a");
    let mut lines = Vec::new();
    for number in 0..500 {
        let [mut one, two] = Line::both(&house, &client).await;
        if number % 10 == 0 {
            assert_eq!(one.status("/").await.unwrap(), 200);
        }
        lines.extend([one, two]);
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 1000.0).await;
    house.revoke("a");
    for line in &mut lines {
        line.closed().await;
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "revoked")], 1000.0).await;
    assert_eq!(house.metric("portcullis_cut_seconds_count", &[]), 1000.0);
    // Unoptimised, and with their thousand clients on the same cores; `make bench-cut` measures what is promised.
    let late = 1000.0 - house.metric("portcullis_cut_seconds_bucket", &[("le", "1")]);
    assert_eq!(late, 0.0, "{late} sessions were cut later than a second after the publish");
}
