//! Every cause that ends trust ends a tunnel: at once, in both directions, and for neither side by a clean end. An
//! operator's order is in `kill.rs`.

use std::time::{Duration, Instant};

use testkit::{Authority, LeafSpec};
use trust::{Allow, Bundle, IdentityPattern, Speaks, Time};

use crate::stage::{HandedOver, RESET, assert_cut, assert_left, connect};
use crate::stamps::Side;
use crate::support::{House, HouseSpec, Pki};

/// Sessions that nothing happens to.
const CROWD: u16 = 200;

/// A session of `a` and one of `b` with stamps on their way in both directions, when this ends the trust in `a`.
async fn assert_ends(
    reason: &str,
    build: impl FnOnce(HouseSpec) -> HouseSpec,
    end_trust: impl AsyncFnOnce(&House, &Authority),
) {
    let mut app = HandedOver::start().await;
    let house = build(app.house()).workers(1).start();
    let other = Authority::root("bystanders' root");
    let anchors =
        vec![(house.pki.client_root.der().clone(), Speaks::ForAnybody), (other.der().clone(), Speaks::ForAnybody)];
    house.publish_bundle(Bundle::new(anchors).unwrap());
    house.pki.put("b", other.issue(LeafSpec::spiffe("spiffe://td/b")));
    // The sweep comes by these first, and lets the tunnels have their turns in between.
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push((connect(&house, "b").await, app.next().await));
    }
    let beginning = Instant::now();
    let mut sides = Vec::new();
    for name in ["a", "b"] {
        let client = connect(&house, name).await;
        let (client, app) = (Side::start(client, beginning), Side::start(app.next().await, beginning));
        client.flows().await;
        app.flows().await;
        sides.extend([client, app]);
    }
    let others = sides.split_off(2);
    let since = Instant::now();
    end_trust(&house, &other).await;
    let published = beginning.elapsed();
    assert_left(&house, f64::from(CROWD) + 1.0, since).await;
    for (side, who) in sides.into_iter().zip(["client", "app"]) {
        let heard = side.heard().await;
        assert!(heard.last <= published, "the {who} got a byte sent {:?} after the publish", heard.last - published);
        assert_eq!(heard.ending, RESET, "the {who}'s connection is reset, and does not end");
    }
    assert_cut(&house, reason, 1.0).await;
    for side in others {
        side.flows().await;
    }
}

#[tokio::test]
async fn a_revocation_ends_a_tunnel() {
    let revoke = async |house: &House, _: &Authority| assert!(house.revoke("a") > 0);
    assert_ends("revoked", |spec| spec, revoke).await;
}

#[tokio::test]
async fn a_not_after_ends_a_tunnel() {
    let build = |spec: HouseSpec| {
        let pki = Pki::new();
        pki.put("a", pki.issuing.issue(LeafSpec::spiffe("spiffe://td/a").valid_for(testkit::Duration::minutes(5))));
        spec.pki(pki).with_clock()
    };
    let wait = async |house: &House, _: &Authority| {
        let last = Time::from_seconds(house.leaf("a").not_after().unix_timestamp());
        // Nobody is woken: the tunnel's own bytes have to find out.
        house.set_time_unannounced(last.plus(Duration::from_millis(1)));
    };
    assert_ends("expired", build, wait).await;
}

#[tokio::test]
async fn an_anchor_that_leaves_the_bundle_ends_a_tunnel() {
    let without = async |house: &House, other: &Authority| {
        house.publish_bundle(Bundle::new(vec![(other.der().clone(), Speaks::ForAnybody)]).unwrap());
    };
    assert_ends("anchor_removed", |spec| spec, without).await;
}

#[tokio::test]
async fn an_identity_that_is_no_longer_allowed_loses_its_tunnel() {
    let allow = async |house: &House, _: &Authority| {
        let only = IdentityPattern::parse("uri:spiffe://td/b").unwrap();
        house.publish_policy(|policy| policy.allow = Allow::Only(vec![only]));
    };
    assert_ends("identity_not_allowed", |spec| spec, allow).await;
}

#[tokio::test]
async fn the_limit_of_a_sessions_age_ends_a_tunnel() {
    let mut app = HandedOver::start().await;
    let age = Duration::from_secs(60);
    let house = app.house().policy(|policy| policy.max_session_age = Some(age)).with_clock().start();
    let beginning = Instant::now();
    let (client, app) = app.session(&house).await;
    let sides = [Side::start(client, beginning), Side::start(app, beginning)];
    house.advance(age - Duration::from_millis(1));
    sides[0].flows().await;
    sides[1].flows().await;
    let since = Instant::now();
    house.advance(Duration::from_millis(1));
    let passed = beginning.elapsed();
    assert_left(&house, 0.0, since).await;
    for side in sides {
        let heard = side.heard().await;
        assert!(heard.last <= passed, "a byte came that was sent {:?} after its end", heard.last - passed);
        assert_eq!(heard.ending, RESET);
    }
    assert_cut(&house, "session_too_old", 1.0).await;
}

#[tokio::test]
async fn a_cut_session_comes_in_again_only_by_a_certificate_that_is_trusted() {
    let mut app = HandedOver::start().await;
    let house = app.house().start();
    let _session = app.session(&house).await;
    house.revoke("a");
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    house.pki.put("a", house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/a")));
    let _session = app.session(&house).await;
    assert_eq!(app.app.connections(), 2);
}
