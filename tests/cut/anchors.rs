//! Anchors that leave the bundle, or lose their right to speak, while their clients are connected.

use std::time::Instant;

use rustls::AlertDescription;
use testkit::{Authority, AuthoritySpec, Leaf, LeafSpec, RecordingApp, TlsClient};
use trust::{Bundle, Speaks};

use crate::stage::{Stream, assert_cut, assert_left, assert_refused};
use crate::support::House;

fn bundle(roots: &[(&Authority, Speaks)]) -> Bundle {
    Bundle::new(roots.iter().map(|(root, speaks)| (root.der().clone(), speaks.clone())).collect()).unwrap()
}

fn for_anybody(roots: &[&Authority]) -> Bundle {
    bundle(&roots.iter().map(|root| (*root, Speaks::ForAnybody)).collect::<Vec<_>>())
}

struct Scene {
    _app: RecordingApp,
    house: House,
    first: Authority,
    second: Authority,
}

async fn scene() -> Scene {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let (first, second) = (Authority::root("first root"), Authority::root("second root"));
    house.publish_bundle(for_anybody(&[&first, &second]));
    Scene { _app: app, house, first, second }
}

fn client_below(scene: &Scene, root: &Authority, name: &str) -> (Leaf, TlsClient) {
    let leaf = root.intermediate("issuing").issue(LeafSpec::spiffe(&format!("spiffe://td/{name}")));
    let client = scene.house.client_of(&leaf);
    (leaf, client)
}

#[tokio::test]
async fn an_anchor_that_leaves_the_bundle_takes_its_sessions_with_it_and_no_others() {
    let scene = scene().await;
    let house = &scene.house;
    let (leaf, client) = client_below(&scene, &scene.first, "a");
    let [one, two] = Stream::both(house, &client).await;
    let mut others = Stream::both(house, &client_below(&scene, &scene.second, "b").1).await;
    let since = Instant::now();
    house.publish_bundle(for_anybody(&[&scene.second]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(house, 2.0, since).await;
    assert_cut(house, "anchor_removed", 2.0).await;
    for stream in &mut others {
        stream.flows().await;
    }
    assert_refused(house, &leaf, AlertDescription::UnknownCA).await;
}

#[tokio::test]
async fn a_session_lives_on_over_a_cross_signed_intermediate_until_its_last_anchor_goes() {
    let scene = scene().await;
    let house = &scene.house;
    let issuing = scene.first.intermediate("issuing");
    let crossed = scene.second.intermediate_with(AuthoritySpec::new("issuing").reuse_key_of(&issuing));
    let leaf = issuing.issue(LeafSpec::spiffe("spiffe://td/a"));
    let chain = [leaf.chain(), vec![crossed.der().clone()]].concat();
    let client = TlsClient::presenting(house.pki.server_root.der(), &leaf, chain);
    let [mut one, mut two] = Stream::both(house, &client).await;
    // The first path may be either: each anchor in turn is the only one.
    for root in [&scene.first, &scene.second, &scene.first] {
        house.publish_bundle(for_anybody(&[root]));
        one.flows().await;
        two.flows().await;
    }
    // A path that is revoked is no way out: the intermediate of the other root is named by its serial.
    house.publish_list(house.list().authority_serial(&crossed, &scene.second).text());
    one.flows().await;
    let since = Instant::now();
    house.publish_bundle(for_anybody(&[&scene.second]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(house, 0.0, since).await;
    assert_cut(house, "revoked", 2.0).await;
}

#[tokio::test]
async fn a_session_whose_every_anchor_left_is_cut_whatever_it_presented() {
    let scene = scene().await;
    let house = &scene.house;
    let issuing = scene.first.intermediate("issuing");
    let crossed = scene.second.intermediate_with(AuthoritySpec::new("issuing").reuse_key_of(&issuing));
    let leaf = issuing.issue(LeafSpec::spiffe("spiffe://td/a"));
    let chain = [leaf.chain(), vec![crossed.der().clone()]].concat();
    let client = TlsClient::presenting(house.pki.server_root.der(), &leaf, chain);
    let [one, two] = Stream::both(house, &client).await;
    let since = Instant::now();
    house.publish_bundle(for_anybody(&[&house.pki.client_root]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_cut(house, "anchor_removed", 2.0).await;
}

#[tokio::test]
async fn a_root_renewed_under_its_key_keeps_its_sessions() {
    let scene = scene().await;
    let house = &scene.house;
    let mut streams = Stream::both(house, &client_below(&scene, &scene.first, "a").1).await;
    let renewed = Authority::root_with(AuthoritySpec::new("first root").reuse_key_of(&scene.first));
    house.publish_bundle(for_anybody(&[&renewed]));
    for stream in &mut streams {
        stream.flows().await;
    }
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn an_anchor_that_may_no_longer_speak_for_a_trust_domain_loses_its_sessions() {
    let scene = scene().await;
    let house = &scene.house;
    let [one, two] = Stream::both(house, &client_below(&scene, &scene.first, "a").1).await;
    let mut others = Stream::both(house, &client_below(&scene, &scene.second, "b").1).await;
    let since = Instant::now();
    let second_only = Speaks::ForTrustDomain("td".to_owned());
    house.publish_bundle(bundle(&[(&scene.first, Speaks::ForAnybody), (&scene.second, second_only)]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(house, 2.0, since).await;
    assert_cut(house, "anchor_of_another_trust_domain", 2.0).await;
    for stream in &mut others {
        stream.flows().await;
    }
}
