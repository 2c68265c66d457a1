//! Knowledge that would cut too many is held until somebody confirms it, against real sessions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs;
use std::sync::Arc;

use proxy::{AppAddress, Config, Inbound, Limits, Protocol, Running};
use sources::{DeskError, Paths, Push};
use stage::lines::Lines;
use stage::signer::{Signer, keys, signed};
use stage::{Files, NO_POLL, QUICK_POLL, Stage, list};
use testkit::{CrlSpec, Http1Client, LeafSpec, ListSpec, OffsetDateTime, RecordingApp, TlsClient};

/// A proxy with ten sessions, of clients `spiffe://td/0` to `spiffe://td/9`.
struct Busy {
    files: Files,
    stage: Stage,
    lines: Lines,
    sessions: Vec<Http1Client>,
    serials: Vec<Vec<u8>>,
    running: Arc<Running>,
    _app: RecordingApp,
}

const ALL: usize = 10;

impl Busy {
    async fn start(paths: impl FnOnce(Paths) -> Paths, poll: std::time::Duration) -> Busy {
        let (files, lines) = (Files::good(), Lines::caught());
        let paths = paths(Paths { max_cut_fraction: Some(0.5), ..files.kept() });
        Busy::start_with((files, lines), paths, poll).await
    }

    async fn start_with((files, lines): (Files, Lines), paths: Paths, poll: std::time::Duration) -> Busy {
        let stage = Stage::start(paths, poll).await;
        Busy::on((files, lines), stage).await
    }

    async fn on((files, lines): (Files, Lines), stage: Stage) -> Busy {
        let app = RecordingApp::start().await;
        let inbound = Inbound {
            listen: ([127, 0, 0, 1], 0).into(),
            app: AppAddress::Socket(app.addr()),
            protocol: Protocol::Auto,
        };
        let limits = Limits::default();
        let config = Config { inbounds: vec![inbound], workers: 2, allow_connect: false, limits };
        let running = proxy::start(config, stage.live.clone(), stage.metrics.clone()).map_err(|one| one.0).unwrap();
        let mut busy = Busy { files, stage, lines, sessions: vec![], serials: vec![], running, _app: app };
        for number in 0..ALL {
            let leaf = busy.files.root.issue(LeafSpec::spiffe(&format!("spiffe://td/{number}")));
            busy.serials.push(leaf.serial());
            let client = TlsClient::new(busy.files.root.der(), Some(&leaf)).server_name("server");
            let mut session = client.http1(busy.running.addresses()[0]).await.unwrap();
            assert_eq!(session.get("/").await.unwrap().status, 200);
            busy.sessions.push(session);
        }
        busy
    }

    /// How many sessions still get an answer.
    async fn served(&mut self) -> usize {
        let mut served = 0;
        for session in &mut self.sessions {
            served += usize::from(session.get("/").await.is_ok_and(|answer| answer.status == 200));
        }
        served
    }

    async fn push(&self, bytes: impl Into<Vec<u8>>, confirm: bool) -> Result<sources::Pushed, DeskError> {
        let push = Push { confirm, who: "a test".to_owned(), ..Push::default() };
        self.stage.desk.push(bytes.into(), push).await
    }
}

/// A list that names the first `count` clients.
fn naming(sequence: u64, count: usize) -> ListSpec {
    (0..count).fold(ListSpec::new("prod", sequence), |list, number| list.id(&format!("spiffe://td/{number}")))
}

#[tokio::test]
async fn a_preview_names_whom_the_push_then_cuts() {
    let mut busy = Busy::start(|paths| Paths { max_cut_fraction: None, ..paths }, NO_POLL).await;
    let preview = busy.stage.desk.preview(naming(2, 3).text().into_bytes()).await.unwrap();
    assert_eq!((preview.live, preview.cut, preview.taken.result, preview.would_be_held), (ALL, 3, "changed", false));
    assert_eq!((preview.by_reason["revoked"], preview.more, preview.unheard), (3, 0, 0));
    let names: Vec<_> = preview.identities.iter().map(|one| one.identity.as_str()).collect();
    assert_eq!(names, ["uri:spiffe://td/0", "uri:spiffe://td/1", "uri:spiffe://td/2"]);
    assert_eq!((busy.served().await, busy.stage.live.epoch(), busy.stage.sequence()), (ALL, 1, 1));
    busy.push(naming(2, 3).text(), false).await.unwrap();
    assert_eq!(busy.served().await, ALL - 3);
    let again = busy.stage.desk.preview(naming(2, 3).text().into_bytes()).await;
    assert!(again.is_err() || again.unwrap().cut == 0);
    let error = busy.stage.desk.preview(list("prod", 1).into_bytes()).await.unwrap_err();
    assert_eq!((error.label(), busy.stage.refused("older")), ("older", 0), "a question is no offer");
}

#[tokio::test]
async fn a_list_that_would_cut_too_many_is_held_until_it_is_confirmed() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    assert!(busy.stage.desk.preview(naming(2, 6).text().into_bytes()).await.unwrap().would_be_held);
    let pushed = busy.push(naming(2, 6).text(), false).await.unwrap();
    let held = pushed.held.unwrap();
    assert_eq!((pushed.taken.result, held.cut, held.live, held.from.as_str()), ("held", 6, ALL, "push by a test"));
    assert_eq!((busy.served().await, busy.stage.sequence(), busy.stage.live.epoch()), (ALL, 1, 1));
    assert_eq!((busy.stage.gauge("portcullis_snapshot_held"), busy.stage.desk.held()), (1, 1));
    assert_eq!((busy.stage.state().await.held, busy.lines.of("held").len()), (vec![held.clone()], 1));
    let error = busy.stage.desk.confirm(Some("0".repeat(64)), "an operator".to_owned()).await.unwrap_err();
    assert_eq!(error.label(), "not_found");
    let confirmed = busy.stage.desk.confirm(Some(held.digest), "an operator".to_owned()).await.unwrap();
    assert_eq!((confirmed.taken.result, confirmed.persisted), ("changed", true));
    assert_eq!((busy.served().await, busy.stage.sequence()), (4, 2));
    assert_eq!((busy.stage.gauge("portcullis_snapshot_held"), busy.stage.desk.held()), (0, 0));
    let error = busy.stage.desk.confirm(None, "an operator".to_owned()).await.unwrap_err();
    assert_eq!(error.label(), "not_found");
}

#[tokio::test]
async fn a_list_at_the_fraction_passes_and_so_does_any_that_is_confirmed_with_its_push() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    assert_eq!(busy.push(naming(2, 5).text(), false).await.unwrap().taken.result, "changed");
    assert_eq!(busy.served().await, 5);
    assert_eq!(busy.push(naming(3, 10).text(), false).await.unwrap().taken.result, "held");
    assert_eq!(busy.push(naming(3, 10).text(), true).await.unwrap().taken.result, "changed");
    assert_eq!((busy.served().await, busy.stage.desk.held()), (0, 0));
}

#[tokio::test]
async fn a_file_that_would_cut_too_many_is_held_once_until_a_newer_one_passes() {
    let mut busy = Busy::start(|paths| paths, QUICK_POLL).await;
    busy.files.replace("list.jsonl", naming(2, 10).text());
    busy.stage.until_true("the list is held", || busy.stage.desk.held() == 1).await;
    // A change elsewhere is loaded by a look that saw the held file again.
    let anchors = busy.files.root.pem() + &testkit::Authority::root("second").pem();
    busy.files.replace("ca.pem", anchors);
    busy.stage.until("the new bundle", |published| published.state.bundle.len() == 2).await;
    assert_eq!((busy.served().await, busy.stage.sequence(), busy.lines.of("held").len()), (ALL, 1, 1));
    busy.files.replace("list.jsonl", naming(3, 2).text());
    busy.stage.until_sequence(3).await;
    busy.stage.until_true("nothing is held", || busy.stage.desk.held() == 0).await;
    assert_eq!(busy.served().await, 8);
}

#[tokio::test]
async fn a_header_that_confirms_counts_only_if_it_is_signed() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    let confirming = |sequence| naming(sequence, 10).header_field("confirm", "true");
    assert_eq!(busy.push(confirming(2).text(), false).await.unwrap().taken.result, "held");
    assert_eq!(busy.served().await, ALL);

    let signer = Signer::new();
    let (files, lines) = (Files::good(), Lines::caught());
    fs::write(files.at("list.jsonl"), signed(ListSpec::new("prod", 1), &[&signer])).unwrap();
    let paths = Paths { max_cut_fraction: Some(0.5), requirements: keys(&[&signer], 1), ..files.kept() };
    let mut busy = Busy::start_with((files, lines), paths, NO_POLL).await;
    assert_eq!(busy.push(signed(naming(2, 10), &[&signer]), false).await.unwrap().taken.result, "held");
    assert_eq!(busy.push(signed(confirming(3), &[&signer]), false).await.unwrap().taken.result, "changed");
    assert_eq!((busy.served().await, busy.stage.desk.held()), (0, 0));
}

#[tokio::test]
async fn a_crl_that_would_cut_too_many_is_held_likewise() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    let crl = |number, count| {
        let serials = busy.serials.iter().take(count);
        serials.fold(CrlSpec::new(number), |crl, serial| crl.revoke(serial))
    };
    let (too_many, few) = (busy.files.root.crl(crl(1, 9)), busy.files.root.crl(crl(2, 1)));
    busy.files.replace("list.jsonl", too_many);
    busy.stage.until_true("the CRL is held", || busy.stage.desk.held() == 1).await;
    assert_eq!(busy.served().await, ALL);
    busy.files.replace("list.jsonl", few);
    busy.stage.until("the CRL", |published| published.state.snapshot().unwrap().crls().count() == 1).await;
    assert_eq!((busy.served().await, busy.stage.desk.held()), (9, 0));
}

#[tokio::test]
async fn an_observe_list_cuts_nobody_and_is_never_held() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    let pushed = busy.push(naming(2, 10).header_field("mode", "\"observe\"").text(), false).await.unwrap();
    assert_eq!((pushed.taken.result, pushed.taken.mode, busy.served().await), ("changed", Some("observe"), ALL));
    assert_eq!(busy.stage.state().await.observed_entries, 10);
}

#[tokio::test]
async fn what_was_held_before_a_restart_is_held_after_it() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    busy.files.replace("list.jsonl", naming(2, 10).text());
    busy.stage.until_true("the list is held", || busy.stage.desk.held() == 1).await;
    busy.stage.until_true("it is kept", || busy.files.state_files().contains(&"desk/held".to_owned())).await;
    busy.running.stop().await;
    busy.stage.stop();
    let paths = Paths { max_cut_fraction: Some(0.5), ..busy.files.kept() };
    let stage = Stage::start(paths, NO_POLL).await;
    assert_eq!((stage.sequence(), stage.desk.held()), (1, 1), "{:?}", stage.warnings);
    assert!(stage.warnings.iter().any(|one| one.contains("is held since")), "{:?}", stage.warnings);
    let confirmed = stage.desk.confirm(None, "an operator".to_owned()).await.unwrap();
    assert_eq!((confirmed.taken.sequence, stage.sequence()), (Some(2), 2));
}

#[tokio::test]
async fn what_is_held_is_kept_as_soon_as_it_can_be() {
    let busy = Busy::start(|paths| paths, QUICK_POLL).await;
    fs::rename(busy.files.at("state/desk"), busy.files.at("state/before")).unwrap();
    fs::write(busy.files.at("state/desk"), "").unwrap();
    busy.files.replace("list.jsonl", naming(2, 10).text());
    busy.stage.until_true("the list is held", || busy.stage.desk.held() == 1).await;
    assert!(busy.stage.state().await.state_dir.unwrap().failure.is_some());
    fs::remove_file(busy.files.at("state/desk")).unwrap();
    fs::rename(busy.files.at("state/before"), busy.files.at("state/desk")).unwrap();
    let is_kept = || fs::read_to_string(busy.files.at("state/desk/held")).is_ok_and(|text| text.contains("sequence 2"));
    busy.stage.until_true("it is kept", is_kept).await;
}

#[tokio::test]
async fn an_older_issue_that_is_held_too_takes_no_newer_ones_place() {
    let busy = Busy::start(|paths| paths, NO_POLL).await;
    let newer = busy.push(naming(9, 10).text(), false).await.unwrap().held.unwrap();
    assert_eq!(busy.push(naming(5, 8).text(), false).await.unwrap().taken.result, "held");
    let held = busy.stage.state().await.held;
    assert_eq!(held.iter().map(|one| one.sequence).collect::<Vec<_>>(), [Some(9), Some(5)]);
    let error = busy.stage.desk.confirm(None, "an operator".to_owned()).await.unwrap_err();
    assert_eq!(error.label(), "invalid", "nobody confirms the older one by accident");
    busy.stage.desk.confirm(Some(newer.digest), "an operator".to_owned()).await.unwrap();
    assert_eq!((busy.stage.sequence(), busy.stage.desk.held()), (9, 0));
}

#[tokio::test]
async fn crls_of_two_issuers_that_one_person_pushed_are_held_beside_each_other() {
    let busy = Busy::start(|paths| Paths { max_cut_fraction: Some(0.0), ..paths }, NO_POLL).await;
    let one = busy.files.root.crl(CrlSpec::new(1).revoke(&busy.serials[0]));
    let other = busy.files.root.crl(CrlSpec::new(2).revoke(&busy.serials[1]));
    for crl in [one, other] {
        assert_eq!(busy.push(crl, false).await.unwrap().taken.result, "held");
    }
    assert_eq!(busy.stage.desk.held(), 2);
}

#[tokio::test]
async fn what_was_pushed_and_held_is_told_when_a_restart_lost_it() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    let held = busy.push(naming(2, 10).text(), false).await.unwrap().held.unwrap();
    busy.running.stop().await;
    busy.stage.stop();
    let stage = Stage::start(Paths { max_cut_fraction: Some(0.5), ..busy.files.kept() }, NO_POLL).await;
    assert_eq!((stage.sequence(), stage.desk.held()), (1, 0));
    assert_eq!(busy.lines.of("held_dropped")[0]["digest"], held.digest);
}

#[tokio::test]
async fn a_held_file_that_is_touched_is_weighed_again() {
    let mut busy = Busy::start(|paths| paths, NO_POLL).await;
    let text = naming(2, 8).text();
    busy.files.replace("list.jsonl", &text);
    busy.stage.until_true("the list is held", || busy.stage.desk.held() == 1).await;
    for session in busy.sessions.drain(..8) {
        drop(session);
    }
    let alone = async {
        while busy.stage.live.preview(|_| ()).await.live > 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), alone).await.unwrap();
    busy.files.replace("list.jsonl", &text);
    busy.stage.until_sequence(2).await;
    busy.stage.until_true("nothing is held", || busy.stage.desk.held() == 0).await;
}

#[tokio::test]
async fn what_is_held_is_taken_once_what_is_in_force_is_outdated_and_denies_everybody_anyway() {
    let files = Files::good();
    let now = OffsetDateTime::now_utc().unix_timestamp() * 1000;
    let paths = Paths { max_cut_fraction: Some(0.5), ..files.kept() };
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(now));
    let stage = Stage::start_with(paths, QUICK_POLL, Some(clock)).await;
    let mut busy = Busy::on((files, Lines::caught()), stage).await;
    let fresh = naming(2, 8).expires_in(testkit::Duration::hours(9)).text();
    assert_eq!(busy.push(fresh, false).await.unwrap().taken.result, "held");
    busy.stage.advance(std::time::Duration::from_secs(2 * 3600));
    busy.stage.until_sequence(2).await;
    assert_eq!((busy.served().await, busy.stage.desk.held()), (0, 0), "everybody had been cut");
    assert!(stage::judged_as(&busy.files, &busy.stage, "spiffe://td/9").is_ok());
    assert!(stage::judged_as(&busy.files, &busy.stage, "spiffe://td/1").is_err());
}

#[tokio::test]
async fn files_are_watched_while_previews_are_asked_for() {
    let busy = Busy::start(|paths| Paths { max_cut_fraction: None, ..paths }, NO_POLL).await;
    let asking = async {
        for _ in 0..50 {
            busy.stage.desk.preview(naming(99, 5).text().into_bytes()).await.unwrap();
        }
    };
    let writing = async {
        for sequence in 2..20 {
            busy.files.replace("list.jsonl", list("prod", sequence));
            busy.stage.until_sequence(sequence).await;
        }
    };
    tokio::join!(asking, writing);
}
