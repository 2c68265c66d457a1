//! Files change safely: each way in which files are replaced, half-written, spoiled and taken away.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Duration;

use sources::{CredentialPaths, Paths};
use stage::{Files, NO_POLL, QUICK_POLL, Stage, Volume, list};
use testkit::{Authority, CrlSpec, LeafSpec, ListSpec};
use trust::{Knowledge, Speaks};

#[tokio::test]
async fn a_file_renamed_over_the_list_is_in_force() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    files.replace("list.jsonl", list("prod", 2));
    stage.until_sequence(2).await;
    assert_eq!(stage.live.epoch(), 2);
    stage.until_count("revocations", "changed", 1).await;
}

#[tokio::test]
async fn a_file_overwritten_in_place_is_in_force_once_it_is_closed() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    fs::write(files.at("list.jsonl"), list("prod", 2)).unwrap();
    stage.until_sequence(2).await;
    assert_eq!(stage.live.epoch(), 2);
}

#[tokio::test]
async fn a_half_written_file_changes_nothing_until_it_is_completed() {
    let files = Files::good();
    let stage = files.start(QUICK_POLL).await;
    let text = ListSpec::new("prod", 2).id("spiffe://td/a").id("spiffe://td/b").text();
    let (half, rest) = text.split_at(text.len() - 10);
    let mut file = File::create(files.at("list.jsonl")).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    stage.until_count("revocations", "failed", 1).await;
    assert_eq!((stage.sequence(), stage.live.epoch()), (1, 1));
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    stage.until_sequence(2).await;
}

#[tokio::test]
async fn bad_content_changes_nothing_and_is_counted_once_however_often_it_is_polled() {
    let files = Files::good();
    let stage = files.start(QUICK_POLL).await;
    let mut failed = 0;
    for bad in ["", "\0\0\0\0 no list", "{\"portcullis\":\"revocations/v1\"}\n"] {
        files.replace("list.jsonl", bad);
        failed += 1;
        stage.until_count("revocations", "failed", failed).await;
    }
    // A change elsewhere is loaded by a look that saw the bad file again.
    let before = stage.presented();
    let next = files.server();
    files.replace("server.pem", next.cert_pem());
    files.replace("server.key", next.key_pem());
    stage.until_true("the new certificate", || stage.presented() != before).await;
    let anchors = files.root.pem() + &Authority::root("second").pem();
    files.replace("ca.pem", anchors);
    stage.until("the new bundle", |published| published.state.bundle.len() == 2).await;
    files.replace("list.jsonl", list("prod", 2));
    stage.until_sequence(2).await;
    assert_eq!(stage.count("revocations", "failed"), failed);
    assert_eq!(stage.live.epoch(), 3);
}

#[tokio::test]
async fn a_folder_in_place_of_a_file_changes_nothing() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    fs::remove_file(files.at("server.key")).unwrap();
    fs::create_dir(files.at("server.key")).unwrap();
    stage.until_count("credential", "failed", 1).await;
    let before = stage.presented();
    fs::remove_dir(files.at("server.key")).unwrap();
    let next = files.server();
    files.replace("server.key", next.key_pem());
    files.replace("server.pem", next.cert_pem());
    stage.until_true("the new certificate", || stage.presented() != before).await;
    assert_eq!(stage.live.epoch(), 1);
}

#[tokio::test]
async fn an_older_list_is_refused_and_the_newer_one_stays() {
    let files = Files::good();
    files.replace("list.jsonl", list("prod", 7));
    let stage = files.start(NO_POLL).await;
    files.replace("list.jsonl", list("prod", 6));
    stage.until_count("revocations", "failed", 1).await;
    assert_eq!((stage.sequence(), stage.live.epoch()), (7, 1));
    files.replace("list.jsonl", list("prod", 8));
    stage.until_sequence(8).await;
}

#[tokio::test]
async fn a_vanished_file_stays_in_force_and_its_return_is_noticed() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    fs::remove_file(files.at("list.jsonl")).unwrap();
    let anchors = files.root.pem() + &Authority::root("second").pem();
    files.replace("ca.pem", anchors);
    stage.until("the new bundle", |published| published.state.bundle.len() == 2).await;
    assert_eq!(stage.sequence(), 1);
    assert_eq!(stage.count("revocations", "failed"), 0);
    fs::write(files.at("list.jsonl"), list("prod", 2)).unwrap();
    stage.until_sequence(2).await;
}

#[tokio::test]
async fn lists_come_to_a_folder_and_are_united() {
    let files = Files::good();
    fs::create_dir(files.at("lists")).unwrap();
    let stage = Stage::start(Paths { revocations: vec![files.at("lists")], ..files.paths() }, NO_POLL).await;
    assert!(matches!(stage.live.current().state.knowledge, Knowledge::Missing));
    files.replace("lists/one", list("one", 1));
    stage.until("the first list", |published| published.state.snapshot().is_some()).await;
    fs::write(files.at("lists/two"), list("two", 1)).unwrap();
    stage.until("both", |published| published.state.snapshot().is_some_and(|all| all.lists().len() == 2)).await;
    fs::remove_file(files.at("lists/one")).unwrap();
    files.replace("lists/three", list("three", 1));
    stage.until("all three", |published| published.state.snapshot().is_some_and(|all| all.lists().len() == 3)).await;
}

#[tokio::test]
async fn a_key_without_its_certificate_waits_for_it() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    let (before, next) = (stage.presented(), files.server());
    files.replace("server.key", next.key_pem());
    stage.until_count("credential", "failed", 1).await;
    assert_eq!(stage.presented(), before);
    files.replace("server.pem", next.cert_pem());
    stage.until_true("the new certificate", || stage.presented() == next.sha256()).await;
    assert_eq!(stage.count("credential", "failed"), 1);
    assert_eq!(stage.live.epoch(), 1, "a renewed certificate is no new trust state");
}

#[tokio::test]
async fn a_new_bundle_is_one_epoch_and_brings_the_crls_that_waited_for_it() {
    let files = Files::good();
    let second = Authority::root("second");
    let folder = files.at("revocations");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("list"), list("prod", 1)).unwrap();
    fs::write(folder.join("crl"), second.crl(CrlSpec::new(1).revoke(&[5]))).unwrap();
    let stage = Stage::start(Paths { revocations: vec![folder], ..files.paths() }, NO_POLL).await;
    assert!(stage.live.current().state.snapshot().unwrap().waits());
    files.replace("ca.pem", files.root.pem() + &second.pem());
    stage.until("the new bundle", |published| published.state.bundle.len() == 2).await;
    let published = stage.live.current();
    assert_eq!(published.state.epoch, 2);
    assert!(!published.state.snapshot().unwrap().waits());
    assert_eq!(published.state.snapshot().unwrap().entries(), 1);
}

#[tokio::test]
async fn a_bundle_with_one_bad_file_is_not_taken_in_part() {
    let files = Files::good();
    fs::create_dir(files.at("anchors")).unwrap();
    fs::write(files.at("anchors/a.pem"), files.root.pem()).unwrap();
    let paths = Paths { client_cas: vec![(Speaks::ForAnybody, files.at("anchors"))], ..files.paths() };
    let stage = Stage::start(paths, NO_POLL).await;
    files.replace("anchors/b.pem", "half");
    stage.until_count("bundle", "failed", 1).await;
    files.replace("anchors/c.pem", Authority::root("third").pem());
    files.replace("list.jsonl", list("prod", 2));
    stage.until_sequence(2).await;
    assert_eq!(stage.live.current().state.bundle.len(), 1);
    assert_eq!(stage.count("bundle", "failed"), 1, "the same failure is told once");
    files.replace("anchors/b.pem", Authority::root("second").pem());
    stage.until("all three", |published| published.state.bundle.len() == 3).await;
}

#[tokio::test]
async fn a_crl_signed_by_somebody_else_is_taken_once_the_bundle_has_its_issuer() {
    let files = Files::good();
    let impostor = Authority::root("root");
    let folder = files.at("crls");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("good"), files.root.crl(CrlSpec::new(1))).unwrap();
    let stage = Stage::start(Paths { revocations: vec![folder.clone()], ..files.paths() }, NO_POLL).await;
    let crl = impostor.crl(CrlSpec::new(1).without_key_identifier().revoke(&[7]));
    fs::write(folder.join("other"), crl).unwrap();
    stage.until_count("revocations", "failed", 1).await;
    files.replace("ca.pem", files.root.pem() + &impostor.pem());
    stage.until("its entry", |published| published.state.snapshot().is_some_and(|all| all.entries() == 1)).await;
}

#[tokio::test]
async fn an_issuer_from_a_clients_chain_brings_its_crl_into_force() {
    let files = Files::good();
    let issuing = files.root.intermediate("issuing");
    files.replace("list.jsonl", issuing.crl(CrlSpec::new(1).revoke(&[9])));
    let stage = files.start(NO_POLL).await;
    assert!(stage.live.current().state.snapshot().unwrap().waits());
    assert!(stage.live.introduce(issuing.der()));
    stage.until("its entry", |published| published.state.snapshot().is_some_and(|all| all.entries() == 1)).await;
    assert_eq!(stage.live.epoch(), 2);
}

#[tokio::test]
async fn a_projected_volume_is_swapped_in_one_step_again_and_again() {
    let files = Files::good();
    let content = |sequence: u64| {
        let leaf = files.server();
        let digest = leaf.sha256();
        let all = [
            ("tls.crt", leaf.cert_pem().into_bytes()),
            ("tls.key", leaf.key_pem().into_bytes()),
            ("ca.crt", files.root.pem().into_bytes()),
            ("revoked.jsonl", list("prod", sequence).into_bytes()),
        ];
        (all, digest)
    };
    let volume = Volume::new(&files.at("volume"), &content(1).0);
    let at = |name: &str| files.at("volume").join(name);
    let paths = Paths {
        credential: CredentialPaths::CertAndKey { cert: at("tls.crt"), key: at("tls.key") },
        client_cas: vec![(Speaks::ForAnybody, at("ca.crt"))],
        revocations: vec![at("revoked.jsonl")],
        ..files.paths()
    };
    let stage = Stage::start(paths, NO_POLL).await;
    for sequence in 2..12 {
        let (next, digest) = content(sequence);
        volume.swap(&next);
        stage.until_sequence(sequence).await;
        stage.until_true("the new certificate", || stage.presented() == digest).await;
    }
    assert_eq!(stage.live.epoch(), 11, "the unchanged bundle was not published again");
    assert_eq!(stage.count("revocations", "failed") + stage.count("bundle", "failed"), 0);
}

#[tokio::test]
async fn a_folder_of_a_projected_volume_is_swapped_in_one_step() {
    let files = Files::good();
    let content = |sequence| [("a.jsonl", list("a", sequence).into()), ("b.jsonl", list("b", sequence + 100).into())];
    let volume = Volume::new(&files.at("volume"), &content(1));
    let stage = Stage::start(Paths { revocations: vec![files.at("volume")], ..files.paths() }, NO_POLL).await;
    for sequence in 2..8 {
        volume.swap(&content(sequence));
        let wanted = vec![sequence, sequence + 100];
        stage
            .until("both lists", |published| {
                let lists = published.state.snapshot().unwrap().lists();
                lists.iter().map(|list| list.sequence).collect::<Vec<_>>() == wanted
            })
            .await;
    }
    assert_eq!(stage.count("revocations", "failed"), 0);
}

#[tokio::test]
async fn two_hundred_quick_swaps_end_on_the_last_one() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    for sequence in 2..=201 {
        files.replace("list.jsonl", list("prod", sequence));
    }
    stage.until_sequence(201).await;
    assert_eq!(stage.count("revocations", "failed"), 0);
}

#[tokio::test]
async fn two_hundred_quick_overwrites_end_on_the_last_one() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    for sequence in 100..300 {
        fs::write(files.at("list.jsonl"), list("prod", sequence)).unwrap();
    }
    stage.until_sequence(299).await;
}

#[tokio::test]
async fn a_replaced_folder_is_watched_again() {
    for poll in [NO_POLL, QUICK_POLL] {
        let files = Files::good();
        fs::create_dir(files.at("lists")).unwrap();
        fs::write(files.at("lists/list"), list("prod", 1)).unwrap();
        let stage = Stage::start(Paths { revocations: vec![files.at("lists/list")], ..files.paths() }, poll).await;
        fs::create_dir(files.at("next")).unwrap();
        fs::write(files.at("next/list"), list("prod", 2)).unwrap();
        fs::rename(files.at("lists"), files.at("before")).unwrap();
        fs::rename(files.at("next"), files.at("lists")).unwrap();
        stage.until_sequence(2).await;
        files.replace("lists/list", list("prod", 3));
        stage.until_sequence(3).await;
        fs::remove_dir_all(files.at("lists")).unwrap();
        fs::create_dir(files.at("lists")).unwrap();
        fs::write(files.at("lists/list"), list("prod", 4)).unwrap();
        stage.until_sequence(4).await;
        files.replace("lists/list", list("prod", 5));
        stage.until_sequence(5).await;
    }
}

#[tokio::test]
async fn a_folder_further_up_that_is_replaced_is_noticed_by_the_poll() {
    let files = Files::good();
    fs::create_dir_all(files.at("up/lists")).unwrap();
    fs::write(files.at("up/lists/list"), list("prod", 1)).unwrap();
    let stage = Stage::start(Paths { revocations: vec![files.at("up/lists")], ..files.paths() }, QUICK_POLL).await;
    fs::create_dir_all(files.at("next/lists")).unwrap();
    fs::write(files.at("next/lists/list"), list("prod", 2)).unwrap();
    fs::rename(files.at("up"), files.at("before")).unwrap();
    fs::rename(files.at("next"), files.at("up")).unwrap();
    stage.until_sequence(2).await;
    files.replace("up/lists/list", list("prod", 3));
    stage.until_sequence(3).await;
}

#[tokio::test]
async fn a_release_folder_behind_a_link_is_switched() {
    let files = Files::good();
    for (release, sequence) in [("one", 1), ("two", 2)] {
        fs::create_dir(files.at(release)).unwrap();
        fs::write(files.at(release).join("list"), list("prod", sequence)).unwrap();
    }
    symlink("one", files.at("current")).unwrap();
    let stage = Stage::start(Paths { revocations: vec![files.at("current/list")], ..files.paths() }, NO_POLL).await;
    symlink("two", files.at("draft")).unwrap();
    fs::rename(files.at("draft"), files.at("current")).unwrap();
    stage.until_sequence(2).await;
    files.replace("two/list", list("prod", 3));
    stage.until_sequence(3).await;
}

#[tokio::test]
async fn the_same_bytes_in_a_new_file_are_unchanged() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    let (text, inode) =
        (fs::read(files.at("list.jsonl")).unwrap(), fs::metadata(files.at("list.jsonl")).unwrap().ino());
    files.replace("list.jsonl", text);
    assert_ne!(fs::metadata(files.at("list.jsonl")).unwrap().ino(), inode);
    stage.until_count("revocations", "unchanged", 1).await;
    assert_eq!(stage.live.epoch(), 1);
}

#[tokio::test]
async fn what_changed_between_the_first_load_and_the_watch_is_found() {
    let files = Files::good();
    let stage = Stage::start_after(files.paths(), NO_POLL, || files.replace("list.jsonl", list("prod", 2)));
    stage.until_sequence(2).await;
}

#[tokio::test]
async fn a_link_to_an_endless_device_is_refused_and_the_list_stays() {
    let files = Files::good();
    let stage = files.start(NO_POLL).await;
    symlink("/dev/zero", files.at("draft")).unwrap();
    fs::rename(files.at("draft"), files.at("list.jsonl")).unwrap();
    stage.until_count("revocations", "failed", 1).await;
    assert_eq!((stage.sequence(), stage.live.epoch()), (1, 1));
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_taken_when_it_is() {
    let files = Files::good();
    let stage = files.start(QUICK_POLL).await;
    let soon = testkit::OffsetDateTime::now_utc() + testkit::Duration::seconds(2);
    let next = files.root.issue(LeafSpec::dns("server").not_before(soon));
    files.replace("server.pem", next.cert_pem());
    files.replace("server.key", next.key_pem());
    stage.until_true("the new certificate", || stage.presented() == next.sha256()).await;
    // The mismatch between the two replacements may or may not have been seen; the early certificate was.
    assert!((1..=2).contains(&stage.count("credential", "failed")));
}

#[tokio::test]
async fn the_watch_ends_when_it_is_dropped() {
    let files = Files::good();
    let mut stage = files.start(Duration::from_millis(1)).await;
    stage.stop();
    files.replace("list.jsonl", list("prod", 2));
    assert_eq!((stage.sequence(), stage.live.epoch()), (1, 1));
    assert!(!stage.live.introduce(b"anybody"), "nobody listens any more");
}
