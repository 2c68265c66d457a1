//! Slow requests and slow readers: heads byte by byte, bodies that stop, answers that nobody reads.

use std::time::{Duration, Instant};

use testkit::{ClientStream, Ending, RawAnswer, RawApp, RecordingApp, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::ground::Ground;
use crate::program::{eventually, in_time};
use crate::wire::{self, CONTINUATION, HEADERS, SETTINGS, WINDOW_UPDATE, frame, head};

/// What a session under attack may hold, in kilobytes: TLS and HTTP with their buffers.
const SESSION: u64 = 100;
/// The limits of these tests, and how late they may be noticed.
const LIMIT: &str = "1s";
const SOON: Duration = Duration::from_secs(10);

/// Sends `first`, then `rest` byte by byte until the end comes.
async fn drip(stream: ClientStream, first: Vec<u8>, rest: impl IntoIterator<Item = u8>) -> RawAnswer {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        let mut written = writing.write_all(&first).await;
        for byte in rest {
            if written.is_err() || writing.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            written = writing.write_all(&[byte]).await;
        }
        let _ = writing.flush().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = read_to_end(&mut reading, wire::PATIENCE) => answer,
        () = write => unreachable!("it waits for the reading side"),
    }
}

#[tokio::test]
async fn heads_byte_by_byte_end_at_their_deadline_over_both_protocols() {
    let ground = Ground::with(|flags| flags.with("--request-head-timeout", LIMIT)).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let mut dripping = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let client = client.clone();
        dripping.spawn(async move {
            let began = Instant::now();
            let answer = if number % 2 == 0 {
                let stream = client.connect(address, &["http/1.1"]).await.unwrap();
                drip(stream, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_vec(), std::iter::repeat(b'x')).await
            } else {
                let stream = wire::open(&client, address).await;
                // Headers whose block does not end, and then one continuation after another, byte by byte.
                let first = frame(HEADERS, 0, 1, &head("GET", "/"));
                drip(stream, first, std::iter::repeat(frame(CONTINUATION, 0, 1, b"")).flatten()).await
            };
            (number, began.elapsed(), answer.ending)
        });
    }
    for (number, took, ending) in in_time("the end of all of them", dripping.join_all()).await {
        assert!(took < SOON && ending != Ending::StillOpen, "{number}: {took:?}, {ending:?}");
    }
    honest.end("heads byte by byte").await;
    ground.assert_memory("heads byte by byte", 100 * SESSION);
    assert_eq!(ground.limited("request_head_timeout").await, 100.0);
}

#[tokio::test]
async fn bodies_that_stop_are_answered_408_and_their_places_at_the_app_are_free_again() {
    let ground = Ground::with(|flags| flags.with("--body-timeout", LIMIT)).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let mut stopped = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let client = client.clone();
        stopped.spawn(async move {
            if number % 2 == 0 {
                let mut stream = client.connect(address, &["http/1.1"]).await.unwrap();
                let request = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx";
                stream.write_all(request).await.unwrap();
                let answer = read_to_end(&mut stream, SOON).await;
                assert!(answer.text().starts_with("HTTP/1.1 408 "), "{answer:?}");
                assert_eq!(answer.ending, Ending::Clean);
            } else {
                let connection = client.http2(address).await.unwrap();
                let mut exchange =
                    connection.start(http::Request::post("/upload").body(()).unwrap(), false).await.unwrap();
                exchange.send("x").await.unwrap();
                assert_eq!(exchange.response().await.unwrap().status, 408);
            }
        });
    }
    in_time("the end of all of them", stopped.join_all()).await;
    assert_eq!(ground.limited("body_timeout").await, 100.0);
    // The honest client's one or two stay.
    eventually("the app's connections are free", async || ground.stage.app.open_connections() <= 2).await;
    honest.end("bodies that stop").await;
    ground.assert_memory("bodies that stop", 100 * SESSION);
}

#[tokio::test]
async fn answers_that_nobody_reads_end_and_hold_little_meanwhile() {
    let ground = Ground::with(|flags| flags.with("--body-timeout", LIMIT)).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let mut unread = Vec::new();
    for number in 0..60 {
        let stream = if number % 3 == 0 {
            let mut stream = client.connect(address, &["http/1.1"]).await.unwrap();
            stream.write_all(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            stream
        } else {
            let mut stream = wire::open(&client, address).await;
            if number % 3 == 1 {
                // No stream may be sent anything; the connection itself is read.
                stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
            } else {
                let window = (1_u32 << 30).to_be_bytes();
                let settings = [&[0, 4][..], &window].concat();
                let open = [frame(SETTINGS, 0, 0, &settings), frame(WINDOW_UPDATE, 0, 0, &window)].concat();
                stream.write_all(&open).await.unwrap();
            }
            for id in [1, 3, 5] {
                stream.write_all(&wire::request(id, "/bytes/1000000000")).await.unwrap();
            }
            stream
        };
        unread.push(stream);
    }
    // Twenty sessions end for one answer, twenty for three that fill their socket, and twenty lose three streams.
    ground.wait_for_limit("body_timeout", 100.0).await;
    ground.program.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 40.0).await;
    honest.end("answers that nobody reads").await;
    ground.assert_memory("answers that nobody reads", 60 * 4 * SESSION);
    eventually("the app's connections are free", async || ground.stage.app.open_connections() <= 2).await;
}

#[tokio::test]
async fn a_grpc_call_may_be_silent_for_longer_than_other_bodies() {
    let app = RawApp::start(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                // As most gRPC servers do it: no head before the first message came.
                assert!(request.into_body().data().await.unwrap().is_ok());
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(bytes::Bytes::from_static(b"heard"), true).unwrap();
            });
        }
    })
    .await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags.with("--body-timeout", "500ms")).await;
    let connection = ground.client("a").http2(ground.address()).await.unwrap();
    let request = http::Request::post("/silent").header("content-type", "application/grpc").body(()).unwrap();
    let mut exchange = connection.start(request, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    exchange.send("late").await.unwrap();
    exchange.finish().unwrap();
    let (body, ended) = exchange.response().await.unwrap().rest().await;
    assert!(ended.is_ok() && body == b"heard", "{ended:?} after {body:?}");
    assert_eq!(ground.limited("body_timeout").await, 0.0);
}

#[tokio::test]
async fn a_request_that_only_calls_itself_grpc_is_given_no_more_time_than_others() {
    let call = |path: &str| http::Request::post(path).header("content-type", "application/grpc").body(()).unwrap();
    // There is no gRPC over HTTP/1.1.
    let app = RecordingApp::start().await;
    let ground =
        Ground::before(&format!("{},protocol=http1", app.addr()), |flags| flags.with("--body-timeout", LIMIT)).await;
    let connection = ground.client("attacker").http2(ground.address()).await.unwrap();
    let mut exchange = connection.start(call("/upload"), false).await.unwrap();
    exchange.send("x").await.unwrap();
    let answer = in_time("the refusal", exchange.response()).await.unwrap();
    assert_eq!((&answer.headers["grpc-status"], ground.limited("body_timeout").await), (&"4".parse().unwrap(), 1.0));
    // And an app that does speak HTTP/2 says whether it took the request for a call.
    let app = RawApp::start(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().header("content-type", "text/plain").body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            tokio::spawn(async move {
                while testkit::http2_client::send_bytes(&mut body, vec![b'.'; 1 << 16].into()).await.is_ok() {}
            });
        }
    })
    .await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags.with("--body-timeout", LIMIT)).await;
    let connection = ground.client("attacker").http2(ground.address()).await.unwrap();
    let _unread = connection.start(call("/"), true).await.unwrap().response().await.unwrap();
    ground.wait_for_limit("body_timeout", 1.0).await;
}

#[tokio::test]
async fn a_client_that_sends_and_takes_a_little_at_a_time_is_none_of_them() {
    let ground = Ground::with(|flags| flags.with("--body-timeout", LIMIT)).await;
    let (client, address) = (ground.client("slow"), ground.address());
    let mut stream = client.connect(address, &["http/1.1"]).await.unwrap();
    stream.write_all(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n").await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = [0; 15];
    in_time("the answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let mut stream = wire::open(&client, address).await;
    // A window of a hundred bytes, opened a little every now and then.
    let request = [frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]), wire::request(1, "/bytes/1000")].concat();
    stream.write_all(&request).await.unwrap();
    let (mut bytes, mut taken) = (Vec::new(), 0);
    while taken < 1000 {
        in_time("a piece", stream.read_buf(&mut bytes)).await.unwrap();
        taken = bytes.iter().filter(|byte| **byte == b'.').count();
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100])).await.unwrap();
    }
    assert_eq!(ground.limited("body_timeout").await, 0.0);
}
