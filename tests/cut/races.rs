//! A publish at the moment of a handshake: whichever comes first, no request passes after the publish returned.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use testkit::{Leaf, RecordingApp, TlsClient};

use crate::support::House;

/// Odd while the client is revoked for certain: raised after the publish that revokes has returned, and again before
/// the one that gives back begins.
type Turn = Arc<AtomicU64>;

fn publish_by_turns(house: &House, leaf: &Leaf, turn: &Turn, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        house.publish_list(house.list().serial(leaf).text());
        turn.fetch_add(1, Ordering::SeqCst);
        // Room for handshakes and requests to fall on either side; nothing is awaited here.
        std::thread::sleep(Duration::from_micros(1500));
        turn.fetch_add(1, Ordering::SeqCst);
        house.publish_list(house.list().text());
        std::thread::sleep(Duration::from_micros(3500));
    }
}

#[derive(Default)]
struct Tally {
    passed: u64,
    refused: u64,
    /// Requests that began and ended while the client was revoked.
    forbidden: HashSet<String>,
}

/// Connects a hundred times and sends some requests on each connection.
async fn knock(house: Arc<House>, client: TlsClient, turn: Turn, task: usize) -> Tally {
    let mut tally = Tally::default();
    for number in 0..100 {
        let line = if number % 2 == 0 {
            client.http1(house.address()).await.map(crate::stage::Line::One)
        } else {
            client.http2(house.address()).await.map(crate::stage::Line::Two)
        };
        let Ok(mut line) = line else {
            tally.refused += 1;
            continue;
        };
        for request in 0..6 {
            let path = format!("/{task}/{number}/{request}");
            let before = turn.load(Ordering::SeqCst);
            let status = line.status(&path).await;
            let after = turn.load(Ordering::SeqCst);
            if before == after && before % 2 == 1 {
                assert!(!matches!(status, Ok(200)), "a request passed while its client was revoked");
                tally.forbidden.insert(path);
            }
            if !matches!(status, Ok(200)) {
                tally.refused += 1;
                break;
            }
            tally.passed += 1;
        }
    }
    tally
}

#[tokio::test]
async fn no_request_passes_after_a_revoking_publish_returned_however_close_the_handshake_is() {
    let app = RecordingApp::start().await;
    let house = Arc::new(House::before(app.addr()).start());
    let (turn, over) = (Turn::default(), Arc::new(AtomicBool::new(false)));
    let leaf = house.leaf("a");
    let publisher = {
        let (house, leaf, turn, over) = (house.clone(), leaf.clone(), turn.clone(), over.clone());
        std::thread::spawn(move || publish_by_turns(&house, &leaf, &turn, &over))
    };
    let knocking = (0..3).map(|task| tokio::spawn(knock(house.clone(), house.client("a"), turn.clone(), task)));
    let knocking: Vec<_> = knocking.collect();
    let mut all = Tally::default();
    for task in knocking {
        let tally = task.await.unwrap();
        all.passed += tally.passed;
        all.refused += tally.refused;
        all.forbidden.extend(tally.forbidden);
    }
    over.store(true, Ordering::SeqCst);
    publisher.join().unwrap();
    for seen in app.requests() {
        let path = seen.uri.trim_start_matches("https://localhost");
        assert!(!all.forbidden.contains(path), "{path} reached the app while its client was revoked");
    }
    // How many of each there are is the machine's affair: both have to happen.
    assert!(all.passed > 10 && all.refused > 10, "{} passed, {} were refused", all.passed, all.refused);
    assert!(!all.forbidden.is_empty(), "no request fell between the publishes");
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
}
