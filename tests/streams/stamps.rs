//! Every byte of a stream tells when it was sent, by the machine's own clock: none that was sent after `portcullis deny`
//! had answered arrives, whatever the client and the app are. It must never stamp a block before it is to be sent.

use std::time::Duration;

use serde_json::json;
use testkit::{RawApp, stamps};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::apps::Apps;
use crate::clock::monotonic;
use crate::program::{Program, eventually, in_time};
use crate::script::Script;
use crate::stage::{Flags, Stage};
use crate::tools::{command, curl, run};

/// Each meets the denial at another moment of its streams.
const ROUNDS: usize = 4;
/// In the best round the last byte was sent no longer than this before the answer: the streams really flowed then.
const CLOSE_CALL: u64 = 500_000_000;

fn with_control(stage: &Stage, flags: Flags) -> Flags {
    flags.with("--control", format!("unix:{}", stage.text("control.sock")))
}

/// Denies this client; the moment at which it was told to be so.
async fn denied(stage: &Stage, name: &str) -> u64 {
    let mut deny = command(env!("CARGO_BIN_EXE_portcullis"));
    deny.args(["deny", "--id", &format!("spiffe://td/{name}"), "--for", "1h"]);
    let told = run(deny.args(["--control", &format!("unix:{}", stage.text("control.sock"))])).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    monotonic()
}

/// The closest of the calls, each of which has to be none too late.
struct Calls(u64);

impl Calls {
    fn note(&mut self, what: &str, last: u64, denied: u64) {
        assert!(last > 0, "{what}: nothing came");
        assert!(last <= denied, "{what}: a byte came that was sent {} ns after the denial", last - denied);
        self.0 = self.0.min(denied - last);
    }

    fn assert_close(self) {
        assert!(self.0 < CLOSE_CALL, "the last byte was sent {} ns before the denial, or earlier", self.0);
    }
}

/// An app that answers with stamps, as fast as they are taken, and without end.
async fn stamping() -> RawApp {
    RawApp::start(|mut stream, _| async move {
        testkit::raw_app::read_head(&mut stream).await;
        let mut going = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while going.is_ok() {
            going = stream.write_all(&monotonic().to_be_bytes()).await;
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn curl_gets_no_byte_that_was_sent_after_the_denial() {
    let (stage, app) = (Stage::new().await, stamping().await);
    let program = Program::start(&with_control(&stage, stage.flags_before(&app.addr().to_string()))).await;
    for version in ["--http1.1", "--http2"] {
        let mut calls = Calls(u64::MAX);
        for round in 0..ROUNDS {
            let name = format!("curl{version}-{round}");
            stage.client(&name);
            let mut command = curl(&stage, Some(&name));
            let mut child = command.args([version, "--no-buffer", &program.url("/")]).spawn().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let (tell, flows) = tokio::sync::oneshot::channel();
            let reading = tokio::spawn(async move {
                let (mut bytes, mut tell) = (Vec::new(), Some(tell));
                while let Ok(1..) = stdout.read_buf(&mut bytes).await {
                    if bytes.len() > 10_000
                        && let Some(tell) = tell.take()
                    {
                        tell.send(()).unwrap();
                    }
                }
                bytes
            });
            in_time("the stream flows", flows).await.unwrap();
            let denied = denied(&stage, &name).await;
            let bytes = in_time("the stream ends", reading).await.unwrap();
            calls.note(&name, stamps(&bytes).last().unwrap(), denied);
        }
        calls.assert_close();
    }
}

/// A client of this stage by Python, its app, and what each heard last of the other.
#[tokio::test]
async fn grpcio_and_its_app_hear_nothing_of_each_other_that_was_sent_after_the_denial() {
    let (stage, apps) = tokio::join!(Stage::new(), Apps::start());
    let program = Program::start(&with_control(&stage, apps.flags(&stage))).await;
    let mut client = Script::start("grpc_client", &[stage.folder().to_str().unwrap()]).await;
    let (mut down, mut up) = (Calls(u64::MAX), Calls(u64::MAX));
    for round in 0..ROUNDS {
        let name = format!("grpc-{round}");
        stage.client(&name);
        let address = program.addresses[crate::apps::GRPC].to_string();
        client.ask(json!({"do": "channel", "name": name, "address": address, "certificate": name})).await;
        for kind in ["download", "upload", "talk"] {
            let call = json!({"do": "open", "channel": name, "kind": kind, "name": format!("{name}-{kind}")});
            client.ask(call).await;
        }
        client.hears_of("flows", &format!("{name}-download")).await;
        client.hears_of("flows", &format!("{name}-talk")).await;
        eventually("the upload flows", async || apps.grpc.said("counts").len() > round).await;
        // A moment of its own for each round.
        tokio::time::sleep(Duration::from_millis(37)).await;
        let denied = denied(&stage, &name).await;
        for kind in ["download", "talk"] {
            let end = client.hears_of("ended", &format!("{name}-{kind}")).await;
            assert_eq!(end["code"], "UNAUTHENTICATED", "{end}");
            down.note(kind, end["last"].as_u64().unwrap(), denied);
        }
        for method in ["Count", "Talk"] {
            let ended = || apps.grpc.said("app_ended").into_iter().filter(|line| line["method"] == method).nth(round);
            eventually("the app hears the end", async || ended().is_some()).await;
            up.note(method, ended().unwrap()["last"].as_u64().unwrap(), denied);
        }
    }
    down.assert_close();
    up.assert_close();
}

#[tokio::test]
async fn a_websocket_and_its_app_hear_nothing_of_each_other_that_was_sent_after_the_denial() {
    let (stage, apps) = tokio::join!(Stage::new(), Apps::start());
    let program = Program::start(&with_control(&stage, apps.flags(&stage))).await;
    let folder = [stage.folder().to_str().unwrap()];
    let (mut http1, mut http2) =
        tokio::join!(Script::start("websocket_client", &folder), Script::start("h2_client", &folder));
    let address = program.addresses[crate::apps::WEBSOCKET].to_string();
    let (mut down, mut up) = (Calls(u64::MAX), Calls(u64::MAX));
    for round in 0..ROUNDS {
        let name = format!("websocket-{round}");
        stage.client(&name);
        let over_http2 = format!("{name}-http2");
        let wish = json!({"do": "open", "kind": "talk", "name": name, "address": address, "certificate": name});
        http1.tell(wish).await;
        http2.ask(json!({"do": "connect", "connection": name, "address": address, "certificate": name})).await;
        http2.ask(json!({"do": "open", "connection": name, "kind": "talk", "name": over_http2})).await;
        tokio::join!(http1.hears_of("flows", &name), http2.hears_of("flows", &over_http2));
        tokio::time::sleep(Duration::from_millis(37)).await;
        let denied = denied(&stage, &name).await;
        for end in [http1.hears_of("ended", &name).await, http2.hears_of("ended", &over_http2).await] {
            assert_eq!(end["close"], json!([1008, "revoked"]), "{end}");
            down.note("a WebSocket", end["last"].as_u64().unwrap(), denied);
        }
        eventually("the app hears the ends", async || apps.websocket.said("app_ended").len() == 2 * (round + 1)).await;
        for end in &apps.websocket.said("app_ended")[2 * round..] {
            up.note("the app of a WebSocket", end["last"].as_u64().unwrap(), denied);
        }
    }
    down.assert_close();
    up.assert_close();
}
