//! Those whom a publish does not name: their streams have no gap and none of their requests fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::RecordingApp;
use tokio::task::JoinHandle;

use crate::stage::{Line, Stream, assert_cut_within};
use crate::support::{House, PATIENCE};

const SWAPS: usize = 200;
/// A stream makes a line every 2 ms; machines that run other tests beside this one pause for longer.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads a stream until `over`, and notes its longest pause.
fn follow(mut stream: Stream, over: Arc<AtomicBool>) -> JoinHandle<(Stream, Duration)> {
    tokio::spawn(async move {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        while !over.load(Ordering::Relaxed) {
            stream.step().await.expect("a stream that nobody revoked does not end");
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        (stream, longest)
    })
}

/// Sends requests one after the other until `over`; returns how many passed.
fn load(mut line: Line, over: Arc<AtomicBool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut passed = 0;
        while !over.load(Ordering::Relaxed) {
            let status = line.status("/").await.expect("no request of a trusted session fails");
            assert_eq!(status, 200);
            passed += 1;
        }
        passed
    })
}

#[tokio::test]
async fn two_hundred_snapshots_that_each_end_somebody_else_fail_no_request_and_stop_no_stream() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let over = Arc::new(AtomicBool::new(false));
    let streams = Stream::both(&house, &house.client("steady")).await.map(|stream| follow(stream, over.clone()));
    let mut loads = Vec::new();
    for number in 0..4 {
        for line in Line::both(&house, &house.client(&format!("busy-{number}"))).await {
            loads.push(load(line, over.clone()));
        }
    }
    for number in 0..SWAPS {
        let name = format!("victim-{number}");
        let [one, two] = Line::both(&house, &house.client(&name)).await;
        let mut victim = if number % 2 == 0 { one } else { two };
        assert_eq!(victim.status("/").await.unwrap(), 200);
        house.revoke(&name);
        victim.closed().await;
    }
    over.store(true, Ordering::Relaxed);
    for stream in streams {
        let (mut stream, longest) = tokio::time::timeout(PATIENCE, stream).await.expect("the stream flows").unwrap();
        assert!(longest < PAUSE, "a stream paused for {longest:?}");
        stream.flows().await;
        assert!(stream.position() > 100, "the stream flowed all the time");
    }
    let mut passed = 0;
    for load in loads {
        passed += tokio::time::timeout(PATIENCE, load).await.expect("the load ends").unwrap();
    }
    assert!(passed > SWAPS as u64, "there was load all the time: {passed} requests");
    assert!(house.live.epoch() > SWAPS as u64);
    // Of each victim one connection was cut; its other one may have been closed by the client first.
    let cut = house.metric("portcullis_cuts_total", &[("reason", "revoked")]);
    assert!(cut >= SWAPS as f64, "{cut}");
    assert_cut_within(&house, ("revoked", cut), "0.2").await;
    assert_eq!(house.metric("portcullis_requests_total", &[("verdict", "denied")]), 0.0);
}

#[tokio::test]
async fn a_renewed_own_certificate_disturbs_nobody() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let mut streams = Stream::both(&house, &house.client("a")).await;
    for _ in 0..20 {
        house.live.renew(house.pki.credential());
    }
    for stream in &mut streams {
        stream.flows().await;
    }
    assert_eq!(Line::both(&house, &house.client("b")).await[0].status("/").await.unwrap(), 200);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[("reason", "error")]), 0.0);
}
