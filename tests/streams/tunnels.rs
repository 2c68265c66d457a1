//! Paths that are no requests: WebSocket over both versions, CONNECT and bare TCP, by websockets, h2, curl and openssl.
//! Called by `paths.rs` as part of every cause.
//! It must never take an end without a Close for one with it.

use serde_json::{Value, json};

use crate::apps::{Apps, CONNECT, TCP, WEBSOCKET};
use crate::program::{Program, eventually};
use crate::script::Script;
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{command, curl};

/// As `paths::PATHS`.
pub(crate) const PATHS: [(&str, &str, &str); 5] = [
    ("websocket-hush", "WebSocket over HTTP/1.1", "websockets"),
    ("websocket-stalled", "WebSocket over HTTP/1.1, its client does not read", "websockets"),
    ("http2-websocket", "WebSocket over HTTP/2", "h2, websockets"),
    ("connect", "CONNECT", "curl"),
    ("tcp", "TCP", "openssl"),
];

/// What is open of one cause.
pub(crate) struct Tunnels {
    connect: Stream,
    tcp: Stream,
}

/// Opens every tunnel of a cause; an app that speaks in the very moment of a cut would have its frame stand in the way of
/// the Close, so the WebSockets are silent by then; the HTTP/2 connection of the last WebSocket belongs to this script.
pub(crate) async fn open(
    cause: &str,
    stage: &Stage,
    program: &Program,
    (apps, websocket, http2): (&Apps, &mut Script, &mut Script),
) -> Tunnels {
    let address = program.addresses[WEBSOCKET].to_string();
    let stalled = apps.websocket.said("stalled").len();
    for kind in ["hush", "stalled"] {
        let name = format!("{cause}-websocket-{kind}");
        let wish = json!({"do": "open", "kind": kind, "name": name, "address": address, "certificate": name});
        websocket.tell(wish).await;
    }
    let name = format!("{cause}-http2-websocket");
    let there = format!("{name}-connection");
    http2.ask(json!({"do": "connect", "connection": there, "address": address, "certificate": name})).await;
    http2.ask(json!({"do": "open", "connection": there, "kind": "hush", "name": name})).await;
    let mut through = curl(stage, None);
    let proxy = format!("https://localhost:{}", program.addresses[CONNECT].port());
    // The last --noproxy counts.
    through.args(["--noproxy", "", "--proxytunnel", "--proxy", &proxy]);
    through.args(["--proxy-cacert", &stage.text("server_root.pem")]);
    through.args(["--proxy-cert", &stage.text(&format!("{cause}-connect.pem"))]);
    through.args(["--proxy-key", &stage.text(&format!("{cause}-connect.key"))]);
    through.args(["--no-buffer", "http://app.test/lines"]);
    let mut bare = command("openssl");
    bare.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    bare.args(["-connect", &program.addresses[TCP].to_string(), "-CAfile", &stage.text("server_root.pem")]);
    bare.args(["-cert", &stage.text(&format!("{cause}-tcp.pem")), "-key", &stage.text(&format!("{cause}-tcp.key"))]);
    bare.args(["-cert_chain", &stage.text(&format!("{cause}-tcp.pem"))]);
    let (connect, tcp) = tokio::join!(Stream::by(through), Stream::by(bare));
    for kind in ["hush", "stalled"] {
        websocket.hears_of("flows", &format!("{cause}-websocket-{kind}")).await;
    }
    http2.hears_of("flows", &name).await;
    eventually("a WebSocket is stalled", async || apps.websocket.said("stalled").len() > stalled).await;
    Tunnels { connect, tcp }
}

impl Tunnels {
    /// Waits for every end and says what was seen of it.
    pub(crate) async fn sights(self, cause: &str, (websocket, http2): (&mut Script, &Script)) -> [String; 5] {
        websocket.ask(json!({"do": "read_on", "name": format!("{cause}-websocket-stalled")})).await;
        let mut ends = Vec::new();
        for kind in ["hush", "stalled"] {
            ends.push(websocket.hears_of("ended", &format!("{cause}-websocket-{kind}")).await);
        }
        let [hush, stalled] = ends.try_into().unwrap();
        let over_http2 = http2.hears_of("ended", &format!("{cause}-http2-websocket")).await;
        let (connect, tcp) = tokio::join!(self.connect.end(), self.tcp.end());
        connect.assert_broken();
        let reset = tcp.err.contains("errno=104");
        let tcp = if reset { "reset".to_owned() } else { format!("{tcp:?}") };
        [closed(&hush), closed(&stalled), closed(&over_http2), "broken off".to_owned(), tcp]
    }
}

fn closed(end: &Value) -> String {
    match (&end["close"][0], &end["close"][1]) {
        (Value::Null, _) => "broken off".to_owned(),
        (code, reason) => format!("Close `{code}` `{}`", reason.as_str().unwrap()),
    }
}
