//! A tunnel as an operator sees it, and its end at an operator's hand.

use std::time::{Duration, Instant};

use proxy::{Order, Wanted};

use crate::stage::{HandedOver, RESET, assert_cut, assert_left};
use crate::stamps::Side;

#[tokio::test]
async fn a_tunnel_is_listed_and_an_operators_kill_resets_both_of_its_sides() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let beginning = Instant::now();
    let (client, app) = app.session(&house).await;
    let sides = [Side::start(client, beginning), Side::start(app, beginning)];
    for side in &sides {
        side.flows().await;
    }
    let [row] = house.live.sessions(Wanted::default()).next().await.unwrap().try_into().unwrap();
    assert_eq!((row.negotiated.protocol(), row.identity.as_str()), ("tcp", "uri:spiffe://td/a"));
    assert_eq!((row.requests, row.open, row.parked), (1, 1, false), "a tunnel is one open request");
    assert!(row.sent > 0 && row.received > 0, "{row:?}");
    let since = Instant::now();
    let order = Order { by: "anna".to_owned(), why: "incident 7".to_owned() };
    let ended = house.live.end(Wanted { id: Some(row.id), ..Wanted::default() }, order).await;
    let answered = beginning.elapsed();
    assert_eq!(ended.sessions.len(), 1);
    assert_left(&house, 0.0, since).await;
    for (side, who) in sides.into_iter().zip(["client", "app"]) {
        let heard = side.heard().await;
        assert!(heard.last <= answered, "the {who} got a byte sent {:?} after the end", heard.last - answered);
        assert_eq!(heard.ending, RESET, "the {who}'s connection is reset, and does not end");
        assert!(
            heard.ended - since < Duration::from_millis(200),
            "the {who} learnt it after {:?}",
            heard.ended - since
        );
    }
    assert_cut(&house, "ended_by_operator", 1.0).await;
}
