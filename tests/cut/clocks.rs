//! What time ends: validity, ages, idleness, knowledge. The clock stands still until the test moves it, except where
//! the real one is the point.

use std::time::{Duration, Instant, SystemTime};

use http::Request;
use proxy::Clock;
use testkit::{Leaf, LeafSpec, OffsetDateTime, RecordingApp, whole};
use trust::{Policy, Time};

use crate::stage::{BOUND, Line, Stream, assert_cut, assert_left, stage};
use crate::support::{House, Pki};

async fn with_clock(policy: impl FnOnce(&mut Policy)) -> (RecordingApp, House) {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).with_clock().policy(policy).start();
    (app, house)
}

fn not_after(leaf: &Leaf) -> Time {
    Time::from_seconds(leaf.not_after().unix_timestamp())
}

const MILLISECOND: Duration = Duration::from_millis(1);

/// Streams over both protocols live until the clock shows `last` and are cut one millisecond later, for this reason.
async fn assert_ends_after(house: &House, client: &testkit::TlsClient, last: Time, reason: &str) {
    let [mut one, mut two] = Stream::both(house, client).await;
    house.set_time(last);
    one.flows().await;
    two.flows().await;
    let since = Instant::now();
    house.set_time(last.plus(MILLISECOND));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(house, 0.0, since).await;
    assert_cut(house, reason, 2.0).await;
}

/// Fails unless the proxy refuses the client's next connection for this reason.
async fn assert_denied(house: &House, client: &testkit::TlsClient, reason: &str) {
    let before = house.metric("portcullis_handshakes_total", &[("result", reason)]);
    let refused = async { client.http1(house.address()).await?.get("/").await };
    refused.await.expect_err("the client is refused");
    house.wait_for_metric("portcullis_handshakes_total", &[("result", reason)], before + 1.0).await;
}

#[tokio::test]
async fn a_certificate_lives_through_its_not_after_and_is_cut_one_millisecond_later() {
    let (_app, house) = with_clock(|_| ()).await;
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::minutes(5)));
    let client = house.client_of(&leaf);
    assert_ends_after(&house, &client, not_after(&leaf), "expired").await;
    assert_denied(&house, &client, "expired").await;
}

#[tokio::test]
async fn an_intermediate_that_expires_ends_the_sessions_below_it() {
    let (_app, house) = with_clock(|_| ()).await;
    let end = OffsetDateTime::now_utc() + testkit::Duration::minutes(5);
    let spec = testkit::AuthoritySpec::new("short intermediate").not_after(end);
    let issuing = house.pki.client_root.intermediate_with(spec);
    let client = house.client_of(&issuing.issue(LeafSpec::spiffe("spiffe://td/a")));
    assert_ends_after(&house, &client, Time::from_seconds(end.unix_timestamp()), "expired").await;
}

#[tokio::test]
async fn an_anchor_that_expires_ends_its_sessions() {
    let end = OffsetDateTime::now_utc() + testkit::Duration::minutes(5);
    let mut pki = Pki::new();
    pki.client_root = testkit::Authority::root_with(testkit::AuthoritySpec::new("short root").not_after(end));
    pki.issuing = pki.client_root.intermediate("issuing");
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).pki(pki).with_clock().start();
    assert_ends_after(&house, &house.client("a"), Time::from_seconds(end.unix_timestamp()), "expired").await;
}

#[tokio::test]
async fn a_certificate_is_cut_within_50_ms_of_its_not_after_by_the_real_clock() {
    let (_app, house) = stage().await;
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::seconds(3)));
    let [one, two] = Stream::both(&house, &house.client_of(&leaf)).await;
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(leaf.not_after().unix_timestamp().unsigned_abs());
    for mut stream in [one, two] {
        let mut last = SystemTime::now();
        while stream.step().await.is_ok() {
            last = SystemTime::now();
        }
        let late = last.duration_since(end).unwrap_or_default();
        assert!(late < BOUND, "a byte came {late:?} after notAfter");
        let early = end.duration_since(last).unwrap_or_default();
        assert!(early < Duration::from_secs(1), "the stream ended {early:?} before notAfter");
    }
    assert_cut(&house, "expired", 2.0).await;
}

#[tokio::test]
async fn a_session_ends_at_its_greatest_age() {
    let (_app, house) = with_clock(|policy| policy.max_session_age = Some(Duration::from_secs(60))).await;
    let last = house.live.now().plus(Duration::from_millis(59_999));
    let client = house.client("a");
    assert_ends_after(&house, &client, last, "session_too_old").await;
    // Only the session was too old: the same client may come again.
    assert_eq!(Line::both(&house, &client).await[1].status("/").await.unwrap(), 200);
}

#[tokio::test]
async fn a_certificate_ends_at_its_greatest_age_before_its_not_after() {
    let age = Duration::from_secs(2 * 3600);
    let (_app, house) = with_clock(|policy| policy.max_certificate_age = Some(age)).await;
    let born = OffsetDateTime::now_utc() - testkit::Duration::hours(1);
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/old").not_before(born));
    let end = Time::from_seconds(born.unix_timestamp()).plus(age);
    let client = house.client_of(&leaf);
    assert_ends_after(&house, &client, Time::from_millis(end.as_millis() - 1), "certificate_too_old").await;
    assert_denied(&house, &client, "certificate_too_old").await;
}

#[tokio::test]
async fn an_open_stream_is_not_idle_however_long_it_runs() {
    let (_app, house) = with_clock(|policy| policy.idle_timeout = Some(Duration::from_secs(30))).await;
    let mut streams = Stream::both(&house, &house.client("a")).await;
    for _ in 0..10 {
        house.advance(Duration::from_secs(60));
        for stream in &mut streams {
            stream.flows().await;
        }
    }
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn the_idle_clock_starts_at_the_end_of_the_last_request() {
    let (_app, house) = with_clock(|policy| policy.idle_timeout = Some(Duration::from_secs(30))).await;
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    client.get("/").await.unwrap();
    let (upload, body) = testkit::upload();
    let mut answer = client.open(Request::post("/echo").body(body).unwrap()).await.unwrap();
    house.advance(Duration::from_secs(25));
    upload.finish();
    answer.rest().await.1.unwrap();
    // When it is counted it has ended.
    house.wait_for_metric("portcullis_request_seconds_count", &[], 2.0).await;
    house.advance(Duration::from_millis(29_999));
    assert!(client.closed(Duration::from_millis(100)).await.is_none(), "30 s from the request's end are not over");
    let since = Instant::now();
    house.advance(MILLISECOND);
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "idle", 1.0).await;
}

#[tokio::test]
async fn a_connection_that_never_sends_a_request_is_idle_from_its_handshake() {
    let (_app, house) = with_clock(|policy| policy.idle_timeout = Some(Duration::from_secs(30))).await;
    let mut lines = Line::both(&house, &house.client("a")).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 2.0).await;
    house.advance(Duration::from_millis(29_999));
    assert_eq!(house.metric("portcullis_cuts_total", &[]), 0.0);
    let since = Instant::now();
    house.advance(MILLISECOND);
    for line in &mut lines {
        line.closed().await;
    }
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "idle", 2.0).await;
}

#[tokio::test]
async fn knowledge_that_expires_denies_everybody_until_a_fresh_list_comes() {
    let (app, house) = with_clock(|_| ()).await;
    let expiry = house.live.now().plus(Duration::from_secs(60));
    house.publish_list(house.list().expires_in(testkit::Duration::seconds(60)).text());
    // The list counts in whole milliseconds; what it says is what counts.
    let expiry = house.live.current().state.snapshot().and_then(|snapshot| snapshot.expires_at()).unwrap_or(expiry);
    let (a, b) = (house.client("a"), house.client("b"));
    let mut cut = Line::both(&house, &a).await;
    for line in &mut cut {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    let [one, two] = Stream::both(&house, &b).await;
    house.set_time(Time::from_millis(expiry.as_millis() - 1));
    for line in &mut cut {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    let since = Instant::now();
    house.set_time(expiry);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(&house, 0.0, since).await;
    assert_cut(&house, "snapshot_outdated", 4.0).await;
    assert_denied(&house, &a, "snapshot_outdated").await;
    let before = app.count();
    house.publish_list(house.list().text());
    for line in &mut cut {
        line.status("/again").await.expect_err("a cut session stays cut");
    }
    assert_eq!(app.count(), before);
    for client in [a, b] {
        for line in &mut Line::both(&house, &client).await {
            assert_eq!(line.status("/").await.unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn knowledge_that_is_too_old_for_the_operator_denies_like_expired_knowledge() {
    let (_app, house) = with_clock(|policy| policy.snapshot_max_age = Some(Duration::from_secs(60))).await;
    let issued = house.live.current().state.snapshot().and_then(|snapshot| snapshot.issued_at()).unwrap();
    assert_ends_after(&house, &house.client("a"), issued.plus(Duration::from_secs(60)), "snapshot_outdated").await;
}

#[tokio::test]
async fn a_request_finds_out_by_itself_that_time_is_up() {
    let (app, house) = with_clock(|_| ()).await;
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::minutes(5)));
    let mut lines = Line::both(&house, &house.client_of(&leaf)).await;
    for line in &mut lines {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    // Nobody wakes the workers: the requests come first, or the workers' own beat does.
    house.set_time_unannounced(not_after(&leaf).plus(MILLISECOND));
    for line in &mut lines {
        let denied = line.status("/late").await;
        assert!(matches!(denied, Ok(401) | Err(_)), "{denied:?}");
        line.closed().await;
    }
    assert_eq!(app.count(), 2);
    assert_cut(&house, "expired", 2.0).await;
}

#[tokio::test]
async fn a_clock_that_steps_back_revives_no_cut_session() {
    let (app, house) = with_clock(|_| ()).await;
    let leaf = house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::minutes(5)));
    let before = house.live.now();
    let mut lines = Line::both(&house, &house.client_of(&leaf)).await;
    for line in &mut lines {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    house.set_time(not_after(&leaf).plus(MILLISECOND));
    house.wait_for_metric("portcullis_cuts_total", &[("reason", "expired")], 2.0).await;
    house.set_time(before);
    for line in &mut lines {
        line.status("/again").await.expect_err("a cut session stays cut");
        line.closed().await;
    }
    assert_eq!(app.count(), 2);
}

#[tokio::test]
async fn a_forward_jump_that_is_taken_back_does_not_deny_new_connections_for_ever() {
    let (_app, house) = with_clock(|_| ()).await;
    let before = house.live.now();
    let client = house.client("a");
    let [one, two] = Stream::both(&house, &client).await;
    let since = Instant::now();
    house.set_time(before.plus(Duration::from_secs(3 * 24 * 3600)));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_denied(&house, &client, "expired").await;
    house.set_time(before);
    for line in &mut Line::both(&house, &client).await {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_machine_clock_that_was_set_back_by_an_hour_revives_no_certificate() {
    let app = RecordingApp::start().await;
    // At its start the proxy saw a wall clock that was an hour ahead of what it shows now.
    let now = Time::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64);
    let clock = Clock::Real { wall_at_start: now.plus(Duration::from_secs(3600)), started: Instant::now() };
    let house = House::before(app.addr()).clock(clock).start();
    let short =
        house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/short").valid_for(testkit::Duration::minutes(30)));
    assert_denied(&house, &house.client_of(&short), "expired").await;
    assert_eq!(Line::both(&house, &house.client("a")).await[0].status("/").await.unwrap(), 200);
}

#[tokio::test]
async fn a_machine_clock_that_was_ahead_for_a_while_denies_only_for_that_while() {
    let app = RecordingApp::start().await;
    // At its start the proxy saw a wall clock that was right; what it shows now is what counts, if it is later.
    let now = Time::from_millis((OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64);
    let behind = Time::from_millis(now.as_millis() - 24 * 3600 * 1000);
    let house = House::before(app.addr()).clock(Clock::Real { wall_at_start: behind, started: Instant::now() }).start();
    let mut client = house.client("a").http1(house.address()).await.unwrap();
    let answer = client.open(Request::get("/").body(whole("")).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(house.live.now() >= now, "the later of both clocks counts");
}
