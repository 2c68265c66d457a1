//! Standard output that nobody reads: requests pass, cuts cut, and what could not be written is counted.
//! A wait for the reader would have no end, so no test here measures time. It must never read a line after the first.

use std::fs;
use std::os::unix::fs::symlink;

use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{curl, run, status};

/// As many files as one folder may hold beside the good list, each worth one error line; three such folders are more
/// than the queue of the log and the pipe take.
const BROKEN: usize = 4000;
const FOLDERS: usize = 3;

/// A folder with this list and many files that cannot be read.
fn folder(stage: &Stage, number: usize) {
    let name = format!("lists_{number}");
    fs::create_dir(stage.path(&name)).unwrap();
    fs::copy(stage.path("list.jsonl"), stage.path(&format!("{name}/list.jsonl"))).unwrap();
    for file in 0..BROKEN {
        fs::write(stage.path(&format!("{name}/{file}.jsonl")), format!("broken {number}")).unwrap();
    }
}

/// Points `lists` at this folder.
fn point(stage: &Stage, number: usize) {
    symlink(format!("lists_{number}"), stage.path("lists.new")).unwrap();
    fs::rename(stage.path("lists.new"), stage.path("lists")).unwrap();
}

#[tokio::test]
async fn a_standard_output_that_nobody_reads_delays_neither_requests_nor_a_cut() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    stage.client("bob");
    fs::create_dir(stage.path("lists_0")).unwrap();
    fs::copy(stage.path("list.jsonl"), stage.path("lists_0/list.jsonl")).unwrap();
    point(&stage, 0);
    let program = Program::start_unread(&stage.flags().with("--revocations", stage.text("lists"))).await;
    for number in 1..=FOLDERS {
        folder(&stage, number);
        point(&stage, number);
        let failed = [("source", "revocations"), ("result", "failed")];
        program.wait_for_metric("portcullis_reloads_total", &failed, (number * BROKEN) as f64).await;
    }
    let dropped = async || program.metric("portcullis_log_lines_dropped_total", &[]).await;
    eventually("lines were dropped and counted", async || dropped().await > 0.0).await;
    let before = dropped().await;
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200);
    let hers = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    let his = Stream::open(&stage, &program, ("bob", "--http2")).await;
    stage.write(&format!("lists_{FOLDERS}/list.jsonl"), stage.list(2).serial(&alice).text());
    hers.end().await.assert_broken();
    his.flows().await;
    let again = run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    assert!(again.err.contains("alert certificate revoked"), "{again:?}");
    assert_eq!(program.get("/livez").await.0, 200);
    eventually("lines of sessions were dropped too", async || dropped().await > before).await;
}
