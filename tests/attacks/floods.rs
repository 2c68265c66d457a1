//! Floods of HTTP/2 frames that carry nothing, and of honest ones that must not be taken for them.

use testkit::Ending;
use tokio::io::AsyncWriteExt as _;

use crate::ground::Ground;
use crate::program::in_time;
use crate::tools::{command, run, run_with};
use crate::wire::{
    self, DATA, END_HEADERS, ENHANCE_YOUR_CALM, HEADERS, PING, PRIORITY, SETTINGS, WINDOW_UPDATE, assault, frame, head,
    repeated,
};

/// Frames of one flood.
const MANY: usize = 300_000;
/// What one connection under attack may hold, in kilobytes.
const CONNECTION: u64 = 8 * 1024;

/// What comes before a flood, and one frame of it.
fn flood(kind: &str) -> (Vec<u8>, Vec<u8>) {
    // A request whose body is still to come.
    let open = frame(HEADERS, END_HEADERS, 1, &head("POST", "/upload"));
    match kind {
        "pings" => (Vec::new(), frame(PING, 0, 0, &[0; 8])),
        "acknowledgements of pings" => (Vec::new(), frame(PING, 1, 0, &[0; 8])),
        "settings" => (Vec::new(), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        "empty data" => (open, frame(DATA, 0, 1, &[])),
        "padded data" => (open, frame(DATA, 8, 1, &[2, 0, 0])),
        "priorities" => (Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        "window updates" => (open, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        "window updates of the connection" => (Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        "frames of an unknown kind" => (Vec::new(), frame(0xbe, 0, 0, &[])),
        _ => panic!("{kind} is unknown"),
    }
}

#[tokio::test]
async fn floods_of_frames_that_carry_nothing_end_their_connection() {
    let ground = Ground::with(|flags| flags).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let kinds = [
        "pings",
        "acknowledgements of pings",
        "settings",
        "empty data",
        "padded data",
        "priorities",
        "window updates",
        "window updates of the connection",
        "frames of an unknown kind",
    ];
    for (ended, kind) in kinds.into_iter().enumerate() {
        let (first, one) = flood(kind);
        let mut stream = wire::open(&client, address).await;
        stream.write_all(&first).await.unwrap();
        let seen = assault(stream, repeated(one, MANY)).await;
        println!("{kind}: {:?} after {:.1?}, GOAWAY {:?}", seen.ending, seen.after, seen.goaway());
        assert_ne!(seen.ending, Ending::StillOpen, "{kind}");
        // A reset may overtake what was said before it.
        assert!(matches!(seen.goaway(), Some(ENHANCE_YOUR_CALM) | None), "{kind}: {:?}", seen.goaway());
        let expected = f64::from(u32::try_from(ended).unwrap()) + 1.0;
        ground.wait_for_limit("flood", expected).await;
        assert_eq!(ground.limited("flood").await, expected, "{kind}");
    }
    honest.end("floods").await;
    ground.assert_memory("floods", CONNECTION);
    let closed = ground.program.metric("portcullis_sessions_closed_total", &[("reason", "limit")]).await;
    assert_eq!(closed, f64::from(u32::try_from(kinds.len()).unwrap()));
}

#[tokio::test]
async fn an_attacker_who_reads_nothing_of_the_answers_holds_little_and_ends_too() {
    let ground = Ground::with(|flags| flags.with("--body-timeout", "1s")).await;
    let (client, address) = (ground.client("attacker"), ground.address());
    let honest = ground.honest();
    let mut attackers = Vec::new();
    for kind in ["pings", "settings"] {
        for _ in 0..20 {
            let mut stream = wire::open(&client, address).await;
            let bytes = flood(kind).1.repeat(50_000);
            attackers.push(tokio::spawn(async move {
                // Until the proxy takes no more of it, or ends the connection.
                let _ = tokio::time::timeout(wire::PATIENCE, stream.write_all(&bytes)).await;
                stream
            }));
        }
    }
    let ended = [("reason", "limit"), ("reason", "timeout")];
    let closed = async || {
        let mut closed = 0.0;
        for label in ended {
            closed += ground.program.metric("portcullis_sessions_closed_total", &[label]).await;
        }
        closed
    };
    crate::program::eventually("all of them are ended", async || closed().await == 40.0).await;
    honest.end("floods whose answers nobody reads").await;
    ground.assert_memory("floods whose answers nobody reads", 40 * 512);
    for attacker in attackers {
        drop(in_time("an attacker's end", attacker).await.unwrap());
    }
}

#[tokio::test]
async fn a_body_in_the_smallest_messages_of_grpc_is_no_flood() {
    let ground = Ground::with(|flags| flags).await;
    let (client, address) = (ground.client("a"), ground.address());
    let connection = client.http2(address).await.unwrap();
    let mut exchange = connection.start(http::Request::post("/upload").body(()).unwrap(), false).await.unwrap();
    // As many as one window holds, before the app has read any.
    for _ in 0..8_000 {
        exchange.upload.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 3, 1, 2, 3]), false).unwrap();
    }
    exchange.finish().unwrap();
    let (body, ended) = exchange.response().await.unwrap().rest().await;
    assert!(ended.is_ok() && body == b"64000", "{ended:?} after {body:?}");
    assert_eq!(ground.limited("flood").await, 0.0);
}

#[tokio::test]
async fn heavy_honest_load_by_h2load_is_no_attack() {
    let ground = Ground::with(|flags| flags).await;
    ground.client("load");
    // h2load shows a client's certificate by this.
    let shim = ground.stage.text("shim.so");
    let mut compiler = command("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", &shim, "-ldl"]);
    assert_eq!(run_with(&mut compiler, include_bytes!("../program/shim.c")).await.code, Some(0));
    for options in ["-n 10000 -c 10 -m 50", "-n 2000 -c 50 --h1"] {
        let mut h2load = command("h2load");
        h2load.env("LD_PRELOAD", &shim).env("CLIENT_CERT", ground.stage.text("load.pem"));
        h2load.env("CLIENT_KEY", ground.stage.text("load.key")).args(options.split(' '));
        let told = run(h2load.arg(ground.program.url("/bytes/1000").replace("localhost", "127.0.0.1"))).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(told.out.contains(" 0 failed, 0 errored, 0 timeout"), "{}", told.out);
        let times = told.out.lines().find(|line| line.starts_with("finished in")).unwrap_or_default();
        println!("h2load {options}: {times}");
    }
    let text = ground.program.get("/metrics").await.1;
    let bitten = text.lines().filter(|line| line.starts_with("portcullis_limits_total") && !line.ends_with(" 0"));
    assert_eq!(bitten.collect::<Vec<_>>(), [""; 0]);
    ground.assert_memory("h2load", 64 * 1024);
}
