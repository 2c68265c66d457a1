//! When the app breaks: what the client sees, what is tried again, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use testkit::raw_app::{read_head, unused_address};
use testkit::{Answer, BodyState, Ending, H2cApp, RawApp, RecordingApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::speech::{Caller, Raw};
use crate::support::House;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn faults(house: &House, kind: &str) -> f64 {
    house.metric("portcullis_app_faults_total", &[("kind", kind)])
}

fn assert_notice(answer: &Answer, status: u16, word: &str) {
    assert_eq!((answer.status.as_u16(), answer.text().trim_end()), (status, word));
}

async fn grpc(house: &House, path: &str) -> Answer {
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post(path).header("content-type", "application/grpc").body(Bytes::new()).unwrap();
    client.send(request).await.unwrap()
}

#[tokio::test]
async fn an_app_that_is_down_is_502_and_the_connection_goes_on_until_it_is_back() {
    let address = unused_address().await;
    let house = House::before(address).start();
    let mut callers = Caller::both(&house, "a").await;
    for caller in &mut callers {
        assert_notice(&caller.get("/").await.unwrap(), 502, "unreachable");
    }
    assert_eq!(grpc(&house, "/x").await.header("grpc-status").as_deref(), Some("14"));
    assert_eq!(faults(&house, "unreachable"), 3.0);
    let app = RecordingApp::start_at(address).await;
    for caller in &mut callers {
        assert_eq!(caller.get("/").await.unwrap().text(), "hello");
    }
    app.stop().await;
    for caller in &mut callers {
        assert_eq!(caller.get("/").await.unwrap().status, 502);
    }
    let _app = RecordingApp::start_at(address).await;
    for caller in &mut callers {
        assert_eq!(caller.get("/").await.unwrap().text(), "hello");
    }
}

#[tokio::test]
async fn an_app_that_is_too_slow_is_504() {
    let app = RawApp::silent().await;
    let house = House::before(app.addr()).limits(|limits| limits.app_response = Duration::from_millis(150)).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_notice(&caller.get("/").await.unwrap(), 504, "timed_out");
        let post = Request::post("/").body(Bytes::from_static(b"body")).unwrap();
        assert_notice(&caller.send(post).await.unwrap(), 504, "timed_out");
    }
    assert_eq!(faults(&house, "timed_out"), 4.0);
    app.wait_for_silence().await;
}

#[tokio::test]
async fn an_app_that_hung_answers_again_on_the_same_connections_by_itself() {
    let hangs = Arc::new(AtomicBool::new(true));
    let does = Arc::clone(&hangs);
    let app = RawApp::start(move |mut stream, _| {
        let does = Arc::clone(&does);
        async move {
            // A connection that hangs once stays so: nobody may be given it again.
            while !read_head(&mut stream).await.is_empty() && !does.load(Ordering::SeqCst) {
                stream.write_all(OK).await.unwrap();
            }
            std::future::pending::<()>().await;
        }
    })
    .await;
    let house = House::before(app.addr()).limits(|limits| limits.app_response = Duration::from_millis(150)).start();
    let mut callers = Caller::both(&house, "a").await;
    for round in 0..3 {
        hangs.store(true, Ordering::SeqCst);
        for caller in &mut callers {
            assert_notice(&caller.get("/").await.unwrap(), 504, "timed_out");
        }
        hangs.store(false, Ordering::SeqCst);
        for caller in &mut callers {
            assert_eq!(caller.get("/").await.unwrap().text(), "ok", "after hang {round}");
        }
    }
    assert_eq!(house.metric("portcullis_sessions_opened_total", &[]), 2.0);
}

#[tokio::test]
async fn a_slow_upload_is_no_slow_app() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).limits(|limits| limits.app_response = Duration::from_millis(400)).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/upload").body(()).unwrap(), false).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..10 {
        pace.tick().await;
        exchange.send("x").await.unwrap();
    }
    exchange.finish().unwrap();
    let mut answer = exchange.response().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.rest().await.0), (200, b"10".to_vec()));
}

#[tokio::test]
async fn an_app_that_closes_within_its_head_or_speaks_no_http_is_502() {
    for script in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
    ] {
        let app = RawApp::answering(script).await;
        let house = House::before(app.addr()).start();
        for mut caller in Caller::both(&house, "a").await {
            assert_notice(&caller.get("/").await.unwrap(), 502, "broken");
        }
        assert_eq!(faults(&house, "broken"), 2.0, "{script:?}");
    }
}

#[tokio::test]
async fn an_answer_that_the_app_breaks_off_never_ends_cleanly() {
    for script in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly some",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly some\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly some\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly some\r\n0\r\n",
    ] {
        let app = RawApp::answering(script).await;
        let house = House::before(app.addr()).start();
        for mut caller in Caller::both(&house, "a").await {
            let what = format!("{script:?} over {}", caller.name());
            // The head may be overtaken by the break.
            if let Ok(mut answer) = caller.download("/").await {
                let (bytes, ended) = answer.rest().await;
                assert!(ended.is_err(), "{what} ended cleanly after {:?}", String::from_utf8_lossy(&bytes));
            }
        }
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (bytes, ending) = raw.rest().await;
        assert!(matches!(ending, Ending::Reset | Ending::Unannounced), "{script:?}: {ending:?}");
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{script:?} was given a last chunk");
        house.wait_for_metric("portcullis_app_faults_total", &[("kind", "broken")], 3.0).await;
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_under_its_answer_is_no_fault_of_the_apps() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    raw.head().await;
    assert_eq!(raw.exactly(8).await, b"3\r\nabc\r\n");
    raw.say("zz\r\n").await;
    assert_ne!(raw.rest().await.1, Ending::Clean);
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/echo").body(()).unwrap(), false).await.unwrap();
    exchange.send("abc").await.unwrap();
    let (mut up, mut answer) = exchange.split().await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "abc");
    up.send_reset(h2::Reason::CANCEL);
    app.wait_until(|journal| journal.open_connections() == 0).await;
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(faults(&house, "broken"), 0.0);
}

#[tokio::test]
async fn other_streams_of_a_connection_survive_an_answer_that_broke_off() {
    let app = RawApp::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly some").await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    for _ in 0..5 {
        assert!(client.download("/").await.unwrap().rest().await.1.is_err());
    }
    assert!(!client.is_closed());
}

#[tokio::test]
async fn a_reset_by_an_h2c_app_reaches_the_client_as_an_error() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = Request::post("/reset").header("content-type", "application/grpc").body(()).unwrap();
    let mut answer = client.start(request, true).await.unwrap().response().await.unwrap();
    // A reset that overtakes the head is told by a status, one behind it by a reset.
    let told = answer.headers.get("grpc-status").is_some_and(|status| status == "14");
    let (bytes, ended) = answer.rest().await;
    assert!(told || ended.is_err(), "it ended cleanly after {bytes:?} with {:?}", answer.headers);
    house.wait_for_metric("portcullis_app_faults_total", &[("kind", "broken")], 1.0).await;
}

/// What a stale app does with the second request of its first connection, when the test lets it.
struct Stale {
    app: RawApp,
    /// The bytes of the second request have come.
    asked: watch::Receiver<bool>,
    close: watch::Sender<bool>,
}

/// An app whose first connection serves one request and closes upon the second; later ones serve all.
async fn stale_app() -> Stale {
    let (ask, asked) = watch::channel(false);
    let (close, closing) = watch::channel(false);
    let app = RawApp::start(move |mut stream, number| {
        let (ask, mut closing) = (ask.clone(), closing.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            if number == 0 {
                read_head(&mut stream).await;
                ask.send_replace(true);
                let _ = closing.wait_for(|close| *close).await;
                return;
            }
            loop {
                if read_head(&mut stream).await.is_empty() || stream.write_all(OK).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    Stale { app, asked, close }
}

#[tokio::test]
async fn an_idempotent_request_that_met_a_stale_connection_is_sent_once_more() {
    for position in 0..2 {
        let mut stale = stale_app().await;
        stale.close.send_replace(true);
        let house = House::before(stale.app.addr()).workers(1).start();
        let caller = &mut Caller::both(&house, "a").await[position];
        assert_eq!(caller.get("/").await.unwrap().text(), "ok");
        assert_eq!(caller.get("/").await.unwrap().text(), "ok", "{}", caller.name());
        assert!(*stale.asked.borrow_and_update());
        assert_eq!(stale.app.connections(), 2);
        assert_eq!(faults(&house, "broken"), 0.0);
        let permitted = [("verdict", "permitted"), ("protocol", caller.label())];
        assert_eq!(house.metric("portcullis_requests_total", &permitted), 2.0, "a retry is no request of its own");
    }
}

#[tokio::test]
async fn it_is_sent_only_once_more() {
    let (seen, count) = watch::channel(0);
    let app = RawApp::start(move |mut stream, number| {
        let seen = seen.clone();
        async move {
            read_head(&mut stream).await;
            seen.send_modify(|count| *count += 1);
            if number == 0 {
                stream.write_all(OK).await.unwrap();
                read_head(&mut stream).await;
                seen.send_modify(|count| *count += 1);
            }
        }
    })
    .await;
    let house = House::before(app.addr()).workers(1).start();
    let caller = &mut Caller::both(&house, "a").await[0];
    assert_eq!(caller.get("/").await.unwrap().text(), "ok");
    assert_notice(&caller.get("/").await.unwrap(), 502, "broken");
    assert_eq!(*count.borrow(), 3);
    assert_eq!(faults(&house, "broken"), 1.0);
}

#[tokio::test]
async fn a_request_with_a_body_or_one_that_is_not_idempotent_is_not_sent_twice() {
    for (method, body) in [("POST", "body"), ("PUT", "body"), ("POST", ""), ("PATCH", "")] {
        for position in 0..2 {
            let stale = stale_app().await;
            stale.close.send_replace(true);
            let house = House::before(stale.app.addr()).workers(1).start();
            let caller = &mut Caller::both(&house, "a").await[position];
            assert_eq!(caller.get("/").await.unwrap().text(), "ok");
            let request = Request::builder().method(method).uri("/").body(Bytes::from(body)).unwrap();
            let answer = caller.send(request).await.unwrap();
            assert_eq!(answer.status, 502, "{method} {body:?} over {}", caller.name());
            assert_eq!(stale.app.connections(), 1, "{method} {body:?} over {}", caller.name());
            assert_eq!(faults(&house, "broken"), 1.0);
        }
    }
}

#[tokio::test]
async fn a_session_revoked_before_the_second_try_is_denied_and_nothing_is_sent_again() {
    for position in 0..2 {
        let mut stale = stale_app().await;
        let house = House::before(stale.app.addr()).workers(1).start();
        let caller = &mut Caller::both(&house, "a").await[position];
        assert_eq!(caller.get("/").await.unwrap().text(), "ok");
        let between = async {
            stale.asked.wait_for(|asked| *asked).await.unwrap();
            house.revoke("a");
            stale.close.send_replace(true);
        };
        let (answer, ()) = tokio::join!(caller.get("/"), between);
        assert_notice(&answer.unwrap(), 401, "revoked");
        assert!(caller.closed().await.is_some(), "{} stayed open", caller.name());
        assert_eq!(stale.app.connections(), 1, "the request went out again over {}", caller.name());
        let denied = [("verdict", "denied"), ("reason", "revoked"), ("protocol", caller.label())];
        assert_eq!(house.metric("portcullis_requests_total", &denied), 1.0);
    }
}

#[tokio::test]
async fn an_app_that_vanishes_after_an_answer_costs_the_next_request_nothing() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    for mut caller in Caller::both(&house, "a").await {
        for _ in 0..20 {
            assert_eq!(caller.get("/vanish").await.unwrap().text(), "vanishing", "{}", caller.name());
        }
    }
    assert_eq!(faults(&house, "broken"), 0.0);
}

#[tokio::test]
async fn an_app_that_answers_before_the_body_is_whole_is_heard() {
    let app = RawApp::start(|mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await.unwrap();
        while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
    })
    .await;
    let house = House::before(app.addr()).start();
    let client = house.client("a").http2(house.address()).await.unwrap();
    let mut exchange = client.start(Request::post("/").body(()).unwrap(), false).await.unwrap();
    exchange.send("some").await.unwrap();
    let (_up, mut answer) = exchange.split().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.rest().await.0), (413, b"big".to_vec()));
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[tokio::test]
async fn a_body_left_unread_by_the_app_is_not_taken_for_a_request() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..5 {
        raw.say(format!("POST /status/403 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        assert_eq!(raw.answer().await.status(), 403);
        raw.say("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.answer().await.text(), "hello");
    }
    assert!(app.requests().iter().all(|seen| seen.uri != "/smuggled" && seen.state != BodyState::Open));
}

#[tokio::test]
async fn an_app_that_switches_protocols_unasked_is_502() {
    let app =
        RawApp::answering_all("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let house = House::before(app.addr()).start();
    for mut caller in Caller::both(&house, "a").await {
        assert_notice(&caller.get("/").await.unwrap(), 502, "broken");
    }
    assert_eq!(faults(&house, "broken"), 2.0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_before_an_h2c_apps_answer_is_no_fault_of_the_apps() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).protocol(proxy::Protocol::H2c).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    raw.say("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    let (_, ending) = raw.rest().await;
    assert_ne!(ending, Ending::StillOpen);
    app.wait_until(|journal| journal.requests().iter().all(|seen| seen.state != BodyState::Open)).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(faults(&house, "broken"), 0.0);
}
