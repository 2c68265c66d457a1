//! Requests that their client does not bring to an end although the app has answered in full: they hold the app's
//! connection for no longer than a body may be silent, and nothing else ends with them.

use std::time::Duration;

use http::Request;
use testkit::RawApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::House;

const LIMIT: Duration = Duration::from_millis(500);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers each head at once and never closes.
async fn hasty() -> RawApp {
    RawApp::answering_all(ANSWER).await
}

fn house(app: &RawApp) -> House {
    House::before(app.addr()).limits(|limits| limits.body = LIMIT).start()
}

#[tokio::test]
async fn a_stream_that_its_client_leaves_open_behind_the_whole_answer_is_closed() {
    let app = hasty().await;
    let house = house(&app);
    let client = house.client("a").http2(house.address()).await.unwrap();
    let exchange = client.start(Request::post("/").body(()).unwrap(), false).await.unwrap();
    let (_upload, mut answer) = exchange.split().await.unwrap();
    let (body, ended) = answer.rest().await;
    assert!(ended.is_ok() && body == b"ok", "{ended:?} after {body:?}");
    app.wait_for_silence().await;
    house.wait_for_metric("portcullis_limits_total", &[("limit", "body_timeout")], 1.0).await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_whose_client_leaves_its_request_unended_behind_the_whole_answer_is_closed() {
    let app = hasty().await;
    let house = house(&app);
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx").await.unwrap();
    let answer = testkit::read_to_end(&mut stream, Duration::from_secs(20)).await;
    assert!(answer.text().starts_with("HTTP/1.1 200 ") && answer.text().ends_with("\r\n\r\nok"), "{answer:?}");
    assert_ne!(answer.ending, testkit::Ending::StillOpen);
    app.wait_for_silence().await;
    house.wait_for_metric("portcullis_limits_total", &[("limit", "body_timeout")], 1.0).await;
}

#[tokio::test]
async fn whoever_goes_on_sending_behind_the_whole_answer_is_heard_to_the_end() {
    let app = RawApp::start(|mut stream, _| async move {
        loop {
            let head = testkit::raw_app::read_head(&mut stream).await;
            if head.is_empty() || stream.write_all(ANSWER).await.is_err() {
                return;
            }
            if head.starts_with(b"POST ") {
                stream.read_exact(&mut [0; 10]).await.expect("the whole body comes");
            }
        }
    })
    .await;
    let house = house(&app);
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(LIMIT * 2 / 5).await;
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(b"GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let answers = testkit::read_to_end(&mut stream, Duration::from_secs(20)).await.text();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert_eq!(house.metric("portcullis_limits_total", &[]), 0.0);
}
