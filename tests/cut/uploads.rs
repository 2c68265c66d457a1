//! Request bodies under way when trust ends: the app must see them break off, and no byte of them later.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use testkit::{BodyState, Ending, RawApp, Seen, TlsClient, read_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::stage::{BOUND, assert_cut, assert_left, assert_prompt, stage};
use crate::support::{House, PATIENCE};

/// Sends numbered pieces until it is told to end or cannot; notes when each was written.
async fn pieces<Send, Sent>(mut send: Send) -> Vec<Instant>
where
    Send: FnMut(String) -> Sent,
    Sent: Future<Output = bool>,
{
    let mut written = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    loop {
        pace.tick().await;
        written.push(Instant::now());
        if !send(format!("{:08}\n", written.len() - 1)).await {
            return written;
        }
    }
}

/// Fails unless the body broke off and holds no piece that was written later than the promise after the publish.
fn assert_body_ended(seen: &Seen, written: &[Instant], since: Instant) {
    assert_eq!(seen.state, BodyState::Broken, "the app saw a whole body");
    let text = String::from_utf8_lossy(&seen.body).into_owned();
    let last: usize = text.lines().rfind(|line| line.len() == 8).expect("a piece came").parse().unwrap();
    assert!(last < written.len(), "the app has a piece that nobody sent");
    let late = written[last].saturating_duration_since(since);
    assert!(late < BOUND, "the app got a piece that was written {late:?} after the publish");
}

async fn upload_over_http1(head: &str, chunked: bool) {
    let (app, house) = stage().await;
    let stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    let (mut reading, mut writing) = split(stream);
    writing.write_all(head.as_bytes()).await.unwrap();
    let sending = tokio::spawn(async move {
        let writing = tokio::sync::Mutex::new(&mut writing);
        pieces(|piece| {
            let writing = &writing;
            async move {
                let piece = if chunked { format!("9\r\n{piece}\r\n") } else { piece };
                let mut writing = writing.lock().await;
                writing.write_all(piece.as_bytes()).await.is_ok() && writing.flush().await.is_ok()
            }
        })
        .await
    });
    app.wait_until(|app| app.requests().first().is_some_and(|seen| seen.body_length > 90)).await;
    let since = Instant::now();
    house.revoke("a");
    let answer = read_to_end(&mut reading, PATIENCE).await;
    assert_prompt(since, "the refusal");
    let text = answer.text();
    assert!(text.starts_with("HTTP/1.1 401 "), "{text:?}, {:?}", answer.ending);
    assert!(text.ends_with("\r\n\r\nrevoked\n"), "{text:?}");
    assert_eq!(answer.ending, Ending::Clean);
    assert_left(&house, 0.0, since).await;
    drop(reading);
    let written = tokio::time::timeout(PATIENCE, sending).await.expect("the upload ends").unwrap();
    app.wait_until(|app| app.requests()[0].state != BodyState::Open).await;
    assert_body_ended(&app.requests()[0], &written, since);
    assert_cut(&house, "revoked", 1.0).await;
}

#[tokio::test]
async fn a_chunked_upload_gets_401_while_the_app_sees_its_body_break_off() {
    upload_over_http1("POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", true).await;
}

#[tokio::test]
async fn an_upload_with_a_length_gets_401_while_the_app_sees_its_body_break_off() {
    upload_over_http1("POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n", false).await;
}

#[tokio::test]
async fn an_http2_upload_gets_401_and_goaway_while_the_app_sees_its_body_break_off() {
    let (app, house) = stage().await;
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    let exchange = client.start(Request::post("/upload").body(()).unwrap(), false).await.unwrap();
    let sending = Uploading::begin(exchange);
    app.wait_until(|app| app.requests().first().is_some_and(|seen| seen.body_length > 90)).await;
    let since = Instant::now();
    house.revoke("a");
    let (mut answer, written) = sending.end().await;
    let (body, ended) = answer.rest().await;
    assert_prompt(since, "the refusal");
    assert_eq!((answer.status.as_u16(), body.as_slice()), (401, &b"revoked\n"[..]));
    ended.expect("the refusal is whole");
    client.closed(PATIENCE).await.expect("the connection is closed in time").ok();
    assert_left(&house, 0.0, since).await;
    app.wait_until(|app| app.requests()[0].state != BodyState::Open).await;
    assert_body_ended(&app.requests()[0], &written, since);
}

/// An HTTP/2 upload in a task: pieces go up until the answer comes.
struct Uploading(tokio::task::JoinHandle<(testkit::Download, Vec<Instant>)>);

impl Uploading {
    fn begin(mut exchange: testkit::Http2Exchange) -> Uploading {
        Uploading(tokio::spawn(async move {
            let mut written = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            while written.len() < 20_000 {
                pace.tick().await;
                written.push(Instant::now());
                if exchange.send(Bytes::from(format!("{:08}\n", written.len() - 1))).await.is_err() {
                    break;
                }
            }
            (exchange.response().await.expect("the answer reaches a client that is still sending"), written)
        }))
    }

    async fn end(self) -> (testkit::Download, Vec<Instant>) {
        tokio::time::timeout(PATIENCE, self.0).await.expect("the upload ends").unwrap()
    }
}

#[tokio::test]
async fn an_echo_breaks_off_in_both_directions() {
    let (app, house) = stage().await;
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    let (mut upload, body) = testkit::upload();
    let request = Request::post("/echo").body(body).unwrap();
    let opening = client.open(request);
    let (answer, sent) = tokio::join!(opening, upload.send("00000000\n"));
    sent.unwrap();
    let mut answer = answer.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "00000000\n");
    let since = Instant::now();
    house.revoke("a");
    let (rest, ended) = answer.rest().await;
    assert_prompt(since, "the end of the answer");
    assert!(rest.is_empty());
    ended.expect_err("an answer under way ends in an error");
    app.wait_until(|app| app.requests()[0].state != BodyState::Open).await;
    assert_eq!(app.requests()[0].state, BodyState::Broken);
    assert_left(&house, 0.0, since).await;
}

/// An app that takes the head and never reads a byte more.
async fn app_that_does_not_read() -> RawApp {
    RawApp::start(|mut stream, _| async move {
        testkit::raw_app::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_is_cut_over_http1() {
    let app = app_that_does_not_read().await;
    let house = House::before(app.addr()).start();
    let stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    let (mut reading, mut writing) = split(stream);
    let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut total = 0_usize;
    // Until nothing goes any more: every buffer on the way is full.
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), writing.write(&[b'.'; 65536])).await {
        total += written.unwrap();
        assert!(total < 1_000_000_000, "nobody holds the upload back");
    }
    let since = Instant::now();
    house.revoke("a");
    let answer = read_to_end(&mut reading, PATIENCE).await;
    assert_prompt(since, "the end");
    assert!(answer.text().starts_with("HTTP/1.1 401 "), "{:?} {:?}", answer.text(), answer.ending);
    assert_left(&house, 0.0, since).await;
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_is_cut_over_http2() {
    let app = app_that_does_not_read().await;
    let house = House::before(app.addr()).start();
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/upload").body(()).unwrap(), false).await.unwrap();
    let piece = Bytes::from(vec![b'.'; 65536]);
    while tokio::time::timeout(Duration::from_millis(300), exchange.send(piece.clone())).await.is_ok() {}
    let since = Instant::now();
    house.revoke("a");
    let mut answer = exchange.response().await.unwrap();
    let (body, ended) = answer.rest().await;
    assert_prompt(since, "the refusal");
    assert_eq!((answer.status.as_u16(), body.as_slice()), (401, &b"revoked\n"[..]));
    ended.expect("the refusal is whole");
    client.closed(PATIENCE).await.expect("the connection is closed in time").ok();
    assert_left(&house, 0.0, since).await;
}

#[tokio::test]
async fn an_upload_that_its_client_has_paused_is_cut_too() {
    let (app, house) = stage().await;
    let client = TlsClient::tls12(house.pki.server_root.der(), Some(&house.leaf("a")));
    let mut stream = client.connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
    app.wait_until(|app| app.requests().first().is_some_and(|seen| seen.body_length == 4)).await;
    let since = Instant::now();
    house.revoke("a");
    let answer = read_to_end(&mut stream, PATIENCE).await;
    assert_prompt(since, "the refusal");
    assert!(answer.text().starts_with("HTTP/1.1 401 "), "{:?}", answer.text());
    app.wait_until(|app| app.requests()[0].state == BodyState::Broken).await;
    assert_left(&house, 0.0, since).await;
}

/// An app whose kernel takes little for it, and which reads when the test does.
async fn app_with_a_small_buffer() -> (SocketAddr, mpsc::UnboundedReceiver<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(16).unwrap();
    let (hand, connections) = mpsc::unbounded_channel();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            hand.send(stream).unwrap();
        }
    });
    (address, connections)
}

/// The client's bytes that wait in the proxy's kernel for an app that does not read are not handed on after the cut.
async fn nothing_waits_for_the_app(http2: bool) {
    let (address, mut connections) = app_with_a_small_buffer().await;
    let house = House::before(address).start();
    let piece = Bytes::from(vec![b'.'; 65536]);
    let client = house.client("a");
    let uploading = tokio::spawn({
        let address = house.address();
        async move {
            if http2 {
                let client = client.http2(address).await.unwrap();
                let mut exchange = client.start(Request::post("/upload").body(()).unwrap(), false).await.unwrap();
                while exchange.send(piece.clone()).await.is_ok() {}
                return;
            }
            let mut stream = client.connect(address, &["http/1.1"]).await.unwrap();
            let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&piece).await.is_ok() {}
        }
    });
    let mut app = connections.recv().await.unwrap();
    let (mut held, mut seen) = (0, vec![0; 16 << 20]);
    // Until every buffer on the way is full.
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = std::mem::replace(&mut held, app.peek(&mut seen).await.unwrap());
        if held == before && held > 1000 {
            break;
        }
    }
    let since = Instant::now();
    house.revoke("a");
    assert_left(&house, 0.0, since).await;
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, app.read_to_end(&mut heard)).await.expect("the upload ends");
    assert!(heard.len() <= held, "{} bytes came of {held} that were there", heard.len());
    assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    uploading.await.unwrap();
}

#[tokio::test]
async fn what_the_proxys_kernel_holds_for_an_app_that_does_not_read_is_dropped_over_http1() {
    nothing_waits_for_the_app(false).await;
}

#[tokio::test]
async fn what_the_proxys_kernel_holds_for_an_app_that_does_not_read_is_dropped_over_http2() {
    nothing_waits_for_the_app(true).await;
}
