//! Files that change in every way an operator's tools change them. It must never write a file in place where the
//! test is not about that.

use std::fs;

use testkit::{Authority, LeafSpec};

use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::status;
use crate::volume::Volume;

#[tokio::test]
async fn a_projected_volume_brings_lists_again_and_again() {
    let stage = Stage::new().await;
    let names = ["one", "two", "three"];
    let leaves = names.map(|name| stage.client(name));
    stage.client("bystander");
    let mut volume = Volume::at(stage.path("volume"));
    let mut list = stage.list(1);
    volume.put(&[("list.jsonl", list.text())]);
    let program = Program::start(&stage.flags().with("--revocations", stage.text("volume/list.jsonl"))).await;
    let bystander = Stream::open(&stage, &program, ("bystander", "--http1.1")).await;
    for (sequence, (name, leaf)) in (2_u64..).zip(names.iter().zip(&leaves)) {
        let stream = Stream::open(&stage, &program, (name, "--http1.1")).await;
        list = list.header_field("sequence", &sequence.to_string()).serial(leaf);
        volume.put(&[("list.jsonl", list.text())]);
        stream.end().await.assert_broken();
        assert_eq!(program.metric("portcullis_snapshot_sequence", &[]).await, sequence as f64);
    }
    bystander.flows().await;
    assert_eq!(program.reloads("failed").await, 0.0);
    assert_eq!(program.log.events("vanished"), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_list_that_is_written_in_place_piece_by_piece_is_taken_in_when_it_is_whole() {
    let stage = Stage::new().await;
    let leaf = stage.client("alice");
    let program = stage.start().await;
    let text = stage.list(2).id("spiffe://td/nobody").serial(&leaf).text();
    let stream = Stream::open(&stage, &program, ("alice", "--http2")).await;
    let half = text.len() - 20;
    fs::write(stage.path("list.jsonl"), &text[..half]).unwrap();
    program.log.wait_for("the half is refused", |line| line["result"] == "failed").await;
    stream.flows().await;
    assert_eq!(program.metric("portcullis_snapshot_sequence", &[]).await, 1.0);
    fs::write(stage.path("list.jsonl"), &text).unwrap();
    stream.end().await.assert_broken();
    assert_eq!(program.metric("portcullis_snapshot_sequence", &[]).await, 2.0);
}

#[tokio::test]
async fn a_list_that_vanished_stays_in_force() {
    let stage = Stage::new().await;
    let leaf = stage.client("alice");
    stage.client("bob");
    stage.publish(&stage.list(2).serial(&leaf));
    let program = stage.start().await;
    fs::remove_file(stage.path("list.jsonl")).unwrap();
    let line = program.log.wait_for("the loss is told", |line| line["event"] == "vanished").await;
    assert!(line["path"].as_str().unwrap().ends_with("list.jsonl"), "{line}");
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 0);
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200);
    assert_eq!(program.get("/readyz").await.0, 200);
    stage.publish(&stage.list(3));
    program.wait_for_sequence(3).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
}

#[tokio::test]
async fn a_bundle_that_grows_lets_more_in_and_one_that_shrinks_cuts_only_those_who_lost_their_anchor() {
    let stage = Stage::new().await;
    stage.client("old");
    let second = Authority::root("another root");
    second.issue(LeafSpec::spiffe("spiffe://td/new")).write_to(stage.folder(), "new");
    let both = format!("{}{}", stage.client_root.pem(), second.pem());
    let program = stage.start().await;
    let old = Stream::open(&stage, &program, ("old", "--http2")).await;
    assert_eq!(status(&stage, "new", &program.url("/hello")).await, 0);
    stage.write("client_root.pem", both);
    program.wait_for_metric("portcullis_bundle_anchors", &[], 2.0).await;
    let new = Stream::open(&stage, &program, ("new", "--http2")).await;
    stage.write("client_root.pem", second.pem());
    old.end().await.assert_broken();
    assert_eq!(program.metric("portcullis_cuts_total", &[("reason", "anchor_removed")]).await, 1.0);
    new.flows().await;
    assert_eq!(status(&stage, "old", &program.url("/hello")).await, 0);
    assert_eq!(status(&stage, "new", &program.url("/hello")).await, 200);
    // Nothing to trust is no bundle: the last one stays.
    stage.write("client_root.pem", "");
    program.log.wait_for("the empty bundle is refused", |line| line["result"] == "failed").await;
    new.flows().await;
    assert_eq!(program.metric("portcullis_bundle_anchors", &[],).await, 1.0);
}

#[tokio::test]
async fn a_folder_of_lists_unites_them_and_takes_in_new_files() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.client("alice"), stage.client("bob"));
    stage.client("carol");
    fs::create_dir(stage.path("lists")).unwrap();
    let list = |name: &str| testkit::ListSpec::new(name, 1);
    stage.write("lists/one.jsonl", list("one").serial(&alice).text());
    let program = Program::start(&stage.flags().with("--revocations", stage.text("lists"))).await;
    let stream = Stream::open(&stage, &program, ("bob", "--http1.1")).await;
    stage.write("lists/two.jsonl", list("two").serial(&bob).text());
    stream.end().await.assert_broken();
    eventually("two lists are in force", async || program.metric("portcullis_snapshot_lists", &[]).await == 2.0).await;
    for (name, expected) in [("alice", 0), ("bob", 0), ("carol", 200)] {
        assert_eq!(status(&stage, name, &program.url("/hello")).await, expected, "{name}");
    }
}
