//! A hundred rotations under load: own certificate renewed, an anchor added, an anchor removed. Whoever comes by the
//! anchor that goes is cut, whoever has another path lives on over it, and nobody else notices anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::{Authority, AuthoritySpec, Leaf, LeafSpec, RecordingApp, TlsClient};
use tokio::task::JoinHandle;
use trust::{Bundle, Speaks};

use crate::stage::{Line, Stream};
use crate::support::{House, PATIENCE, credential_of};

const ROTATIONS: usize = 100;

/// Requests until it is over, on one connection or on a new one each; how many passed.
fn load(client: TlsClient, house: &House, (over, kept): (&Arc<AtomicBool>, Option<usize>)) -> JoinHandle<u64> {
    let (address, over) = (house.address(), Arc::clone(over));
    tokio::spawn(async move {
        let connect = |version: usize| {
            let client = &client;
            async move {
                match version {
                    1 => Line::One(client.http1(address).await.expect("a trusted client comes in")),
                    _ => Line::Two(client.http2(address).await.expect("a trusted client comes in")),
                }
            }
        };
        let mut line = connect(kept.unwrap_or(1)).await;
        let mut passed = 0;
        while !over.load(Ordering::Relaxed) {
            if kept.is_none() {
                line = connect(passed as usize % 2 + 1).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(line.status("/").await.expect("no request of a trusted session fails"), 200);
            passed += 1;
        }
        passed
    })
}

fn bundle(roots: &[&Authority]) -> Bundle {
    Bundle::new(roots.iter().map(|root| (root.der().clone(), Speaks::ForAnybody)).collect()).unwrap()
}

/// A client that presents a path to each of two roots.
fn crossed(house: &House, [first, second]: [&Authority; 2]) -> TlsClient {
    let issuing = first.intermediate("issuing");
    let crossed = second.intermediate_with(AuthoritySpec::new("issuing").reuse_key_of(&issuing));
    let leaf = issuing.issue(LeafSpec::spiffe("spiffe://td/crossed"));
    let chain = [leaf.chain(), vec![crossed.der().clone()]].concat();
    TlsClient::presenting(house.pki.server_root.der(), &leaf, chain)
}

/// The certificate that the next handshake shows.
async fn shown(house: &House, client: &TlsClient) -> Vec<u8> {
    let stream = client.connect(house.address(), &["http/1.1"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Renews the own certificate; the next handshake shows it.
async fn renew(house: &House, client: &TlsClient) {
    let own: Leaf = house.pki.server_root.issue(LeafSpec::dns("localhost"));
    house.live.renew(credential_of(&own));
    assert_eq!(shown(house, client).await, own.der().to_vec());
}

#[tokio::test]
async fn a_hundred_rotations_under_load_fail_no_request_but_of_the_anchors_that_go() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let (root, pair) = (&house.pki.client_root, [Authority::root("first"), Authority::root("second")]);
    house.publish_bundle(bundle(&[root, &pair[0], &pair[1]]));
    let (over, steady) = (Arc::new(AtomicBool::new(false)), house.client("steady"));
    let two_paths = crossed(&house, [&pair[0], &pair[1]]);
    let mut streams = Vec::from(Stream::both(&house, &steady).await);
    streams.extend(Stream::both(&house, &two_paths).await);
    let mut loads = Vec::new();
    for (client, kept) in [(&steady, Some(1)), (&steady, Some(2)), (&steady, None), (&two_paths, Some(1))] {
        loads.push(load(client.clone(), &house, (&over, kept)));
    }
    let removed = [("reason", "anchor_removed")];
    for number in 0..ROTATIONS {
        renew(&house, &steady).await;
        // Grown: a client of the new anchor comes in. Of the two, one goes: who has both paths lives on over the other.
        let new = Authority::root(&format!("new {number}"));
        let stays = &pair[number % 2];
        house.publish_bundle(bundle(&[root, stays, &new]));
        let guest = house.client_of(&new.issue(LeafSpec::spiffe("spiffe://td/guest")));
        let [mut one, mut two] = Line::both(&house, &guest).await;
        assert_eq!((one.status("/").await.unwrap(), two.status("/").await.unwrap()), (200, 200));
        // Shrunk: it goes, and takes its two sessions with it.
        house.publish_bundle(bundle(&[root, stays]));
        tokio::join!(one.closed(), two.closed());
        let all = 2.0 * (number as f64 + 1.0);
        house.wait_for_metric("portcullis_sessions_closed_total", &removed, all).await;
    }
    over.store(true, Ordering::Relaxed);
    for load in loads {
        let passed = tokio::time::timeout(PATIENCE, load).await.expect("the load ends").unwrap();
        assert!(passed >= ROTATIONS as u64 / 2, "there was load all the time: {passed} requests");
    }
    for stream in &mut streams {
        stream.flows().await;
    }
    assert_eq!(house.metric("portcullis_cuts_total", &[]), 2.0 * ROTATIONS as f64, "nobody else was cut");
    assert_eq!(house.metric("portcullis_requests_total", &[("verdict", "denied")]), 0.0);
    let (all, good) = ([], [("result", "ok")]);
    let handshakes = |labels: &[(&str, &str)]| house.metric("portcullis_handshakes_total", labels);
    assert_eq!(handshakes(&all), handshakes(&good), "nobody was refused");
}
