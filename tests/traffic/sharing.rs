//! What clients share: the worker's connections to the app. Whatever one client does on its own session, the others'
//! requests must go through.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use testkit::http2_client::send_bytes;
use testkit::raw_app::read_head;
use testkit::{Http2Client, RawApp, TlsClient};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::speech::{Caller, Raw};
use crate::support::{House, PATIENCE};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn call(path: &str) -> http::request::Builder {
    Request::post(path).header("content-type", "application/grpc")
}

async fn http2(house: &House, client: &TlsClient) -> Http2Client {
    client.http2(house.address()).await.unwrap()
}

/// An h2c app that sends without end on `/flood`, as far as its windows let it, and a word on anything else.
async fn flooding_app() -> RawApp {
    RawApp::start(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                if request.uri().path() == "/flood" {
                    while send_bytes(&mut body, Bytes::from(vec![b'x'; 1 << 16])).await.is_ok() {}
                } else {
                    let _ = body.send_data(Bytes::from_static(b"message"), true);
                }
            });
        }
    })
    .await
}

#[tokio::test]
async fn a_grpc_client_that_does_not_read_holds_up_no_other_client() {
    let app = flooding_app().await;
    let house = House::before(app.addr()).workers(1).start();
    let deaf = http2(&house, &house.client("a")).await;
    let _unread = deaf.start(call("/flood").body(()).unwrap(), true).await.unwrap().response().await.unwrap();
    let other = http2(&house, &house.client("b")).await;
    // Whether all windows are full by now cannot be seen from outside; they stay so once they are.
    for _ in 0..20 {
        let answer = other.send(call("/").body(Bytes::new()).unwrap());
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await.expect("the other call is held up");
        assert_eq!(answer.unwrap().text(), "message");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(app.connections(), 1);
}

/// An h2c app that takes so many streams at once, answers every head and keeps the stream open, and tells how many
/// it saw and how many were reset.
async fn holding_app(streams: u32) -> (RawApp, watch::Receiver<(usize, usize)>) {
    let (tell, told) = watch::channel((0, 0));
    let app = RawApp::start(move |stream, _| {
        let tell = tell.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(streams);
            let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tell.send_modify(|(seen, _)| *seen += 1);
                let tell = tell.clone();
                let answers = request.uri().path() != "/silent";
                tokio::spawn(async move {
                    let _unread = request;
                    if answers {
                        let mut body = respond.send_response(Response::new(()), false).unwrap();
                        let _ = poll_fn(|context| body.poll_reset(context)).await;
                    } else {
                        let _ = poll_fn(|context| respond.poll_reset(context)).await;
                    }
                    tell.send_modify(|(_, reset)| *reset += 1);
                });
            }
        }
    })
    .await;
    (app, told)
}

#[tokio::test]
async fn streams_that_fill_one_connection_to_the_app_keep_no_other_client_from_it() {
    let (app, mut told) = holding_app(2).await;
    let house = House::before(app.addr()).workers(1).start();
    let (greedy, other) = (http2(&house, &house.client("a")).await, http2(&house, &house.client("b")).await);
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(greedy.start(call("/").body(()).unwrap(), false).await.unwrap().split().await.unwrap());
    }
    let started = other.start(call("/").body(()).unwrap(), false).await.unwrap().split();
    let answered = tokio::time::timeout(Duration::from_secs(5), started).await.expect("the other stream is held up");
    assert_eq!(answered.unwrap().1.status, 200);
    assert_eq!(app.connections(), 3);
    drop((open, greedy, other));
    tokio::time::timeout(PATIENCE, told.wait_for(|(_, reset)| *reset == 6)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_ends_with_its_client() {
    for path in ["/", "/silent"] {
        let (app, mut told) = holding_app(10).await;
        let house = House::before(app.addr()).workers(1).start();
        let client = http2(&house, &house.client("a")).await;
        let mut exchange = client.start(call(path).body(()).unwrap(), false).await.unwrap();
        let flood = exchange.send(vec![b'x'; 4 << 20]);
        assert!(tokio::time::timeout(Duration::from_secs(1), flood).await.is_err(), "the upload does not stall");
        exchange.reset();
        let reset = tokio::time::timeout(Duration::from_secs(5), told.wait_for(|(_, reset)| *reset == 1)).await;
        assert!(reset.is_ok(), "the app's stream of {path} outlives its client's");
    }
}

/// Two clients in turn: the first one's upload goes on after its answer, the second one only asks.
#[tokio::test]
async fn an_upload_that_the_app_answered_early_holds_up_no_other_client() {
    let app = RawApp::answering_all(OK).await;
    let house = House::before(app.addr()).workers(1).start();
    let mut slow = Raw::connect(&house, &house.client("a")).await;
    slow.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome").await;
    assert_eq!(slow.answer().await.text(), "ok");
    let http2 = http2(&house, &house.client("a")).await;
    let mut exchange = http2.start(Request::post("/").body(()).unwrap(), false).await.unwrap();
    exchange.send("some").await.unwrap();
    let (_up, mut answer) = exchange.split().await.unwrap();
    assert_eq!(answer.rest().await.0, b"ok");
    for mut caller in Caller::both(&house, "b").await {
        for _ in 0..3 {
            let answer = tokio::time::timeout(Duration::from_secs(5), caller.get("/")).await;
            assert_eq!(answer.expect("the other request is held up").unwrap().text(), "ok", "{}", caller.name());
        }
    }
}

#[tokio::test]
async fn a_connection_that_carried_a_chunked_answer_is_used_again() {
    for trailer in ["", "X-Sum: 1\r\n"] {
        let script = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailer}\r\n");
        let app = RawApp::answering_all(script).await;
        let house = House::before(app.addr()).workers(1).start();
        for mut caller in Caller::both(&house, "a").await {
            for _ in 0..10 {
                assert_eq!(caller.get("/").await.unwrap().text(), "ok", "{}", caller.name());
            }
        }
        assert_eq!(app.connections(), 1, "with the trailer {trailer:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_chunked_answer_broke_off_is_not_used_again() {
    let app = RawApp::start(|mut stream, number| async move {
        read_head(&mut stream).await;
        let cut_short: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n5\r\nso";
        let _ = stream.write_all(if number == 0 { cut_short } else { OK }).await;
    })
    .await;
    let house = House::before(app.addr()).workers(1).start();
    let client = http2(&house, &house.client("a")).await;
    assert!(client.download("/").await.unwrap().rest().await.1.is_err());
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(app.connections(), 2);
}
