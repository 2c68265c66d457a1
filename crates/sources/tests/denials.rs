//! Denials of the overlay: in force at once, kept over a kill, ended in time, never unnoticed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs;
use std::time::Duration;

use sources::{DenialRecord, DeskError, NewDenial, Paths, Push};
use stage::lines::Lines;
use stage::{Files, NO_POLL, Stage, judged_as, list};
use testkit::{ListSpec, OffsetDateTime};

const CLIENT: &str = "spiffe://td/client";
const HOUR: Duration = Duration::from_secs(3600);

async fn deny(stage: &Stage, id: &str, ttl: Duration) -> Result<DenialRecord, DeskError> {
    let entry = serde_json::from_value(serde_json::json!({"id": id, "reason": "keyCompromise"})).unwrap();
    stage.desk.deny(NewDenial { entry, ttl, who: "an operator".to_owned() }).await
}

async fn push(stage: &Stage, list: &ListSpec) {
    let push = Push { who: "a test".to_owned(), ..Push::default() };
    stage.desk.push(list.text().into_bytes(), push).await.unwrap();
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp() * 1000 + 999
}

#[tokio::test]
async fn a_denial_is_in_force_and_kept_when_it_is_answered_and_survives_a_kill() {
    let files = Files::good();
    let lines = Lines::caught();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    assert!(judged_as(&files, &stage, CLIENT).is_ok());
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    assert!(denial.persisted && denial.id.starts_with("d-") && denial.ttl_seconds == 3600, "{denial:?}");
    assert_eq!(judged_as(&files, &stage, CLIENT).unwrap_err().label(), "revoked");
    assert!(judged_as(&files, &stage, "spiffe://td/other").is_ok());
    let told = lines.of("denial_added");
    assert_eq!((told[0]["who"].as_str(), told[0]["id"].as_str()), (Some("an operator"), Some(&*denial.id)));
    // What a kill leaves is what lies in the folder now, whatever the process would still have written.
    let folder = files.at("killed");
    copy(&files.at("state"), &folder);
    stage.stop();
    let paths = Paths { state_dir: Some(folder), ..files.paths() };
    let stage = Stage::start(paths, NO_POLL).await;
    assert_eq!(judged_as(&files, &stage, CLIENT).unwrap_err().label(), "revoked");
    let denials = stage.desk.denials().await.unwrap();
    assert_eq!((denials.len(), &denials[0].id, &denials[0].until), (1, &denial.id, &denial.until));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_denial_that_was_taken_back_is_gone_for_good() {
    let files = Files::good();
    let lines = Lines::caught();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    let gone = stage.desk.undeny(denial.id.clone(), "somebody else".to_owned()).await.unwrap();
    assert_eq!((gone.id, lines.of("denial_removed")[0]["who"].as_str()), (denial.id.clone(), Some("somebody else")));
    assert!(judged_as(&files, &stage, CLIENT).is_ok());
    let error = stage.desk.undeny(denial.id, "somebody else".to_owned()).await.unwrap_err();
    assert_eq!(error.label(), "not_found");
    stage.stop();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert!(stage.desk.denials().await.unwrap().is_empty() && judged_as(&files, &stage, CLIENT).is_ok());
}

#[tokio::test]
async fn a_denial_about_to_lapse_is_alarmed_and_ends_on_time() {
    let files = Files::good();
    let lines = Lines::caught();
    fs::write(files.at("list.jsonl"), ListSpec::new("prod", 1).expires_in(testkit::Duration::hours(9)).text()).unwrap();
    let mut stage = Stage::start_at(files.kept(), now()).await;
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    stage.advance(Duration::from_secs(2999));
    assert_eq!((stage.gauge("portcullis_overlay_lapsing"), stage.state().await.denials_lapsing), (0, 0));
    stage.advance(Duration::from_secs(1));
    stage.until_true("the alarm", || stage.gauge("portcullis_overlay_lapsing") == 1).await;
    let told = lines.of("denial_lapsing");
    assert_eq!((told.len(), told[0]["id"].as_str(), told[0]["level"].as_str()), (1, Some(&*denial.id), Some("WARN")));
    assert!(stage.desk.denials().await.unwrap()[0].lapsing);
    assert!(judged_as(&files, &stage, CLIENT).is_err());
    stage.advance(Duration::from_secs(600));
    assert!(judged_as(&files, &stage, CLIENT).is_ok(), "the judge needs nobody to end it");
    stage.until("the end", |published| published.state.overlay.is_empty()).await;
    stage.until_true("the end is told", || lines.of("denial_lapsed").len() == 1).await;
    assert_eq!(lines.of("denial_lapsing").len(), 1, "one alarm is told once");
    stage.until_true("no alarm", || stage.gauge("portcullis_overlay_lapsing") == 0).await;
    stage.stop();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert!(stage.desk.denials().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_denial_that_ended_while_the_proxy_was_down_is_told_and_not_in_force() {
    let files = Files::good();
    let lines = Lines::caught();
    fs::write(files.at("list.jsonl"), ListSpec::new("prod", 1).expires_in(testkit::Duration::hours(9)).text()).unwrap();
    let begin = now();
    let mut stage = Stage::start_at(files.kept(), begin).await;
    deny(&stage, CLIENT, HOUR).await.unwrap();
    stage.stop();
    let stage = Stage::start_at(files.kept(), begin + 2 * 3_600_000).await;
    assert!(judged_as(&files, &stage, CLIENT).is_ok());
    assert_eq!(lines.of("denial_lapsed").len(), 1);
}

#[tokio::test]
async fn a_list_that_names_a_denials_id_absorbs_it_in_the_same_epoch() {
    let files = Files::good();
    let lines = Lines::caught();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    let (one, other) =
        (deny(&stage, CLIENT, HOUR).await.unwrap(), deny(&stage, "spiffe://td/other", HOUR).await.unwrap());
    let epoch = stage.live.epoch();
    let absorbing = ListSpec::new("prod", 2).id(CLIENT).header_field("absorbs", &format!("[\"{}\"]", one.id));
    push(&stage, &absorbing).await;
    assert_eq!(stage.live.epoch(), epoch + 1);
    assert!(judged_as(&files, &stage, CLIENT).is_err() && judged_as(&files, &stage, "spiffe://td/other").is_err());
    let left: Vec<_> = stage.desk.denials().await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!((left, lines.of("denial_absorbed").len()), (vec![other.id.clone()], 1));
    assert_eq!(stage.state().await.lists[0].absorbs, [one.id]);
    stage.stop();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.desk.denials().await.unwrap()[0].id, other.id);
    assert!(judged_as(&files, &stage, CLIENT).is_err());
}

#[tokio::test]
async fn a_denial_that_an_unkept_list_absorbed_stays_in_the_folder_whatever_is_denied_next() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    stage.until_true("the list is kept", || files.state_files().len() == 1).await;
    let one = deny(&stage, CLIENT, HOUR).await.unwrap();
    fs::rename(files.at("state/lists"), files.at("state/before")).unwrap();
    fs::write(files.at("state/lists"), "").unwrap();
    push(&stage, &ListSpec::new("prod", 2).id(CLIENT).header_field("absorbs", &format!("[\"{}\"]", one.id))).await;
    assert!(stage.desk.denials().await.unwrap().is_empty(), "the list makes up for it");
    assert!(deny(&stage, "spiffe://td/other", HOUR).await.unwrap().persisted);
    assert!(stage.state().await.state_dir.unwrap().failure.is_some(), "the list is still not kept");
    // As a kill leaves it: the list was never written.
    stage.stop();
    fs::remove_file(files.at("state/lists")).unwrap();
    fs::rename(files.at("state/before"), files.at("state/lists")).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert_eq!(stage.sequence(), 1);
    assert!(judged_as(&files, &stage, CLIENT).is_err() && judged_as(&files, &stage, "spiffe://td/other").is_err());
    let again = ListSpec::new("prod", 2).id(CLIENT).header_field("absorbs", &format!("[\"{}\"]", one.id));
    push(&stage, &again).await;
    let text = fs::read_to_string(files.at("state/desk/denials")).unwrap();
    assert!(!text.contains(&one.id), "once the list is kept the denial leaves the folder");
}

#[tokio::test]
async fn a_list_that_only_observes_absorbs_nothing() {
    let files = Files::good();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    let watching = ListSpec::new("prod", 2).header_field("mode", "\"observe\"");
    push(&stage, &watching.header_field("absorbs", &format!("[\"{}\"]", denial.id))).await;
    assert!(judged_as(&files, &stage, CLIENT).is_err());
    assert_eq!(stage.state().await.lists.len(), 2);
}

#[tokio::test]
async fn without_a_state_folder_a_denial_is_in_force_and_says_that_it_is_not_kept() {
    let files = Files::good();
    let stage = Stage::start(files.paths(), NO_POLL).await;
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    assert!(!denial.persisted && judged_as(&files, &stage, CLIENT).is_err());
    assert_eq!(stage.gauge("portcullis_state_dir_failures_total"), 0);
}

#[tokio::test]
async fn a_denial_that_cannot_be_kept_is_in_force_and_kept_as_soon_as_it_can_be() {
    let files = Files::good();
    let stage = Stage::start(files.kept(), stage::QUICK_POLL).await;
    fs::rename(files.at("state/desk"), files.at("state/before")).unwrap();
    fs::write(files.at("state/desk"), "").unwrap();
    let denial = deny(&stage, CLIENT, HOUR).await.unwrap();
    assert!(!denial.persisted && judged_as(&files, &stage, CLIENT).is_err());
    fs::remove_file(files.at("state/desk")).unwrap();
    fs::rename(files.at("state/before"), files.at("state/desk")).unwrap();
    stage.until_true("the denial is kept", || files.state_files().contains(&"desk/denials".to_owned())).await;
    assert!(stage.desk.denials().await.unwrap()[0].persisted);
}

#[tokio::test]
async fn denials_are_told_as_damaged_when_somebody_changed_them() {
    let files = Files::good();
    let mut stage = Stage::start(files.kept(), NO_POLL).await;
    deny(&stage, CLIENT, HOUR).await.unwrap();
    stage.stop();
    let file = files.at("state/desk/denials");
    let text = fs::read_to_string(&file).unwrap().replace("td/client", "td/cliemt");
    fs::write(&file, text).unwrap();
    let stage = Stage::start(files.kept(), NO_POLL).await;
    assert!(stage.desk.denials().await.unwrap().is_empty());
    assert_eq!(stage.state().await.refusals[0].label, "damaged_state");
    assert!(files.at("state/desk/denials~damaged").exists());
}

#[tokio::test]
async fn a_denial_longer_than_the_maximum_is_refused() {
    let files = Files::good();
    let stage = Stage::start(Paths { max_denial_ttl: HOUR, ..files.kept() }, NO_POLL).await;
    let error = deny(&stage, CLIENT, HOUR + Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("--max-denial-ttl") && error.label() == "invalid", "{error}");
    assert_eq!(stage.live.epoch(), 1);
}

#[tokio::test]
async fn with_no_revocations_a_denial_denies_all_the_same() {
    let files = Files::good();
    let paths = Paths { revocations: Vec::new(), no_revocations: true, ..files.kept() };
    let stage = Stage::start(paths, NO_POLL).await;
    deny(&stage, CLIENT, HOUR).await.unwrap();
    assert!(judged_as(&files, &stage, CLIENT).is_err());
}

#[tokio::test]
async fn a_desk_whose_watch_has_ended_says_so() {
    let files = Files::good();
    let mut stage = Stage::start(files.paths(), NO_POLL).await;
    stage.stop();
    assert_eq!(stage.desk.state().await.unwrap_err(), DeskError::Ended);
    let push = Push { who: "a test".to_owned(), ..Push::default() };
    assert_eq!(stage.desk.push(list("prod", 2).into_bytes(), push).await.unwrap_err(), DeskError::Ended);
}
