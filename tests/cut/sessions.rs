//! Who is connected, and the sessions that an operator ends: told as they are, ended like any other that is cut.
//! Nothing here is revoked: whoever was ended may come back, and does.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use proxy::{Ended, Order, Row, Wanted};
use testkit::{H2cApp, RecordingApp, TlsClient, hex};
use trust::{IdentityPattern, Limit};

use crate::audit::Lines;
use crate::stage::{Stream, Wire, assert_cut, assert_left, assert_prompt, stage};
use crate::support::{House, PATIENCE, eventually};

fn of(name: &str) -> Wanted {
    let identity = IdentityPattern::parse(&format!("uri:spiffe://td/{name}")).unwrap();
    Wanted { identity: Some(identity), ..Wanted::default() }
}

async fn rows(house: &House, wanted: Wanted) -> Vec<Row> {
    let (mut rows, mut roster) = (Vec::new(), house.live.sessions(wanted));
    while let Some(some) = roster.next().await {
        rows.extend(some);
    }
    assert_eq!(roster.unheard(), 0);
    rows
}

async fn end(house: &House, name: &str) -> Ended {
    let order = Order { by: "uri:spiffe://ops/anna".to_owned(), why: "incident 7".to_owned() };
    let ended = house.live.end(of(name), order).await;
    assert_eq!(ended.unheard, 0);
    ended
}

#[tokio::test]
async fn an_operators_kill_ends_every_open_answer_and_the_client_comes_back_at_once() {
    let (app, house) = stage().await;
    let alice = house.client("alice");
    let [mut bobs, other] = Stream::both(&house, &house.client("bob")).await;
    let mut waiting = Wire::connect(&house, &alice).await;
    waiting.say("GET /slow/60000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    app.wait_for(3).await;
    let [one, two] = Stream::both(&house, &alice).await;
    let mut idle = Wire::connect(&house, &alice).await;
    house.wait_for_metric("portcullis_sessions_active", &[], 6.0).await;
    let since = Instant::now();
    let ended = end(&house, "alice").await;
    assert_eq!(ended.sessions.len(), 4);
    let idle_ends = async { assert_eq!(idle.rest().await.0, "") };
    tokio::join!(
        waiting.is_told("ended_by_operator", since),
        one.must_be_cut(since),
        two.must_be_cut(since),
        idle_ends
    );
    assert_left(&house, 2.0, since).await;
    assert_cut(&house, "ended_by_operator", 4.0).await;
    bobs.flows().await;
    drop(other);
    assert_eq!(alice.http1(house.address()).await.unwrap().get("/").await.unwrap().status, 200);
    assert!(end(&house, "nobody").await.sessions.is_empty());
}

#[tokio::test]
async fn an_operators_kill_ends_grpc_with_status_16_and_its_word() {
    let app = H2cApp::start().await;
    let house = House::before(app.addr()).start();
    let mut client = house.client("a").http2(house.address()).await.unwrap();
    let call = Request::post("/stream").header("content-type", "application/grpc").header("te", "trailers");
    let exchange = client.start(call.body(()).unwrap(), false).await.unwrap();
    let (_upload, mut download) = exchange.split().await.unwrap();
    download.next().await.unwrap().unwrap();
    let since = Instant::now();
    assert_eq!(end(&house, "a").await.sessions.len(), 1);
    let (_, told) = download.rest().await;
    told.expect("gRPC tells by trailers");
    assert_eq!(download.trailers()["grpc-status"].as_bytes(), b"16");
    assert_eq!(download.trailers()["grpc-message"].as_bytes(), b"portcullis: ended_by_operator");
    client.closed(PATIENCE).await.expect("the connection is closed in time").ok();
    assert_prompt(since, "the close");
}

#[tokio::test]
async fn the_audit_says_who_ended_a_session_and_why() {
    let lines = Lines::installed();
    let (_app, house) = stage().await;
    let identity = "uri:spiffe://td/kill/told";
    let mut client = house.client("kill/told").http1(house.address()).await.unwrap();
    client.get("/").await.unwrap();
    let [row] = rows(&house, of("kill/told")).await.try_into().unwrap();
    let ended = end(&house, "kill/told").await;
    lines.wait_for(identity, "session_closed").await;
    let seen = lines.about(identity);
    let told: Vec<&str> = seen.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(told, ["session_opened", "session_cut", "session_closed"]);
    let cut = &seen[1];
    assert_eq!((&cut["reason"], &cut["by"]), (&"ended_by_operator".into(), &"uri:spiffe://ops/anna".into()), "{cut}");
    assert_eq!((&cut["why"], &seen[2]["reason"]), (&"incident 7".into(), &"ended_by_operator".into()), "{cut}");
    // The list, the answer to the order and the log speak of the same session in the same words.
    assert_eq!((row.id, row.identity.as_str()), (ended.sessions[0].id, identity));
    assert_eq!((&cut["session"], &cut["serial"]), (&row.id.into(), &hex(&row.serial).into()), "{cut}");
    assert_eq!((&cut["issuer_key"], &cut["peer"]), (&row.issuer_key.to_string().into(), &row.peer.to_string().into()));
}

#[tokio::test]
async fn a_row_tells_what_its_session_does() {
    let app = RecordingApp::start().await;
    let age = Duration::from_secs(600);
    let limits = |limits: &mut proxy::Limits| limits.park_after = Duration::from_millis(20);
    let house = House::before(app.addr()).with_clock().limits(limits);
    let house = house.policy(|policy| policy.max_session_age = Some(age)).start();
    let root = house.pki.server_root.der();
    let mut older = TlsClient::tls12(root, Some(&house.leaf("older"))).http1(house.address()).await.unwrap();
    older.get("/bytes/1000").await.unwrap();
    let newer = TlsClient::tls13(root, Some(&house.leaf("newer"))).http2(house.address()).await.unwrap();
    let mut download = newer.download("/stream").await.unwrap();
    download.next().await.unwrap().unwrap();
    let [row] = rows(&house, of("newer")).await.try_into().unwrap();
    let said = (row.negotiated.protocol(), row.negotiated.tls_version(), row.negotiated.key_exchange().is_empty());
    assert_eq!(said, ("http2", "1.3", false));
    assert!(row.negotiated.cipher_suite().starts_with("TLS_"), "{row:?}");
    assert_eq!((row.requests, row.open, row.inbound, row.parked, row.leaving), (1, 1, 0, false, false));
    assert_eq!(row.ends, Some((Limit::MaxSessionAge, house.live.now().plus(age))));
    assert_eq!(row.epoch, house.live.epoch());
    let parked = async || rows(&house, of("older")).await[0].parked;
    let since = Instant::now();
    while !parked().await {
        assert!(since.elapsed() < PATIENCE, "an idle session is parked in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [row] = rows(&house, of("older")).await.try_into().unwrap();
    assert_eq!((row.negotiated.protocol(), row.negotiated.tls_version()), ("http1", "1.2"));
    assert!(row.negotiated.cipher_suite().starts_with("TLS_ECDHE_"), "{row:?}");
    assert!(row.sent > 1000 && row.received > 10 && row.open == 0, "{row:?}");
    // What a publish changes shows when the session is judged again.
    let epoch = house.publish_policy(|policy| policy.idle_timeout = Some(Duration::from_secs(5)));
    let judged = async || rows(&house, of("older")).await[0].clone();
    let since = Instant::now();
    while judged().await.epoch != epoch {
        assert!(since.elapsed() < PATIENCE, "the sweep comes by in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(judged().await.ends, Some((Limit::IdleTimeout, house.live.now().plus(Duration::from_secs(5)))));
}

#[tokio::test]
async fn a_list_of_many_sessions_tells_each_once_while_requests_pass_and_readers_stand_still() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    let mut sessions = Vec::new();
    for number in 0..1200 {
        let name = ["fleet/a", "fleet/b", "steady"][number % 3];
        sessions.push(house.client(name).http1(house.address()).await.unwrap());
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 1200.0).await;
    // Readers who took a few and no more, to the end of this test.
    let mut slow: Vec<_> = (0..50).map(|_| house.live.sessions(Wanted::default())).collect();
    for roster in &mut slow {
        assert!(roster.next().await.is_some_and(|some| some.len() < 1200));
    }
    for _ in 0..5 {
        let (all, answer) = tokio::join!(rows(&house, Wanted::default()), sessions[2].get("/"));
        assert_eq!(answer.unwrap().status, 200);
        let ids: HashSet<u64> = all.iter().map(|row| row.id).collect();
        assert_eq!((all.len(), ids.len()), (1200, 1200));
        assert_eq!(rows(&house, of("fleet/*")).await.len(), 800);
        assert_eq!(house.live.preview(|_| {}).await.live, 1200);
    }
    let since = Instant::now();
    assert_eq!(house.live.would_end(of("fleet/*")).await.sessions.len(), 800);
    assert_eq!(end(&house, "fleet/*").await.sessions.len(), 800);
    house.wait_for_metric("portcullis_sessions_active", &[], 400.0).await;
    assert!(since.elapsed() < PATIENCE);
    for session in sessions.iter_mut().skip(2).step_by(3) {
        assert_eq!(session.get("/").await.unwrap().status, 200);
    }
    // A slow reader comes to the end of a list, whatever became of those in it.
    let mut left = 0;
    while let Some(some) = slow[0].next().await {
        left += some.len();
    }
    assert!(left < 1200, "{left}");
}

#[tokio::test]
async fn sessions_that_come_and_go_meanwhile_are_never_told_twice() {
    let (_app, house) = stage().await;
    let live = Arc::clone(&house.live);
    let mut steady = Vec::new();
    for _ in 0..150 {
        steady.push(house.client("steady").http1(house.address()).await.unwrap());
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 150.0).await;
    let watching = tokio::spawn(async move {
        for _ in 0..200 {
            let (mut ids, mut roster, mut stayed) = (HashSet::new(), live.sessions(Wanted::default()), 0);
            while let Some(some) = roster.next().await {
                for row in some {
                    assert!(ids.insert(row.id), "{} is told twice", row.id);
                    stayed += usize::from(row.identity.ends_with("/steady"));
                }
            }
            assert_eq!(stayed, 150, "whoever was there all the time is told");
        }
    });
    while !watching.is_finished() {
        let mut visitor = house.client("visitor").http1(house.address()).await.unwrap();
        visitor.get("/").await.unwrap();
    }
    watching.await.unwrap();
    eventually("the visitors are gone", || house.metric("portcullis_sessions_active", &[]) == 150.0).await;
}
