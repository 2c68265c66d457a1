//! Tunnels as an operator sees them, and their end at an operator's hand.

use std::time::Instant;

use proxy::{Order, Wanted};
use testkit::websocket::{Frame, TEXT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{BOTH, Over, Version, open, open_connect};
use crate::connect::listening;
use crate::cuts::close;
use crate::stage::{assert_cut, assert_left, assert_prompt};
use crate::support::House;
use crate::traffic::app;

const WORD: &str = "ended_by_operator";

/// Fails unless one session with one open request is listed; then ends it.
async fn end_the_one(house: &House, version: Version) -> Instant {
    let [row] = house.live.sessions(Wanted::default()).next().await.unwrap().try_into().unwrap();
    let protocol = if version == Version::One { "http1" } else { "http2" };
    assert_eq!((row.negotiated.protocol(), row.requests, row.open), (protocol, 1, 1), "{row:?}");
    let since = Instant::now();
    let order = Order { by: "anna".to_owned(), why: "incident 7".to_owned() };
    let ended = house.live.end(Wanted { id: Some(row.id), ..Wanted::default() }, order).await;
    assert_eq!(ended.sessions.len(), 1);
    since
}

#[tokio::test]
async fn a_websocket_is_listed_and_an_operators_kill_is_told_by_close_1008() {
    let app = app(|mut stream| async move {
        stream.write_all(&Frame::new(TEXT, "one").bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for version in BOTH {
        let house = House::before(app.addr()).start();
        let mut tunnel = open(&house, &house.client("a"), version).await;
        assert_eq!(tunnel.frame().await, Frame::new(TEXT, "one"));
        let since = end_the_one(&house, version).await;
        let (frames, rest, over) = tunnel.frames().await;
        assert_prompt(since, "the Close");
        assert_eq!((frames, rest, over), (vec![close(WORD)], Vec::new(), Over::Clean), "{version:?}");
        assert_left(&house, 0.0, since).await;
        assert_cut(&house, WORD, 1.0).await;
    }
}

#[tokio::test]
async fn a_connect_tunnel_is_listed_and_breaks_off_at_an_operators_kill() {
    let (app, _) = listening().await;
    for version in BOTH {
        let house = House::before(app.addr()).allow_connect().start();
        let mut tunnel = open_connect(&house, &house.client("a"), version).await;
        let since = end_the_one(&house, version).await;
        let (bytes, over) = tunnel.rest().await;
        assert_prompt(since, "the break");
        assert!(bytes.is_empty() && matches!(over, Over::Broken(_)), "{version:?}: {over:?}");
        assert_left(&house, 0.0, since).await;
        assert_cut(&house, WORD, 1.0).await;
    }
}
