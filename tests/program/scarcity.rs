//! What the machine has none left of: descriptors, and room on the disk. The program goes on judging, says what is
//! wrong, and needs nobody when there is some again. It must never fill anything but its own process's limits.

use std::time::Duration;

use serde_json::Value;
use testkit::ClientStream;

use crate::control::{By, Office};
use crate::program::{Program, eventually};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{command, run, status};

/// Idle connections of a client until no more come in.
async fn crowd(stage: &Stage, program: &Program) -> Vec<ClientStream> {
    let leaf = stage.client("crowd");
    let client = testkit::TlsClient::new(stage.server_root.der(), Some(&leaf));
    let mut crowd = Vec::new();
    while let Ok(Ok(one)) =
        tokio::time::timeout(Duration::from_secs(10), client.connect(program.addresses[0], &["http/1.1"])).await
    {
        crowd.push(one);
        assert!(crowd.len() < 100, "as many as there are descriptors");
    }
    crowd
}

#[tokio::test]
async fn with_its_descriptors_used_up_it_serves_who_is_there_reads_a_new_list_and_cuts() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.client("alice"), stage.client("bob"));
    // The hard limit as well: a soft one is raised at the start.
    let program = Program::start_after("ulimit -n 100", &stage.flags()).await;
    let is_warning = |line: &Value| line["message"].as_str().is_some_and(|told| told.contains("ulimit"));
    program.log.wait_for("it warns", is_warning).await;
    let hers = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    let his = Stream::open(&stage, &program, ("bob", "--http2")).await;
    let crowd = crowd(&stage, &program).await;
    assert!(crowd.len() >= 10, "{}", crowd.len());
    let told = program.log.wait_for("it is told", |line| line["event"] == "accept_failed").await;
    assert_eq!(told["level"], "ERROR");
    assert!(program.metric("portcullis_accept_failures_total", &[]).await >= 1.0);
    // Operators and files have descriptors of their own.
    assert_eq!(program.get("/readyz").await.0, 200);
    stage.publish(&stage.list(2).serial(&alice));
    hers.end().await.assert_broken();
    his.flows().await;
    stage.publish(&stage.list(3).serial(&alice).serial(&bob));
    his.end().await.assert_broken();
    assert_eq!(program.reloads("failed").await, 0.0);
    // Twenty failures a second are told once in ten seconds.
    let failures = program.log.events("accept_failed").len();
    assert!(failures <= 6, "{failures} lines");
    drop(crowd);
    stage.client("carol");
    eventually("new clients come in again", async || status(&stage, "carol", &program.url("/hello")).await == 200)
        .await;
    program.log.wait_for("that is told too", |line| line["event"] == "accept_recovered").await;
}

#[tokio::test]
async fn a_denial_that_cannot_be_kept_is_in_force_says_so_and_is_kept_when_there_is_room_again() {
    let office = Office::new().await;
    office.stage.client("alice");
    let state = office.stage.path("state");
    let flags = office.by_socket().with("--state-dir", state.to_str().unwrap());
    // The trial at the start has its room; what a process may write afterwards can be changed from outside.
    let mut program = Program::start_after("trap '' XFSZ", &flags).await;
    let room = async |size: &str| {
        let told =
            run(command("prlimit").args(["--pid", &program.id().to_string(), &format!("--fsize={size}:")])).await;
        assert_eq!(told.code, Some(0), "{told:?}");
    };
    let hers = Stream::open(&office.stage, &program, ("alice", "--http2")).await;
    // Room for some of it: what is half written must not be taken for the whole.
    room("100").await;
    let answer = office.deny(&program, By::Socket, "spiffe://td/alice").await;
    assert_eq!((answer.status, &answer.value["persisted"]), (201, &false.into()), "{answer:?}");
    hers.end().await.assert_broken();
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 0);
    let told = program.log.wait_for("it is told", |line| line["event"] == "state_dir_failed").await;
    assert_eq!(told["level"], "ERROR", "{told}");
    assert!(program.metric("portcullis_state_dir_failures_total", &[]).await >= 1.0);
    let known = office.ask(&program, (By::Socket, "/v1/state"), &[]).await;
    assert!(known.value["state_dir"]["failure"].as_str().unwrap().contains("make room"), "{known:?}");
    room("unlimited").await;
    eventually("it is kept", async || {
        let denials = office.ask(&program, (By::Socket, "/v1/denials"), &[]).await;
        denials.value["denials"][0]["persisted"] == true
    })
    .await;
    program.kill().await;
    let program = Program::start(&flags).await;
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 0, "a restart finds it");
}
