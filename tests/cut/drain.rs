//! Planned ends are gentle: a session is asked to leave before its end, at a moment of its own, and loses no request
//! by it. The clock stands still until the test moves it.

use std::time::{Duration, Instant};

use http::Request;
use testkit::{Ending, Http1Client, LeafSpec, OffsetDateTime, RecordingApp};
use trust::{Policy, Time};

use crate::stage::{Line, Stream, Wire, assert_cut, assert_left};
use crate::support::House;

const MINUTE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(8);
/// Within the window's first half everybody has been asked.
const ASKED: Duration = Duration::from_secs(4);
/// So long before the end a connection that rests is closed, if not sooner.
const CLOSED: Duration = Duration::from_millis(350);

async fn house(policy: impl FnOnce(&mut Policy)) -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let limits = |limits: &mut proxy::Limits| limits.drain = WINDOW;
    let house = House::before(app.addr()).limits(limits).with_clock().policy(policy).start();
    (app, house)
}

/// The same with sessions that end after a minute.
async fn house_of_minutes() -> (RecordingApp, House) {
    house(|policy| policy.max_session_age = Some(MINUTE)).await
}

fn drains(house: &House, limit: &str) -> f64 {
    house.metric("portcullis_drains_total", &[("limit", limit)])
}

/// Sessions so far that ended for this reason.
async fn wait_for_ends(house: &House, reason: &str, count: f64) {
    house.wait_for_metric("portcullis_sessions_closed_total", &[("reason", reason)], count).await;
}

/// One more request, and whether its answer asks the client to go.
async fn is_told(client: &mut Http1Client) -> bool {
    let answer = client.get("/").await.unwrap();
    assert_eq!(answer.status, 200);
    answer.header("connection").as_deref() == Some("close")
}

/// Sessions of both versions are asked within the window before `end`, for this limit, and not before; the one by
/// HTTP/2 has a stream under way that lives on until the end itself.
async fn assert_asked_before(house: &House, client: &testkit::TlsClient, end: Time, limit: &str) {
    let mut one = client.http1(house.address()).await.unwrap();
    let mut stream = Stream::over(Line::Two(client.http2(house.address()).await.unwrap())).await;
    house.set_time(Time::from_millis(end.as_millis() - 8_001));
    assert!(!is_told(&mut one).await, "asked before the window");
    assert_eq!(drains(house, limit), 0.0);
    // A client that comes four times a second is told by an answer: its connection never rests long enough to close.
    let mut left = 8_000;
    while !is_told(&mut one).await {
        left -= 250;
        assert!(left > 3_500, "not asked in the time for asking");
        house.set_time(Time::from_millis(end.as_millis() - left));
        // The workers have looked at their sessions under this time, or the next answer is the one.
        tokio::task::yield_now().await;
    }
    one.closed(MINUTE).await.expect("the connection is closed").unwrap();
    wait_for_ends(house, "drained", 1.0).await;
    house.set_time(Time::from_millis(end.as_millis() - 1));
    house.wait_for_metric("portcullis_drains_total", &[("limit", limit)], 2.0).await;
    stream.flows().await;
    let since = Instant::now();
    house.set_time(end);
    stream.must_be_cut(since).await;
    assert_left(house, 0.0, since).await;
}

#[tokio::test]
async fn whoever_reaches_the_greatest_session_age_is_asked_to_leave_before_and_cut_on_time() {
    let (_app, house) = house_of_minutes().await;
    let end = house.live.now().plus(MINUTE);
    assert_asked_before(&house, &house.client("a"), end, "max_session_age").await;
    assert_cut(&house, "session_too_old", 1.0).await;
}

#[tokio::test]
async fn whose_certificate_expires_is_asked_to_leave_before_and_cut_on_time() {
    let (_app, house) = house(|_| ()).await;
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::minutes(5)));
    let end = Time::from_seconds(leaf.not_after().unix_timestamp()).next();
    assert_asked_before(&house, &house.client_of(&leaf), end, "leaf_not_after").await;
    assert_cut(&house, "expired", 1.0).await;
}

#[tokio::test]
async fn whose_certificate_gets_too_old_is_asked_to_leave_before_and_cut_on_time() {
    let age = Duration::from_secs(2 * 3600);
    let (_app, house) = house(|policy| policy.max_certificate_age = Some(age)).await;
    let born = OffsetDateTime::now_utc() - testkit::Duration::hours(1);
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/old").not_before(born));
    let end = Time::from_seconds(born.unix_timestamp()).plus(age);
    assert_asked_before(&house, &house.client_of(&leaf), end, "max_certificate_age").await;
    assert_cut(&house, "certificate_too_old", 1.0).await;
}

#[tokio::test]
async fn nobody_is_asked_before_an_end_that_was_not_planned() {
    let (_app, house) = house(|policy| policy.idle_timeout = Some(MINUTE)).await;
    house.publish_list(house.list().expires_in(testkit::Duration::seconds(60)).text());
    let mut one = house.client("a").http1(house.address()).await.unwrap();
    assert!(!is_told(&mut one).await);
    house.advance(Duration::from_secs(59));
    assert!(!is_told(&mut one).await);
    house.advance(Duration::from_secs(2));
    assert_cut(&house, "snapshot_outdated", 1.0).await;
    assert_eq!(house.metric("portcullis_drains_total", &[]), 0.0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_within_the_window_parked_or_not() {
    for park_after in [Duration::from_millis(10), MINUTE] {
        let app = RecordingApp::start().await;
        let limits = |limits: &mut proxy::Limits| (limits.drain, limits.park_after) = (WINDOW, park_after);
        let policy = |policy: &mut Policy| policy.max_session_age = Some(MINUTE);
        let house = House::before(app.addr()).limits(limits).with_clock().policy(policy).start();
        let mut wire = Wire::connect(&house, &house.client("a")).await;
        wire.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        wire.until(b"hello").await;
        // Nothing shows from outside that a session was parked; a worker looks for quiet ones once a second.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        house.advance(MINUTE - CLOSED);
        assert_eq!(wire.rest().await, (String::new(), Ending::Clean));
        wait_for_ends(&house, "drained", 1.0).await;
    }
}

#[tokio::test]
async fn a_request_half_sent_when_its_idle_connection_is_to_close_is_answered() {
    for park_after in [Duration::from_millis(10), MINUTE] {
        let app = RecordingApp::start().await;
        let limits = |limits: &mut proxy::Limits| (limits.drain, limits.park_after) = (WINDOW, park_after);
        let policy = |policy: &mut Policy| policy.max_session_age = Some(MINUTE);
        let house = House::before(app.addr()).limits(limits).with_clock().policy(policy).start();
        let mut wire = Wire::connect(&house, &house.client("a")).await;
        wire.say("GET / HTTP/1.1\r\nHost: loc").await;
        // The half is taken in, and parked with its session if that is to be.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        house.advance(MINUTE - CLOSED);
        house.wait_for_metric("portcullis_drains_total", &[], 1.0).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(house.metric("portcullis_sessions_active", &[]), 1.0, "closed in the middle of a request");
        wire.say("alhost\r\n\r\n").await;
        let (text, ending) = wire.rest().await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text:?}");
        assert!(text.to_lowercase().contains("\r\nconnection: close\r\n"), "{text:?}");
        assert_eq!(ending, Ending::Clean);
    }
}

#[tokio::test]
async fn a_connection_whose_answer_was_under_way_when_it_was_asked_closes_when_it_rests() {
    let (_app, house) = house_of_minutes().await;
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    let (upload, body) = testkit::upload();
    let mut answer = client.open(Request::post("/echo").body(body).unwrap()).await.unwrap();
    house.advance(MINUTE - Duration::from_secs(1));
    house.wait_for_metric("portcullis_drains_total", &[], 1.0).await;
    upload.finish();
    answer.rest().await.1.unwrap();
    assert!(answer.headers.get("connection").is_none(), "its head was out before");
    house.wait_for_metric("portcullis_request_seconds_count", &[], 1.0).await;
    house.advance(Duration::from_millis(650));
    client.closed(MINUTE).await.expect("the connection is closed").unwrap();
    wait_for_ends(&house, "drained", 1.0).await;
}

#[tokio::test]
async fn the_sessions_of_one_instant_are_asked_one_after_the_other() {
    const CROWD: usize = 120;
    let (_app, house) = house_of_minutes().await;
    let client = house.client("a");
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(client.http1(house.address()).await.unwrap());
    }
    house.wait_for_metric("portcullis_sessions_active", &[], CROWD as f64).await;
    house.advance(MINUTE - WINDOW);
    let mut before = drains(&house, "max_session_age");
    // Twelve steps through the time of asking: each brings its part, and the last has brought all.
    for step in 1..=12_u32 {
        house.advance(ASKED / 12);
        let due = CROWD as f64 / 12.0;
        let least = (due * f64::from(step) - 4.0).max(0.0);
        house.wait_for_metric_of_at_least("portcullis_drains_total", &[], least).await;
        let now = drains(&house, "max_session_age");
        assert!(now - before <= due + 5.0, "{} of {CROWD} in the step {step}", now - before);
        before = now;
    }
    house.wait_for_metric("portcullis_drains_total", &[], CROWD as f64).await;
    // They rest, so all have left before their end; nobody was cut.
    house.advance(WINDOW - ASKED - CLOSED);
    wait_for_ends(&house, "drained", CROWD as f64).await;
    assert_eq!(house.metric("portcullis_cuts_total", &[]), 0.0);
    drop(crowd);
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_a_session_that_was_asked_to_leave() {
    let (_app, house) = house_of_minutes().await;
    let streams = Stream::both(&house, &house.client("a")).await;
    house.advance(MINUTE - Duration::from_secs(2));
    house.wait_for_metric("portcullis_drains_total", &[], 2.0).await;
    let since = Instant::now();
    house.revoke("a");
    let [one, two] = streams;
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_cut(&house, "revoked", 2.0).await;
}

#[tokio::test]
async fn a_publish_moves_no_departure_and_asks_nobody_twice() {
    let (_app, house) = house_of_minutes().await;
    let _streams = Stream::both(&house, &house.client("a")).await;
    for _ in 0..5 {
        house.revoke("b");
    }
    house.advance(MINUTE - Duration::from_secs(2));
    house.wait_for_metric("portcullis_drains_total", &[], 2.0).await;
    for _ in 0..5 {
        let epoch = house.revoke("b");
        assert_eq!(house.live.epoch(), epoch);
    }
    // A new session comes and goes: the sweep has turned since.
    let mut other = house.client("c").http1(house.address()).await.unwrap();
    assert!(!is_told(&mut other).await);
    assert_eq!(drains(&house, "max_session_age"), 2.0);
}

#[tokio::test]
async fn without_a_window_nobody_is_asked() {
    let app = RecordingApp::start().await;
    let policy = |policy: &mut Policy| policy.max_session_age = Some(MINUTE);
    let limits = |limits: &mut proxy::Limits| limits.drain = Duration::ZERO;
    let house = House::before(app.addr()).limits(limits).with_clock().policy(policy).start();
    let mut one = house.client("a").http1(house.address()).await.unwrap();
    assert!(!is_told(&mut one).await);
    house.advance(MINUTE - Duration::from_millis(1));
    assert!(!is_told(&mut one).await);
    house.advance(Duration::from_millis(1));
    assert_cut(&house, "session_too_old", 1.0).await;
    assert_eq!(house.metric("portcullis_drains_total", &[]), 0.0);
}

#[tokio::test]
async fn a_client_asked_to_leave_finds_a_new_connection_that_stays() {
    let (_app, house) = house(|policy| policy.max_session_age = Some(Duration::from_secs(2))).await;
    let client = house.client("a");
    // A second of the two has gone by when the first may be asked: half of the life, not all of it.
    let mut one = client.http1(house.address()).await.unwrap();
    assert!(!is_told(&mut one).await);
    house.advance(Duration::from_millis(999));
    assert!(!is_told(&mut one).await);
    // In steps so short that it does not rest in between.
    let mut left = 1_000;
    while !is_told(&mut one).await {
        left -= 50;
        assert!(left > 400, "not asked in the time for asking");
        house.advance(Duration::from_millis(50));
    }
    one.closed(MINUTE).await.expect("the connection is closed").unwrap();
    let mut again = client.http1(house.address()).await.unwrap();
    assert!(!is_told(&mut again).await);
    wait_for_ends(&house, "drained", 1.0).await;
}
