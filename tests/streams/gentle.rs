//! Planned ends lose no request of a client that behaves: Envoy with a pool of connections, curl and grpcio, while
//! sessions reach their age, certificates run out, and one of two programs stops.
//! It must never let a client try again what failed: Envoy's retries are off.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::LeafSpec;
use tokio::time::sleep;

use crate::envoy::{Envoy, Pool, show};
use crate::grpc::Scene;
use crate::program::Program;
use crate::stage::{Flags, Stage};
use crate::tools::{Told, command, curl, run};

/// Seconds for which requests go on.
const SECONDS: u32 = 9;

/// Sessions live for four seconds: they are asked to leave in the third of them.
fn short_sessions(stage: &Stage) -> Flags {
    stage.flags().with("--max-session-age", "4s")
}

/// Plain requests for so long from so many connections, at so many a second from each.
async fn load(envoy: &Envoy, clients: u32, rate: u32) -> Told {
    let mut load = command("h2load");
    load.args(["--h1", &format!("--clients={clients}"), &format!("--rps={rate}"), &format!("--duration={SECONDS}")]);
    run(load.arg(envoy.url("/hello"))).await
}

/// Every request was answered by 2xx, and there were so many of them.
fn assert_no_loss(told: &Told, least: u32) {
    let line = |name: &str| {
        let found = told.out.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no line {name:?}: {told:?}"))
    };
    let count = |line: &str, what: &str| -> u32 {
        let part = line.split(", ").find(|part| part.trim_end().ends_with(what));
        part.unwrap_or_else(|| panic!("{what}: {line}")).trim().split(' ').next().unwrap().parse().unwrap()
    };
    let (requests, statuses) = (line("requests: "), line("status codes: "));
    for what in ["failed", "errored", "timeout"] {
        assert_eq!(count(requests, what), 0, "{}", told.out);
    }
    assert_eq!(count(statuses, "2xx"), count(requests, "done"), "{}", told.out);
    assert!(count(requests, "done") >= least, "{}", told.out);
}

/// Many requests over few connections, and few over many.
async fn assert_envoy_loses_nothing(envoy: &Envoy) {
    let (busy, calm) = tokio::join!(load(envoy, 4, 50), load(envoy, 20, 1));
    assert_no_loss(&busy, 4 * 50 * SECONDS / 4);
    assert_no_loss(&calm, 20);
}

/// Sessions that ended for this reason.
async fn closed(program: &Program, reason: &str) -> f64 {
    program.metric("portcullis_sessions_closed_total", &[("reason", reason)]).await
}

async fn assert_age_loses_nothing(pool: Pool) {
    let stage = Stage::new().await;
    show(&stage, &stage.client("alice"));
    let program = Program::start(&short_sessions(&stage)).await;
    let envoy = Envoy::start(&stage, &[&program], pool).await;
    assert_envoy_loses_nothing(&envoy).await;
    assert!(closed(&program, "drained").await >= 3.0, "{pool:?}: sessions came to their age");
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0, "{pool:?}: none had to be cut");
}

#[tokio::test]
async fn envoys_http1_pool_loses_no_request_while_its_sessions_reach_their_age() {
    assert_age_loses_nothing(Pool::Http1).await;
}

#[tokio::test]
async fn envoys_http2_pool_loses_no_request_while_its_sessions_reach_their_age() {
    assert_age_loses_nothing(Pool::Http2).await;
}

async fn assert_expiry_loses_nothing(pool: Pool) {
    let stage = Stage::new().await;
    let mint = || {
        let spec = LeafSpec::spiffe("spiffe://td/alice").valid_for(testkit::Duration::seconds(6));
        show(&stage, &stage.issuing.issue(spec));
    };
    mint();
    let program = Program::start(&stage.flags()).await;
    let envoy = Envoy::start(&stage, &[&program], pool).await;
    let renewing = async {
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            mint();
        }
    };
    tokio::select! {
        () = assert_envoy_loses_nothing(&envoy) => {}
        () = renewing => {}
    }
    assert!(program.metric("portcullis_drains_total", &[("limit", "leaf_not_after")]).await >= 2.0, "{pool:?}");
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0, "{pool:?}");
}

#[tokio::test]
async fn envoys_http1_pool_loses_no_request_while_its_certificates_run_out() {
    assert_expiry_loses_nothing(Pool::Http1).await;
}

#[tokio::test]
async fn envoys_http2_pool_loses_no_request_while_its_certificates_run_out() {
    assert_expiry_loses_nothing(Pool::Http2).await;
}

async fn assert_takeover_loses_nothing(pool: Pool) {
    let stage = Stage::new().await;
    show(&stage, &stage.client("alice"));
    let flags = stage.flags().with("--drain-delay", "1500ms");
    let (mut first, second) = tokio::join!(Program::start(&flags), Program::start(&flags));
    let envoy = Envoy::start(&stage, &[&first, &second], pool).await;
    let stopping = async {
        sleep(Duration::from_secs(2)).await;
        assert!(first.metric("portcullis_sessions_opened_total", &[]).await > 0.0, "{pool:?}: it has its part");
        first.terminate().await;
        assert_eq!(first.ended().await, Some(0));
    };
    tokio::join!(assert_envoy_loses_nothing(&envoy), stopping);
    let ends = first.log.events("session_closed");
    assert!(ends.iter().all(|line| ["client", "stop"].contains(&line["reason"].as_str().unwrap())), "{ends:?}");
    assert_eq!(closed(&second, "error").await, 0.0);
}

#[tokio::test]
async fn envoys_http1_pool_loses_no_request_while_one_of_two_programs_stops() {
    assert_takeover_loses_nothing(Pool::Http1).await;
}

#[tokio::test]
async fn envoys_http2_pool_loses_no_request_while_one_of_two_programs_stops() {
    assert_takeover_loses_nothing(Pool::Http2).await;
}

#[tokio::test]
async fn curl_loses_no_request_while_its_sessions_reach_their_age() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = Program::start(&short_sessions(&stage)).await;
    let requests = |version: &'static str| {
        let (stage, url) = (&stage, program.url("/hello?[1-350]"));
        async move {
            let mut command = curl(stage, Some("alice"));
            command.args([version, "--rate", "50/s", "--output", "/dev/null"]);
            command.args(["--write-out", "%{http_code} %{num_connects}\n", &url]);
            let told = run(&mut command).await;
            assert_eq!(told.code, Some(0), "{version}: {told:?}");
            let answers: Vec<_> = told.out.lines().collect();
            assert_eq!(answers.len(), 350);
            assert!(answers.iter().all(|answer| answer.starts_with("200 ")), "{version}: {}", told.out);
            let connections = answers.iter().filter(|answer| answer.ends_with(" 1")).count();
            assert!((2..=20).contains(&connections), "{version}: {connections} connections");
        }
    };
    tokio::join!(requests("--http1.1"), requests("--http2"));
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0);
}

#[tokio::test]
async fn grpcio_loses_no_call_while_its_sessions_reach_their_age() {
    let mut scene = Scene::with(|flags| flags.with("--max-session-age", "4s")).await;
    let (started, mut calls) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(10) {
        let unary = json!({"do": "unary", "channel": "main", "method": "Echo", "length": 100});
        let download = json!({"do": "download", "channel": "main", "count": 10});
        for wish in [unary, download] {
            let answer = scene.client.ask(wish).await;
            assert_eq!(answer["code"], "OK", "after {calls} calls: {answer}");
            calls += 1;
        }
    }
    assert!(calls > 50, "{calls}");
    assert!(closed(&scene.program, "drained").await >= 2.0);
    assert_eq!(scene.program.metric("portcullis_cuts_total", &[]).await, 0.0);
}

/// The program has handed all of it to the kernel long before its client has read it.
#[tokio::test]
async fn a_slow_download_whose_session_is_asked_to_leave_arrives_whole() {
    const BYTES: usize = 7 << 20;
    let stage = Stage::new().await;
    stage.client("alice");
    let program = Program::start(&stage.flags().with("--max-session-age", "8s")).await;
    let download = |version: &'static str| {
        let mut command = curl(&stage, Some("alice"));
        // It takes six seconds and more, from well before it is asked, in the fifth or sixth, to after that.
        command.args([version, "--limit-rate", "1M", "--write-out", "%{size_download}", "--output", "/dev/null"]);
        command.arg(program.url(&format!("/bytes/{BYTES}")));
        async move { run(&mut command).await }
    };
    let (one, two) = tokio::join!(download("--http1.1"), download("--http2"));
    for told in [one, two] {
        assert_eq!((told.code, told.out.as_str()), (Some(0), BYTES.to_string().as_str()), "{told:?}");
    }
    assert_eq!(program.metric("portcullis_cuts_total", &[]).await, 0.0);
    let drains = program.metric("portcullis_drains_total", &[]).await;
    assert_eq!(drains, 2.0, "{}", program.log.text());
}
