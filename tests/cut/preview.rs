//! Who would be cut: the answer before a publish against what the publish then does, over random knowledge, bundles
//! and policies and a crowd of sessions (`crowd.rs`). No case may be judged by the preview's own rules: the proxy's
//! audit lines and the sessions' next requests say who was cut.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use testkit::RecordingApp;
use trust::{Bundle, Overlay, Policy, Selectors, Terms, TrustState};

use crate::audit::Lines;
use crate::crowd::{Crowd, Dice};
use crate::support::{House, eventually};

/// Random cases of one run.
const CASES: u64 = 60;
type Counts = BTreeMap<(String, String, String), usize>;

/// Who of the crowd was cut, why, how often, as the audit has it from its line of this number on.
fn cuts(lines: &Lines, from: usize, crowd: &BTreeMap<String, usize>) -> Counts {
    let mut counts = Counts::new();
    for line in lines.all().into_iter().skip(from).filter(|line| line["event"] == "session_cut") {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        if crowd.contains_key(&text("identity")) {
            *counts.entry((text("identity"), text("reason"), text("detail"))).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn whom_a_preview_names_is_exactly_whom_the_publish_cuts() {
    let lines = Lines::installed();
    let mut crowd = Crowd::gathered().await;
    let (mut cut_in_all, mut reasons, mut alone) = (0, HashSet::new(), HashSet::new());
    for case in 0..CASES {
        crowd.house.live.publish(crowd.peace().apply());
        crowd.complete().await;
        let everybody = crowd.everybody();
        let open: usize = everybody.values().sum();
        let change = crowd.change(&mut Dice::new(case));
        let (epoch, from) = (crowd.house.live.epoch(), lines.all().len());
        let preview = crowd.house.live.preview(change.clone().apply()).await;
        assert_eq!((preview.epoch, preview.live, preview.unheard), (epoch, open, 0), "case {case}");
        assert_eq!(crowd.house.live.epoch(), epoch, "a preview publishes nothing");
        let only = (change.bundle.len() == 1).then(|| change.bundle.anchors().next().unwrap().link.fingerprint);
        crowd.house.live.publish(change.apply());
        let left = (open - preview.sessions_cut()) as f64;
        let active = || crowd.house.metric("portcullis_sessions_active", &[]);
        eventually(&format!("{left} sessions are left in case {case}"), || active() == left).await;
        // Everybody who is left is judged again here: nobody is cut late.
        let passed = crowd.roll_call().await;
        let announced: Counts = preview.cut.iter().fold(Counts::new(), |mut counts, cut| {
            let key = (cut.identity.clone(), cut.reason.to_owned(), cut.sentence.clone());
            assert!(counts.insert(key, cut.sessions).is_none(), "case {case}: {cut:?} is told twice");
            counts
        });
        assert_eq!(cuts(&lines, from, &everybody), announced, "case {case}");
        let mut gone: BTreeMap<String, usize> = BTreeMap::new();
        for cut in &preview.cut {
            *gone.entry(cut.identity.clone()).or_default() += cut.sessions;
        }
        for (identity, sessions) in &everybody {
            let expected = sessions - gone.get(identity).copied().unwrap_or(0);
            assert_eq!(passed.get(identity).copied().unwrap_or(0), expected, "{identity} in case {case}");
        }
        assert!(preview.cut.is_sorted_by(|a, b| a.sessions >= b.sessions));
        if passed.keys().any(|identity| identity.starts_with("uri:spiffe://td/crossed/")) {
            alone.extend(only);
        }
        cut_in_all += preview.sessions_cut();
        reasons.extend(preview.by_reason().into_keys());
    }
    // The cases are worth something only if they cut some for every reason at hand, and moved some to another path.
    assert!(cut_in_all > 200, "{cut_in_all} sessions cut");
    for reason in ["revoked", "anchor_removed", "anchor_of_another_trust_domain", "identity_not_allowed", "no_snapshot"]
    {
        assert!(reasons.contains(reason), "no case cut anybody for {reason}: {reasons:?}");
    }
    assert_eq!(
        alone.len(),
        2,
        "each root in turn was alone and had a cross-signed client, who had another path before"
    );
}

#[tokio::test]
async fn a_preview_touches_no_session_and_fails_no_request() {
    let mut crowd = Crowd::gathered().await;
    crowd.house.live.publish(crowd.peace().apply());
    crowd.complete().await;
    let everybody = crowd.everybody();
    let open = everybody.values().sum::<usize>();
    let nothing = |state: &mut TrustState| state.bundle = Arc::new(Bundle::default());
    for _ in 0..20 {
        let preview = crowd.house.live.preview(nothing).await;
        assert_eq!((preview.sessions_cut(), preview.live), (open, open));
        assert_eq!(preview.by_reason(), BTreeMap::from([("anchor_removed", open)]));
    }
    let unchanged = crowd.house.live.preview(|_| {}).await;
    assert_eq!((unchanged.sessions_cut(), unchanged.live), (0, open));
    assert_eq!(crowd.roll_call().await, everybody);
    assert_eq!(crowd.house.metric("portcullis_cuts_total", &[]), 0.0);
    assert_eq!(crowd.house.metric("portcullis_sessions_closed_total", &[]), 0.0);
}

#[tokio::test]
async fn previews_asked_at_once_all_get_the_same_whole_answer() {
    let mut crowd = Crowd::gathered().await;
    crowd.house.live.publish(crowd.peace().apply());
    crowd.complete().await;
    let change = crowd.change(&mut Dice::new(3));
    let first = crowd.house.live.preview(change.clone().apply()).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (live, change) = (Arc::clone(&crowd.house.live), change.clone());
        asked.spawn(async move { live.preview(change.apply()).await });
    }
    while let Some(preview) = asked.join_next().await {
        assert_eq!(preview.unwrap(), first);
    }
}

#[tokio::test]
async fn a_session_that_is_closed_is_in_no_preview() {
    let mut crowd = Crowd::gathered().await;
    crowd.house.live.publish(crowd.peace().apply());
    assert_eq!(crowd.house.live.preview(|_| {}).await.live, 0);
    crowd.complete().await;
    let open = crowd.everybody().values().sum::<usize>();
    assert_eq!(crowd.house.live.preview(|_| {}).await.live, open);
    crowd.members.clear();
    crowd.house.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
    assert_eq!(crowd.house.live.preview(|_| {}).await.live, 0);
}

#[tokio::test]
async fn a_preview_of_a_kinder_policy_prolongs_no_session() {
    let app = RecordingApp::start().await;
    let limit = Duration::from_secs(600);
    let house = House::before(app.addr()).with_clock().policy(|policy| policy.max_session_age = Some(limit)).start();
    let mut session = house.client("a").http1(house.address()).await.unwrap();
    assert_eq!(session.get("/").await.unwrap().status, 200);
    let policy = Arc::new(Policy { max_session_age: None, ..(*house.live.current().state.policy).clone() });
    let preview = house.live.preview(|state| state.policy = policy).await;
    assert_eq!((preview.sessions_cut(), preview.live), (0, 1));
    house.advance(limit);
    house.wait_for_metric("portcullis_cuts_total", &[("reason", "session_too_old")], 1.0).await;
}

#[tokio::test]
async fn a_preview_of_more_sessions_than_a_slice_holds_counts_each_once_while_requests_pass() {
    let app = RecordingApp::start().await;
    let house = House::before(app.addr()).workers(1).start();
    let mut sessions = Vec::new();
    for number in 0..1200 {
        let name = ["fleet/a", "fleet/b", "steady"][number % 3];
        sessions.push(house.client(name).http1(house.address()).await.unwrap());
    }
    house.wait_for_metric("portcullis_sessions_active", &[], 1200.0).await;
    let named = |count| {
        let one = |name: &str| (format!("uri:spiffe://td/{name}"), "anchor_removed", count);
        ["fleet/a", "fleet/b", "steady"].map(one)
    };
    let gone = Arc::new(Bundle::default());
    for _ in 0..10 {
        let asked = house.live.preview(|state| state.bundle = Arc::clone(&gone));
        let (preview, answer) = tokio::join!(asked, sessions[2].get("/"));
        assert_eq!((answer.unwrap().status.as_u16(), preview.live, preview.unheard), (200, 1200, 0));
        let told: Vec<_> = preview.cut.iter().map(|cut| (cut.identity.clone(), cut.reason, cut.sessions)).collect();
        assert_eq!(told, named(400));
    }
    let id_prefixes = [("spiffe://td/fleet/".to_owned(), vec![Terms::default()])].into();
    let overlay = Arc::new(Overlay::new(Selectors { id_prefixes, ..Selectors::default() }));
    let deny = |state: &mut TrustState| state.overlay = overlay;
    let preview = house.live.preview(deny.clone()).await;
    assert_eq!((preview.sessions_cut(), preview.cut.len()), (800, 2));
    house.live.publish(deny);
    house.wait_for_metric("portcullis_sessions_active", &[], 400.0).await;
    house.wait_for_metric("portcullis_cuts_total", &[("reason", "revoked")], 800.0).await;
    for session in sessions.iter_mut().skip(2).step_by(3) {
        assert_eq!(session.get("/").await.unwrap().status, 200);
    }
}
