//! How and where the app is spoken to: h2c for gRPC, HTTP/1.1 for the rest, or as configured; sockets and names.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use proxy::{AppAddress, Protocol};
use testkit::{H2cApp, RawApp, RecordingApp};

use crate::speech::{Caller, Raw};
use crate::support::House;

fn post(kind: &str) -> Request<Bytes> {
    Request::post("/echo").header("content-type", kind).body(Bytes::from_static(b"message")).unwrap()
}

#[tokio::test]
async fn grpc_from_an_http2_client_goes_out_as_h2c_with_its_trailers() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
        let answer = client.send(post(kind)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "message"), "{kind}");
        assert_eq!(answer.trailer("grpc-status").as_deref(), Some("0"), "{kind}");
    }
    for seen in app.wait_for(3).await {
        assert_eq!((seen.uri.as_str(), seen.header("te").as_deref()), ("http://localhost/echo", Some("trailers")));
        assert_eq!(seen.all("x-forwarded-client-cert").len(), 1);
        assert_eq!(seen.header("connection"), None);
    }
    assert_eq!(app.connections(), 1, "one connection carries all streams");
    let permitted = [("verdict", "permitted"), ("protocol", "grpc")];
    assert_eq!(house.metric("portcullis_requests_total", &permitted), 3.0);
}

#[tokio::test]
async fn what_only_looks_like_grpc_goes_out_as_http1() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let [mut one, mut two] = Caller::both(&house, "a").await;
    for kind in ["application/grpc-web", "application/grpcx", "application/json", "text/application/grpc"] {
        assert_eq!(two.send(post(kind)).await.unwrap().text(), "message", "{kind}");
    }
    // A gRPC call needs HTTP/2 from its client.
    assert_eq!(one.send(post("application/grpc")).await.unwrap().text(), "message");
    assert_eq!(app.count(), 5);
}

#[tokio::test]
async fn a_grpc_stream_flows_in_both_directions() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/echo").header("content-type", "application/grpc").body(()).unwrap();
    let (mut up, mut answer) = client.start(request, false).await.unwrap().split().await.unwrap();
    for piece in ["one", "two", "three"] {
        up.send_data(Bytes::from(piece), false).unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-mine", "1".parse().unwrap());
    trailers.insert("x_forwarded_client_cert", "spoofed".parse().unwrap());
    up.send_trailers(trailers).unwrap();
    assert!(answer.rest().await.1.is_ok());
    assert_eq!(answer.trailers()["grpc-status"], "0");
    assert_eq!(app.requests()[0].trailers, [("x-mine".to_owned(), b"1".to_vec())]);
}

#[tokio::test]
async fn an_answer_of_trailers_alone_stays_one() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/refuse").header("content-type", "application/grpc").body(Bytes::new()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!((answer.header("grpc-status").as_deref(), answer.body.len()), (Some("7"), 0));
}

#[tokio::test]
async fn an_h2c_app_that_goes_away_is_connected_to_again() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = || Request::post("/goaway").header("content-type", "application/grpc").body(Bytes::new()).unwrap();
    for number in 1..=5 {
        assert_eq!(client.send(request()).await.unwrap().trailer("grpc-status").as_deref(), Some("0"));
        app.wait_until(|journal| journal.open_connections() == 0).await;
        assert_eq!(app.connections(), number);
    }
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
}

#[tokio::test]
async fn protocol_http1_sends_grpc_as_http1_too() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).protocol(Protocol::Http1).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.send(post("application/grpc")).await.unwrap().text(), "message", "{}", caller.name());
        assert_eq!(caller.send(post("text/plain")).await.unwrap().text(), "message", "{}", caller.name());
    }
    assert_eq!(app.count(), 4);
}

#[tokio::test]
async fn protocol_h2c_sends_everything_as_http2() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).protocol(Protocol::H2c).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.send(post("application/grpc")).await.unwrap().text(), "message", "{}", caller.name());
        assert_eq!(caller.send(post("text/plain")).await.unwrap().text(), "message", "{}", caller.name());
        let te = Request::post("/echo").header("te", "trailers").header("connection", "te");
        let te = if caller.label() == "http1" { te } else { Request::post("/echo").header("te", "trailers") };
        assert_eq!(caller.send(te.body(Bytes::from_static(b"x")).unwrap()).await.unwrap().text(), "x");
        let large = Request::post("/echo").body(Bytes::from(vec![b'l'; 1 << 20])).unwrap();
        assert_eq!(caller.send(large).await.unwrap().body.len(), 1 << 20, "{}", caller.name());
    }
    for seen in app.requests() {
        assert!(seen.uri.starts_with("http://localhost/"), "{}", seen.uri);
        assert_eq!((seen.header("host"), seen.all("client-cert").len()), (None, 1));
    }
}

#[tokio::test]
async fn an_app_on_a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let app = RecordingApp::start_unix(&path).await;
    let house = House::before_address(AppAddress::Unix(path)).workers(1).start();
    for mut caller in Caller::both(&house, "a").await {
        for _ in 0..3 {
            assert_eq!(caller.get("/").await.unwrap().text(), "hello", "{}", caller.name());
        }
    }
    assert_eq!((app.count(), app.connections()), (6, 1));
    drop(app);
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.get("/").await.unwrap().status, 502, "{}", caller.name());
    }
}

#[tokio::test]
async fn an_app_is_reached_by_its_hosts_name_and_an_unknown_name_is_502() {
    let app = RecordingApp::start().await;
    let house = House::before_address(AppAddress::Name("localhost".to_owned(), app.addr().port())).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.get("/").await.unwrap().text(), "hello", "{}", caller.name());
    }
    // RFC 6761 §6.4: this name never resolves.
    let house = House::before_address(AppAddress::Name("nobody.invalid".to_owned(), 80)).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.get("/").await.unwrap().status, 502, "{}", caller.name());
    }
}

#[tokio::test]
async fn interim_answers_of_an_h2c_app_are_passed_on() {
    let app = RawApp::start(|stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let hints = Response::builder().status(103).header("link", "</style.css>; rel=preload").body(()).unwrap();
            respond.send_informational(hints).unwrap();
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"after hints"), true).unwrap();
        }
    })
    .await;
    let house = House::before(app.addr()).protocol(Protocol::H2c).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hints = raw.head().await.to_ascii_lowercase();
    assert!(hints.starts_with("http/1.1 103 ") && hints.contains("\r\nlink: </style.css>; rel=preload\r\n"), "{hints}");
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(raw.head().await.starts_with("HTTP/1.0 200 "));
}
