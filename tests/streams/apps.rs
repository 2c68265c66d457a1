//! The apps behind one program, one inbound each: HTTP, gRPC by grpcio, WebSocket by websockets, bytes, and CONNECT.
//! Started by `table.rs`; clients find an inbound by its place in [`Apps::flags`].
//! No app may end anything by itself: who ends a stream is the question.

use std::time::Duration;

use testkit::RawApp;
use testkit::raw_app::read_head;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::script::Script;
use crate::stage::{Flags, Stage};

/// The places of the inbounds.
pub(crate) const HTTP: usize = 0;
pub(crate) const GRPC: usize = 1;
pub(crate) const WEBSOCKET: usize = 2;
pub(crate) const CONNECT: usize = 3;
pub(crate) const TCP: usize = 4;

pub(crate) struct Apps {
    pub(crate) grpc: Script,
    pub(crate) websocket: Script,
    connect: RawApp,
    tcp: RawApp,
}

impl Apps {
    pub(crate) async fn start() -> Apps {
        let (grpc, websocket) = tokio::join!(Script::start("grpc_app", &[]), Script::start("websocket_app", &[]));
        let connect = RawApp::start(|stream, _| accept_tunnel(stream)).await;
        let tcp = RawApp::start(|stream, _| tick(stream, b"")).await;
        Apps { grpc, websocket, connect, tcp }
    }

    /// The stage's flags with an inbound for each app.
    pub(crate) fn flags(&self, stage: &Stage) -> Flags {
        let scripts = [&self.grpc, &self.websocket].map(|app| format!("127.0.0.1:{}", app.said("ready")[0]["port"]));
        let raw = [&self.connect, &self.tcp].map(|app| app.addr().to_string());
        let [grpc, websocket] = scripts;
        let [connect, tcp] = raw;
        let more = [grpc, websocket, connect, format!("{tcp},protocol=tcp")].into_iter();
        let flags = more.fold(stage.flags(), |flags, app| flags.and("--inbound", format!("127.0.0.1:0={app}")));
        // Nobody is asked to leave before an end that is planned: the cut itself is the question.
        flags.with("--allow-connect", "").with("--drain", "0s")
    }
}

/// Agrees to a CONNECT, then answers the request in the tunnel without end.
async fn accept_tunnel(mut stream: TcpStream) {
    read_head(&mut stream).await;
    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
        read_head(&mut stream).await;
        tick(stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
    }
}

/// Says this, then a line every few milliseconds until nobody takes it.
async fn tick(mut stream: TcpStream, first: &[u8]) {
    let mut going = stream.write_all(first).await;
    let mut pace = tokio::time::interval(Duration::from_millis(8));
    while going.is_ok() {
        pace.tick().await;
        going = stream.write_all(b"one line of it\n").await;
    }
}
