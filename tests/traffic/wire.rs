//! HTTP/1.1 from clients, byte by byte: what is answered, in which order, and what happens to the connection.

use std::time::Duration;

use testkit::{Ending, RecordingApp};

use crate::speech::{Raw, statuses};
use crate::support::House;

async fn raw() -> (RecordingApp, House, Raw) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let raw = Raw::connect(&house, &house.client("a")).await;
    (app, house, raw)
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (app, _house, mut raw) = raw().await;
    let mut bytes = Vec::new();
    for path in ["/slow/60", "/bytes/7", "/slow/1", "/status/404", "/"] {
        bytes.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    }
    raw.say(&bytes).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        let answer = raw.answer().await;
        answers.push((answer.status(), answer.text()));
    }
    let expected = [(200, "slow"), (200, "......."), (200, "slow"), (404, ""), (200, "hello")];
    assert_eq!(answers, expected.map(|(status, text)| (status, text.to_owned())));
    let paths: Vec<String> = app.requests().into_iter().map(|seen| seen.uri).collect();
    assert_eq!(paths, ["/slow/60", "/bytes/7", "/slow/1", "/status/404", "/"]);
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_one_request() {
    let (app, _house, mut raw) = raw().await;
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        raw.say([*byte]).await;
    }
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(app.wait_for(1).await[0].all("transfer-encoding"), ["chunked"]);
    app.wait_until(|journal| journal.requests()[0].body == b"abc").await;
}

#[tokio::test]
async fn a_client_that_asks_for_close_gets_its_answer_and_the_close() {
    let (app, _house, mut raw) = raw().await;
    raw.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /after HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(raw.rest().await, (Vec::new(), Ending::Clean));
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_unless_it_asks_to_go_on() {
    let (app, house, mut raw) = raw().await;
    raw.say("GET /one HTTP/1.0\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(raw.rest().await, (Vec::new(), Ending::Clean));
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    for _ in 0..2 {
        raw.say("GET /two HTTP/1.0\r\nHost: b\r\nConnection: keep-alive\r\n\r\n").await;
        assert_eq!(raw.answer().await.text(), "hello");
    }
    let hosts: Vec<_> = app.wait_for(3).await.iter().map(|seen| seen.all("host")).collect();
    assert_eq!(hosts, [["localhost"], ["b"], ["b"]]);
}

#[tokio::test]
async fn a_chunked_answer_reaches_an_http_1_0_client_without_chunks() {
    let (_app, _house, mut raw) = raw().await;
    raw.say("GET /chunks/3 HTTP/1.0\r\n\r\n").await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(raw.rest().await, (b"chunk 0\nchunk 1\nchunk 2\n".to_vec(), Ending::Clean));
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path_and_replaces_the_host() {
    let (app, _house, mut raw) = raw().await;
    raw.say("GET http://real.example:81/p?q HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.status(), 200);
    let seen = app.wait_for(1).await.remove(0);
    assert_eq!((seen.uri.as_str(), seen.all("host")), ("/p?q", vec!["real.example:81".to_owned()]));
}

#[tokio::test]
async fn an_absolute_target_with_user_information_is_refused() {
    let (app, _house, mut raw) = raw().await;
    raw.say("GET http://admin@real.example/ HTTP/1.1\r\nHost: real.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.status(), 400);
    assert_eq!(raw.rest().await.1, Ending::Clean);
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn options_for_the_server_itself_keep_their_asterisk() {
    let (app, _house, mut raw) = raw().await;
    raw.say("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.status(), 200);
    let seen = app.wait_for(1).await.remove(0);
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("OPTIONS", "*"));
    raw.say("GET * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.status(), 400);
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_head_beyond_the_limits_is_refused_and_the_connection_ends() {
    let (app, house, _raw) = raw().await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "y".repeat(100_000));
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(80_000));
    for (name, request) in [("a long field", long), ("many fields", many), ("a long target", target)] {
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(&request).await;
        let (bytes, ending) = raw.rest().await;
        let statuses = statuses(&bytes);
        assert!(matches!(statuses[..], [] | [431] | [414]), "{name}: {statuses:?}");
        assert_ne!(ending, Ending::StillOpen, "{name}");
    }
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_head_list_beyond_the_limit_is_refused_over_http2_and_others_go_on() {
    let (app, house, _raw) = raw().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut request = http::Request::get("/");
    for number in 0..30 {
        request = request.header(format!("x-{number}"), "y".repeat(4000));
    }
    let refused = client.send(request.body(bytes::Bytes::new()).unwrap()).await;
    assert!(refused.map_or(true, |answer| answer.status == 431), "120 kB of headers passed");
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for_any_longer_than_the_limit() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| {
        limits.request_head = Duration::from_millis(300);
        limits.park_after = Duration::from_millis(50);
    });
    let house = house.start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    assert_ne!(raw.rest().await.1, Ending::StillOpen);
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "timeout")], 1.0).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn more_fields_than_the_limit_are_refused_over_http2_and_others_go_on() {
    let (app, house, _raw) = raw().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut request = http::Request::get("/");
    for number in 0..200 {
        request = request.header(format!("x-{number}"), "1");
    }
    let answer = client.send(request.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 431);
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(app.count(), 1);
    assert_eq!(house.metric("portcullis_limits_total", &[("limit", "header_count")]), 1.0);
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_interim_answer() {
    let (_app, _house, mut raw) = raw().await;
    raw.say("GET /hints HTTP/1.0\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "after hints"));
}

#[tokio::test]
async fn a_head_that_hyper_refuses_is_answered_and_counted_whatever_came_before_it() {
    let (app, house, _raw) = raw().await;
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(100_000));
    let mut refused = 0.0;
    for before in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        refused += 1.0;
        let refusals = [
            ("Content-Length : 3\r\n", 400, "bad_request", None, refused),
            (&many, 431, "head_too_large", Some("header_count"), 2.0 * refused - 1.0),
            (&long, 431, "head_too_large", Some("header_bytes"), 2.0 * refused),
        ];
        for (line, status, reason, limit, times) in refusals {
            let mut raw = Raw::connect(&house, &house.client("a")).await;
            raw.say(before).await;
            if !before.is_empty() {
                assert_eq!(raw.answer().await.text(), "hello");
            }
            raw.say(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\nGET /behind HTTP/1.1\r\n")).await;
            assert_eq!(raw.answer().await.status(), status, "behind {before:?}");
            assert_eq!(raw.rest().await, (Vec::new(), Ending::Clean), "{status} behind {before:?}");
            let labels = [("verdict", "refused"), ("reason", reason), ("protocol", "http1")];
            house.wait_for_metric("portcullis_requests_total", &labels, times).await;
            if let Some(limit) = limit {
                house.wait_for_metric("portcullis_limits_total", &[("limit", limit)], refused).await;
            }
        }
    }
    assert_eq!(app.count(), 3);
}
