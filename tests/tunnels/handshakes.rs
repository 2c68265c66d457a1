//! How a WebSocket begins: what the app is asked, what the client is told, and what never opens one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::websocket::{Frame, PING, TEXT, accept_of, accepting, welcome};
use testkit::{Ending, RawApp, RecordingApp, TlsClient, raw_app};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{BOTH, KEY, Version, ask, ask_by_http2, extended_connect, open, seen, upgrade};
use crate::support::{House, eventually};

/// An app that accepts every WebSocket, notes its head, and echoes bytes as they come.
async fn echo(heads: Arc<Mutex<Vec<String>>>) -> RawApp {
    RawApp::start(move |mut stream, _| {
        let heads = Arc::clone(&heads);
        async move {
            let head = welcome(&mut stream, "Sec-WebSocket-Protocol: chat\r\n", b"").await;
            heads.lock().unwrap().push(head);
            let (mut reading, mut writing) = stream.split();
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        }
    })
    .await
}

async fn scene() -> (RawApp, Arc<Mutex<Vec<String>>>, House) {
    let heads = Arc::default();
    let app = echo(Arc::clone(&heads)).await;
    let house = House::before(app.addr()).start();
    (app, heads, house)
}

fn permitted(house: &House, protocol: &str) -> f64 {
    house.metric("portcullis_requests_total", &[("verdict", "permitted"), ("protocol", protocol)])
}

#[tokio::test]
async fn the_app_is_asked_by_an_http1_upgrade_with_the_clients_identity_and_its_answer_is_passed_on() {
    let (_app, heads, house) = scene().await;
    for version in BOTH {
        let mut answered = ask(&house, &house.client("a"), version).await;
        assert_eq!(answered.field("sec-websocket-protocol"), Some("chat"));
        answered.tunnel.say(Frame::new(TEXT, "hello").masked()).await;
        assert_eq!(answered.tunnel.frame().await, Frame::new(TEXT, "hello").masked(), "the app echoes the mask too");
        let head = heads.lock().unwrap().pop().unwrap();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("host", "localhost")] {
            assert_eq!(seen(&head, name), value);
        }
        assert_eq!((seen(&head, "sec-websocket-version"), seen(&head, "sec-websocket-protocol")), ("13", "chat"));
        assert!(seen(&head, "x-forwarded-client-cert").contains("spiffe://td/a"), "{head}");
        assert!(seen(&head, "client-cert").starts_with(':'), "{head}");
        match version {
            Version::One => {
                assert_eq!((answered.status, seen(&head, "sec-websocket-key")), (101, KEY));
                assert_eq!(answered.field("sec-websocket-accept"), Some(accept_of(KEY).as_str()));
                assert_eq!(
                    (answered.field("connection"), answered.field("upgrade")),
                    (Some("Upgrade"), Some("websocket"))
                );
            }
            Version::Two => {
                assert_eq!((answered.status, seen(&head, "sec-websocket-key").len()), (200, 24));
                assert_eq!((answered.field("sec-websocket-accept"), answered.field("upgrade")), (None, None));
            }
        }
    }
    assert_eq!(
        (permitted(&house, "websocket"), permitted(&house, "http1"), permitted(&house, "http2")),
        (2.0, 0.0, 0.0)
    );
}

#[tokio::test]
async fn what_a_client_says_of_itself_does_not_reach_the_app_by_an_upgrade_either() {
    let (_app, heads, house) = scene().await;
    let forged =
        "X-Forwarded-Client-Cert: URI=spiffe://td/b\r\nClient_Cert: :YQ==:\r\nForwarded: for=b\r\nTE: trailers\r\n";
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(upgrade(forged).as_bytes()).await.unwrap();
    assert!(crate::client::read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(
        !head.contains("spiffe://td/b") && !head.contains("YQ==") && !head.to_lowercase().contains("\r\nte:"),
        "{head}"
    );
}

#[tokio::test]
async fn an_inbound_of_h2c_asks_its_app_by_http1() {
    let heads = Arc::default();
    let app = echo(Arc::clone(&heads)).await;
    let house = House::before(app.addr()).protocol(proxy::Protocol::H2c).start();
    for version in BOTH {
        let mut tunnel = open(&house, &house.client("a"), version).await;
        tunnel.say(Frame::new(PING, "x")).await;
        assert_eq!(tunnel.frame().await, Frame::new(PING, "x"));
    }
}

#[tokio::test]
async fn an_app_that_refuses_is_heard_and_its_client_may_ask_for_something_else() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nX-Why: no\r\n\r\nno\n";
    let app = RawApp::answering_all(refusal).await;
    let house = House::before(app.addr()).start();
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    for _ in 0..2 {
        stream.write_all(upgrade("").as_bytes()).await.unwrap();
        let head = crate::client::read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 403 ") && head.to_lowercase().contains("x-why: no"), "{head}");
        let mut body = [0; 3];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"no\n");
    }
    let mut answered = ask(&house, &house.client("a"), Version::Two).await;
    assert_eq!((answered.status, answered.field("x-why")), (403, Some("no")));
    assert_eq!(answered.tunnel.rest().await.0, b"no\n");
    app.wait_for_connections(3).await;
    // Each had a connection of its own, and none is kept.
    app.wait_for_silence().await;
}

#[tokio::test]
async fn an_answer_that_accepts_nothing_opens_nothing() {
    let wrong = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
    let right_fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = accept_of(KEY);
    for (answer, statuses) in [
        (wrong(&format!("{right_fields}Sec-WebSocket-Accept: {}\r\n", accept_of("another"))), [502, 502]),
        (wrong(right_fields), [502, 502]),
        (wrong(&format!("Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: {key}\r\n")), [502, 502]),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), [200, 502]),
        (
            "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n".to_owned(),
            [426, 426],
        ),
        ("nonsense\r\n\r\n".to_owned(), [502, 502]),
        (String::new(), [502, 502]),
    ] {
        let app = RawApp::answering(answer.clone()).await;
        let house = House::before(app.addr()).start();
        for (version, status) in BOTH.into_iter().zip(statuses) {
            let answered = ask(&house, &house.client("a"), version).await;
            assert_eq!(answered.status, status, "{version:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn an_app_that_is_not_there_is_a_502_and_one_that_hangs_a_504() {
    let house = House::before(raw_app::unused_address().await).start();
    for version in BOTH {
        assert_eq!(ask(&house, &house.client("a"), version).await.status, 502);
    }
    assert_eq!(house.metric("portcullis_app_faults_total", &[("kind", "unreachable")]), 2.0);
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).limits(|limits| limits.app_response = Duration::from_millis(100)).start();
    for version in BOTH {
        assert_eq!(ask(&house, &house.client("a"), version).await.status, 504);
    }
    app.wait_for_silence().await;
}

/// Says this over HTTP/1.1 and returns all that comes back.
async fn told(house: &House, client: &TlsClient, request: &str) -> (String, Ending) {
    let answer = client.raw(house.address(), request.as_bytes(), Duration::from_secs(20)).await.unwrap();
    (answer.text(), answer.ending)
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_and_the_app_never_sees_it() {
    let (app, _, house) = scene().await;
    let good = upgrade("");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    for request in [
        good.replace(&key, ""),
        good.replace(&key, &key.repeat(2)),
        good.replace(KEY, "c2hvcnQ="),
        good.replace("GET", "POST"),
        upgrade("Content-Length: 3\r\n") + "abc",
        upgrade("Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n",
        good.replace("Host: localhost\r\n", ""),
    ] {
        let (text, ending) = told(&house, &house.client("a"), &request).await;
        assert!(text.starts_with("HTTP/1.1 400 ") && text.ends_with("bad_request\n"), "{request}: {text}");
        assert_eq!((text.matches("HTTP/1.1").count(), ending), (1, Ending::Clean), "{request}");
    }
    let request = extended_connect("websocket");
    let client = house.client("a").http2(house.address()).await.unwrap();
    assert_eq!(
        client.start(request, true).await.unwrap().response().await.unwrap().status,
        400,
        "it has ended already"
    );
    assert_eq!(app.connections(), 0);
    let refused = [("verdict", "refused"), ("reason", "bad_request"), ("protocol", "websocket")];
    assert_eq!(house.metric("portcullis_requests_total", &refused), 8.0);
}

#[tokio::test]
async fn any_other_upgrade_is_an_ordinary_request() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let good = upgrade("Connection: close\r\n");
    for request in [
        good.replace("HTTP/1.1", "HTTP/1.0"),
        good.replace("Upgrade: websocket", "Upgrade: h2c"),
        good.replace("Connection: keep-alive, Upgrade\r\n", ""),
    ] {
        let (text, _) = told(&house, &house.client("a"), &request.replace("/chat", "/")).await;
        assert!(text.contains(" 200 OK\r\n") && text.contains("hello"), "{request}: {text}");
        let request = app.requests().pop().unwrap();
        assert_eq!((request.header("upgrade"), request.header("connection")), (None, None));
    }
    assert_eq!(permitted(&house, "http1"), 3.0);
}

#[tokio::test]
async fn a_protocol_that_is_not_known_is_a_501_and_the_connection_goes_on() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    for protocol in ["webtransport", "connect-udp", "WebSocket"] {
        let answered = ask_by_http2(&house, &house.client("a"), extended_connect(protocol)).await;
        assert_eq!(answered.status, 501, "{protocol}");
        assert_eq!(answered.tunnel.neighbour().unwrap().get("/").await.unwrap().text(), "hello");
    }
    let refused = [("verdict", "refused"), ("reason", "upgrade"), ("protocol", "http2")];
    assert_eq!((house.metric("portcullis_requests_total", &refused), app.count()), (3.0, 3));
}

#[tokio::test]
async fn what_is_sent_behind_an_upgrade_waits_for_the_apps_answer() {
    let early: Arc<Mutex<Option<bool>>> = Arc::default();
    let noted = Arc::clone(&early);
    let app = RawApp::start(move |mut stream, _| {
        let noted = Arc::clone(&noted);
        async move {
            let head = raw_app::read_head(&mut stream).await;
            let silent = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await.is_err();
            *noted.lock().unwrap() = Some(silent);
            let answer = accepting(std::str::from_utf8(&head).unwrap(), "");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut reading, mut writing) = stream.split();
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    let frame = Frame::new(TEXT, "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").masked();
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(&[upgrade("").into_bytes(), frame.bytes()].concat()).await.unwrap();
    assert!(crate::client::read_head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(crate::client::Tunnel::over_http1(stream).frame().await, frame);
    assert_eq!(*early.lock().unwrap(), Some(true), "bytes came before the app had accepted");
}

#[tokio::test]
async fn what_is_sent_behind_an_upgrade_that_is_refused_is_a_request_like_any_other() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let behind = "GET /behind HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    let (text, _) = told(&house, &house.client("a"), &(upgrade("").replace("/chat", "/status/404") + behind)).await;
    assert!(text.starts_with("HTTP/1.1 404 ") && text.ends_with("hello"), "{text}");
    let requests = app.requests();
    assert_eq!(requests.iter().map(|seen| seen.uri.as_str()).collect::<Vec<_>>(), ["/status/404", "/behind"]);
    assert_eq!(requests[1].header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert!(requests[1].header("client-cert").is_some());
    assert_eq!((permitted(&house, "websocket"), permitted(&house, "http1")), (1.0, 1.0));
}

#[tokio::test]
async fn what_the_app_sends_with_its_answer_reaches_the_client() {
    let first = Frame::new(TEXT, "at once");
    let bytes = first.bytes();
    let app = RawApp::start(move |mut stream, _| {
        let bytes = bytes.clone();
        async move {
            welcome(&mut stream, "", &bytes).await;
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let house = House::before(app.addr()).start();
    for version in BOTH {
        assert_eq!(open(&house, &house.client("a"), version).await.frame().await, first);
    }
}

#[tokio::test]
async fn a_client_that_gives_up_before_the_answer_leaves_nothing_behind() {
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).start();
    let mut stream = house.client("a").connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.write_all(upgrade("").as_bytes()).await.unwrap();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(extended_connect("websocket"), false).await.unwrap();
    app.wait_for_connections(2).await;
    drop(stream);
    exchange.reset();
    app.wait_for_silence().await;
    eventually("one session is left", || house.metric("portcullis_sessions_active", &[]) == 1.0).await;
}
