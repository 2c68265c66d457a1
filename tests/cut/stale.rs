//! Knowledge past its expiry that serves because the operator said so: loudly, and only for as long as was said.

use std::time::{Duration, Instant};

use testkit::RecordingApp;
use trust::Stale;

use crate::audit::Lines;
use crate::stage::{Line, Stream, assert_cut, assert_left};
use crate::support::{House, eventually};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn serving(stale: Stale) -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).with_clock().policy(|policy| policy.stale = stale).start();
    house.publish_list(house.list().expires_in(testkit::Duration::hours(1)).text());
    (app, house)
}

/// What the line of this event about this identity says about staleness, once it is there.
async fn told(lines: &Lines, identity: &str, event: &str) -> Option<bool> {
    lines.wait_for(identity, event).await;
    let line = lines.about(identity).into_iter().find(|line| line["event"] == event).unwrap();
    line.get("stale").map(|stale| stale.as_bool().unwrap())
}

#[tokio::test]
async fn in_its_grace_stale_knowledge_serves_with_a_gauge_and_a_mark_in_every_line_and_then_cuts() {
    let lines = Lines::installed();
    let (_app, house) = serving(Stale::Grace(HOUR)).await;
    let [one, two] = Stream::both(&house, &house.client("stale/early")).await;
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 0.0);
    assert_eq!(told(&lines, "uri:spiffe://td/stale/early", "session_opened").await, None);
    house.advance(HOUR + MINUTE);
    let [mut late, _] = Line::both(&house, &house.client("stale/late")).await;
    assert_eq!(late.status("/").await.unwrap(), 200);
    assert!(house.live.is_stale());
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 1.0);
    assert_eq!(told(&lines, "uri:spiffe://td/stale/late", "session_opened").await, Some(true));
    drop(late);
    assert_eq!(told(&lines, "uri:spiffe://td/stale/late", "session_closed").await, Some(true));
    house.wait_for_metric("portcullis_sessions_active", &[], 2.0).await;
    let since = Instant::now();
    house.advance(HOUR - MINUTE);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "snapshot_outdated", 2.0).await;
    // It serves no more: what is outdated now is told by the denial, and by the age.
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 0.0);
}

#[tokio::test]
async fn without_a_grace_nothing_is_ever_stale_and_served() {
    let (_app, house) = serving(Stale::Deny).await;
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let since = Instant::now();
    house.advance(HOUR);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_cut(&house, "snapshot_outdated", 2.0).await;
    assert!(!house.live.is_stale());
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 0.0);
}

#[tokio::test]
async fn stale_knowledge_that_serves_for_ever_still_cuts_whom_it_names_and_is_over_with_a_fresh_list() {
    let lines = Lines::installed();
    let (_app, house) = serving(Stale::Serve).await;
    house.advance(HOUR * 3);
    let mut stage = Stream::both(&house, &house.client("stale/kept")).await;
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 1.0);
    let [one, two] = Stream::both(&house, &house.client("stale/named")).await;
    house.publish_list(house.list().id("spiffe://td/stale/gone").expires_in(testkit::Duration::hours(1)).text());
    assert_eq!(house.metric("portcullis_snapshot_stale", &[]), 0.0);
    house.advance(HOUR + MINUTE);
    eventually("it is stale again", || house.metric("portcullis_snapshot_stale", &[]) == 1.0).await;
    let refused = async { house.client("stale/gone").http1(house.address()).await?.get("/").await };
    refused.await.expect_err("an entry of a stale list denies");
    assert_eq!(told(&lines, "uri:spiffe://td/stale/gone", "session_denied").await, Some(true));
    let since = Instant::now();
    house.publish_list(house.list().id("spiffe://td/stale/named").expires_in(testkit::Duration::hours(1)).text());
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut stage {
        stream.flows().await;
    }
    assert_eq!(told(&lines, "uri:spiffe://td/stale/named", "session_cut").await, None);
}
