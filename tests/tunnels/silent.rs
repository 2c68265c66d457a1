//! Tunnels in which nobody speaks, or nobody listens, for longer than a request's body may be silent: they are none of its
//! limit's affair. It must never keep a tunnel busy to have it live.

use std::time::Duration;

use testkit::RawApp;
use testkit::raw_app::read_head;
use testkit::websocket::{BINARY, Frame, accepting};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{BOTH, Tunnel, Version, open, open_connect};
use crate::support::House;

/// For bodies and for answers; a worker looks for those who are late every 250 ms while somebody is there.
const LIMIT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(1500);
/// More than all buffers between an app and its client hold.
const FRAMES: usize = 150;

/// Accepts any tunnel.
async fn accept(stream: &mut TcpStream) {
    let head = String::from_utf8(read_head(stream).await).unwrap();
    let connects = head.starts_with("CONNECT ");
    let answer = if connects { "HTTP/1.1 200 OK\r\n\r\n".to_owned() } else { accepting(&head, "") };
    stream.write_all(answer.as_bytes()).await.unwrap();
}

fn house(app: &RawApp) -> House {
    let limits = |limits: &mut proxy::Limits| {
        (limits.body, limits.app_response, limits.request_head) = (LIMIT, LIMIT, LIMIT);
    };
    House::before(app.addr()).allow_connect().limits(limits).start()
}

async fn both_kinds(house: &House, version: Version) -> [Tunnel; 2] {
    let client = house.client("a");
    [open(house, &client, version).await, open_connect(house, &client, version).await]
}

fn assert_no_limit_bit(house: &House) {
    assert_eq!(house.metric("portcullis_limits_total", &[]), 0.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn a_tunnel_in_which_nobody_speaks_outlives_the_limit_on_silent_bodies() {
    let app = RawApp::start(|mut stream, _| async move {
        accept(&mut stream).await;
        let (mut reading, mut writing) = stream.split();
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    })
    .await;
    let house = house(&app);
    let mut tunnels = Vec::new();
    for version in BOTH {
        tunnels.extend(both_kinds(&house, version).await);
    }
    tokio::time::sleep(LONG).await;
    for tunnel in &mut tunnels {
        let frame = Frame::new(BINARY, "still here").bytes();
        tunnel.send(&frame).await.unwrap();
        assert_eq!(tunnel.exactly(frame.len()).await, frame);
    }
    assert_no_limit_bit(&house);
}

#[tokio::test]
async fn a_tunnel_whose_client_does_not_read_outlives_the_limit_on_answers_that_nobody_takes() {
    let frame = Frame::new(BINARY, vec![7; 60_000]).bytes();
    let (said, length) = (frame.repeat(FRAMES), frame.len() * FRAMES);
    let app = RawApp::start(move |mut stream, _| {
        let said = said.clone();
        async move {
            accept(&mut stream).await;
            let _ = stream.write_all(&said).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let house = house(&app);
    let mut tunnels = Vec::new();
    for version in BOTH {
        tunnels.extend(both_kinds(&house, version).await);
    }
    tokio::time::sleep(LONG).await;
    for tunnel in &mut tunnels {
        assert_eq!(tunnel.exactly(length).await.len(), length);
    }
    assert_no_limit_bit(&house);
}
