//! Pipelined requests behind an answer that came before its request was whole, to a client that reads it slowly: the
//! next one must be served, and its interim answer must not end up in the middle of the answer before it.

use std::time::Duration;

use testkit::RawApp;
use testkit::raw_app::read_head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::speech::Raw;
use crate::support::House;

/// Answers `POST /<length>` with so many bytes before it reads the body, and anything else with hints first.
async fn hinting_app(asked: watch::Sender<bool>) -> RawApp {
    RawApp::start(move |mut stream, _| {
        let asked = asked.clone();
        async move {
            loop {
                let head = String::from_utf8(read_head(&mut stream).await).unwrap();
                if head.starts_with("GET ") {
                    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n";
                    let answer = format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    asked.send_replace(true);
                    continue;
                }
                let length = head.strip_prefix("POST /").and_then(|rest| rest.split(' ').next());
                let Some(Ok(length)) = length.map(str::parse) else { return };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
                if stream.write_all(answer.as_bytes()).await.is_err() || stream.read_exact(&mut [0; 4]).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Stands between a client and the house, holds next to nothing itself, and passes answers on while it is open.
async fn narrow(house: &House, open: watch::Receiver<bool>) -> RawApp {
    let address = house.address();
    RawApp::start(move |near, _| {
        let mut open = open.clone();
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let (mut answers, mut requests) = socket.connect(address).await.unwrap().into_split();
            let (mut said, mut heard) = near.into_split();
            let down = async {
                let mut piece = [0; 1024];
                while open.wait_for(|open| *open).await.is_ok()
                    && let Ok(count @ 1..) = answers.read(&mut piece).await
                    && heard.write_all(&piece[..count]).await.is_ok()
                {}
            };
            tokio::select! {
                () = down => {}
                _ = tokio::io::copy(&mut said, &mut requests) => {}
            }
        }
    })
    .await
}

async fn assert_answered(length: usize) {
    let (ask, mut asked) = watch::channel(false);
    let (opening, open) = watch::channel(true);
    let app = hinting_app(ask).await;
    let house = House::before(app.addr()).start();
    let relay = narrow(&house, open).await;
    let mut raw = Raw::connect_to(relay.addr(), &house.client("a")).await;
    opening.send_replace(false);
    raw.say(format!("POST /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")).await;
    // Whether the answer fits into the proxy's buffers cannot be seen from outside; of some lengths it does, barely.
    tokio::time::sleep(Duration::from_millis(200)).await;
    raw.say("bodyGET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let _ = tokio::time::timeout(Duration::from_millis(300), asked.wait_for(|asked| *asked)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    opening.send_replace(true);
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
    let body = raw.exactly(length).await;
    let strange = body.iter().position(|byte| *byte != b'x');
    assert_eq!((body.len(), strange), (length, None), "{}", String::from_utf8_lossy(&body[strange.unwrap_or(0)..]));
    let mut head = raw.head().await;
    if head.starts_with("HTTP/1.1 103 ") {
        head = raw.head().await;
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(raw.exactly(2).await, b"ok");
}

#[tokio::test]
async fn a_request_behind_an_early_answer_that_is_read_slowly_is_answered_and_its_hints_stay_outside() {
    let mut each = tokio::task::JoinSet::new();
    for step in 0..24 {
        each.spawn(assert_answered(32_000 + step * 16_000));
    }
    while let Some(done) = each.join_next().await {
        done.unwrap();
    }
}
