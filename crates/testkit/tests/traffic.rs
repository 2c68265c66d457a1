//! The forge's clients and apps with each other: what a test of the proxy relies on, shown without the proxy.
//! Run by the workspace's tests. It must never need a port or a path that another test could want.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use rustls::AlertDescription;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use testkit::raw_app::{read_head, unused_address};
use testkit::{
    Authority, BodyState, Ending, H2cApp, Http1Client, Http2Client, LeafSpec, RawApp, RecordingApp, TlsClient,
    alert_of, exchange_bytes, upload,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

const DEADLINE: Duration = Duration::from_secs(10);

async fn http1(app: &RecordingApp) -> Http1Client {
    Http1Client::over(TcpStream::connect(app.addr()).await.expect("the app listens")).await.expect("a connection")
}

async fn http2(app: &H2cApp) -> Http2Client {
    Http2Client::over(TcpStream::connect(app.addr()).await.expect("the app listens")).await.expect("a connection")
}

#[tokio::test]
async fn the_app_records_a_request_with_headers_body_and_trailers() {
    let app = RecordingApp::start().await;
    let mut client = http1(&app).await;
    let (mut feed, body) = upload();
    let request = Request::post("/echo?q=1")
        .header("content-type", "text/x")
        .header("x-two", "a")
        .header("x-two", "b")
        .header("trailer", "x-sum");
    let mut answer = client.open(request.body(body).expect("a request")).await.expect("a head");
    feed.send("one").await.expect("a reader");
    assert_eq!(answer.next().await.expect("no error"), Some(Bytes::from_static(b"one")));
    assert_eq!(app.requests()[0].body, b"one");
    assert_eq!(app.requests()[0].state, BodyState::Open);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    feed.finish_with(trailers).await.expect("a reader");
    let (_, ended) = answer.rest().await;
    ended.expect("a clean end");
    app.wait_until(|journal| journal.requests()[0].state == BodyState::Complete).await;
    let seen = &app.requests()[0];
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("POST", "/echo?q=1"));
    assert_eq!(seen.all("X-Two"), ["a", "b"]);
    assert_eq!(seen.trailers, [("x-sum".to_owned(), b"7".to_vec())]);
    assert!(String::from_utf8_lossy(&app.wires()[0]).starts_with("POST /echo?q=1 HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_recorded_as_broken() {
    let app = RecordingApp::start().await;
    let mut client = http1(&app).await;
    let (mut feed, body) = upload();
    let mut answer = client.open(Request::post("/echo").body(body).expect("a request")).await.expect("a head");
    feed.send("one").await.expect("a reader");
    answer.next().await.expect("an echo");
    feed.abort();
    app.wait_until(|journal| journal.requests()[0].state == BodyState::Broken).await;
}

#[tokio::test]
async fn the_routes_answer_what_they_promise() {
    let app = RecordingApp::start().await;
    let mut client = http1(&app).await;
    let mut get = async |path: &str| client.get(path).await.expect("an answer");
    assert_eq!(get("/").await.text(), "hello");
    assert_eq!(get("/status/503").await.status, 503);
    let bytes = get("/bytes/100000").await;
    assert_eq!((bytes.body.len(), bytes.header("content-length")), (100_000, Some("100000".to_owned())));
    assert_eq!(get("/chunks/3").await.text(), "chunk 0\nchunk 1\nchunk 2\n");
    assert_eq!(get("/slow/5").await.text(), "slow");
    let hints = get("/hints").await;
    assert_eq!(
        (hints.text(), hints.informational.as_slice()),
        ("after hints".to_owned(), &[103.try_into().unwrap()][..])
    );
    let request = Request::post("/upload").body(Bytes::from(vec![1; 300_000])).expect("a request");
    assert_eq!(client.send(request).await.expect("an answer").text(), "300000");
    let request = Request::get("/trailers").header("te", "trailers").body(Bytes::new()).expect("a request");
    assert_eq!(client.send(request).await.expect("an answer").trailer("x-checksum"), Some("42".to_owned()));
    assert_eq!(app.connections(), 1);
    assert_eq!(client.get("/vanish").await.expect("an answer").header("connection"), None);
    assert!(client.closed(DEADLINE).await.expect("an end").is_ok());
    let mut client = http1(&app).await;
    assert_eq!(client.get("/close").await.expect("an answer").header("connection"), Some("close".to_owned()));
    assert!(client.closed(DEADLINE).await.expect("an end").is_ok());
    app.wait_until(|journal| journal.open_connections() == 0).await;
}

#[tokio::test]
async fn a_stream_runs_until_the_app_is_dropped_and_its_end_is_not_clean() {
    let app = RecordingApp::start().await;
    let address = app.addr();
    let mut client = http1(&app).await;
    let mut stream = client.download("/stream").await.expect("a head");
    for number in 0..5 {
        assert_eq!(stream.next().await.expect("no error"), Some(Bytes::from(format!("chunk {number}\n"))));
    }
    app.stop().await;
    assert!(stream.rest().await.1.is_err());
    assert!(TcpStream::connect(address).await.is_err());
    RecordingApp::start_at(address).await;
}

#[tokio::test]
async fn the_app_serves_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let app = RecordingApp::start_unix(folder.path().join("app.socket")).await;
    let path = app.target().strip_prefix("unix:").expect("a Unix target").to_owned();
    let stream = tokio::net::UnixStream::connect(path).await.expect("the app listens");
    let mut client = Http1Client::over(stream).await.expect("a connection");
    assert_eq!(client.get("/").await.expect("an answer").text(), "hello");
}

#[tokio::test]
async fn the_h2c_app_echoes_more_than_a_window_with_trailers() {
    let app = H2cApp::start().await;
    let client = http2(&app).await;
    let request = Request::post("/pkg.Service/Call").header("content-type", "application/grpc+proto");
    let request = request.body(Bytes::from(vec![7; 400_000])).expect("a request");
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(answer.body.len(), 400_000);
    assert_eq!(answer.trailer("grpc-status"), Some("0".to_owned()));
    assert_eq!(answer.header("content-type"), Some("application/grpc+proto".to_owned()));
    let seen = &app.requests()[0];
    assert_eq!((seen.body_length, seen.state), (400_000, BodyState::Complete));
    assert_eq!(client.get("/refuse").await.expect("an answer").header("grpc-status"), Some("7".to_owned()));
}

#[tokio::test]
async fn the_h2c_app_streams_in_both_directions_and_sees_a_reset() {
    let app = H2cApp::start().await;
    let mut client = http2(&app).await;
    let exchange = client.start(Request::post("/stream").body(()).expect("a request"), false).await.expect("a stream");
    let (mut feed, mut answer) = exchange.split().await.expect("a head");
    feed.send_data(Bytes::from_static(b"up"), false).expect("an open stream");
    app.wait_until(|journal| journal.requests()[0].body == b"up").await;
    assert_eq!(answer.next().await.expect("no error"), Some(Bytes::from_static(b"chunk 0\n")));
    feed.send_reset(h2::Reason::CANCEL);
    app.wait_until(|journal| journal.requests()[0].state == BodyState::Broken).await;
    assert!(client.get("/reset").await.is_err());
    assert_eq!(client.get("/goaway").await.expect("an answer").trailer("grpc-status"), Some("0".to_owned()));
    assert!(client.closed(DEADLINE).await.is_some());
}

#[tokio::test]
async fn a_raw_app_plays_its_script_and_every_end_is_told_apart() {
    let app = RawApp::answering("HTTP/1.1 200 OK\r\n\r\nbroken").await;
    let mut stream = TcpStream::connect(app.addr()).await.expect("the app listens");
    let answer = exchange_bytes(&mut stream, b"GET / HTTP/1.1\r\n\r\n", DEADLINE).await;
    assert_eq!((answer.text(), answer.ending), ("HTTP/1.1 200 OK\r\n\r\nbroken".to_owned(), Ending::Clean));
    let silent = RawApp::silent().await;
    let mut stream = TcpStream::connect(silent.addr()).await.expect("the app listens");
    let answer = exchange_bytes(&mut stream, b"GET /", Duration::from_millis(20)).await;
    assert_eq!(answer.ending, Ending::StillOpen);
    silent.wait_for_connections(1).await;
    drop(stream);
    silent.wait_for_silence().await;
    let resetting = RawApp::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.set_zero_linger().expect("a socket");
    })
    .await;
    let mut stream = TcpStream::connect(resetting.addr()).await.expect("the app listens");
    let answer = exchange_bytes(&mut stream, b"GET / HTTP/1.1\r\n\r\n", DEADLINE).await;
    assert_eq!(answer.ending, Ending::Reset);
    assert!(TcpStream::connect(unused_address().await).await.is_err());
}

/// A TLS app that wants a certificate below the root, answers every head, and ends as the path asks.
async fn tls_app(root: &Authority) -> RawApp {
    let server = root.issue(LeafSpec::dns("localhost"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).expect("an anchor");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("both versions")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(server.chain(), server.key_der())
        .expect("a matching key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    RawApp::start(move |stream, number| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.write_all(b"hello").await;
            let _ = stream.flush().await;
            if number == 0 {
                let _ = stream.shutdown().await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_tls_client_tells_a_close_notify_from_a_bare_end() {
    let root = Authority::root("Root");
    let app = tls_app(&root).await;
    let leaf = root.intermediate("Issuing").issue(LeafSpec::spiffe("spiffe://td/a"));
    let client = TlsClient::new(root.der(), Some(&leaf));
    let answer = client.raw(app.addr(), b"", DEADLINE).await.expect("a connection");
    assert_eq!((answer.text(), answer.ending), ("hello".to_owned(), Ending::Clean));
    let answer = client.raw(app.addr(), b"", DEADLINE).await.expect("a connection");
    assert_eq!((answer.text(), answer.ending), ("hello".to_owned(), Ending::Unannounced));
}

#[tokio::test]
async fn the_tls_client_names_the_alert_of_a_rejected_certificate() {
    let root = Authority::root("Root");
    let app = tls_app(&root).await;
    let stranger = Authority::root("Stranger").issue(LeafSpec::dns("a.example"));
    let answer = TlsClient::tls13(root.der(), Some(&stranger)).raw(app.addr(), b"", DEADLINE).await.expect("TLS 1.3");
    assert_eq!(answer.ending, Ending::Alert(AlertDescription::UnknownCA));
    let error = TlsClient::tls12(root.der(), Some(&stranger)).connect(app.addr(), &[]).await.expect_err("TLS 1.2");
    assert_eq!(alert_of(&error), Some(AlertDescription::UnknownCA));
    let none = TlsClient::tls13(root.der(), None).raw(app.addr(), b"", DEADLINE).await.expect("TLS 1.3");
    assert_eq!(none.ending, Ending::Alert(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn an_alert_is_found_in_the_errors_of_both_http_clients() {
    let root = Authority::root("Root");
    let app = tls_app(&root).await;
    let client = TlsClient::tls13(root.der(), Some(&Authority::root("Stranger").issue(LeafSpec::dns("a.example"))));
    let error = match client.http1(app.addr()).await {
        Ok(mut http1) => http1.get("/").await.expect_err("a refusal"),
        Err(error) => error,
    };
    assert_eq!(alert_of(&*error), Some(AlertDescription::UnknownCA), "{error:?}");
    let error = match client.http2(app.addr()).await {
        Ok(http2) => http2.get("/").await.expect_err("a refusal"),
        Err(error) => error,
    };
    assert_eq!(alert_of(&*error), Some(AlertDescription::UnknownCA), "{error:?}");
}
