//! gRPC by grpcio when trust ends: every kind of call that can be open, each with its status, and the channel after it.
//! It must never help a channel: whether it comes back is grpcio's affair, and the point.

use serde_json::{Value, json};

use crate::clock::monotonic;
use crate::grpc::Scene;

/// Every kind of call that is open at once on one channel, by the names of `python/grpc_client.py`.
pub(crate) const KINDS: [&str; 7] =
    ["waiting", "download", "stalled_download", "upload", "stalled_upload", "talk", "health"];
/// From the publish to the end that a client is told: the promise is 50 ms to the close, the rest is Python's.
const PROMPT: u64 = 500_000_000;

impl Scene {
    /// Opens a call of every kind on the channel, each as far as it can come.
    pub(crate) async fn open_all(&mut self, channel: &str) {
        for kind in KINDS {
            self.client.ask(json!({"do": "open", "channel": channel, "kind": kind, "name": kind})).await;
        }
        for flowing in ["download", "stalled_download", "talk", "health"] {
            self.client.hears_of("flows", flowing).await;
        }
        self.app.hears("waits", |_| true).await;
        self.app.hears("counts", |_| true).await;
        self.app.hears("stalled", |_| true).await;
        self.client.hears_of("stalled", "stalled_upload").await;
    }

    /// The channel's next call.
    async fn next_call(&mut self, channel: &str, wait_for_ready: bool) -> Value {
        let wish = json!({"do": "unary", "channel": channel, "method": "Echo", "wait_for_ready": wait_for_ready});
        self.client.ask(wish).await
    }
}

#[tokio::test]
async fn every_open_call_ends_unauthenticated_with_a_fixed_message() {
    let mut scene = Scene::new().await;
    scene.open_all("main").await;
    let ended = scene.client.said("ended");
    assert!(ended.is_empty(), "a call ended by itself: {ended:?}");
    scene.stage.publish(&scene.stage.list(2).id("spiffe://td/alice"));
    scene.program.wait_for_sequence(2).await;
    let published = monotonic();
    // A stalled reader gets its end when it reads on; until then grpcio keeps it to itself.
    scene.client.ask(json!({"do": "read_on", "name": "stalled_download"})).await;
    for kind in KINDS {
        let end = scene.client.hears_of("ended", kind).await;
        let told = (end["code"].as_str(), end["details"].as_str());
        assert_eq!(told, (Some("UNAUTHENTICATED"), Some("portcullis: revoked")), "{end}");
        let prompt = kind == "stalled_download" || end["at"].as_u64().unwrap() < published + PROMPT;
        assert!(prompt, "{kind} ended late: {end}");
    }
    for method in ["Wait", "Ticks", "Flood", "Count", "Deaf", "Talk"] {
        let end = scene.app.hears("app_ended", |line| line["method"] == method).await;
        assert_ne!(end["whole"], true, "an upload was cut and the app took it for whole: {end}");
    }
    assert_eq!(scene.program.metric("portcullis_cuts_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_channel_is_refused_while_its_certificate_is_revoked_and_comes_back_by_itself() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.next_call("main", false).await["code"], "OK");
    scene.stage.publish(&scene.stage.list(2).id("spiffe://td/alice"));
    scene.program.wait_for_metric("portcullis_cuts_total", &[("reason", "revoked")], 1.0).await;
    let refused = scene.next_call("main", false).await;
    assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
    scene.stage.publish(&scene.stage.list(3));
    scene.program.wait_for_sequence(3).await;
    let answer = scene.next_call("main", true).await;
    assert_eq!(answer["code"], "OK", "{answer}");
    assert_eq!(scene.program.metric("portcullis_sessions_opened_total", &[]).await, 2.0);
}

#[tokio::test]
async fn a_renewed_certificate_is_let_in_at_once_beside_the_revoked_one() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.next_call("main", false).await["code"], "OK");
    let alice = scene.stage.client("alice");
    let renewed = scene.stage.client("renewed");
    scene.stage.write("alice.pem", renewed.chain_pem());
    scene.stage.write("alice.key", renewed.key_pem());
    scene.stage.publish(&scene.stage.list(2).serial(&alice));
    scene.program.wait_for_sequence(2).await;
    scene.channel("next", false).await;
    let answer = scene.next_call("next", false).await;
    assert_eq!(answer["code"], "OK", "{answer}");
}
