//! The metrics as promtool and a real Prometheus read them. It must never count what the program counts in another
//! way than by what the test itself did.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::process::Child;

use crate::engine;
use crate::program::{Program, eventually, get};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{command, curl, run, run_with, status};

/// Three requests on three sessions, one stream that is cut, one client refused, one list refused.
async fn live_a_little(stage: &Stage, program: &Program) {
    let alice = stage.client("alice");
    stage.client("bob");
    for _ in 0..3 {
        assert_eq!(status(stage, "bob", &program.url("/hello")).await, 200);
    }
    let stream = Stream::open(stage, program, ("alice", "--http2")).await;
    stage.publish(&stage.list(2).serial(&alice));
    stream.end().await.assert_broken();
    run(curl(stage, None).arg(program.url("/hello"))).await;
    stage.publish(&stage.list(1));
    let failed = [("source", "revocations"), ("result", "failed")];
    program.wait_for_metric("portcullis_reloads_total", &failed, 1.0).await;
    program.wait_for_metric("portcullis_sessions_active", &[], 0.0).await;
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_a_live_scrape() {
    let stage = Stage::new().await;
    let program = stage.start().await;
    live_a_little(&stage, &program).await;
    let (status, metrics) = program.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("portcullis_cuts_total{reason=\"revoked\"} 1\n"), "{metrics}");
    let told = run_with(command("promtool").args(["check", "metrics"]), metrics.as_bytes()).await;
    assert_eq!((told.code, told.all().trim()), (Some(0), ""), "{told:?}");
}

/// Prometheus, asked every second, on a free port; ended with the test.
async fn prometheus(stage: &Stage, target: SocketAddr) -> (Child, SocketAddr) {
    let configuration = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: portcullis\n    \
         static_configs:\n      - targets: ['{target}']\n"
    );
    engine::prometheus(stage, configuration).await
}

/// The only sample of an expression, or nothing.
async fn query(address: SocketAddr, expression: &str) -> Option<String> {
    let (status, body) = get(address, &format!("/api/v1/query?query={expression}")).await;
    // Until its storage is ready it answers 503.
    if status != 200 {
        return None;
    }
    let answer: Value = serde_json::from_str(&body).unwrap();
    let result = answer["data"]["result"].as_array().unwrap();
    assert!(result.len() <= 1, "{answer}");
    Some(result.first()?["value"][1].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_real_prometheus_scrapes_the_numbers_of_what_happened() {
    let stage = Stage::new().await;
    let program = stage.start().await;
    live_a_little(&stage, &program).await;
    let (_engine, address) = prometheus(&stage, program.observe).await;
    for (expression, value) in [
        ("up", "1"),
        ("portcullis_sessions_opened_total", "4"),
        ("sum(portcullis_cuts_total)", "1"),
        ("portcullis_cuts_total%7Breason=%22revoked%22%7D", "1"),
        ("portcullis_handshakes_total%7Bresult=%22no_certificate%22%7D", "1"),
        ("portcullis_cut_seconds_count", "1"),
        ("portcullis_snapshot_sequence", "2"),
        ("sum(portcullis_requests_total%7Bverdict=%22permitted%22%7D)", "4"),
    ] {
        let what = format!("{expression} is {value} in Prometheus");
        eventually(&what, async || query(address, expression).await.as_deref() == Some(value)).await;
    }
}
