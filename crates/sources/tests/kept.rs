//! What was accepted outlives the process: restarts with older, spoiled and missing files, and a damaged folder.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs;
use std::time::Duration;

use sources::{DeskError, Paths, Push};
use stage::lines::Lines;
use stage::signer::{Signer, keys, signed};
use stage::{Files, NO_POLL, QUICK_POLL, Stage, failure, list, load};
use testkit::{CrlSpec, LeafSpec, ListSpec, OffsetDateTime, RawExtension};
use trust::{Denial, Knowledge};

fn by(who: &str) -> Push {
    Push { who: who.to_owned(), ..Push::default() }
}

#[tokio::test]
async fn a_restart_with_an_older_file_at_hand_comes_up_on_the_newer_list() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    files.replace("list.jsonl", list("prod", 7));
    stage.until_sequence(7).await;
    stage.until_true("the list is kept", || files.state_files() == ["lists/enforce-prod"]).await;
    stage.stop();
    fs::write(files.at("list.jsonl"), list("prod", 6)).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.sequence(), 7);
    let state = stage.state().await;
    assert!(state.lists[0].persisted, "{state:?}");
    assert_eq!((state.refusals[0].label, stage.refused("older")), ("older", 1));
    assert!(stage.warnings.iter().any(|one| one.contains("sequence 7 is in force")), "{:?}", stage.warnings);
}

#[tokio::test]
async fn a_restart_with_a_spoiled_or_missing_file_goes_on_with_what_was_accepted() {
    let files = Files::good();
    fs::write(files.at("list.jsonl"), list("prod", 7)).unwrap();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let whole = list("prod", 8);
    for (bytes, label) in [("", "empty"), (&whole[..whole.len() / 2], "truncated"), ("nonsense", "malformed")] {
        fs::write(files.at("list.jsonl"), bytes).unwrap();
        let mut stage = Stage::start(files.kept(), NO_POLL).await;
        assert_eq!((stage.sequence(), stage.refused(label)), (7, 1), "{bytes:?}");
        assert!(stage.warnings.iter().any(|one| one.contains("stays in force")), "{:?}", stage.warnings);
        stage.stop();
    }
    fs::remove_file(files.at("list.jsonl")).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!((stage.sequence(), stage.refused("unread")), (7, 1));
    files.replace("list.jsonl", list("prod", 8));
    stage.until_sequence(8).await;
}

#[tokio::test]
async fn without_a_state_folder_a_spoiled_file_still_prevents_the_start() {
    let files = Files::good();
    fs::write(files.at("list.jsonl"), "").unwrap();
    assert!(failure(&files.kept()).contains("is empty"));
    assert!(!files.at("state").exists(), "a look that fails makes no folder");
}

#[tokio::test]
async fn a_list_that_expired_while_the_proxy_was_down_is_in_force_as_outdated() {
    let files = Files::good();
    fs::write(files.at("list.jsonl"), list("prod", 7)).unwrap();
    let now = OffsetDateTime::now_utc().unix_timestamp() * 1000 + 999;
    let mut stage = Stage::start_at(files.kept(), now).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let stage = Stage::start_at(files.kept(), now + 2 * 3_600_000).await;
    let state = stage.state().await;
    assert_eq!((stage.sequence(), state.knowledge, state.lists[0].expired), (7, "known", true));
    files.replace("list.jsonl", list("prod", 6));
    stage.until_count("revocations", "failed", 1).await;
    assert_eq!(stage.refused("older"), 1, "an expired list is still a floor");
}

#[tokio::test]
async fn what_was_pushed_outlives_a_restart() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    let pushed = stage.desk.push(list("other", 3).into_bytes(), by("a test")).await.unwrap();
    assert_eq!((pushed.taken.result, pushed.persisted, pushed.taken.sequence), ("changed", true, Some(3)));
    stage.stop();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    let names: Vec<_> = stage.state().await.lists.into_iter().map(|list| (list.name, list.sequence)).collect();
    assert_eq!(names, [("other".to_owned(), 3), ("prod".to_owned(), 1)]);
}

#[tokio::test]
async fn a_crl_and_its_number_outlive_a_restart() {
    let files = Files::good();
    let leaf = files.root.issue(LeafSpec::dns("client"));
    let newer = files.root.crl(CrlSpec::new(8).revoke(&leaf.serial()));
    fs::write(files.at("list.jsonl"), newer).unwrap();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the CRL is kept", || files.state_files().len() == 1).await;
    stage.stop();
    fs::write(files.at("list.jsonl"), files.root.crl(CrlSpec::new(7))).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    let state = stage.state().await;
    assert_eq!((state.crls.len(), state.crls[0].number.as_str(), state.crls[0].entries), (1, "08", 1));
    assert_eq!((state.crls[0].persisted, stage.refused("older")), (true, 1));
    files.replace("list.jsonl", files.root.crl(CrlSpec::new(9)));
    stage
        .until_true("one file of the newest", || {
            let files = files.state_files();
            files.len() == 1 && files[0].starts_with("crls/")
        })
        .await;
}

#[tokio::test]
async fn a_kill_between_write_and_rename_leaves_what_was_kept_before() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let kept = fs::read(files.at("state/lists/enforce-prod")).unwrap();
    let newer = String::from_utf8(kept).unwrap().replace("\"sequence\":1", "\"sequence\":9");
    for half in [newer.as_str(), &newer[..newer.len() / 2], ""] {
        fs::write(files.at("state/lists/.enforce-prod.draft"), half).unwrap();
        let mut stage = Stage::start(files.kept(), NO_POLL).await;
        assert_eq!(stage.sequence(), 1);
        assert_eq!(files.state_files(), ["lists/enforce-prod"], "the draft is swept away");
        stage.stop();
    }
}

#[tokio::test]
async fn a_damaged_state_file_is_told_counted_and_set_aside() {
    let files = Files::good();
    let lines = Lines::caught();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let file = files.at("state/lists/enforce-prod");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let warnings = load(&files.kept()).unwrap().warnings;
    assert!(warnings.iter().any(|one| one.contains("set aside")), "{warnings:?}");
    assert_eq!(files.state_files(), ["lists/enforce-prod"], "check changes nothing");
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.sequence(), 1, "the file of --revocations says it again");
    assert_eq!(files.state_files(), ["lists/enforce-prod", "lists/enforce-prod~damaged"]);
    let state = stage.state().await;
    assert_eq!((state.refusals[0].label, stage.refused("damaged_state")), ("damaged_state", 1));
    assert_eq!(stage.gauge("portcullis_state_dir_failures_total"), 1);
    assert_eq!(lines.of("state_dir_failed").len(), 1);
    assert!(state.lists[0].persisted);
}

#[tokio::test]
async fn a_list_outlives_a_restart_whatever_its_name() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    let names = ["east.damaged", "east.draft", "-", "..", &"x".repeat(64)];
    for name in names {
        assert!(stage.desk.push(list(name, 3).into_bytes(), by("a test")).await.unwrap().persisted, "{name}");
    }
    stage.stop();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.state().await.lists.len(), names.len() + 1);
}

#[tokio::test]
async fn what_may_be_whole_but_cannot_be_read_prevents_the_start_and_is_never_overwritten() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    let entry = serde_json::from_str("{\"id\":\"spiffe://td/client\"}").unwrap();
    let denial = sources::NewDenial { entry, ttl: Duration::from_secs(60), who: "a test".to_owned() };
    assert!(stage.desk.deny(denial).await.unwrap().persisted);
    stage.stop();
    // Written by a later version.
    let file = files.at("state/desk/denials");
    let now = fs::read_to_string(&file).unwrap();
    fs::write(&file, now.replace("state/v1", "state/v2")).unwrap();
    let sentence = failure(&files.kept());
    assert!(sentence.contains("desk/denials") && sentence.contains("state/v2"), "{sentence}");
    assert!(sentence.contains("move it away"), "{sentence}");
    fs::write(&file, now).unwrap();
    let requirements = sources::Requirements { max_bytes: 1, ..sources::Requirements::default() };
    fs::write(files.at("state/lists/enforce-prod"), "x".repeat(100_000)).unwrap();
    let sentence = failure(&Paths { requirements, ..files.kept() });
    assert!(sentence.contains("lists/enforce-prod") && sentence.contains("--revocation-max-bytes"), "{sentence}");
}

#[tokio::test]
async fn what_another_process_kept_between_the_first_load_and_the_claim_is_not_lost() {
    let files = Files::good();
    let mut before = Stage::start(files.kept(), NO_POLL).await;
    before.until_true("the list is kept", || !files.state_files().is_empty()).await;
    let loaded = load(&files.kept()).unwrap();
    before.desk.push(list("prod", 9).into_bytes(), by("a test")).await.unwrap();
    before.stop();
    let (introductions, receiver) = tokio::sync::mpsc::channel(1);
    let state = (loaded.bundle, loaded.knowledge, stage::policy());
    let live = proxy::Live::new(state, loaded.credential, introductions, proxy::Clock::real());
    let metrics = std::sync::Arc::new(proxy::Metrics::new("test").unwrap());
    let error = sources::watch(files.kept(), loaded.library, (live, receiver), metrics).unwrap_err();
    assert!(error.0.contains("--state-dir") && error.0.contains("start again"), "{error}");
    assert_eq!(Stage::start(files.kept(), NO_POLL).await.sequence(), 9);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told_and_what_is_in_force_stays_in_force() {
    let files = Files::good();
    let lines = Lines::caught();
    let stage = Stage::start(files.kept(), QUICK_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    // Nobody can write below a file; that holds for root too, whom permissions and quotas do not stop.
    fs::rename(files.at("state/lists"), files.at("state/before")).unwrap();
    fs::write(files.at("state/lists"), "").unwrap();
    files.replace("list.jsonl", list("prod", 2));
    stage.until_sequence(2).await;
    stage.until_true("several failures", || stage.gauge("portcullis_state_dir_failures_total") > 3).await;
    let state = stage.state().await;
    let folder = state.state_dir.unwrap();
    assert!(folder.failure.unwrap().contains("cannot be written") && folder.unsaved == 1 && !state.lists[0].persisted);
    let pushed = stage.desk.push(list("other", 1).into_bytes(), by("a test")).await.unwrap();
    assert!(
        !pushed.persisted && pushed.taken.sentence.contains("a restart would not find it"),
        "{}",
        pushed.taken.sentence
    );
    assert_eq!(lines.of("state_dir_failed").len(), 1, "one failure is told once");
    fs::remove_file(files.at("state/lists")).unwrap();
    fs::rename(files.at("state/before"), files.at("state/lists")).unwrap();
    stage
        .until_true("both lists are kept", || files.state_files() == ["lists/enforce-other", "lists/enforce-prod"])
        .await;
    let state = stage.state().await;
    assert!(state.lists.iter().all(|list| list.persisted) && state.state_dir.unwrap().failure.is_none());
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_used_is_named_at_start() {
    let files = Files::good();
    fs::write(files.at("file"), "").unwrap();
    let sentence = failure(&Paths { state_dir: Some(files.at("file")), ..files.paths() });
    assert!(sentence.contains("--state-dir") && sentence.contains("is no folder"), "{sentence}");
}

#[tokio::test]
async fn a_floor_that_was_taken_away_stays_away_over_a_restart_and_is_audited() {
    let files = Files::good();
    let lines = Lines::caught();
    fs::write(files.at("list.jsonl"), list("prod", 900)).unwrap();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    let refused = stage.desk.push(list("prod", 5).into_bytes(), by("a test")).await.unwrap_err();
    assert_eq!(refused.label(), "older");
    let reset = stage.desk.reset_floor("prod".to_owned(), "an operator".to_owned()).await.unwrap();
    assert_eq!((reset.floors[0].mode, reset.floors[0].sequence, reset.persisted), ("enforce", 900, true));
    assert_eq!(lines.of("floor_reset")[0]["who"], "an operator");
    assert_eq!(stage.sequence(), 900, "the list itself stays in force");
    let error = stage.desk.reset_floor("nobody".to_owned(), "x".to_owned()).await.unwrap_err();
    assert!(matches!(error, DeskError::NotFound { .. }), "{error}");
    stage.stop();
    fs::remove_file(files.at("list.jsonl")).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.sequence(), 900);
    stage.desk.push(list("prod", 5).into_bytes(), by("a test")).await.unwrap();
    assert_eq!(stage.sequence(), 5);
    let refused = stage.desk.push(list("prod", 4).into_bytes(), by("a test")).await.unwrap_err();
    assert_eq!(refused.label(), "older", "the next one has a floor again");
}

#[tokio::test]
async fn a_file_that_was_refused_because_of_the_floor_is_taken_when_the_floor_is_away() {
    let files = Files::good();
    fs::write(files.at("list.jsonl"), list("prod", 900)).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    files.replace("list.jsonl", list("prod", 5));
    stage.until_true("a refusal", || stage.refused("older") == 1).await;
    stage.desk.reset_floor("prod".to_owned(), "an operator".to_owned()).await.unwrap();
    assert_eq!(stage.sequence(), 5);
}

#[tokio::test]
async fn a_new_set_of_keys_takes_the_floor_away_and_what_the_old_one_signed_is_not_believed() {
    let files = Files::good();
    let (before, after) = (Signer::new(), Signer::new());
    fs::write(files.at("list.jsonl"), signed(ListSpec::new("prod", u64::MAX), &[&before])).unwrap();
    let old = Paths { requirements: keys(&[&before], 1), ..files.kept() };
    let mut stage = Stage::start(old.clone(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let new = Paths { requirements: keys(&[&after], 1), ..files.kept() };
    assert!(failure(&new).contains("sign"), "the old list is no list under the new keys");
    fs::write(files.at("list.jsonl"), signed(ListSpec::new("prod", 2), &[&after])).unwrap();
    let mut stage = Stage::start(new, NO_POLL).await;
    assert_eq!((stage.sequence(), stage.refused("under_signed") + stage.refused("unsigned")), (2, 1));
    stage.stop();
    // Both sets hold the key of the list in force: it is believed, but its number binds only within its own set.
    fs::write(files.at("list.jsonl"), signed(ListSpec::new("prod", 1), &[&after, &before])).unwrap();
    let both = Paths { requirements: keys(&[&before, &after], 1), ..files.kept() };
    assert_eq!(Stage::start(both, NO_POLL).await.sequence(), 1);
}

#[tokio::test]
async fn a_crl_that_waits_for_its_issuer_outlives_a_restart() {
    let files = Files::good();
    let issuing = files.root.intermediate("issuing");
    fs::write(files.at("list.jsonl"), issuing.crl(CrlSpec::new(5))).unwrap();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the CRL is kept", || files.state_files().len() == 1).await;
    stage.stop();
    fs::write(files.at("list.jsonl"), issuing.crl(CrlSpec::new(4))).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert!(stage.live.introduce(issuing.der()));
    stage.until("the CRL", |published| published.state.snapshot().unwrap().crls().count() == 1).await;
    let state = stage.state().await;
    assert_eq!((state.crls[0].number.as_str(), state.crls_wait), ("05", false));
    stage.until_true("one file under its proper name", || files.state_files().len() == 1).await;
    assert!(stage.state().await.crls[0].persisted);
}

#[tokio::test]
async fn a_crl_that_cannot_be_read_leaves_its_issuers_status_unknown_over_a_restart() {
    let files = Files::good();
    let strange = CrlSpec::new(8).extension(RawExtension::unknown_critical());
    fs::create_dir(files.at("crls")).unwrap();
    fs::write(files.at("crls/full"), files.root.crl(CrlSpec::new(7))).unwrap();
    fs::write(files.at("crls/strange"), files.root.crl(strange)).unwrap();
    let paths = Paths { revocations: vec![files.at("crls")], ..files.kept() };
    let mut stage = Stage::start(paths.clone(), NO_POLL).await;
    let unknown = Denial::StatusUnknown(trust::Place::Leaf);
    assert_eq!(stage::judged(&files, &stage).unwrap_err(), unknown);
    stage.until_true("both CRLs are kept", || files.state_files().len() == 2).await;
    stage.stop();
    fs::remove_file(files.at("crls/strange")).unwrap();
    let lines = Lines::caught();
    let stage = Stage::start(paths, NO_POLL).await;
    assert_eq!(stage::judged(&files, &stage).unwrap_err(), unknown);
    assert_eq!(stage.state().await.state_dir.unwrap().unsaved, 0);
    let told = lines.of("restored");
    assert!(told.len() == 2 && told.iter().any(|line| line.to_string().contains("critical extension")), "{told:?}");
}

#[tokio::test]
async fn with_no_revocations_the_folder_keeps_what_it_holds_and_nothing_of_it_is_in_force() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || !files.state_files().is_empty()).await;
    stage.stop();
    let none = Paths { revocations: Vec::new(), no_revocations: true, ..files.kept() };
    let stage = Stage::start(none, NO_POLL).await;
    assert!(matches!(stage.live.current().state.knowledge, Knowledge::NotWanted));
    assert_eq!(files.state_files(), ["lists/enforce-prod"]);
    let error = stage.desk.push(list("prod", 2).into_bytes(), by("a test")).await.unwrap_err();
    assert_eq!(error, DeskError::NotWanted);
    assert_eq!(stage.state().await.knowledge, "not_wanted");
}

#[tokio::test]
async fn two_proxies_cannot_share_a_state_folder() {
    let files = Files::good();
    let _stage = Stage::start(files.kept(), NO_POLL).await;
    let loaded = load(&files.kept()).unwrap();
    let (introductions, receiver) = tokio::sync::mpsc::channel(1);
    let state = (loaded.bundle, loaded.knowledge, stage::policy());
    let live = proxy::Live::new(state, loaded.credential, introductions, proxy::Clock::real());
    let metrics = std::sync::Arc::new(proxy::Metrics::new("test").unwrap());
    let error = sources::watch(files.kept(), loaded.library, (live, receiver), metrics).unwrap_err();
    assert!(error.0.contains("--state-dir") && error.0.contains("another process uses it"), "{error}");
}

#[tokio::test]
async fn knowledge_that_outlived_a_restart_denies_like_any_other_when_it_is_outdated() {
    let files = Files::good();
    let now = OffsetDateTime::now_utc();
    let short = ListSpec::new("prod", 1).expires_in(testkit::Duration::minutes(1)).text();
    fs::write(files.at("list.jsonl"), short).unwrap();
    let stage = Stage::start_at(files.kept(), now.unix_timestamp() * 1000).await;
    let judged = || stage::judged(&files, &stage);
    assert!(judged().is_ok());
    stage.advance(Duration::from_secs(61));
    assert_eq!(judged().unwrap_err(), Denial::SnapshotOutdated);
}
