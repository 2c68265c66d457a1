//! Every request is counted once: under what was decided, by whom it came, with its time.

use bytes::Bytes;
use http::Request;
use testkit::{H2cApp, RecordingApp};

use crate::speech::{Caller, Raw};
use crate::support::House;

const REQUESTS: &str = "portcullis_requests_total";

#[tokio::test]
async fn a_permitted_request_is_counted_once_with_its_protocol_and_its_times() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    for mut caller in Caller::both(&house, "a").await {
        for path in ["/", "/status/500", "/echo"] {
            caller.send(Request::post(path).body(Bytes::from_static(b"body")).unwrap()).await.unwrap();
        }
        let labels = [("verdict", "permitted"), ("reason", "trusted"), ("protocol", caller.label())];
        assert_eq!(house.metric(REQUESTS, &labels), 3.0);
    }
    assert_eq!(house.metric(REQUESTS, &[]), 6.0);
    house.wait_for_metric("portcullis_request_seconds_count", &[], 6.0).await;
    assert_eq!(house.metric("portcullis_session_age_seconds_count", &[]), 6.0);
    assert_eq!(house.metric("portcullis_certificate_remaining_seconds_count", &[]), 6.0);
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 0.0);
}

#[tokio::test]
async fn a_request_cut_before_its_answer_is_counted_once_as_denied() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    for name in ["one", "two"] {
        let position = usize::from(name == "two");
        let caller = &mut Caller::both(&house, name).await[position];
        let waiting = app.count() + 1;
        let revoking = async {
            app.wait_for(waiting).await;
            house.revoke(name);
        };
        let (answer, ()) = tokio::join!(caller.get("/slow/10000"), revoking);
        assert_eq!(answer.unwrap().status, 401, "{}", caller.name());
        assert!(caller.closed().await.is_some());
        for (verdict, reason) in [("permitted", "trusted"), ("denied", "revoked")] {
            let labels = [("verdict", verdict), ("reason", reason), ("protocol", caller.label())];
            assert_eq!(house.metric(REQUESTS, &labels), 1.0, "{verdict} over {}", caller.name());
        }
    }
    assert_eq!(house.metric(REQUESTS, &[("verdict", "denied")]), 2.0);
    assert_eq!(house.metric(REQUESTS, &[]), 4.0);
    house.wait_for_metric("portcullis_request_seconds_count", &[], 2.0).await;
}

#[tokio::test]
async fn a_grpc_call_cut_before_its_answer_is_counted_as_denied_grpc() {
    let app = testkit::RawApp::silent().await;
    let house = House::before(app.addr()).protocol(proxy::Protocol::Http1).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/x").header("content-type", "application/grpc").body(Bytes::new()).unwrap();
    let revoking = async {
        app.wait_for_connections(1).await;
        house.revoke("a");
    };
    let (answer, ()) = tokio::join!(client.send(request), revoking);
    let answer = answer.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status").as_deref()), (200, Some("16")));
    let labels = [("verdict", "denied"), ("reason", "revoked"), ("protocol", "grpc")];
    assert_eq!(house.metric(REQUESTS, &labels), 1.0);
}

#[tokio::test]
async fn a_refused_request_is_counted_once_as_refused() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    for (request, reason, protocol) in [
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "connect", "tunnel"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad_request", "http1"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request", "http1"),
    ] {
        let labels = [("verdict", "refused"), ("reason", reason), ("protocol", protocol)];
        let before = house.metric(REQUESTS, &labels);
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(request).await;
        assert!(matches!(raw.answer().await.status(), 400 | 405));
        assert_eq!(house.metric(REQUESTS, &labels), before + 1.0, "{request:?}");
    }
    assert_eq!((house.metric(REQUESTS, &[]), app.count()), (3.0, 0));
    house.wait_for_metric("portcullis_request_seconds_count", &[], 3.0).await;
}

#[tokio::test]
async fn a_request_that_the_app_does_not_answer_is_permitted_and_a_fault() {
    let address = testkit::raw_app::unused_address().await;
    let house = House::before(address).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_eq!(caller.get("/").await.unwrap().status, 502);
    }
    assert_eq!(house.metric(REQUESTS, &[("verdict", "permitted")]), 2.0);
    assert_eq!(house.metric(REQUESTS, &[]), 2.0);
    assert_eq!(house.metric("portcullis_app_faults_total", &[]), 2.0);
}

#[tokio::test]
async fn sessions_are_counted_when_they_open_and_when_they_close() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let callers = Caller::both(&house, "a").await;
    house.wait_for_metric("portcullis_sessions_active", &[], 2.0).await;
    drop(callers);
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 2.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 2.0);
}
