//! Requests hidden in HTTP/2 heads, which no client library would send: what HTTP/1.1 would read as two.
//! Those over HTTP/1.1 are in `tests/traffic/smuggling.rs`.

use testkit::Ending;

use crate::ground::Ground;
use crate::wire::{self, END_HEADERS, END_STREAM, HEADERS, assault, field, frame, request};

/// A literal field of a new name, not indexed.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &field(name), &field(value)].concat()
}

#[tokio::test]
async fn what_could_be_read_as_two_requests_never_arrives_as_more_than_one() {
    let ground = Ground::with(|flags| flags).await;
    let client = ground.client("smuggler");
    let hidden = b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let pseudo = |method: &[u8], path: &[u8], authority: &[u8]| {
        let scheme = literal(b":scheme", b"https");
        [literal(b":method", method), scheme, literal(b":path", path), literal(b":authority", authority)].concat()
    };
    let plain = pseudo(b"GET", b"/", b"localhost");
    let with = |name: &[u8], value: &[u8]| [plain.clone(), literal(name, value)].concat();
    let shapes: [(&str, Vec<u8>); 14] = [
        ("a value with a line's end", with(b"x", hidden)),
        ("a value with a bare line feed", with(b"x", b"a\nGET /smuggled HTTP/1.1")),
        ("a value with a zero", with(b"x", b"a\0b")),
        ("a name with a colon", with(b"x: a\r\nhost", b"b")),
        ("a name with a blank", with(b"transfer-encoding ", b"chunked")),
        ("a name in capitals", with(b"Transfer-Encoding", b"chunked")),
        ("a transfer encoding", with(b"transfer-encoding", b"chunked")),
        ("a connection field", with(b"connection", b"close")),
        ("an upgrade", with(b"upgrade", b"h2c")),
        ("a path with a line's end", pseudo(b"GET", b"/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled", b"localhost")),
        ("a path with a blank", pseudo(b"GET", b"/ /smuggled", b"localhost")),
        ("a method with a line's end", pseudo(b"GET /smuggled HTTP/1.1\r\n\r\nGET", b"/", b"localhost")),
        ("an authority with a line's end", pseudo(b"GET", b"/", b"a\r\n\r\nGET /smuggled HTTP/1.1")),
        ("a second path", [plain.clone(), literal(b":path", b"/smuggled")].concat()),
    ];
    for (shape, block) in shapes {
        let mut pieces = vec![
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &block),
            request(3, "/after"),
            // Says goodbye, so that the proxy closes when it has answered.
            frame(wire::GOAWAY, 0, 0, &[0; 8]),
        ]
        .into_iter();
        let seen = assault(wire::open(&client, ground.address()).await, || pieces.next()).await;
        assert_ne!(seen.ending, Ending::StillOpen, "{shape}");
        for arrived in ground.stage.app.requests() {
            assert!(["/", "/after"].contains(&arrived.uri.as_str()), "{shape}: {}", arrived.uri);
            assert!(arrived.header("transfer-encoding").is_none(), "{shape}");
        }
        assert!(!ground.stage.app.wires().concat().windows(9).any(|part| part == b"/smuggled"), "{shape}");
    }
}
