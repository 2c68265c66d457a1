//! Every way to be revoked, and the limits that count nobody's time: each ends those it names and nobody else.

use std::time::Instant;

use rustls::AlertDescription;
use testkit::{Authority, Leaf, LeafSpec, ListSpec, RecordingApp, TlsClient};
use trust::{Allow, Bundle, CrlCoverage, IdentityPattern, Speaks};

use crate::stage::{Line, Stream, assert_cut, assert_left, assert_refused, stage};
use crate::support::{House, Pki};

/// A house with a second root whose clients no entry of a test names.
async fn with_bystander() -> (RecordingApp, House, Leaf) {
    let app = RecordingApp::start().await;
    let (pki, other) = (Pki::new(), Authority::root("bystanders' root"));
    let anchors = vec![(pki.client_root.der().clone(), Speaks::ForAnybody), (other.der().clone(), Speaks::ForAnybody)];
    let bundle = Bundle::new(anchors).unwrap();
    let house = House::before(app.addr()).pki(pki).start();
    house.publish_bundle(bundle);
    let bystander = other.issue(LeafSpec::spiffe("spiffe://elsewhere/bystander"));
    (app, house, bystander)
}

/// Publishes an entry while the client `a` and a bystander have streams under way over both protocols.
async fn assert_ends_only_a(entry: impl FnOnce(ListSpec, &House) -> ListSpec) {
    let (_app, house, bystander) = with_bystander().await;
    let leaf = house.leaf("a");
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let mut others = Stream::both(&house, &house.client_of(&bystander)).await;
    let list = entry(house.list(), &house);
    let since = Instant::now();
    house.publish_list(list.text());
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(&house, 2.0, since).await;
    assert_cut(&house, "revoked", 2.0).await;
    assert_refused(&house, &leaf, AlertDescription::CertificateRevoked).await;
    for stream in &mut others {
        stream.flows().await;
    }
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 2.0);
}

#[tokio::test]
async fn a_serial_ends_its_sessions() {
    assert_ends_only_a(|list, house| list.serial(&house.leaf("a"))).await;
}

#[tokio::test]
async fn a_public_key_ends_its_sessions() {
    assert_ends_only_a(|list, house| list.spki(&house.leaf("a"))).await;
}

#[tokio::test]
async fn a_fingerprint_ends_its_sessions() {
    assert_ends_only_a(|list, house| list.certificate(&house.leaf("a"))).await;
}

#[tokio::test]
async fn an_identity_ends_its_sessions() {
    assert_ends_only_a(|list, _| list.id("spiffe://td/a")).await;
}

#[tokio::test]
async fn an_identity_prefix_ends_the_sessions_below_it() {
    assert_ends_only_a(|list, _| list.id("spiffe://td/*")).await;
}

#[tokio::test]
async fn a_trust_domain_ends_its_sessions() {
    assert_ends_only_a(|list, _| list.trust_domain("td")).await;
}

#[tokio::test]
async fn an_issuer_ends_the_sessions_of_all_that_its_key_signed() {
    assert_ends_only_a(|list, house| list.issuer(&house.pki.issuing)).await;
}

#[tokio::test]
async fn a_root_as_issuer_ends_the_sessions_below_its_intermediates() {
    assert_ends_only_a(|list, house| list.issuer(&house.pki.client_root)).await;
}

#[tokio::test]
async fn the_serial_of_an_intermediate_ends_the_sessions_below_it() {
    assert_ends_only_a(|list, house| list.authority_serial(&house.pki.issuing, &house.pki.client_root)).await;
}

#[tokio::test]
async fn a_certificate_issued_after_issued_before_lives_where_its_elder_is_cut() {
    let (_app, house) = stage().await;
    let now = testkit::OffsetDateTime::now_utc();
    let renewed =
        house.pki.issuing.issue(LeafSpec::spiffe("spiffe://td/a").not_before(now - testkit::Duration::minutes(1)));
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let mut lives = Stream::both(&house, &house.client_of(&renewed)).await;
    let since = Instant::now();
    let limit = now - testkit::Duration::minutes(2);
    house.publish_list(house.list().id("spiffe://td/a").issued_before(limit).text());
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut lives {
        stream.flows().await;
    }
    assert_left(&house, 2.0, Instant::now()).await;
}

#[tokio::test]
async fn an_identity_that_is_no_longer_allowed_is_cut_and_the_others_live() {
    let (_app, house) = stage().await;
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let mut others = Stream::both(&house, &house.client("b")).await;
    let since = Instant::now();
    let only = IdentityPattern::parse("uri:spiffe://td/b").unwrap();
    house.publish_policy(|policy| policy.allow = Allow::Only(vec![only]));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    for stream in &mut others {
        stream.flows().await;
    }
    assert_cut(&house, "identity_not_allowed", 2.0).await;
    assert_refused(&house, &house.leaf("a"), AlertDescription::AccessDenied).await;
}

#[tokio::test]
async fn a_publish_that_changes_nothing_for_a_session_does_not_touch_it() {
    let (_app, house) = stage().await;
    let mut streams = Stream::both(&house, &house.client("a")).await;
    for change in 0..20 {
        house.publish_policy(|policy| policy.crl_coverage = [CrlCoverage::All, CrlCoverage::None][change % 2]);
        house.publish_list(house.list().id("spiffe://td/nobody").text());
    }
    for stream in &mut streams {
        stream.flows().await;
    }
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn what_a_publish_gives_back_lets_new_connections_in_and_leaves_the_cut_one_cut() {
    let (app, house) = stage().await;
    let leaf = house.leaf("a");
    let mut lines = Line::both(&house, &house.client("a")).await;
    for line in &mut lines {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    house.publish_list(house.list().serial(&leaf).text());
    house.publish_list(house.list().text());
    // The two publishes may meet one sweep: then nobody was cut, and both lines go on. Either is right.
    let new = TlsClient::new(house.pki.server_root.der(), Some(&leaf));
    for line in &mut Line::both(&house, &new).await {
        assert_eq!(line.status("/").await.unwrap(), 200);
    }
    let before = app.count();
    house.publish_list(house.list().serial(&leaf).text());
    for line in &mut lines {
        line.closed().await;
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    house.publish_list(house.list().text());
    for line in &mut lines {
        line.status("/again").await.expect_err("a cut session stays cut");
    }
    assert_eq!(app.count(), before);
    assert_eq!(Line::both(&house, &new).await[0].status("/").await.unwrap(), 200);
}
