//! Whoever carries the bytes is not trusted: every attack on the way from publisher to proxy, each by file and by
//! push. The last good knowledge stays in force, and the attack is named in metric, log and state.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs;

use sources::{Paths, Push, Requirements};
use stage::lines::Lines;
use stage::signer::{Signer, envelope, keys, signed};
use stage::{Files, NO_POLL, Stage, list};
use testkit::{Duration, ListSpec, OffsetDateTime, hex, sha256};
use trust::Denial;

/// A proxy with a good list of sequence 10 in force, under these requirements.
struct Attacked {
    files: Files,
    stage: Stage,
    lines: Lines,
}

impl Attacked {
    async fn under(requirements: Requirements, good: &str) -> Attacked {
        let lines = Lines::caught();
        let files = Files::good();
        fs::write(files.at("list.jsonl"), good).unwrap();
        let stage = Stage::start(Paths { requirements, ..files.kept() }, NO_POLL).await;
        assert_eq!(stage.sequence(), 10);
        Attacked { files, stage, lines }
    }

    /// The bytes come by file, then by push: both are refused under `label` and change nothing.
    async fn refuses(&self, bytes: impl AsRef<[u8]>, label: &str) {
        let (stage, bytes) = (&self.stage, bytes.as_ref());
        let (epoch, refused, failed) = (stage.live.epoch(), stage.refused(label), stage.count("revocations", "failed"));
        let told = self.told().len();
        self.files.replace("list.jsonl", bytes);
        stage.until_count("revocations", "failed", failed + 1).await;
        stage.until_true(&format!("a refusal as {label}"), || stage.refused(label) == refused + 1).await;
        let state = stage.state().await;
        assert_eq!(state.refusals[0].label, label, "{:?}", state.refusals[0]);
        assert!(state.refusals[0].from.ends_with("list.jsonl") && !state.refusals[0].sentence.contains('\n'));

        let push = Push { who: "mallory".to_owned(), ..Push::default() };
        let error = stage.desk.push(bytes.to_vec(), push).await.unwrap_err();
        assert_eq!(error.label(), label, "{error}");
        stage.until_true(&format!("a push refused as {label}"), || stage.refused(label) == refused + 2).await;
        let state = stage.state().await;
        assert_eq!((state.refusals[0].label, state.refusals[0].from.as_str()), (label, "push by mallory"));
        assert_eq!(state.refused_by_label[label], refused + 2);
        assert_eq!((stage.sequence(), stage.live.epoch(), state.sequence), (10, epoch, 10));
        let told_now = self.told();
        assert_eq!(told_now.len(), told + 2, "each is told once");
        assert!(told_now[told..].iter().all(|line| line["level"] == "ERROR"), "{told_now:?}");
        assert!(stage::judged(&self.files, stage).is_ok(), "what was in force still is");
    }

    fn told(&self) -> Vec<serde_json::Value> {
        self.lines.of("reload").into_iter().filter(|line| line["result"] == "failed").collect()
    }
}

fn prod(sequence: u64) -> ListSpec {
    ListSpec::new("prod", sequence).id("spiffe://td/somebody")
}

#[tokio::test]
async fn an_unsigned_list_is_refused_where_keys_are_configured() {
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    attacked.refuses(prod(11).text(), "unsigned").await;
}

#[tokio::test]
async fn a_list_forged_by_somebody_elses_key_is_refused() {
    let (signer, mallory) = (Signer::new(), Signer::new());
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    attacked.refuses(signed(prod(11), &[&mallory]), "under_signed").await;
}

#[tokio::test]
async fn one_key_that_signs_twice_counts_once() {
    let (one, two, three) = (Signer::new(), Signer::new(), Signer::new());
    let attacked = Attacked::under(keys(&[&one, &two, &three], 2), &signed(prod(10), &[&one, &three])).await;
    attacked.refuses(signed(prod(11), &[&two]), "under_signed").await;
    attacked.refuses(signed(prod(11), &[&two, &two]), "under_signed").await;
    attacked.files.replace("list.jsonl", signed(prod(11), &[&two, &three]));
    attacked.stage.until_sequence(11).await;
    let state = attacked.stage.state().await;
    assert_eq!((state.lists[0].signed_by.len(), state.requirements.threshold), (2, Some(2)));
    assert!(state.lists[0].key_set.is_some() && state.lists[0].key_set == state.requirements.key_set);
}

#[tokio::test]
async fn a_body_that_is_not_the_signed_headers_is_refused() {
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    let good = signed(prod(11), &[&signer]);
    attacked.refuses(good.replace("somebody", "nobody00"), "digest_mismatch").await;
    let (header, _) = good.split_once('\n').unwrap();
    let (_, body) = good.split_once('\n').unwrap();
    attacked.refuses(format!("{header}\n{body}{body}"), "malformed").await;
    let other = signed(ListSpec::new("prod", 12).id("spiffe://td/anybody0"), &[&signer]);
    let (_, other_body) = other.split_once('\n').unwrap();
    attacked.refuses(format!("{header}\n{other_body}"), "digest_mismatch").await;
}

#[tokio::test]
async fn a_signature_over_something_else_is_none() {
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    let body = "{\"id\":\"spiffe://td/somebody\"}\n";
    let digest = format!("\"{}\"", hex(&sha256(body.as_bytes())));
    let header = |sequence| {
        let list = prod(sequence).header_field("sha256", &digest).header_field("bytes", &body.len().to_string());
        list.header()
    };
    let mut forged: serde_json::Value = serde_json::from_str(&envelope(&header(11), &[&signer])).unwrap();
    let other: serde_json::Value = serde_json::from_str(&envelope(&header(12), &[])).unwrap();
    forged["payload"] = other["payload"].clone();
    attacked.refuses(format!("{forged}\n{body}"), "under_signed").await;
}

#[tokio::test]
async fn a_list_rolled_back_to_an_older_sequence_is_refused() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    attacked.refuses(prod(9).text(), "older").await;
    attacked.refuses(prod(0).text(), "older").await;
}

#[tokio::test]
async fn other_content_under_the_same_sequence_is_refused() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    attacked.refuses(list("prod", 10), "same_number").await;
}

#[tokio::test]
async fn a_list_that_is_frozen_denies_when_it_has_expired_and_an_expired_one_is_refused() {
    let now = OffsetDateTime::now_utc();
    let frozen = ListSpec::new("prod", 10).expires_in(Duration::minutes(10)).text();
    let lines = Lines::caught();
    let files = Files::good();
    fs::write(files.at("list.jsonl"), &frozen).unwrap();
    let stage = Stage::start_at(files.kept(), now.unix_timestamp() * 1000 + 999).await;
    let attacked = Attacked { files, stage, lines };
    let past = now - Duration::hours(2);
    let expired = prod(11).issued_at(past).expires_in(Duration::hours(1)).text();
    attacked.refuses(expired, "expired").await;
    attacked.files.replace("list.jsonl", &frozen);
    attacked.stage.advance(std::time::Duration::from_secs(601));
    assert_eq!(stage::judged(&attacked.files, &attacked.stage).unwrap_err(), Denial::SnapshotOutdated);
    assert!(attacked.stage.state().await.lists[0].expired);
}

#[tokio::test]
async fn a_list_from_the_future_is_refused() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    let later = OffsetDateTime::now_utc() + Duration::hours(1);
    let list = prod(11).issued_at(later).expires_in(Duration::hours(1)).text();
    attacked.refuses(list, "from_the_future").await;
}

#[tokio::test]
async fn a_sequence_fast_forwarded_beyond_reach_is_refused_unless_it_is_signed() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    attacked.refuses(prod(u64::MAX).text(), "absurd_jump").await;
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    attacked.files.replace("list.jsonl", signed(prod(u64::MAX), &[&signer]));
    attacked.stage.until_sequence(u64::MAX).await;
}

#[tokio::test]
async fn a_list_of_another_scope_or_none_is_refused() {
    let requirements = Requirements { scope: Some("prod-eu".to_owned()), ..Requirements::default() };
    let scoped = |sequence, scope: &str| prod(sequence).header_field("scope", &format!("\"{scope}\"")).text();
    let attacked = Attacked::under(requirements, &scoped(10, "prod-eu")).await;
    attacked.refuses(scoped(11, "prod-us"), "wrong_scope").await;
    attacked.refuses(prod(11).text(), "wrong_scope").await;
    attacked.files.replace("list.jsonl", scoped(11, "prod-eu"));
    attacked.stage.until_sequence(11).await;
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_unread() {
    let requirements = Requirements { max_bytes: 4096, ..Requirements::default() };
    let good = prod(10).text();
    let attacked = Attacked::under(requirements, &good).await;
    let long = prod(11).note(&"x".repeat(1000)).id("spiffe://td/b").note(&"x".repeat(1000));
    let long = long.id("spiffe://td/c").note(&"x".repeat(1000)).id("spiffe://td/d").note(&"x".repeat(1000));
    assert!(long.text().len() > 4096);
    attacked.refuses(long.text(), "too_large").await;
    let sparse = fs::File::create(attacked.files.at("sparse")).unwrap();
    // A terabyte that costs nothing: whoever allocated by its size would be killed here.
    sparse.set_len(1 << 40).unwrap();
    // Between two files that are too large alike there is one that is not, or the second would be nothing new.
    attacked.files.replace("list.jsonl", &good);
    attacked.stage.until_count("revocations", "unchanged", 1).await;
    let refused = attacked.stage.refused("too_large");
    fs::rename(attacked.files.at("sparse"), attacked.files.at("list.jsonl")).unwrap();
    attacked.stage.until_true("a refusal", || attacked.stage.refused("too_large") == refused + 1).await;
    assert_eq!(attacked.stage.sequence(), 10);
}

#[tokio::test]
async fn an_empty_file_never_means_that_nobody_is_revoked() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    attacked.refuses("", "empty").await;
    attacked.refuses("\n \n", "empty").await;
    assert!(stage::judged_as(&attacked.files, &attacked.stage, "spiffe://td/somebody").is_err());
}

#[tokio::test]
async fn a_list_cut_off_anywhere_is_refused() {
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    let whole = signed(prod(11).id("spiffe://td/other"), &[&signer]);
    let cuts: Vec<usize> = (1..whole.len() - 1).step_by(whole.len() / 24).chain([whole.len() - 2]).collect();
    for cut in cuts {
        let push = Push { who: "mallory".to_owned(), ..Push::default() };
        let error = attacked.stage.desk.push(whole.as_bytes()[..cut].to_vec(), push).await;
        let error = error.expect_err(&format!("cut at {cut}"));
        assert!(["truncated", "malformed", "digest_mismatch", "unsigned"].contains(&error.label()), "{cut}: {error}");
        assert_eq!(attacked.stage.sequence(), 10, "cut at {cut}");
    }
    attacked.files.replace("list.jsonl", &whole);
    attacked.stage.until_sequence(11).await;
}

#[tokio::test]
async fn a_list_that_counts_wrong_is_refused() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    attacked.refuses(prod(11).claiming(2).text(), "truncated").await;
    attacked.refuses(prod(11).claiming(0).text(), "malformed").await;
}

#[tokio::test]
async fn the_same_list_in_two_files_and_pushed_again_is_nothing_new() {
    let files = Files::good();
    fs::create_dir(files.at("lists")).unwrap();
    for name in ["a", "b"] {
        fs::write(files.at("lists").join(name), prod(10).text()).unwrap();
    }
    let bytes = fs::read(files.at("lists/a")).unwrap();
    fs::write(files.at("lists/b"), &bytes).unwrap();
    let stage = Stage::start(Paths { revocations: vec![files.at("lists")], ..files.kept() }, NO_POLL).await;
    let epoch = stage.live.epoch();
    let push = Push { who: "a test".to_owned(), ..Push::default() };
    let pushed = stage.desk.push(bytes, push).await.unwrap();
    assert_eq!((pushed.taken.result, pushed.epoch, pushed.persisted), ("unchanged", epoch, true));
    assert_eq!(stage.count("revocations", "failed"), 0);
}

#[tokio::test]
async fn a_push_that_expects_another_sequence_changes_nothing() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    let desk = &attacked.stage.desk;
    let matching = |sequence| Push { if_match: Some(sequence), who: "a test".to_owned(), ..Push::default() };
    let error = desk.push(prod(12).text().into_bytes(), matching(9)).await.unwrap_err();
    assert!(matches!(error, sources::DeskError::Mismatch { in_force: Some(10), .. }), "{error:?}");
    let error = desk.push(list("fresh", 1).into_bytes(), matching(1)).await.unwrap_err();
    assert!(matches!(error, sources::DeskError::Mismatch { in_force: None, .. }), "{error:?}");
    assert_eq!(attacked.stage.sequence(), 10);
    desk.push(list("fresh", 1).into_bytes(), matching(0)).await.unwrap();
    desk.push(prod(12).text().into_bytes(), matching(10)).await.unwrap();
    assert_eq!(attacked.stage.sequence(), 12);
}

#[tokio::test]
async fn where_keys_are_configured_a_crl_needs_its_issuers_signature_and_no_other() {
    let signer = Signer::new();
    let attacked = Attacked::under(keys(&[&signer], 1), &signed(prod(10), &[&signer])).await;
    let push = |crl: Vec<u8>| attacked.stage.desk.push(crl, Push::default());
    let mut forged = attacked.files.root.crl(testkit::CrlSpec::new(2));
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(push(forged).await.unwrap_err().label(), "bad_signature");
    let genuine = attacked.files.root.crl(testkit::CrlSpec::new(1));
    assert_eq!(push(genuine).await.unwrap().taken.result, "changed");
}

#[tokio::test]
async fn a_push_says_so_where_a_silent_path_still_denies_everybody() {
    let files = Files::good();
    std::fs::create_dir(files.at("empty")).unwrap();
    let paths = Paths { revocations: vec![files.at("empty")], ..files.kept() };
    let stage = Stage::start(paths, NO_POLL).await;
    let pushed = stage.desk.push(prod(2).text().into_bytes(), Push::default()).await.unwrap();
    assert!(pushed.taken.sentence.contains("everybody is denied until --revocations"), "{}", pushed.taken.sentence);
    assert_eq!(stage.state().await.knowledge, "missing");
    std::fs::write(files.at("empty/list.jsonl"), prod(1).text()).unwrap();
    stage.until_sequence(2).await;
}

#[tokio::test]
async fn refusals_are_remembered_within_bounds_and_counted_without() {
    let attacked = Attacked::under(Requirements::default(), &prod(10).text()).await;
    let desk = &attacked.stage.desk;
    for sequence in 0..40 {
        let push = Push { who: "mallory".to_owned(), ..Push::default() };
        desk.push(prod(sequence % 10).text().into_bytes(), push).await.unwrap_err();
    }
    let state = attacked.stage.state().await;
    assert_eq!((state.refusals.len(), state.refused_by_label["older"]), (32, 40));
}
