//! A real Prometheus scrapes two real sidecars by the chart's rules, while trust ends, a list is refused and a
//! certificate runs out: the alerts fire that should, and every query of rules and dashboard finds its metrics.
//! It must never wait for longer than an alert's own `for`, which is taken out here and proved by promtool.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{Duration, LeafSpec, OffsetDateTime};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::engine;
use crate::program::{Program, eventually, get, in_time};
use crate::scripts::script;
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{command, status};

/// Prometheus with the chart's rules, asking each target every second under the labels that the PodMonitor gives.
async fn prometheus(stage: &Stage, targets: &[(&str, SocketAddr)], webhook: SocketAddr) -> (Child, SocketAddr) {
    let thresholds = json!({
        "snapshotExpiresWithin": 2400, "certificateExpiresWithin": 600, "denialsPerSecond": 0.0001, "denialShare": 0.01,
        "cutSeconds": 0.0001,
    });
    let rules = script("rules", &thresholds.to_string()).await;
    assert_eq!(rules.code, Some(0), "{}", rules.err);
    stage.write("rules.yml", rules.out);
    let targets: Vec<Value> = targets
        .iter()
        .map(|(pod, address)| json!({"targets": [address], "labels": {"namespace": "shop", "pod": pod}}))
        .collect();
    let configuration = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "portcullis", "static_configs": targets},
            {"job_name": "portcullis-webhook", "static_configs": [{"targets": [webhook]}]},
        ],
    });
    engine::prometheus(stage, configuration.to_string()).await
}

/// The injector, of which only the metrics are wanted.
async fn webhook(stage: &Stage) -> (Child, SocketAddr) {
    let mut program = command(env!("CARGO_BIN_EXE_portcullis"));
    program.args(["webhook", "--listen", "127.0.0.1:0", "--observe", "127.0.0.1:0", "--image", "portcullis:1"]);
    program.args(["--cert", &stage.text("server.pem"), "--key", &stage.text("server.key")]);
    let mut child = program.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = in_time("the injector starts", lines.next_line()).await.unwrap().expect("the injector started");
    let line: Value = serde_json::from_str(&first).unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, line["observe"].as_str().unwrap().parse().unwrap())
}

/// Waits until each of the pods was scraped, so that what happens from now on is an increase.
async fn sees(address: SocketAddr, pods: usize) {
    eventually("Prometheus has seen every pod", async || {
        let (status, body) = get(address, "/api/v1/query?query=portcullis_build_info").await;
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        status == 200 && answer["data"]["result"].as_array().is_some_and(|found| found.len() == pods)
    })
    .await;
}

/// Alice's stream is cut by a list that is good for half an hour; she comes back in vain; an older list is refused.
async fn trust_ends(stage: &Stage, program: &Program) {
    let alice = stage.client("alice");
    stage.client("bob");
    assert_eq!(status(stage, "bob", &program.url("/hello")).await, 200);
    let stream = Stream::open(stage, program, ("alice", "--http2")).await;
    stage.publish(&stage.list(2).expires_in(Duration::minutes(30)).serial(&alice));
    stream.end().await.assert_broken();
    assert_eq!(status(stage, "alice", &program.url("/hello")).await, 0);
    stage.publish(&stage.list(1));
    let failed = [("source", "revocations"), ("result", "failed")];
    program.wait_for_metric("portcullis_reloads_total", &failed, 1.0).await;
}

#[tokio::test]
async fn alerts_fire_in_a_real_prometheus_and_every_query_finds_its_metrics() {
    let (one, other) = (Stage::new().await, Stage::new().await);
    let soon = OffsetDateTime::now_utc() + Duration::minutes(5);
    other.server_root.issue(LeafSpec::dns("localhost").not_after(soon)).write_to(other.folder(), "server");
    let (web_1, web_2) = (one.start().await, other.start().await);
    let (_injector, injector) = webhook(&one).await;
    let (_engine, address) = prometheus(&one, &[("web-1", web_1.observe), ("web-2", web_2.observe)], injector).await;
    sees(address, 3).await;
    trust_ends(&one, &web_1).await;
    let firing = [
        "PortcullisSnapshotStaleSoon web-1",
        "PortcullisSourceFailing web-1",
        "PortcullisFleetSplit",
        "PortcullisDenialBurst",
        "PortcullisCutSlow",
        "PortcullisCertificateExpiring web-2",
        // Its certificate is good for a day.
        "PortcullisInjectorCertificateExpiring",
    ];
    let asked = json!({"prometheus": address, "firing": firing});
    let told = script("watched", &asked.to_string()).await;
    assert_eq!(told.code, Some(0), "{}\n{}", told.out, told.err);
    assert_eq!(told.out.matches("ok: ").count(), 5, "{}", told.out);
}
