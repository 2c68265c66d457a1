//! Standard output that nobody reads: requests pass, cuts cut, and what could not be written is counted.
//! A wait for the reader would have no end, so no test here measures time. It must never read a line after the first.

use std::fs;
use std::os::unix::fs::symlink;

use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{curl, run, status};

/// As many files as one folder may hold beside the list. Each is worth one line when it appears and one when it
/// vanishes; two appearances and what lies between are more than the queue of the log and the pipe take.
const BROKEN: u32 = 4000;

/// Points `lists` at this folder, in which the list of this sequence is.
fn point(stage: &Stage, folder: &str, sequence: u64) {
    stage.write(&format!("{folder}/list.jsonl"), stage.list(sequence).text());
    symlink(folder, stage.path("lists.new")).unwrap();
    fs::rename(stage.path("lists.new"), stage.path("lists")).unwrap();
}

#[tokio::test]
async fn a_standard_output_that_nobody_reads_delays_neither_requests_nor_a_cut() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    stage.client("bob");
    fs::create_dir(stage.path("quiet")).unwrap();
    fs::create_dir(stage.path("noisy")).unwrap();
    stage.write("noisy/0.jsonl", "broken");
    for file in 1..BROKEN {
        fs::hard_link(stage.path("noisy/0.jsonl"), stage.path(&format!("noisy/{file}.jsonl"))).unwrap();
    }
    point(&stage, "quiet", 1);
    let program = Program::start_unread(&stage.flags().with("--revocations", stage.text("lists"))).await;
    for round in 1..=2_u32 {
        let sequence = u64::from(2 * round);
        point(&stage, "noisy", sequence);
        let failed = [("source", "revocations"), ("result", "failed")];
        program.wait_for_metric("portcullis_reloads_total", &failed, f64::from(round * BROKEN)).await;
        point(&stage, "quiet", sequence + 1);
        program.wait_for_sequence(sequence + 1).await;
    }
    let dropped = async || program.metric("portcullis_log_lines_dropped_total", &[]).await;
    eventually("lines were dropped and counted", async || dropped().await > 0.0).await;
    let before = dropped().await;
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200);
    let hers = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    let his = Stream::open(&stage, &program, ("bob", "--http2")).await;
    stage.write("quiet/list.jsonl", stage.list(6).serial(&alice).text());
    hers.end().await.assert_broken();
    his.flows().await;
    let again = run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    assert!(again.err.contains("alert certificate revoked"), "{again:?}");
    assert_eq!(program.get("/livez").await.0, 200);
    eventually("lines of sessions were dropped too", async || dropped().await > before).await;
}
