//! Request smuggling: shapes that two readers could read as two things, by raw bytes over TLS.
//! In every test a second request hides behind the shape; the app must never see it.

use testkit::{BodyState, Ending, RecordingApp};

use crate::speech::{Raw, statuses};
use crate::support::House;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const FIRST: &str = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";

async fn house() -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    (app, house)
}

fn assert_nothing_smuggled(app: &RecordingApp, shape: &str) {
    for seen in app.requests() {
        assert_ne!(seen.uri, "/smuggled", "{shape:?}");
        assert_ne!(seen.state, BodyState::Open, "{shape:?}");
    }
    for wire in app.wires() {
        let wire = String::from_utf8_lossy(&wire).to_ascii_lowercase();
        let both =
            wire.split("\r\n\r\n").any(|head| head.contains("content-length") && head.contains("transfer-encoding"));
        assert!(!both, "a head with both framings reached the app for {shape:?}: {wire}");
    }
}

/// Sends the shape with a request behind it, alone and behind an innocent one in the same segment; the connection
/// must end, with no status but these, and with no request of the shape's served to its end.
async fn assert_refused(shape: &str, allowed: &[u16]) {
    let (app, house) = house().await;
    for before in ["", FIRST] {
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(format!("{before}{shape}{SMUGGLED}")).await;
        let (bytes, ending) = raw.rest().await;
        let mut seen = statuses(&bytes);
        if !before.is_empty() {
            assert_eq!(seen.remove(0), 200, "the innocent request before {shape:?}");
        }
        assert!(seen.len() <= 1 && seen.iter().all(|status| allowed.contains(status)), "{shape:?}: {seen:?}");
        assert_ne!(ending, Ending::StillOpen, "{shape:?}");
    }
    app.wait_until(|journal| {
        journal.open_connections() == 0 || journal.requests().iter().all(|seen| seen.state != BodyState::Open)
    })
    .await;
    assert_nothing_smuggled(&app, shape);
    let whole = app.requests().into_iter().filter(|seen| seen.uri != "/first" && seen.state == BodyState::Complete);
    assert_eq!(whole.count(), 0, "{shape:?} was served as a whole request");
}

#[tokio::test]
async fn a_chunk_size_that_is_no_plain_hex_number_is_refused() {
    for size in
        ["x", "", "+3", "-3", "0x3", "3_", "1_0", " 3", "3 3", "FFFFFFFFFFFFFFFFF", "10000000000000003", "\u{b2}"]
    {
        assert_refused(
            &format!(
                "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nabc\r\n0\r\n\r\n"
            ),
            &[400],
        )
        .await;
    }
}

#[tokio::test]
async fn a_chunk_that_is_longer_or_shorter_than_it_says_is_refused() {
    for body in [
        "2\r\nabc\r\n0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\rabc\r\n0\r\n\r\n",
    ] {
        assert_refused(
            &format!("POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
            &[400],
        )
        .await;
    }
}

#[tokio::test]
async fn a_chunk_extension_with_a_bare_line_feed_hides_nothing() {
    assert_refused(
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\nb\r\nabc\r\n0\r\n\r\n",
        &[400],
    )
    .await;
}

#[tokio::test]
async fn a_header_line_of_doubtful_form_is_refused() {
    for line in [
        "Content-Length : 3",
        "Content-Length\t: 3",
        "Transfer-Encoding : chunked",
        " Content-Length: 3",
        "X-Folded: one\r\n two",
        "X-Folded: one\r\n\ttwo",
        "Transfer-Encoding:\r\n chunked",
        "X-Nul: a\0b",
        "X-Return: a\rb",
        "X-Return: a\rContent-Length: 3",
        "X\0Y: 1",
        "X Y: 1",
        "(X): 1",
        ": 1",
        "no colon",
        "X-\u{e9}: 1",
    ] {
        assert_refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"), &[400]).await;
    }
}

#[tokio::test]
async fn a_content_length_that_is_no_plain_number_is_refused() {
    for length in [
        "+3",
        "-3",
        "0x3",
        "3 3",
        "3,4",
        "3;",
        "",
        " ",
        "three",
        "18446744073709551616",
        "99999999999999999999",
        "3.0",
        "3_0",
    ] {
        assert_refused(&format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc"), &[400])
            .await;
    }
}

#[tokio::test]
async fn two_content_lengths_that_differ_are_refused() {
    for lines in
        ["Content-Length: 3\r\nContent-Length: 4", "Content-Length: 4\r\ncontent-length: 3", "Content-Length: 3, 4"]
    {
        assert_refused(&format!("POST /upload HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nabc"), &[400]).await;
    }
}

#[tokio::test]
async fn equal_content_lengths_frame_one_body_or_are_refused() {
    for lines in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3"] {
        let (app, house) = house().await;
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\nabcGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let (bytes, _) = raw.rest().await;
        let statuses = statuses(&bytes);
        assert!(matches!(statuses[..], [400] | [200, 200]), "{lines:?}: {statuses:?}");
        for seen in app.requests() {
            assert!(matches!((seen.uri.as_str(), &seen.body[..]), ("/upload", b"abc") | ("/next", b"")), "{seen:?}");
            assert!(seen.all("content-length").len() <= 1, "{seen:?}");
        }
    }
}

/// Every order and spelling in which the two framings stand side by side.
fn both_framings() -> Vec<String> {
    let mut shapes = Vec::new();
    for length in ["0", "5", "44", "1000"] {
        for (one, two) in [("Content-Length", "Transfer-Encoding"), ("content-length", "TRANSFER-ENCODING")] {
            for lines in [format!("{one}: {length}\r\n{two}: chunked"), format!("{two}: chunked\r\n{one}: {length}")] {
                shapes.push(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
            }
        }
    }
    shapes
}

/// Served framed by Transfer-Encoding and then closed, or refused (RFC 9112 §6.3).
fn assert_served_alone_or_refused(bytes: &[u8], ending: &Ending, shape: &str) {
    let statuses = statuses(bytes);
    assert!(matches!(statuses[..], [200] | [400]), "{shape:?}: {statuses:?}");
    assert_ne!(*ending, Ending::StillOpen, "{shape:?}");
}

#[tokio::test]
async fn a_length_beside_chunks_never_lets_a_second_request_through() {
    let (app, house) = house().await;
    for shape in both_framings() {
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(format!("{shape}{SMUGGLED}")).await;
        let (bytes, ending) = raw.rest().await;
        assert_served_alone_or_refused(&bytes, &ending, &shape);
        assert_nothing_smuggled(&app, &shape);
    }
    assert!(app.requests().iter().all(|seen| seen.body == b"abc" && seen.header("content-length").is_none()));
}

#[tokio::test]
async fn a_length_beside_chunks_behind_another_request_never_lets_a_third_through() {
    let (app, house) = house().await;
    for shape in both_framings() {
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        raw.say(format!("{FIRST}{shape}{SMUGGLED}")).await;
        assert_eq!(raw.answer().await.text(), "hello");
        let (bytes, ending) = raw.rest().await;
        assert_served_alone_or_refused(&bytes, &ending, &shape);
        assert_nothing_smuggled(&app, &shape);
    }
}

#[tokio::test]
async fn a_length_beside_chunks_split_at_any_byte_never_lets_a_second_request_through() {
    let (app, house) = house().await;
    let shape = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let whole = format!("{shape}{SMUGGLED}");
    for split in 1..whole.len() {
        let mut raw = Raw::connect(&house, &house.client("a")).await;
        // In one TLS record with a request whose answer shows that the first part was read without the second.
        raw.say(format!("{FIRST}{}", &whole[..split])).await;
        assert_eq!(raw.answer().await.text(), "hello");
        raw.say(&whole[split..]).await;
        let (bytes, ending) = raw.rest().await;
        assert_served_alone_or_refused(&bytes, &ending, &format!("split at {split}"));
        assert_nothing_smuggled(&app, shape);
    }
}

#[tokio::test]
async fn a_length_beside_chunks_is_noticed_after_the_session_was_parked() {
    let app = RecordingApp::start().await;
    let house =
        House::before(app.addr()).limits(|limits| limits.park_after = std::time::Duration::from_millis(20)).start();
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    assert!(raw.stays_open(std::time::Duration::from_millis(1100)).await);
    raw.say("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Le").await;
    assert!(raw.stays_open(std::time::Duration::from_millis(1100)).await);
    raw.say(format!("ngth: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
    let (bytes, ending) = raw.rest().await;
    assert_served_alone_or_refused(&bytes, &ending, "after parking");
    assert_nothing_smuggled(&app, "after parking");
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_is_refused() {
    for lines in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
    ] {
        let shape = format!("POST /upload HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert_refused(&shape, &[400, 501]).await;
    }
}

#[tokio::test]
async fn a_transfer_encoding_in_http_1_0_is_refused() {
    assert_refused(
        "POST /upload HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &[400],
    )
    .await;
}

#[tokio::test]
async fn a_missing_or_second_host_is_refused() {
    for lines in ["X: 1", "Host: a\r\nHost: b", "Host: a\r\nHost: a", "Host: a\r\nhost: b"] {
        assert_refused(&format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n"), &[400]).await;
    }
}

#[tokio::test]
async fn a_request_line_of_doubtful_form_is_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET /",
        "G(T / HTTP/1.1",
        "GET a HTTP/1.1",
        "GET /\0 HTTP/1.1",
    ] {
        assert_refused(&format!("{line}\r\nHost: a\r\n\r\n"), &[400, 505]).await;
    }
}

#[tokio::test]
async fn connect_is_refused_by_405_over_both_protocols_and_nothing_goes_on_behind_it() {
    assert_refused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", &[405]).await;
    let (app, house) = house().await;
    let client = house.client("a").http2(house.address()).await.unwrap();
    let request = http::Request::connect("a:443").body(()).unwrap();
    assert_eq!(client.start(request, false).await.unwrap().response().await.unwrap().status, 405);
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(app.count(), 1);
    assert_eq!(house.metric("portcullis_requests_total", &[("verdict", "refused"), ("reason", "connect")]), 1.0);
}

#[tokio::test]
async fn an_upgrade_to_anything_but_websocket_is_not_passed_on() {
    let (app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    for upgrade in ["h2c", "TLS/1.0", "websocket/13"] {
        raw.say(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status(), answer.header("upgrade")), (200, None));
    }
    for seen in app.wait_for(3).await {
        assert_eq!((seen.header("upgrade"), seen.header("http2-settings")), (None, None));
    }
}

#[tokio::test]
async fn an_http2_body_that_contradicts_its_length_never_looks_whole_nor_hides_a_request() {
    let (app, house) = house().await;
    for length in ["0", "3", "1000"] {
        let before = app.count();
        let client = house.client("a").http2(house.address()).await.unwrap();
        let request = http::Request::post("/upload").header("content-length", length).body(()).unwrap();
        let mut exchange = client.start(request, false).await.unwrap();
        // The proxy may have refused the stream before its end is sent.
        let _ = exchange.send(format!("abc{SMUGGLED}")).await;
        let _ = exchange.finish();
        let answered = exchange.response().await;
        assert!(answered.map_or(true, |answer| answer.status == 400), "Content-Length: {length} was served");
        app.wait_until(|journal| journal.requests().iter().all(|seen| seen.state != BodyState::Open)).await;
        assert_nothing_smuggled(&app, length);
        let whole = app.requests().into_iter().skip(before).filter(|seen| seen.state == BodyState::Complete);
        assert_eq!(whole.count(), 0, "Content-Length: {length} was served as a whole request");
    }
}

#[tokio::test]
async fn two_lengths_or_an_empty_one_over_http2_never_reach_the_app() {
    for lengths in [&["4", "4"][..], &[""], &["", "4"], &["004", "4"]] {
        let (app, house) = house().await;
        let client = house.client("a").http2(house.address()).await.unwrap();
        for body in ["", "body"] {
            let mut request = http::Request::post("/upload");
            for length in lengths.iter().filter(|length| !body.is_empty() || length.is_empty() || **length == "0") {
                request = request.header("content-length", *length);
            }
            // A refusal may be a status or a reset.
            let _ = client.send(request.body(bytes::Bytes::from(body)).unwrap()).await;
        }
        assert_eq!(client.get("/next").await.unwrap().text(), "hello", "{lengths:?}");
        for seen in app.requests() {
            let plain = |length: &String| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let told = seen.all("content-length");
            assert!(told.len() <= 1 && told.iter().all(plain), "{lengths:?} arrived as {told:?}");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_no_authority_is_refused() {
    for host in ["a b", "a/b", "user@a", "a?b", "a#b", "[::1", "a\\b"] {
        assert_refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]).await;
    }
    let (app, house) = house().await;
    let mut raw = Raw::connect(&house, &house.client("a")).await;
    for host in ["a", "a.example:8080", "127.0.0.1:1", "[::1]:443", "a_b", ""] {
        raw.say(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(raw.answer().await.status(), 200, "{host:?}");
    }
    assert_eq!(app.count(), 6);
}
