//! Heads as weapons: blocks without end, and tables that repeat much for little.

use testkit::{Ending, RawApp};
use tokio::io::AsyncWriteExt as _;

use crate::ground::Ground;
use crate::wire::{
    self, CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, assault, field, frame, head,
    repeated,
};

/// What an attack by heads may cost, in kilobytes.
const HEADS: u64 = 32 * 1024;
/// A field's name and value that fill HPACK's table of 4,096 bytes, 32 of which are counted for the entry itself.
const VALUE: usize = 4096 - 32 - 1;

/// A request whose block puts one large field into the table and repeats it so often.
fn bomb(stream: u32, repeats: usize) -> Vec<Vec<u8>> {
    // 0x40: a literal with a new name that goes into the table; 0xbe: the table's newest entry, in one byte.
    let mut block = head("GET", "/bomb");
    block.extend([&[0x40], &field(b"x")[..], &field(&[b'y'; VALUE])].concat());
    block.extend(vec![0xbe; repeats]);
    let mut pieces = block.chunks(16_000).peekable();
    let mut frames = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { END_STREAM | last } else { last };
        frames.push(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    frames
}

#[tokio::test]
async fn a_head_that_goes_on_without_end_ends_its_connection() {
    let ground = Ground::with(|flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let literal = |value: &[u8]| [&[0x40][..], &field(b"x"), &field(value)].concat();
    for (kind, piece) in [("empty", Vec::new()), ("small", literal(b"y")), ("large", literal(&[b'y'; 16_000]))] {
        let mut stream = wire::open(&client, address).await;
        stream.write_all(&frame(HEADERS, END_STREAM, 1, &head("GET", "/without-end"))).await.unwrap();
        let seen = assault(stream, repeated(frame(CONTINUATION, 0, 1, &piece), 100_000)).await;
        println!("{kind} CONTINUATION frames: {:?} after {:.1?}, GOAWAY {:?}", seen.ending, seen.after, seen.goaway());
        assert_ne!(seen.ending, Ending::StillOpen, "{kind}");
        assert!(matches!(seen.goaway(), Some(ENHANCE_YOUR_CALM) | None), "{kind}: {:?}", seen.goaway());
    }
    honest.end("CONTINUATION floods").await;
    ground.assert_memory("CONTINUATION floods", HEADS);
    ground.wait_for_limit("flood", 3.0).await;
    assert!(ground.stage.app.requests().iter().all(|seen| seen.uri != "/without-end"));
}

#[tokio::test]
async fn a_head_that_unpacks_to_much_more_than_it_says_is_refused() {
    let ground = Ground::with(|flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    // 64 MB in 16 kB: far beyond the limit, which ends the connection.
    let mut frames = bomb(1, 16_000).into_iter();
    let seen = assault(wire::open(&client, address).await, || frames.next()).await;
    assert_eq!(seen.goaway(), Some(ENHANCE_YOUR_CALM), "{:?}", seen.ending);
    ground.wait_for_limit("flood", 1.0).await;
    // 100 kB in 4 kB: beyond the limit, which is answered, a thousand times on each of ten connections.
    let mut attackers = Vec::new();
    for _ in 0..10 {
        // It says goodbye behind them, so that the proxy closes once it has answered.
        let goodbye = frame(GOAWAY, 0, 0, &[0; 8]);
        let mut streams = (0..1_000).map(|number| bomb(2 * number + 1, 24).concat()).chain([goodbye]);
        let stream = wire::open(&client, address).await;
        attackers.push(tokio::spawn(assault(stream, move || streams.next())));
    }
    for attacker in attackers {
        let seen = attacker.await.unwrap();
        println!("bombs of 100 kB: {:?} after {:.1?}, {} answered", seen.ending, seen.after, seen.count(HEADERS));
        assert_ne!(seen.ending, Ending::StillOpen);
    }
    assert!(ground.limited("header_bytes").await >= 100.0);
    honest.end("HPACK bombs").await;
    ground.assert_memory("HPACK bombs", HEADS);
    assert!(ground.stage.app.requests().iter().all(|seen| seen.uri != "/bomb"), "a bomb reached the app");
}

#[tokio::test]
async fn heads_within_the_limit_held_open_by_the_thousand_hold_bounded_memory() {
    let app = RawApp::silent().await;
    let ground = Ground::before(&app.addr().to_string(), |flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let mut attackers = Vec::new();
    for _ in 0..10 {
        let mut stream = wire::open(&client, address).await;
        for number in 0..100 {
            stream.write_all(&bomb(2 * number + 1, 13).concat()).await.unwrap();
        }
        attackers.push(stream);
    }
    app.wait_for_connections(1_000).await;
    // Each of the thousand is 57 kB of head, which the app gets as a whole.
    ground.assert_memory("1,000 heads of 57 kB that the app does not answer", 1_000 * 160);
    let held: usize = attackers.len();
    assert_eq!(held, 10);
}
