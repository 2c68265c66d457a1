//! gRPC by grpcio, client and app, while trust lasts: what an app says reaches its client as it was said.
//! It must never revoke anybody: that is `grpc_cut.rs`.

use serde_json::{Value, json};

use crate::program::Program;
use crate::script::Script;
use crate::stage::{Flags, Stage};

/// A gRPC app, the program before it, and a client of the name `alice`.
pub(crate) struct Scene {
    pub(crate) stage: Stage,
    pub(crate) app: Script,
    pub(crate) program: Program,
    pub(crate) client: Script,
}

impl Scene {
    pub(crate) async fn new() -> Scene {
        Scene::with(|flags| flags).await
    }

    /// The same, with other flags for the program.
    pub(crate) async fn with(change: impl FnOnce(Flags) -> Flags) -> Scene {
        let (stage, app) = tokio::join!(Stage::new(), Script::start("grpc_app", &[]));
        stage.client("alice");
        let target = format!("127.0.0.1:{}", app.said("ready")[0]["port"]);
        let program = Program::start(&change(stage.flags_before(&target))).await;
        let folder = stage.folder().to_str().unwrap();
        let client = Script::start("grpc_client", &[folder]).await;
        let mut scene = Scene { stage, app, program, client };
        scene.channel("main", false).await;
        scene
    }

    /// One more channel that shows the certificate of `alice`.
    pub(crate) async fn channel(&mut self, name: &str, compressed: bool) {
        let address = self.program.addresses[0].to_string();
        let wish = json!({"do": "channel", "name": name, "address": address, "certificate": "alice",
                          "compressed": compressed});
        self.client.ask(wish).await;
    }

    /// A unary call on the main channel.
    async fn unary(&mut self, method: &str, length: usize) -> Value {
        self.client.ask(json!({"do": "unary", "channel": "main", "method": method, "length": length})).await
    }
}

fn assert_ok(answer: &Value) {
    assert_eq!((answer["code"].as_str(), answer["details"].as_str()), (Some("OK"), Some("")), "{answer}");
}

#[tokio::test]
async fn metadata_trailers_and_the_clients_identity_pass_both_ways() {
    let mut scene = Scene::new().await;
    let answer = scene.unary("Echo", 1000).await;
    assert_ok(&answer);
    assert_eq!(answer["length"], 1000);
    assert_eq!(answer["initial"]["x-first"], "one", "{answer}");
    assert_eq!((&answer["trailing"]["x-length"], &answer["trailing"]["x-raw-bin"]), (&json!("1000"), &json!("00ff")));
    let seen = &scene.app.said("echo")[0];
    assert_eq!(seen["asked"], "for", "{seen}");
    assert!(seen["identity"].as_str().unwrap().contains("URI=spiffe://td/alice"), "{seen}");
    // The deadline of twenty seconds is known to the app.
    let remaining = seen["remaining"].as_f64().unwrap();
    assert!(remaining > 5.0 && remaining <= 20.0, "{seen}");
}

#[tokio::test]
async fn an_apps_error_keeps_its_status_its_words_and_its_trailers() {
    let mut scene = Scene::new().await;
    let answer = scene.unary("Refuse", 0).await;
    assert_eq!(answer["code"], "NOT_FOUND", "{answer}");
    assert_eq!(answer["details"], "no such thing: 100 % Käse", "{answer}");
    assert_eq!(answer["trailing"]["x-why"], "because", "{answer}");
    let answer = scene.unary("Nothing", 0).await;
    assert_eq!(answer["code"], "UNIMPLEMENTED", "{answer}");
}

#[tokio::test]
async fn streams_of_all_three_kinds_arrive_whole() {
    let mut scene = Scene::new().await;
    let up = scene.client.ask(json!({"do": "upload", "channel": "main", "pieces": 500})).await;
    assert_ok(&up);
    assert_eq!(up["text"], "4000", "{up}");
    let counted = scene.app.hears("app_ended", |line| line["method"] == "Count").await;
    assert_eq!((&counted["messages"], &counted["whole"]), (&json!(500), &json!(true)), "{counted}");
    let down = scene.client.ask(json!({"do": "download", "channel": "main", "count": 50})).await;
    assert_ok(&down);
    assert_eq!(down["received"], 50);
    let talk = scene.client.ask(json!({"do": "talk", "channel": "main", "count": 200})).await;
    assert_ok(&talk);
    assert_eq!(talk["received"], 200);
    assert_eq!(scene.program.metric("portcullis_sessions_opened_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_deadline_and_a_cancellation_end_the_call_at_the_app_too() {
    let mut scene = Scene::new().await;
    let late = json!({"do": "unary", "channel": "main", "method": "Wait", "timeout": 0.3});
    let answer = scene.client.ask(late).await;
    assert_eq!(answer["code"], "DEADLINE_EXCEEDED", "{answer}");
    scene.app.hears("app_ended", |line| line["method"] == "Wait").await;
    let answer = scene.client.ask(json!({"do": "cancel", "channel": "main"})).await;
    assert_eq!(answer["code"], "CANCELLED", "{answer}");
    scene.app.hears("app_ended", |line| line["method"] == "Ticks").await;
    // The channel is none the worse for it.
    assert_ok(&scene.unary("Echo", 10).await);
    assert_eq!(scene.program.metric("portcullis_sessions_opened_total", &[]).await, 1.0);
}

#[tokio::test]
async fn compressed_messages_stay_compressed_and_large_ones_arrive() {
    let mut scene = Scene::new().await;
    let large = scene.unary("Echo", 20 << 20).await;
    assert_ok(&large);
    assert_eq!(large["length"], 20 << 20);
    scene.channel("small", true).await;
    let mut wish = json!({"do": "unary", "channel": "small", "method": "Echo", "length": 1 << 20});
    let answer = scene.client.ask(wish.take()).await;
    assert_ok(&answer);
    assert_eq!(answer["length"], 1 << 20);
    scene.client.ask(json!({"do": "close", "channel": "small"})).await;
    let closed = scene.program.log.wait_for("the session is told", |line| line["event"] == "session_closed").await;
    for direction in ["bytes_received", "bytes_sent"] {
        let bytes = closed[direction].as_u64().unwrap();
        assert!(bytes < 100_000, "a mebibyte of a pattern was not compressed: {closed}");
    }
}

#[tokio::test]
async fn the_health_service_is_asked_and_watched() {
    let mut scene = Scene::new().await;
    // SERVING is 1.
    let health = scene.client.ask(json!({"do": "health", "channel": "main"})).await;
    assert_eq!((&health["status"], &health["unknown"]), (&json!(1), &json!("NOT_FOUND")), "{health}");
    scene.client.ask(json!({"do": "open", "channel": "main", "kind": "health", "name": "watch"})).await;
    scene.client.hears_of("flows", "watch").await;
    scene.app.ask(json!({"do": "health", "serving": false})).await;
    scene.client.hears("health", |line| line["status"] == 2).await;
}
