//! Clients that do not read: bytes are on their way in every buffer when trust ends, and must not arrive later.

use std::time::{Duration, Instant};

use testkit::Ending;

use crate::frames::{Frame, Frames};
use crate::stage::{Wire, assert_cut, assert_left, stage};
use crate::support::PATIENCE;

/// What the client's own kernel holds for it, once that does not grow any more.
async fn held_by_the_kernel(wire: &Wire) -> usize {
    let mut seen = vec![0; 64 << 20];
    let started = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = wire.stream.get_ref().0.peek(&mut seen).await.unwrap();
        if now == before && now > 100_000 {
            return now;
        }
        before = now;
        assert!(started.elapsed() < PATIENCE, "the client's buffer does not fill: {now} bytes");
    }
}

#[tokio::test]
async fn an_http1_client_that_does_not_read_is_reset_and_gets_no_byte_beyond_its_own_buffer() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET /bytes/10000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let held = held_by_the_kernel(&wire).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    let (text, ending) = wire.rest().await;
    assert!(text.len() <= held, "{} bytes came of {held} that were there", text.len());
    assert_eq!(ending, Ending::Reset);
    assert_cut(&house, "revoked", 1.0).await;
    app.wait_until(|app| app.open_connections() == 0).await;
}

#[tokio::test]
async fn an_http2_client_that_does_not_read_is_reset_and_gets_no_byte_beyond_its_own_buffer() {
    let (app, house) = stage().await;
    let mut frames = Frames::connect(&house, &house.client("a"), 0x7fff_0000).await;
    for stream in [1, 3, 5] {
        frames.get(stream, "/bytes/10000000000").await;
    }
    let held = held_by_the_kernel(&frames.wire).await;
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    let (rest, ending) = frames.rest().await;
    let came: usize = rest.iter().map(|frame: &Frame| frame.payload.len() + 9).sum();
    assert!(came <= held, "{came} bytes came of {held} that were there");
    assert_eq!(ending, Ending::Reset);
    assert_cut(&house, "revoked", 1.0).await;
    app.wait_until(|app| app.open_connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_no_other_cut() {
    let (_app, house) = stage().await;
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(&house, &house.client("a")).await;
        wire.say("GET /bytes/10000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        deaf.push(wire);
    }
    for wire in &deaf {
        held_by_the_kernel(wire).await;
    }
    let mut listening = Wire::connect(&house, &house.client("b")).await;
    listening.say("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    listening.until(b"chunk 3\n").await;
    let since = Instant::now();
    house.publish_list(house.list().id("spiffe://td/*").text());
    listening.is_broken_off(since).await;
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 9.0).await;
}
