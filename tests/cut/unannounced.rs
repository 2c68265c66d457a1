//! What the app says when the trust in its client has ended and nobody was woken for it: only the clock shows more than
//! the certificate's `notAfter`. None of it may reach the client, in front of a notice or in place of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use proxy::Protocol;
use testkit::raw_app::read_head;
use testkit::{LeafSpec, RawApp};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use trust::Time;

use crate::frames::{DATA, Frames, HEADERS};
use crate::stage::{Wire, assert_cut};
use crate::support::House;

/// Between a test and its app: `asked` when a request has come, `go` when the app is to speak.
#[derive(Clone, Default)]
struct Cue {
    asked: Arc<Notify>,
    go: Arc<Notify>,
}

impl Cue {
    /// An app that says this on cue, and nothing else.
    async fn app(&self, script: &'static str) -> RawApp {
        let cue = self.clone();
        RawApp::start(move |mut stream, _| {
            let cue = cue.clone();
            async move {
                read_head(&mut stream).await;
                cue.asked.notify_one();
                cue.go.notified().await;
                stream.write_all(script.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            }
        })
        .await
    }

    /// Lets the clock pass the client's `notAfter`, and the app speak.
    async fn too_late(&self, house: &House) {
        self.asked.notified().await;
        let last = Time::from_seconds(house.leaf("a").not_after().unix_timestamp());
        house.set_time_unannounced(last.plus(Duration::from_millis(1)));
        self.go.notify_one();
    }
}

fn house(app: &RawApp, protocol: Protocol) -> House {
    let house = House::before(app.addr()).protocol(protocol).with_clock().start();
    let short = LeafSpec::spiffe("spiffe://td/a").valid_for(testkit::Duration::minutes(5));
    house.pki.put("a", house.pki.issuing.issue(short));
    house
}

/// A request waits for its answer, over both protocols; the app says this when it is too late.
async fn assert_told_and_nothing_else(script: &'static str) {
    let cue = Cue::default();
    let app = cue.app(script).await;
    let house = house(&app, Protocol::Http1);
    let mut wire = Wire::connect(&house, &house.client("a")).await;
    wire.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let since = Instant::now();
    cue.too_late(&house).await;
    wire.is_told("expired", since).await;
    drop(house);

    let cue = Cue::default();
    let app = cue.app(script).await;
    let house = self::house(&app, Protocol::Http1);
    let mut frames = Frames::connect(&house, &house.client("a"), 65_535).await;
    frames.get(1, "/").await;
    cue.too_late(&house).await;
    let (came, _) = frames.rest().await;
    let heads = came.iter().filter(|frame| frame.kind == HEADERS).count();
    let bodies: Vec<_> = came.iter().filter(|frame| frame.kind == DATA).map(|frame| &frame.payload[..]).collect();
    assert_eq!((heads, bodies.concat()), (1, b"expired\n".to_vec()), "{came:?}");
    assert_cut(&house, "expired", 1.0).await;
}

#[tokio::test]
async fn an_answer_that_comes_too_late_reaches_nobody() {
    assert_told_and_nothing_else("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
}

#[tokio::test]
async fn an_interim_answer_that_comes_too_late_reaches_nobody() {
    assert_told_and_nothing_else("HTTP/1.1 103 Early Hints\r\nLink: </late>\r\n\r\n").await;
}

#[tokio::test]
async fn a_message_of_a_grpc_call_that_comes_too_late_reaches_nobody() {
    let cue = Cue::default();
    let apps = cue.clone();
    let app = RawApp::start(move |stream, _| {
        let cue = apps.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let cue = cue.clone();
                tokio::spawn(async move {
                    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                    let mut body = respond.send_response(head, false).unwrap();
                    cue.asked.notify_one();
                    cue.go.notified().await;
                    body.send_data(Bytes::from_static(b"late"), false).unwrap();
                    std::future::pending::<()>().await;
                });
            }
        }
    })
    .await;
    let house = house(&app, Protocol::H2c);
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/talk").header("content-type", "application/grpc").body(()).unwrap();
    let mut answer = client.start(request, true).await.unwrap().response().await.unwrap();
    cue.too_late(&house).await;
    let (body, ended) = answer.rest().await;
    assert_eq!((body, ended.is_ok()), (Vec::new(), true));
    assert_eq!(
        (&answer.trailers()["grpc-status"], &answer.trailers()["grpc-message"]),
        (&http::HeaderValue::from_static("16"), &http::HeaderValue::from_static("portcullis: expired"))
    );
    assert_cut(&house, "expired", 1.0).await;
}
