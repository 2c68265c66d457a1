//! Certificates that are written over in place, piece by piece: each piece is whole PEM, and says less than the file
//! will.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod stage;

use std::fs::File;
use std::io::Write;

use stage::{Files, QUICK_POLL, Stage, list};
use testkit::{Authority, LeafSpec};

/// Looks at the files again and again, and returns after that: a list that was replaced is taken in by the same looks.
async fn looked_at_again(files: &Files, stage: &Stage) {
    for _ in 0..3 {
        let next = stage.sequence() + 1;
        files.replace("list.jsonl", list("prod", next));
        stage.until_sequence(next).await;
    }
}

#[tokio::test]
async fn anchors_that_are_still_being_written_take_nobodys_anchor_away() {
    let files = Files::good();
    let second = Authority::root("second");
    files.replace("ca.pem", files.root.pem() + &second.pem());
    let stage = files.start(QUICK_POLL).await;
    let third = Authority::root("third");
    // What `cat root.pem second.pem third.pem > ca.pem` does.
    let mut file = File::create(files.at("ca.pem")).unwrap();
    file.write_all(files.root.pem().as_bytes()).unwrap();
    looked_at_again(&files, &stage).await;
    assert_eq!(stage.live.current().state.bundle.len(), 2);
    file.write_all((second.pem() + &third.pem()).as_bytes()).unwrap();
    drop(file);
    stage.until("all three", |published| published.state.bundle.len() == 3).await;
    stage.until_count("bundle", "changed", 1).await;
}

#[tokio::test]
async fn a_chain_that_is_still_being_written_is_not_presented_without_its_intermediate() {
    let files = Files::good();
    let stage = files.start(QUICK_POLL).await;
    let issuing = files.root.intermediate("issuing");
    let leaf = issuing.issue(LeafSpec::dns("server"));
    let before = stage.presented();
    files.replace("server.key", leaf.key_pem());
    let mut file = File::create(files.at("server.pem")).unwrap();
    file.write_all(leaf.cert_pem().as_bytes()).unwrap();
    looked_at_again(&files, &stage).await;
    assert_eq!(stage.presented(), before);
    file.write_all(issuing.pem().as_bytes()).unwrap();
    drop(file);
    stage.until_true("the new certificate", || stage.presented() == leaf.sha256()).await;
    assert_eq!(stage.live.credential().key.cert.len(), 2);
}
