//! What every proxy must do, over HTTP/1.1 and HTTP/2 alike: methods, lengths, statuses, connections.

use bytes::Bytes;
use http::{Method, Request};
use testkit::{BodyState, RecordingApp};

use crate::speech::{Caller, Raw};
use crate::support::House;

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
}

#[tokio::test]
async fn a_get_passes_over_both_protocols_with_its_target_host_and_headers() {
    let (app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let request = Request::get("/some/path?q=%20a&q=b").header("x-mark", "1").header("x-mark", "2");
        let answer = caller.send(request.body(Bytes::new()).unwrap()).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello"), "{}", caller.name());
        assert_eq!(answer.header("content-length").as_deref(), Some("5"), "{}", caller.name());
    }
    for seen in app.wait_for(2).await {
        assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("GET", "/some/path?q=%20a&q=b"));
        assert_eq!(seen.all("host"), ["localhost"]);
        assert_eq!(seen.all("x-mark"), ["1", "2"]);
    }
}

#[tokio::test]
async fn every_method_arrives_as_it_was_sent() {
    let (app, house) = house().await;
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "X-OWN"];
    for mut caller in Caller::both(&house, "a").await {
        for method in methods {
            let request = Request::builder().method(method).uri("/").body(Bytes::new()).unwrap();
            assert_eq!(caller.send(request).await.unwrap().status, 200, "{method} over {}", caller.name());
        }
    }
    let seen: Vec<String> = app.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen, [methods, methods].concat());
}

#[tokio::test]
async fn a_post_with_a_length_is_echoed_whole() {
    let (app, house) = house().await;
    let body = Bytes::from((0..300_000_u32).map(|number| number as u8).collect::<Vec<u8>>());
    for mut caller in Caller::both(&house, "a").await {
        let request = Request::post("/echo").header("content-length", body.len()).body(body.clone()).unwrap();
        let answer = caller.send(request).await.unwrap();
        assert!(answer.body == body, "the echo differs over {}", caller.name());
    }
    for seen in app.wait_for(2).await {
        assert_eq!(seen.header("content-length").as_deref(), Some("300000"));
        assert_eq!(seen.header("transfer-encoding"), None);
        assert_eq!((seen.body_length, seen.state), (300_000, BodyState::Complete));
    }
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body_and_the_connection_goes_on() {
    let (app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        let request = Request::builder().method(Method::HEAD).uri("/bytes/1234").body(Bytes::new()).unwrap();
        let answer = caller.send(request).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{}", caller.name());
        assert_eq!(answer.header("content-length").as_deref(), Some("1234"), "{}", caller.name());
        assert_eq!(caller.get("/").await.unwrap().text(), "hello", "{}", caller.name());
    }
    assert_eq!(app.requests()[0].method, "HEAD");
}

#[tokio::test]
async fn statuses_without_a_body_end_where_they_end() {
    let (_app, house) = house().await;
    for mut caller in Caller::both(&house, "a").await {
        for status in [204, 304, 200, 404, 500, 599] {
            let answer = caller.get(&format!("/status/{status}")).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{}", caller.name());
        }
        assert_eq!(caller.get("/").await.unwrap().text(), "hello", "{}", caller.name());
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_the_apps_connection_is_used_again() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    for mut caller in Caller::both(&house, "a").await {
        for _ in 0..20 {
            assert_eq!(caller.get("/").await.unwrap().text(), "hello");
        }
    }
    assert_eq!((app.count(), app.connections()), (40, 1));
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 2.0);
}

#[tokio::test]
async fn an_app_that_announces_its_close_is_not_used_again_and_the_client_keeps_its_connection() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    for mut caller in Caller::both(&house, "a").await {
        for _ in 0..3 {
            let answer = caller.get("/close").await.unwrap();
            assert_eq!((answer.text().as_str(), answer.header("connection")), ("closing", None), "{}", caller.name());
        }
    }
    assert_eq!((app.count(), app.connections()), (6, 6));
}

#[tokio::test]
async fn an_idle_connection_is_taken_up_again_after_it_was_parked() {
    let app = RecordingApp::start().await;
    let house =
        House::before(app.addr()).limits(|limits| limits.park_after = std::time::Duration::from_millis(20)).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    for _ in 0..3 {
        // Longer than the worker's beat, in which idle sessions are parked.
        assert!(raw.stays_open(std::time::Duration::from_millis(1100)).await, "an idle connection was closed");
        raw.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.answer().await.text(), "hello");
    }
    assert_eq!(app.count(), 3);
}

#[tokio::test]
async fn cookies_that_http2_split_arrive_as_one_field() {
    let (app, house) = house().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::get("/").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3; d=4");
    client.send(request.body(Bytes::new()).unwrap()).await.unwrap();
    assert_eq!(app.wait_for(1).await[0].all("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[tokio::test]
async fn a_host_that_differs_from_the_authority_is_refused_over_http2() {
    let (app, house) = house().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::get("https://one.example/").header("host", "two.example").body(Bytes::new()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 400);
    let request = Request::get("https://one.example:8443/x").body(Bytes::new()).unwrap();
    assert_eq!(client.send(request).await.unwrap().status, 200);
    assert_eq!(app.wait_for(1).await[0].all("host"), ["one.example:8443"]);
    assert_eq!(house.metric("portcullis_requests_total", &[("verdict", "refused"), ("reason", "bad_request")]), 1.0);
}

#[tokio::test]
async fn a_hundred_streams_at_once_need_no_more_than_the_pool_keeps() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.app_idle_connections = 4).workers(1).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..100 {
            let request = Request::get("/slow/20").body(()).unwrap();
            streams.push(client.start(request, true).await.unwrap());
        }
        for stream in streams {
            let mut answer = stream.response().await.unwrap();
            assert_eq!(answer.rest().await.0, b"slow");
        }
        app.wait_until(|journal| journal.open_connections() <= 4).await;
    }
    assert_eq!(app.count(), 300);
}
