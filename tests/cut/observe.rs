//! Observe before enforce: an entry that only observes ends nobody, and tells once of each session that it would end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use testkit::{Leaf, RecordingApp};
use trust::{Knowledge, List, Mode, Overlay, Selectors, Sha256, Snapshot, Terms, TrustState};

use crate::audit::{Lines, events};
use crate::stage::{Line, Stream, assert_left, stage};
use crate::support::{House, eventually};

/// Entries for whole identities.
fn naming(ids: &[&str]) -> Selectors {
    let ids = ids.iter().map(|id| (format!("uri:spiffe://td/{id}"), vec![Terms::default()]));
    Selectors { ids: ids.collect(), ..Selectors::default() }
}

/// Entries for certificates.
fn serials(leaves: &[&Leaf]) -> Selectors {
    let key = |leaf: &&Leaf| trust::serial_key(&Sha256(leaf.issuer_spki_sha256()), &leaf.serial());
    let with_terms = leaves.iter().map(|leaf| (key(leaf), vec![Terms::default()]));
    Selectors { serials_with_terms: with_terms.collect(), ..Selectors::default() }
}

/// A snapshot of a list that acts and of one that only observes.
fn snapshot(house: &House, selectors: Selectors, observed: Selectors) -> Arc<Snapshot> {
    let now = house.live.now();
    let list = |name: &str, mode, selectors, observed| {
        Arc::new(List {
            name: Arc::from(name),
            mode,
            sequence: 1,
            digest: Sha256::of(name.as_bytes()),
            issued_at: now,
            expires_at: now.plus(std::time::Duration::from_secs(3600)),
            selectors,
            observed,
            absorbs: Box::default(),
        })
    };
    let act = list("act", Mode::Enforce, selectors, Selectors::default());
    let watch = list("watch", Mode::Observe, Selectors::default(), observed);
    Arc::new(Snapshot::new(vec![act, watch], vec![], Default::default(), Default::default()))
}

fn observing(house: &House, observed: Selectors) -> u64 {
    let snapshot = snapshot(house, Selectors::default(), observed);
    house.live.publish(|state| state.knowledge = Knowledge::Known(snapshot))
}

fn observed(house: &House, selector: &str) -> f64 {
    house.metric("portcullis_observed_denials_total", &[("selector", selector)])
}

fn would_deny(lines: &Lines, identity: &str) -> usize {
    events(&lines.about(identity)).into_iter().filter(|event| *event == "would_deny").count()
}

#[tokio::test]
async fn an_entry_that_observes_ends_no_stream_and_is_counted_and_told_once_a_session() {
    let lines = Lines::installed();
    let (_app, house) = stage().await;
    let identity = "uri:spiffe://td/observed";
    let mut streams = Stream::both(&house, &house.client("observed")).await;
    let mut others = Stream::both(&house, &house.client("other")).await;
    let epoch = observing(&house, naming(&["observed"]));
    house.wait_for_metric("portcullis_observed_denials_total", &[("selector", "id")], 2.0).await;
    // The same again, of another issue: no news.
    observing(&house, naming(&["observed"]));
    for stream in streams.iter_mut().chain(&mut others) {
        stream.flows().await;
    }
    assert_eq!(house.metric("portcullis_snapshot_observed_entries", &[]), 1.0);
    assert_eq!(house.metric("portcullis_snapshot_entries", &[]), 0.0);
    assert_eq!(house.metric("portcullis_sessions_closed_total", &[]), 0.0);
    eventually("both sessions are told of", || would_deny(&lines, identity) == 2).await;
    let told = lines.about(identity).into_iter().find(|line| line["event"] == "would_deny").unwrap();
    assert_eq!((told["reason"].as_str(), told["epoch"].as_u64()), (Some("revoked"), Some(epoch)), "{told}");
    assert_eq!(told["detail"], "revoked (leaf by id in watch)");
    assert_eq!(told["serial"], house.leaf("observed").serial_hex());
    // Another entry is news, and so is the first one after it.
    observing(&house, serials(&[&house.leaf("observed")]));
    house.wait_for_metric("portcullis_observed_denials_total", &[("selector", "serial")], 2.0).await;
    observing(&house, naming(&["observed"]));
    house.wait_for_metric("portcullis_observed_denials_total", &[("selector", "id")], 4.0).await;
    assert_eq!(would_deny(&lines, "uri:spiffe://td/other"), 0);
    eventually("six lines in all", || would_deny(&lines, identity) == 6).await;
}

#[tokio::test]
async fn a_session_that_comes_in_under_an_observer_is_told_of_before_its_first_request_ends() {
    let lines = Lines::installed();
    let (_app, house) = stage().await;
    observing(&house, naming(&["observed/newcomer"]));
    let [mut one, mut two] = Line::both(&house, &house.client("observed/newcomer")).await;
    assert_eq!((one.status("/").await.unwrap(), two.status("/").await.unwrap()), (200, 200));
    assert_eq!(observed(&house, "id"), 2.0);
    drop((one, two));
    house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    eventually("both are closed", || events(&lines.about("uri:spiffe://td/observed/newcomer")).len() == 6).await;
    assert_eq!(would_deny(&lines, "uri:spiffe://td/observed/newcomer"), 2);
}

#[tokio::test]
async fn a_session_that_is_denied_is_cut_and_not_observed() {
    let lines = Lines::installed();
    let (_app, house) = stage().await;
    let identity = "uri:spiffe://td/observed/cut";
    let [one, two] = Stream::both(&house, &house.client("observed/cut")).await;
    let since = Instant::now();
    let both = snapshot(&house, naming(&["observed/cut"]), naming(&["observed/cut"]));
    house.live.publish(|state| state.knowledge = Knowledge::Known(both));
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_left(&house, 0.0, since).await;
    assert_eq!((observed(&house, "id"), would_deny(&lines, identity)), (0.0, 0));
}

#[tokio::test]
async fn whom_an_observer_counts_is_whom_its_preview_names_and_whom_it_cuts_when_it_acts() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).start();
    let lines = Lines::installed();
    let mut sessions = Vec::new();
    for number in 0..40 {
        let mut client = house.client(&format!("fleet/{}", number % 10)).http1(house.address()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status, 200);
        sessions.push(client);
    }
    let entries = || naming(&["fleet/1", "fleet/4", "fleet/7", "fleet/none"]);
    observing(&house, entries());
    house.wait_for_metric("portcullis_observed_denials_total", &[], 12.0).await;
    let acting = snapshot(&house, entries(), Selectors::default());
    let act = |state: &mut TrustState| state.knowledge = Knowledge::Known(acting);
    let preview = house.live.preview(act.clone()).await;
    let named: BTreeMap<_, _> = preview.cut.iter().map(|cut| (cut.identity.clone(), cut.sessions)).collect();
    let told = |event: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines.all().iter().filter(|line| line["event"] == event) {
            let identity = line["identity"].as_str().unwrap();
            if identity.starts_with("uri:spiffe://td/fleet/") {
                *counts.entry(identity.to_owned()).or_default() += 1;
            }
        }
        counts
    };
    eventually("the observer's lines", || told("would_deny") == named).await;
    house.live.publish(act);
    house.wait_for_metric("portcullis_sessions_active", &[], 28.0).await;
    assert_eq!(told("session_cut"), named);
}

#[tokio::test]
async fn denials_of_the_overlay_are_counted_as_long_as_they_are_published() {
    let (_app, house) = stage().await;
    assert_eq!(house.metric("portcullis_overlay_denials", &[]), 0.0);
    let overlay = Arc::new(Overlay::new(naming(&["a", "b"])));
    let [one, two] = Stream::both(&house, &house.client("a")).await;
    let deny = |state: &mut TrustState| state.overlay = overlay;
    let preview = house.live.preview(deny.clone()).await;
    assert_eq!((preview.sessions_cut(), preview.cut[0].sentence.as_str()), (2, "revoked (leaf by id in overlay)"));
    let since = Instant::now();
    house.live.publish(deny);
    tokio::join!(one.must_be_cut(since), two.must_be_cut(since));
    assert_eq!(house.metric("portcullis_overlay_denials", &[]), 2.0);
    house.live.publish(|state| state.overlay = Arc::default());
    assert_eq!(house.metric("portcullis_overlay_denials", &[]), 0.0);
}

#[tokio::test]
async fn what_sources_report_is_served_and_every_label_is_there_before_its_first_refusal() {
    let (_app, house) = stage().await;
    house.metrics.expect_refusals(&["older", "forged"]);
    assert!(house.metrics_text().contains("portcullis_revocation_refusals_total{label=\"forged\"} 0"));
    house.metrics.revocation_refused("older");
    house.metrics.revocation_refused("older");
    house.metrics.overlay_lapsing(3);
    house.metrics.snapshot_held(1);
    house.metrics.state_dir_failed();
    assert_eq!(house.metric("portcullis_revocation_refusals_total", &[("label", "older")]), 2.0);
    assert_eq!(house.metric("portcullis_overlay_lapsing", &[]), 3.0);
    assert_eq!(house.metric("portcullis_snapshot_held", &[]), 1.0);
    assert_eq!(house.metric("portcullis_state_dir_failures_total", &[]), 1.0);
}
