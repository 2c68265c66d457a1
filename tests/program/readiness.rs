//! Ready, not ready and ready again, as knowledge grows old and is renewed. It must never wait for a moment of the
//! clock: it waits for what the endpoint says.

use testkit::Duration;

use crate::program::eventually;
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{curl, run, status};

#[tokio::test]
async fn a_list_that_expires_makes_it_unready_and_denies_everybody_until_a_fresh_one_comes() {
    let stage = Stage::new().await;
    stage.client("alice");
    let program = stage.start().await;
    assert_eq!(program.get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    let stream = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    stage.publish(&stage.list(2).expires_in(Duration::seconds(6)));
    program.wait_for_sequence(2).await;
    eventually("it is not ready", async || program.get("/readyz").await.0 == 503).await;
    let (_, why) = program.get("/readyz").await;
    assert!(why.contains("snapshot: the list \"test\" expired"), "{why}");
    assert_eq!(program.get("/livez").await.0, 200);
    stream.end().await.assert_broken();
    let told = run(curl(&stage, Some("alice")).args(["--write-out", "%{http_code}", &program.url("/denied")])).await;
    assert!(told.code != Some(0) && told.out == "000" && told.err.contains("alert"), "{told:?}");
    let outdated = [("result", "snapshot_outdated")];
    program.wait_for_metric("portcullis_handshakes_total", &outdated, 1.0).await;
    assert_eq!(program.metric("portcullis_cuts_total", &[("reason", "snapshot_outdated")]).await, 1.0);
    stage.publish(&stage.list(3));
    eventually("it is ready again", async || program.get("/readyz").await.0 == 200).await;
    assert_eq!(status(&stage, "alice", &program.url("/hello")).await, 200);
    assert_eq!(stage.app.requests().iter().filter(|seen| seen.uri.ends_with("/denied")).count(), 0);
}
