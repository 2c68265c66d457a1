//! A real Prometheus on a free port, as a configuration wants it.
//!
//! Used by the tests of metrics here and by those of alerts in `tests/deploy`. It must never outlive its test.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use crate::program::in_time;
use crate::stage::Stage;
use crate::tools::command;

/// Starts it; returns when it listens. Ended with the test.
pub(crate) async fn prometheus(stage: &Stage, configuration: impl AsRef<[u8]>) -> (Child, SocketAddr) {
    stage.write("prometheus.yml", configuration);
    let mut engine = command("prometheus");
    engine.arg(format!("--config.file={}", stage.text("prometheus.yml")));
    engine.arg(format!("--storage.tsdb.path={}", stage.text("tsdb")));
    engine.args(["--web.listen-address=127.0.0.1:0", "--log.format=json"]);
    let mut child = engine.spawn().expect("prometheus is installed");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let find = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("Prometheus runs");
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["msg"] == "Listening on" {
                return line["address"].as_str().unwrap().parse().unwrap();
            }
        }
    };
    let address = in_time("Prometheus listens", find).await;
    // Whatever else it says is read and forgotten, so that its pipe never fills.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}
