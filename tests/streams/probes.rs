//! The grpc probe against a health service that others wrote: grpcio-health-checking's.
//! It must never take for healthy what does not say so.

use serde_json::json;

use crate::program::{Program, eventually};
use crate::script::Script;
use crate::stage::Stage;

#[tokio::test]
async fn grpcios_health_service_is_asked_as_kubelet_asks_it() {
    let (stage, mut app) = (Stage::new().await, Script::start("grpc_app", &[]).await);
    let port = &app.said("ready")[0]["port"];
    let probe =
        |service: serde_json::Value| json!({ "grpc": { "port": port, "service": service }, "timeoutSeconds": 20 });
    let http1 = json!({ "grpc": { "port": stage.app.addr().port() }, "timeoutSeconds": 20 });
    let probes = json!({
        "app/startup": probe(json!(null)), "app/readiness": probe(json!("test.Streams")),
        "app/liveness": probe(json!("test.Unknown")), "web/startup": http1,
    });
    let program = Program::start(&stage.flags().with("--app-probes", probes.to_string())).await;
    let status = async |name: &str| program.get(&format!("/app-probe/{name}")).await.0;
    assert_eq!(status("app/startup").await, 200);
    assert_eq!(status("app/readiness").await, 200);
    assert_eq!(status("app/liveness").await, 503);
    assert_eq!(status("web/startup").await, 503);
    let told = program.log.wait_for("why", |line| line["probe"] == "app/liveness").await;
    assert_eq!(told["why"], "it knows no service of that name", "{told}");
    app.ask(json!({ "do": "health", "serving": false })).await;
    eventually("it is not ready", async || status("app/readiness").await == 503).await;
    app.ask(json!({ "do": "health", "serving": true })).await;
    eventually("it is ready", async || status("app/readiness").await == 200).await;
}
