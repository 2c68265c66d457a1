//! HTTP/1.1 sessions revoked by a publish, at each point of their life.
//! The wire is read as bytes: what a library would forgive must show.

use std::time::{Duration, Instant};

use rustls::AlertDescription;
use testkit::{Ending, RawApp, RecordingApp, TlsClient};
use tokio::io::AsyncWriteExt as _;

use crate::stage::{Wire, assert_cut, assert_left, assert_prompt, assert_refused, stage};
use crate::support::House;

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn an_idle_connection_is_closed_at_once_and_the_next_one_is_refused_with_certificate_revoked() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.park_after = Duration::from_secs(3600)).start();
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say(GET).await;
    wire.until(b"hello").await;
    let since = Instant::now();
    house.revoke("a");
    let (text, ending) = wire.rest().await;
    assert_prompt(since, "the close");
    assert_eq!((text.as_str(), ending), ("", Ending::Clean));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
    assert_refused(&house, &house.leaf("a"), AlertDescription::CertificateRevoked).await;
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_connection_that_never_sent_a_request_is_closed_at_once() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 1.0).await;
    let since = Instant::now();
    house.revoke("a");
    assert_eq!(wire.rest().await, (String::new(), Ending::Clean));
    assert_left(&house, 0.0, since).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_parked_session_is_closed_at_once() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.park_after = Duration::from_millis(20)).start();
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say(GET).await;
    wire.until(b"hello").await;
    // Nothing shows from outside that a session was parked; a worker looks for quiet ones once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let since = Instant::now();
    house.revoke("a");
    assert_eq!(wire.rest().await, (String::new(), Ending::Clean));
    assert_prompt(since, "the close");
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
}

#[tokio::test]
async fn a_request_that_waits_for_the_app_gets_401_and_the_close_of_its_connection() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET /slow/60000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    app.wait_for(1).await;
    let since = Instant::now();
    house.revoke("a");
    wire.is_told("revoked", since).await;
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
    assert_eq!(house.metric("portcullis_requests_total", &[("verdict", "denied"), ("reason", "revoked")]), 1.0);
    // The app is not left to work for somebody who may not have the answer.
    app.wait_until(|app| app.open_connections() == 0).await;
}

#[tokio::test]
async fn a_half_sent_request_head_never_becomes_a_request() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET /half HTTP/1.1\r\nHost: loc").await;
    house.wait_for_metric("portcullis_sessions_active", &[], 1.0).await;
    let since = Instant::now();
    house.revoke("a");
    let _ = wire.stream.write_all(b"alhost\r\n\r\n").await;
    let (text, ending) = wire.rest().await;
    assert_prompt(since, "the close");
    assert_ne!(ending, Ending::StillOpen);
    // The second half may still be read before the sweep comes by: then the request is judged, and denied.
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 401 "), "{text:?}");
    assert_eq!(app.count(), 0);
    assert_left(&house, 0.0, since).await;
}

#[tokio::test]
async fn a_chunked_response_under_way_breaks_off_without_a_last_chunk_and_without_close_notify() {
    let (app, house) = stage().await;
    let root = house.pki.server_root.der();
    let leaf = house.leaf("a");
    for (turn, client) in [TlsClient::tls13(root, Some(&leaf)), TlsClient::tls12(root, Some(&leaf))].iter().enumerate()
    {
        house.publish_list(house.list().text());
        let mut wire = Wire::connect(&house, client).await;
        wire.say("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        wire.until(b"chunk 5\n").await;
        let since = Instant::now();
        house.publish_list(house.list().serial(&leaf).text());
        let text = wire.is_broken_off(since).await;
        assert!(!text.contains("0\r\n\r\n"), "the last chunk came: {text:?}");
        assert_left(&house, 0.0, since).await;
        assert_cut(&house, "revoked", turn as f64 + 1.0).await;
        app.wait_until(|app| app.open_connections() == 0).await;
    }
}

/// An app that answers with this head, then bytes without end.
async fn trickling(head: &'static str) -> RawApp {
    RawApp::start(move |mut stream, _| async move {
        testkit::raw_app::read_head(&mut stream).await;
        let mut going = stream.write_all(head.as_bytes()).await;
        let mut pace = tokio::time::interval(Duration::from_millis(2));
        while going.is_ok() {
            pace.tick().await;
            going = stream.write_all(b"twenty bytes of body").await;
        }
    })
    .await
}

#[tokio::test]
async fn a_response_with_a_length_breaks_off_short_of_it() {
    let app = trickling("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    let house = House::before(app.addr()).start();
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say(GET).await;
    let head = String::from_utf8(wire.until(b"bodytwenty bytes of body").await).unwrap();
    assert!(head.to_lowercase().contains("content-length: 100000000\r\n"), "{head:?}");
    let since = Instant::now();
    house.revoke("a");
    wire.is_broken_off(since).await;
    assert_left(&house, 0.0, since).await;
    app.wait_for_silence().await;
}

#[tokio::test]
async fn a_response_delimited_by_the_close_ends_in_an_error_for_an_http_1_0_client() {
    let (_app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n").await;
    let head = String::from_utf8(wire.until(b"chunk 5\n").await).unwrap().to_lowercase();
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head:?}");
    let since = Instant::now();
    house.revoke("a");
    wire.is_broken_off(since).await;
    assert_left(&house, 0.0, since).await;
}

#[tokio::test]
async fn a_response_delimited_by_the_apps_close_breaks_off_too() {
    let app = trickling("HTTP/1.0 200 OK\r\n\r\n").await;
    let house = House::before(app.addr()).start();
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say(GET).await;
    wire.until(b"body").await;
    let since = Instant::now();
    house.revoke("a");
    let text = wire.is_broken_off(since).await;
    assert!(!text.contains("0\r\n\r\n"), "the last chunk came: {text:?}");
    app.wait_for_silence().await;
}

#[tokio::test]
async fn requests_pipelined_behind_one_that_waits_are_never_answered_and_never_reach_the_app() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    let behind = "GET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5);
    wire.say(format!("GET /slow/60000 HTTP/1.1\r\nHost: localhost\r\n\r\n{behind}")).await;
    app.wait_for(1).await;
    let since = Instant::now();
    house.revoke("a");
    wire.is_told("revoked", since).await;
    assert_left(&house, 0.0, since).await;
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn requests_pipelined_behind_a_response_under_way_never_reach_the_app() {
    let (app, house) = stage().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say(format!("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n{GET}{GET}")).await;
    wire.until(b"chunk 3\n").await;
    let since = Instant::now();
    house.revoke("a");
    let text = wire.is_broken_off(since).await;
    assert!(!text.contains("HTTP/1.1"), "{text:?}");
    assert_left(&house, 0.0, since).await;
    assert_eq!(app.count(), 1);
}
