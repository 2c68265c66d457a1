//! Slow clients: whoever takes too long for a handshake or a request's head is shown out.

use std::time::{Duration, Instant};

use testkit::{Ending, RecordingApp, read_to_end};
use tokio::io::{AsyncWriteExt as _, split};
use tokio::net::TcpStream;

use crate::stage::Wire;
use crate::support::{House, PATIENCE};

/// A worker looks for those who are late once a second.
const SOON: Duration = Duration::from_secs(4);

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let limits = |limits: &mut proxy::Limits| {
        limits.handshake = Duration::from_millis(300);
        limits.request_head = Duration::from_millis(300);
    };
    let house = House::before(app.addr()).limits(limits).start();
    (app, house)
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_at_the_handshakes_deadline() {
    let (_app, house) = house().await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(house.address()).await.unwrap();
    let answer = read_to_end(&mut stream, PATIENCE).await;
    assert!(answer.bytes.is_empty() && answer.ending != Ending::StillOpen, "{answer:?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "timeout")], 1.0).await;
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 0.0);
}

#[tokio::test]
async fn a_handshake_byte_by_byte_is_closed_at_the_same_deadline() {
    let (_app, house) = house().await;
    let started = Instant::now();
    let stream = TcpStream::connect(house.address()).await.unwrap();
    let (mut reading, mut writing) = split(stream);
    // A record of 16 kB that says it is a ClientHello.
    let dripping = async {
        let record = [&[22, 3, 1, 64, 0, 1, 0, 63, 252][..], &[0; 16000]].concat();
        for byte in record {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let answer = tokio::select! {
        answer = read_to_end(&mut reading, PATIENCE) => answer,
        () = dripping => panic!("the handshake was never ended"),
    };
    assert_ne!(answer.ending, Ending::StillOpen);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    house.wait_for_metric("portcullis_handshakes_total", &[("result", "timeout")], 1.0).await;
}

/// Sends these bytes one after the other until the proxy ends the connection; how it did.
async fn drip(wire: Wire, bytes: Vec<u8>) -> (Vec<u8>, Ending) {
    let (mut reading, mut writing) = split(wire.stream);
    let dripping = async {
        for byte in bytes {
            if writing.write_all(&[byte]).await.is_err() || writing.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = read_to_end(&mut reading, PATIENCE) => (answer.bytes, answer.ending),
        () = dripping => unreachable!("the writing side waits for the reading side"),
    }
}

fn endless_head() -> Vec<u8> {
    format!("GET /slow-head HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "a".repeat(20_000)).into_bytes()
}

#[tokio::test]
async fn a_request_head_byte_by_byte_is_closed_at_its_deadline() {
    let (app, house) = house().await;
    let started = Instant::now();
    let wire = Wire::connect(&house, &house.client("a")).await;
    let (bytes, ending) = drip(wire, endless_head()).await;
    assert!(!String::from_utf8_lossy(&bytes).starts_with("HTTP/1.1 200"), "{bytes:?}");
    assert_ne!(ending, Ending::StillOpen);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_second_request_head_byte_by_byte_is_closed_at_its_deadline_too() {
    let (app, house) = house().await;
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    wire.until(b"hello").await;
    let started = Instant::now();
    let (_, ending) = drip(wire, endless_head()).await;
    assert_ne!(ending, Ending::StillOpen);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_head_that_a_parked_session_begins_has_its_own_deadline() {
    let app = RecordingApp::start().await;
    let limits = |limits: &mut proxy::Limits| {
        limits.park_after = Duration::from_millis(20);
        limits.request_head = Duration::from_secs(2);
    };
    let house = House::before(app.addr()).limits(limits).start();
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    // Longer than the deadline, which is for heads that began: an idle session stays.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    wire.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    wire.until(b"hello").await;
    let started = Instant::now();
    let (_, ending) = drip(wire, endless_head()).await;
    assert_ne!(ending, Ending::StillOpen);
    assert!(started.elapsed() > Duration::from_millis(1500), "too early: {:?}", started.elapsed());
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn an_http2_client_without_a_preface_is_closed_at_the_heads_deadline() {
    let (_app, house) = house().await;
    let started = Instant::now();
    let mut stream = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    let answer = read_to_end(&mut stream, PATIENCE).await;
    assert_ne!(answer.ending, Ending::StillOpen);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
}
