//! Bodies on their way: nothing is held back until it is whole, in either direction; trailers; interim answers.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri};
use testkit::{BodyState, Ending, RawApp, RecordingApp, upload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::speech::{Caller, Raw};
use crate::support::House;

const MANY: u64 = 64 << 20;

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
}

#[tokio::test]
async fn each_piece_goes_there_and_back_before_the_next_is_sent_over_http1() {
    let (app, house) = house().await;
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    let (mut up, body) = upload();
    up.send("first").await.unwrap();
    let mut answer = client.open(Request::post("/echo").body(body).unwrap()).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "first");
    for piece in ["second", "third"] {
        up.send(piece).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
        assert_eq!(app.requests()[0].state, BodyState::Open);
    }
    up.finish();
    assert_eq!(answer.next().await.unwrap(), None);
    app.wait_until(|journal| journal.requests()[0].state == BodyState::Complete).await;
}

#[tokio::test]
async fn each_piece_goes_there_and_back_before_the_next_is_sent_over_http2() {
    let (app, house) = house().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/echo").body(()).unwrap(), false).await.unwrap();
    exchange.send("first").await.unwrap();
    let (mut up, mut answer) = exchange.split().await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "first");
    for piece in ["second", "third"] {
        up.send_data(Bytes::from(piece), false).unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
        assert_eq!(app.requests()[0].state, BodyState::Open);
    }
    up.send_data(Bytes::new(), true).unwrap();
    let (rest, ended) = answer.rest().await;
    assert!(rest.is_empty() && ended.is_ok(), "{rest:?} {ended:?}");
    app.wait_until(|journal| journal.requests()[0].state == BodyState::Complete).await;
}

#[tokio::test]
async fn sixty_four_megabytes_come_down_whole() {
    let (_app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let mut answer = caller.download(&format!("/bytes/{MANY}")).await.unwrap();
        let mut length = 0;
        while let Some(bytes) = answer.next().await.unwrap() {
            assert!(bytes.iter().all(|byte| *byte == b'.'), "a strange byte over {}", caller.name());
            length += bytes.len() as u64;
        }
        assert_eq!(length, MANY, "{}", caller.name());
    }
}

#[tokio::test]
async fn sixty_four_megabytes_go_up_whole() {
    let (app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let request = Request::post("/upload").body(Bytes::from(vec![7; MANY as usize])).unwrap();
        assert_eq!(caller.send(request).await.unwrap().text(), MANY.to_string(), "{}", caller.name());
    }
    for seen in app.requests() {
        assert_eq!((seen.body_length, seen.state), (MANY, BodyState::Complete));
    }
}

#[tokio::test]
async fn an_app_that_does_not_read_stops_the_client_from_sending() {
    let app = RawApp::start(|mut stream, _| async move {
        testkit::raw_app::read_head(&mut stream).await;
        // Reads nothing more until the other side goes.
        let _ = stream.writable().await;
        std::future::pending::<()>().await;
    })
    .await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/").body(()).unwrap(), false).await.unwrap();
    let mut sent = 0_u64;
    let piece = Bytes::from(vec![1; 64 << 10]);
    let flood = async {
        while sent < MANY {
            testkit::http2_client::send_bytes(&mut exchange.upload, piece.clone()).await.unwrap();
            sent += piece.len() as u64;
        }
    };
    // Nothing can be waited for where nothing may happen: the flood must still not have ended then.
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), flood).await.is_err(), "64 MB were taken in");
    assert!(sent > 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_app_from_sending() {
    let (sent, mut counted) = tokio::sync::watch::channel(0_u64);
    let app = RawApp::start(move |mut stream, _| {
        let sent = sent.clone();
        async move {
            testkit::raw_app::read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MANY}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while *sent.borrow() < MANY && stream.write_all(&[2; 64 << 10]).await.is_ok() {
                sent.send_modify(|count| *count += 64 << 10);
            }
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    for caller in &mut Caller::both(&house, "a").await {
        let answer = caller.download("/").await.unwrap();
        counted.changed().await.unwrap();
        let all = counted.wait_for(|count| *count >= MANY);
        let flooded = tokio::time::timeout(std::time::Duration::from_secs(1), all).await.is_ok();
        assert!(!flooded, "64 MB were taken from the app over {}", caller.name());
        drop(answer);
    }
}

#[tokio::test]
async fn trailers_of_a_response_reach_clients_of_both_protocols() {
    let (_app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let request = Request::get("/trailers").header("te", "trailers").body(Bytes::new()).unwrap();
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.text(), "body before trailers", "{}", caller.name());
        assert_eq!(answer.trailer("x-checksum").as_deref(), Some("42"), "{}", caller.name());
    }
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_app_from_clients_of_both_protocols() {
    let (app, house) = house().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("43"));
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    let (mut up, body) = upload();
    let request = Request::post("/upload").header("trailer", "x-checksum").body(body).unwrap();
    let feed = async {
        up.send("body").await.unwrap();
        up.finish_with(trailers.clone()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.open(request), feed);
    assert_eq!(answer.unwrap().rest().await.0, b"4");
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/upload").header("trailer", "x-checksum").body(()).unwrap();
    let mut exchange = client.start(request, false).await.unwrap();
    exchange.send("body").await.unwrap();
    exchange.finish_with(trailers).unwrap();
    assert_eq!(exchange.response().await.unwrap().rest().await.0, b"4");
    for seen in app.requests() {
        assert_eq!(seen.trailers, [("x-checksum".to_owned(), b"43".to_vec())]);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_before_its_body() {
    let (app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("POST /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(raw.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.say("body").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "4"));
    assert_eq!(app.wait_for(1).await[0].header("expect"), None);
}

#[tokio::test]
async fn an_http2_client_that_waits_for_100_continue_gets_it_before_its_body() {
    let (_app, house) = house().await;
    let (mut interims, mut up) =
        interims(&house, Request::post("/upload").header("expect", "100-continue"), false).await;
    let first = poll_fn(|context| interims.poll_informational(context)).await;
    assert_eq!(first.unwrap().unwrap().status(), 100);
    up.send_data(Bytes::from_static(b"body"), true).unwrap();
    assert_eq!(interims.await.unwrap().status(), 200);
}

#[tokio::test]
async fn early_hints_are_passed_on_to_http1_clients_before_the_answer() {
    let (_app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    for _ in 0..2 {
        raw.say("GET /hints HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let hints = raw.head().await;
        assert!(hints.starts_with("HTTP/1.1 103 "), "{hints}");
        assert!(hints.to_ascii_lowercase().contains("\r\nlink: </style.css>; rel=preload\r\n"), "{hints}");
        assert_eq!(raw.answer().await.text(), "after hints");
    }
}

#[tokio::test]
async fn early_hints_are_passed_on_to_http2_clients_before_the_answer() {
    let (_app, house) = house().await;
    let (mut interims, _) = interims(&house, Request::get("/hints"), true).await;
    let hints = poll_fn(|context| interims.poll_informational(context)).await.unwrap().unwrap();
    assert_eq!(
        (hints.status().as_u16(), &hints.headers()["link"]),
        (103, &HeaderValue::from_static("</style.css>; rel=preload"))
    );
    assert_eq!(interims.await.unwrap().status(), 200);
}

/// A request by h2 itself: the forge's client hides interim answers.
async fn interims(
    house: &House,
    request: http::request::Builder,
    ended: bool,
) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let stream = house.client("a").connect(house.address(), &["h2"]).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = request.body(()).unwrap();
    *request.uri_mut() = format!("https://localhost{}", request.uri()).parse::<Uri>().unwrap();
    sender.send_request(request, ended).unwrap()
}

#[tokio::test]
async fn a_stream_that_its_client_resets_frees_the_apps_connection_and_the_others_go_on() {
    let (app, house) = house().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut kept = client.download("/stream").await.unwrap();
    let mut given_up = client.download("/stream").await.unwrap();
    assert!(given_up.next().await.unwrap().is_some());
    app.wait_until(|journal| journal.open_connections() == 2).await;
    drop(given_up);
    app.wait_until(|journal| journal.open_connections() == 1).await;
    assert!(kept.next().await.unwrap().is_some());
    let mut upload = client.start(Request::post("/echo").body(()).unwrap(), false).await.unwrap();
    upload.send("some").await.unwrap();
    app.wait_until(|journal| journal.requests().len() == 3 && journal.requests()[2].body == b"some").await;
    upload.reset();
    app.wait_until(|journal| journal.requests()[2].state == BodyState::Broken).await;
    assert!(kept.next().await.unwrap().is_some());
}

#[tokio::test]
async fn a_client_that_goes_away_mid_answer_frees_the_apps_connection() {
    let (app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let mut answer = caller.download("/stream").await.unwrap();
        assert!(answer.next().await.unwrap().is_some());
        drop((answer, caller));
        app.wait_until(|journal| journal.open_connections() == 0).await;
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_whole_to_the_app() {
    let (app, house) = house().await;
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let before = app.count();
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n4\r\nab")).await;
        app.wait_until(|journal| journal.count() > before && journal.requests()[before].body_length > 0).await;
        drop(raw);
        app.wait_until(|journal| journal.requests()[before].state == BodyState::Broken).await;
    }
}

#[tokio::test]
async fn an_answer_without_length_ends_for_http1_clients_where_the_app_ends_it() {
    let app = RawApp::start(|mut stream, _| async move {
        testkit::raw_app::read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read(&mut [0; 16]).await;
    })
    .await;
    let house = House::before(app.addr()).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.get("/").await.unwrap().text(), "until the end", "{}", caller.name());
    }
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let (bytes, ending) = raw.rest().await;
    assert!(String::from_utf8_lossy(&bytes).contains("until the end"));
    assert_eq!(ending, Ending::Clean);
}
