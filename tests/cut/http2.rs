//! HTTP/2 sessions revoked by a publish: what each stream sees, then GOAWAY, then the end of the socket.

use std::time::Instant;

use h2::Reason;
use http::Request;
use rustls::AlertDescription;
use testkit::{ClientError, Download, Ending, H2cApp, Http2Client, RawApp, RecordingApp};

use crate::frames::{DATA, Frame, Frames, GOAWAY, HEADERS, RST_STREAM};
use crate::stage::{assert_cut, assert_left, assert_prompt, assert_refused, stage};
use crate::support::{House, PATIENCE};

const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

fn reason_of(error: &ClientError) -> Option<Reason> {
    error.downcast_ref::<h2::Error>().and_then(h2::Error::reason)
}

async fn assert_closed(client: &mut Http2Client, since: Instant) {
    client.closed(PATIENCE).await.expect("the connection is closed in time").ok();
    assert_prompt(since, "the close");
}

/// Reads on to the end, which has to be a reset of the stream by the proxy.
async fn assert_reset(download: &mut Download, since: Instant) {
    let (_, ended) = download.rest().await;
    assert_prompt(since, "the reset of a stream");
    let error = ended.expect_err("a stream under way ends in an error");
    assert_eq!(reason_of(&error), Some(Reason::CANCEL), "{error}");
}

#[tokio::test]
async fn many_streams_all_end_at_once_each_in_its_own_way() {
    let (app, house) = stage().await;
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    let mut under_way = Vec::new();
    for _ in 0..30 {
        let mut download = client.download("/stream").await.unwrap();
        download.next().await.unwrap().unwrap();
        under_way.push(download);
    }
    let mut waiting = Vec::new();
    for _ in 0..30 {
        waiting.push(client.start(Request::get("/slow/60000").body(()).unwrap(), true).await.unwrap());
    }
    app.wait_for(60).await;
    let since = Instant::now();
    house.revoke("a");
    for exchange in waiting {
        let mut answer = exchange.response().await.unwrap();
        assert_eq!(answer.status, 401);
        let (body, ended) = answer.rest().await;
        assert_eq!(body, b"revoked\n");
        ended.expect("a refusal is whole");
    }
    for download in &mut under_way {
        assert_reset(download, since).await;
    }
    assert_closed(&mut client, since).await;
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
    assert_refused(&house, &house.leaf("a"), AlertDescription::CertificateRevoked).await;
    assert_eq!(app.count(), 60);
    app.wait_until(|app| app.open_connections() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_gets_goaway_and_is_closed_at_once() {
    let (_app, house) = stage().await;
    let mut frames = Frames::connect(&house, &house.client("a"), 65_535).await;
    frames.get(1, "/").await;
    frames.until(|frame| frame.stream == 1 && frame.ends_stream()).await;
    let since = Instant::now();
    house.revoke("a");
    let (rest, ending) = frames.rest().await;
    assert_prompt(since, "the close");
    assert_eq!(codes(&rest, GOAWAY), [NO_ERROR]);
    assert_eq!(ending, Ending::Clean);
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
}

fn codes(frames: &[Frame], kind: u8) -> Vec<u32> {
    frames.iter().filter(|frame| frame.kind == kind).map(Frame::code).collect()
}

#[tokio::test]
async fn a_waiting_stream_gets_its_401_before_goaway_and_nothing_after_it() {
    let (app, house) = stage().await;
    let mut frames = Frames::connect(&house, &house.client("a"), 65_535).await;
    frames.get(1, "/slow/60000").await;
    app.wait_for(1).await;
    let since = Instant::now();
    house.revoke("a");
    let (rest, ending) = frames.rest().await;
    assert_prompt(since, "the close");
    let told: Vec<&Frame> = rest.iter().filter(|frame| frame.stream == 1).collect();
    assert_eq!(told[0].kind, HEADERS, "{rest:?}");
    let body: Vec<u8> =
        told.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone()).collect();
    assert_eq!(body, b"revoked\n");
    assert!(told.iter().any(|frame| frame.ends_stream()), "{rest:?}");
    assert_eq!(rest.last().unwrap().kind, GOAWAY, "{rest:?}");
    assert_eq!(ending, Ending::Clean);
}

#[tokio::test]
async fn a_stream_under_way_is_reset_before_goaway_and_never_ended() {
    let (_app, house) = stage().await;
    let mut frames = Frames::connect(&house, &house.client("a"), 65_535).await;
    frames.get(1, "/stream").await;
    frames.until(|frame| frame.kind == DATA).await;
    let since = Instant::now();
    house.revoke("a");
    let (rest, ending) = frames.rest().await;
    assert_prompt(since, "the close");
    assert!(!rest.iter().any(Frame::ends_stream), "a cut stream was ended as if it were whole: {rest:?}");
    assert_eq!(codes(&rest, RST_STREAM), [CANCEL]);
    assert_eq!(codes(&rest, GOAWAY), [NO_ERROR]);
    assert_eq!(rest.last().unwrap().kind, GOAWAY);
    assert_eq!(ending, Ending::Clean);
    assert_left(&house, 0.0, since).await;
}

#[tokio::test]
async fn a_stream_stalled_by_flow_control_is_reset_all_the_same() {
    let (app, house) = stage().await;
    for path in ["/stream", "/bytes/100000000"] {
        let name = path.len().to_string();
        let mut frames = Frames::connect(&house, &house.client(&name), 0).await;
        frames.get(1, path).await;
        frames.until(|frame| frame.kind == HEADERS && frame.stream == 1).await;
        let since = Instant::now();
        house.revoke(&name);
        let (rest, _) = frames.rest().await;
        assert_prompt(since, "the close");
        assert!(!rest.iter().any(|frame| frame.kind == DATA), "{rest:?}");
        assert_eq!(codes(&rest, RST_STREAM), [CANCEL], "{path}");
        assert_eq!(codes(&rest, GOAWAY), [NO_ERROR], "{path}");
        assert_left(&house, 0.0, since).await;
    }
    assert_cut(&house, "revoked", 2.0).await;
    app.wait_until(|app| app.open_connections() == 0).await;
}

#[tokio::test]
async fn a_waiting_stream_without_a_window_ends_with_its_connection() {
    let (app, house) = stage().await;
    let mut frames = Frames::connect(&house, &house.client("a"), 0).await;
    frames.get(1, "/slow/60000").await;
    app.wait_for(1).await;
    let since = Instant::now();
    house.revoke("a");
    let (rest, ending) = frames.rest().await;
    assert_prompt(since, "the close");
    assert_ne!(ending, Ending::StillOpen, "{rest:?}");
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
}

fn call(path: &str) -> Request<()> {
    Request::post(path).header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

#[tokio::test]
async fn a_grpc_call_that_waits_ends_with_status_16_in_its_only_head() {
    // It takes the call and never answers.
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).start();
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    let exchange = client.start(call("/svc/Unary"), true).await.unwrap();
    app.wait_for_connections(1).await;
    let since = Instant::now();
    house.revoke("a");
    let mut answer = exchange.response().await.unwrap();
    assert_prompt(since, "the refusal");
    assert_eq!((answer.status.as_u16(), answer.headers["grpc-status"].as_bytes()), (200, &b"16"[..]));
    assert!(answer.headers["grpc-message"].to_str().unwrap().contains("revoked"));
    let (body, ended) = answer.rest().await;
    assert!(body.is_empty() && ended.is_ok());
    assert_closed(&mut client, since).await;
    assert_left(&house, 0.0, since).await;
    let denied = [("verdict", "denied"), ("reason", "revoked"), ("protocol", "grpc")];
    assert_eq!(house.metric("portcullis_requests_total", &denied), 1.0);
}

#[tokio::test]
async fn a_grpc_stream_under_way_ends_with_status_16_in_its_trailers() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    // Both directions are open.
    let exchange = client.start(call("/stream"), false).await.unwrap();
    let (mut upload, mut download) = exchange.split().await.unwrap();
    upload.send_data("message".into(), false).unwrap();
    download.next().await.unwrap().unwrap();
    app.wait_until(|app| app.requests()[0].body_length == 7).await;
    let since = Instant::now();
    house.revoke("a");
    let (_, ended) = download.rest().await;
    assert_prompt(since, "the end of the stream");
    ended.expect("gRPC tells by trailers");
    assert_eq!(download.trailers()["grpc-status"].as_bytes(), b"16");
    assert!(download.trailers()["grpc-message"].to_str().unwrap().contains("revoked"));
    assert_closed(&mut client, since).await;
    assert_left(&house, 0.0, since).await;
    app.wait_until(|app| app.requests()[0].state == testkit::BodyState::Broken).await;
}

#[tokio::test]
async fn a_client_that_has_sent_no_http2_preface_is_closed_at_once() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let mut stream = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    house.wait_for_metric("portcullis_sessions_active", &[], 1.0).await;
    let since = Instant::now();
    house.revoke("a");
    let answer = testkit::read_to_end(&mut stream, PATIENCE).await;
    assert_prompt(since, "the close");
    assert_ne!(answer.ending, Ending::StillOpen);
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "revoked", 1.0).await;
}
