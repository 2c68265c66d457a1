//! Every path through the proxy at once: opened by clients that nobody here wrote, and what each of them saw at its end.
//! Called by `table.rs` once for each cause of a cut; what is no request is in `tunnels.rs`.
//! It must never end anything itself, nor say more of an end than its client told.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Authority, LeafSpec};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::apps::{Apps, GRPC, HTTP};
use crate::load;
use crate::program::{Program, eventually};
use crate::script::Script;
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{Told, curl};
use crate::tunnels::{self, Tunnels};

/// What a client saw, by the names of [`all`].
pub(crate) type Sights = BTreeMap<&'static str, String>;

/// Every path of requests by its short name, as a reader knows it, and with the client that takes it here.
const PATHS: [(&str, &str, &str); 22] = [
    ("http1-idle", "HTTP/1.1, kept alive and idle", "http.client"),
    ("http1-waiting", "HTTP/1.1, a request waits for its answer", "http.client"),
    ("http1-pipelined", "HTTP/1.1, seven requests pipelined behind it", "h2load"),
    ("http1-download", "HTTP/1.1, a long download", "curl"),
    ("http1-events", "HTTP/1.1, server-sent events", "curl"),
    ("http1-upload", "HTTP/1.1, a long upload", "http.client"),
    ("http1-curl-upload", "HTTP/1.1, a long upload", "curl"),
    ("http2-idle", "HTTP/2, an idle connection", "h2"),
    ("http2-connection", "HTTP/2, a connection with many streams", "h2"),
    ("http2-waiting", "— a stream that waits for its answer", "h2"),
    ("http2-download", "— a stream with a long download", "h2"),
    ("http2-stalled_download", "— a download that flow control has stalled", "h2"),
    ("http2-upload", "— a stream with a long upload", "h2"),
    ("http2-stalled_upload", "— an upload that flow control has stalled", "h2"),
    ("http2-curl-download", "HTTP/2, a long download", "curl"),
    ("grpc-waiting", "gRPC, a unary call that waits", "grpcio"),
    ("grpc-download", "gRPC, server streaming", "grpcio"),
    ("grpc-stalled_download", "gRPC, server streaming that its client does not read", "grpcio"),
    ("grpc-upload", "gRPC, client streaming", "grpcio"),
    ("grpc-stalled_upload", "gRPC, client streaming that the app does not read", "grpcio"),
    ("grpc-talk", "gRPC, both ways", "grpcio"),
    ("grpc-health", "gRPC, a watch of the health service", "grpcio"),
];
/// The sessions that one [`Clients::open`] begins: each name here has a certificate of its own.
const SESSIONS: [&str; 16] = [
    "http1-idle",
    "http1-waiting",
    "http1-pipelined",
    "http1-download",
    "http1-events",
    "http1-upload",
    "http1-curl-upload",
    "http2-idle",
    "http2-connection",
    "http2-curl-download",
    "grpc",
    "websocket-hush",
    "websocket-stalled",
    "http2-websocket",
    "connect",
    "tcp",
];
pub(crate) const SESSION_COUNT: usize = SESSIONS.len();
const CALLS: [&str; 7] = crate::grpc_cut::KINDS;
const STREAMS: [&str; 5] = ["waiting", "download", "stalled_download", "upload", "stalled_upload"];

/// The clients that serve every cause, one process for each kind.
pub(crate) struct Clients<'a> {
    stage: &'a Stage,
    http1: Script,
    http2: Script,
    grpc: Script,
    websocket: Script,
}

/// What is open of one cause, where it is open.
pub(crate) struct Open<'a> {
    /// The cause; the clients are `spiffe://td/<cause>/<path>`.
    pub(crate) cause: &'a str,
    curls: Vec<(&'static str, Stream)>,
    upload: JoinHandle<Told>,
    pipelined: JoinHandle<Told>,
    tunnels: Tunnels,
}

/// Every path, requests first.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    PATHS.into_iter().chain(tunnels::PATHS)
}

impl<'a> Clients<'a> {
    pub(crate) async fn new(stage: &'a Stage) -> Clients<'a> {
        let folder = [stage.folder().to_str().unwrap()];
        let scripts = ["http1_client", "h2_client", "grpc_client", "websocket_client"];
        let [http1, http2, grpc, websocket] = scripts.map(|name| Script::start(name, &folder));
        let (http1, http2, grpc, websocket) = tokio::join!(http1, http2, grpc, websocket);
        Clients { stage, http1, http2, grpc, websocket }
    }

    /// Opens every path for one cause with certificates of this authority, each as far as it can come.
    pub(crate) async fn open<'b>(
        &mut self,
        (cause, issuing, life): (&'b str, &Authority, Duration),
        program: &Program,
        apps: &Apps,
    ) -> Open<'b> {
        for session in SESSIONS {
            let leaf = LeafSpec::spiffe(&format!("spiffe://td/{cause}/{session}"));
            let leaf = issuing.issue(leaf.valid_for(testkit::Duration::try_from(life).unwrap()));
            leaf.write_to(self.stage.folder(), &format!("{cause}-{session}"));
        }
        self.open_scripts(cause, program, &apps.grpc).await;
        let (curls, upload, pipelined) = self.open_commands(cause, program).await;
        let scripts = (apps, &mut self.websocket, &mut self.http2);
        let tunnels = tunnels::open(cause, self.stage, program, scripts).await;
        self.wait_for_all(cause).await;
        Open { cause, curls, upload, pipelined, tunnels }
    }

    async fn open_scripts(&mut self, cause: &str, program: &Program, app: &Script) {
        let [http, grpc] = [HTTP, GRPC].map(|place| program.addresses[place].to_string());
        for kind in ["idle", "waiting", "upload"] {
            let (name, certificate) = (format!("{cause}-http1-{kind}"), format!("{cause}-http1-{kind}"));
            let wish = json!({"do": "open", "kind": kind, "name": name, "address": http, "certificate": certificate});
            self.http1.tell(wish).await;
        }
        for connection in ["http2-idle", "http2-connection"] {
            let name = format!("{cause}-{connection}");
            self.http2.ask(json!({"do": "connect", "connection": name, "address": http, "certificate": name})).await;
        }
        let idle = format!("{cause}-http2-idle");
        self.http2.ask(json!({"do": "open", "connection": idle, "kind": "idle", "name": format!("{idle}-get")})).await;
        for kind in STREAMS {
            let (there, name) = (format!("{cause}-http2-connection"), format!("{cause}-http2-{kind}"));
            self.http2.ask(json!({"do": "open", "connection": there, "kind": kind, "name": name})).await;
        }
        let name = format!("{cause}-grpc");
        let channel = json!({"do": "channel", "name": name, "address": grpc, "certificate": name});
        self.grpc.ask(channel).await;
        let before = ["waits", "counts", "stalled"].map(|event| (event, app.said(event).len()));
        for kind in CALLS {
            let call = json!({"do": "open", "channel": name, "kind": kind, "name": format!("{name}-{kind}")});
            self.grpc.ask(call).await;
        }
        for (event, count) in before {
            eventually(event, async || app.said(event).len() > count).await;
        }
        for flowing in ["download", "stalled_download", "talk", "health"] {
            self.grpc.hears_of("flows", &format!("{name}-{flowing}")).await;
        }
        self.grpc.hears_of("stalled", &format!("{name}-stalled_upload")).await;
    }

    /// curl of this stage with this path's certificate.
    fn curl(&self, cause: &str, session: &str, arguments: &[&str]) -> Command {
        let mut curl = curl(self.stage, Some(&format!("{cause}-{session}")));
        curl.args(arguments);
        curl
    }

    async fn open_commands(
        &self,
        cause: &str,
        program: &Program,
    ) -> (Vec<(&'static str, Stream)>, JoinHandle<Told>, JoinHandle<Told>) {
        let downloads = [
            ("http1-download", "--http1.1", "/stream/8"),
            ("http1-events", "--http1.1", "/events/8"),
            ("http2-curl-download", "--http2", "/stream/8"),
        ];
        let [one, two, three] = downloads.map(|(session, version, path)| {
            Stream::by(self.curl(cause, session, &[version, "--no-buffer", &program.url(path)]))
        });
        let (one, two, three) = tokio::join!(one, two, three);
        let sessions = downloads.map(|(session, ..)| session);
        let curls = sessions.into_iter().zip([one, two, three]).collect();
        let upload = ["--http1.1", "--request", "POST", "--upload-file", "-", "--write-out", "|%{http_code}"];
        let url = program.url("/upload");
        let upload = self.curl(cause, "http1-curl-upload", &[&upload[..], &[&url]].concat());
        let mut pipelined = load::h2load(self.stage, &format!("{cause}-http1-pipelined")).await;
        let waiting = program.url("/slow/60000").replace("localhost", "127.0.0.1");
        pipelined.args(["--h1", "-n", "8", "-c", "1", "-m", "8", &waiting]);
        let pipelined = tokio::spawn(async move { crate::tools::run(&mut pipelined).await });
        (curls, tokio::spawn(endless_upload(upload)), pipelined)
    }

    /// Waits until the app has the requests, and the scripts have the rest.
    async fn wait_for_all(&self, cause: &str) {
        for kind in ["idle", "waiting", "upload"] {
            self.http1.hears_of("flows", &format!("{cause}-http1-{kind}")).await;
        }
        self.http2.hears_of("ended", &format!("{cause}-http2-idle-get")).await;
        self.http2.hears_of("flows", &format!("{cause}-http2-download")).await;
        for kind in ["stalled_download", "stalled_upload"] {
            self.http2.hears_of("stalled", &format!("{cause}-http2-{kind}")).await;
        }
        let arrived = |session: &str, path: &str, bytes: u64| {
            let identity = format!("URI=spiffe://td/{cause}/{session}");
            let hers = |seen: &testkit::Seen| seen.header("x-forwarded-client-cert").unwrap().contains(&identity);
            self.stage.app.requests().iter().any(|seen| seen.uri == path && seen.body_length >= bytes && hers(seen))
        };
        for (session, path, bytes) in [
            ("http1-waiting", "/slow/60000", 0),
            ("http1-pipelined", "/slow/60000", 0),
            ("http1-upload", "/upload", 16),
            ("http1-curl-upload", "/upload", 16),
            ("http2-connection", "/slow/60000", 0),
            ("http2-connection", "/upload", 16),
        ] {
            eventually(&format!("the app has {path} of {session}"), async || arrived(session, path, bytes)).await;
        }
    }

    /// What was told of ends so far, to be sure that nothing ends before its cause.
    pub(crate) fn ended(&self, cause: &str) -> Vec<Value> {
        let all = [&self.http1, &self.http2, &self.grpc, &self.websocket].into_iter();
        let ends = all.flat_map(|script| [script.said("ended"), script.said("closed")].concat());
        let theirs = |line: &Value| line["call"].as_str().unwrap().starts_with(&format!("{cause}-"));
        ends.filter(|line| theirs(line) && !line["call"].as_str().unwrap().ends_with("-get")).collect()
    }

    /// Waits for every end and says what was seen of it.
    pub(crate) async fn sights(&mut self, open: Open<'_>) -> Sights {
        let mut all_sights = Sights::new();
        let mut see = |path: &str, sight: String| {
            let (name, _, _) = all().find(|(name, _, _)| *name == path).unwrap();
            assert!(all_sights.insert(name, sight).is_none(), "{path} was seen twice");
        };
        for kind in ["idle", "waiting", "upload"] {
            let path = format!("http1-{kind}");
            see(&path, over_http1(&self.http1.hears_of("ended", &format!("{}-{path}", open.cause)).await));
        }
        for kind in STREAMS {
            let path = format!("http2-{kind}");
            see(&path, over_http2(&self.http2.hears_of("ended", &format!("{}-{path}", open.cause)).await));
        }
        for path in ["http2-idle", "http2-connection"] {
            see(path, connection(&self.http2.hears_of("closed", &format!("{}-{path}", open.cause)).await));
        }
        // grpcio tells of an end only when what came before it was read.
        let stalled = format!("{}-grpc-stalled_download", open.cause);
        self.grpc.ask(json!({"do": "read_on", "name": stalled})).await;
        for kind in CALLS {
            let path = format!("grpc-{kind}");
            see(&path, call(&self.grpc.hears_of("ended", &format!("{}-{path}", open.cause)).await));
        }
        for (session, stream) in open.curls {
            let end = stream.end().await;
            end.assert_broken();
            see(session, "broken off".to_owned());
        }
        let scripts = (&mut self.websocket, &self.http2);
        let sights = open.tunnels.sights(open.cause, scripts).await;
        tunnels::PATHS.iter().zip(sights).for_each(|((path, _, _), sight)| see(path, sight));
        see("http1-curl-upload", answered(&open.upload.await.unwrap()));
        see("http1-pipelined", pipelined(&open.pipelined.await.unwrap()));
        all_sights
    }
}

/// curl with a body that goes on until curl has ended.
async fn endless_upload(mut curl: Command) -> Told {
    let mut child = curl.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while stdin.write_all(b"piece of an upload\n").await.is_ok() {
            pace.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let output = tokio::select! {
        output = child.wait_with_output() => output.unwrap(),
        () = feed => unreachable!("the feed waits for curl"),
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A refusal's word, or how a connection of http.client ended. An upload may meet a reset behind its answer.
fn over_http1(end: &Value) -> String {
    if end["status"] != 401 {
        return end["end"].as_str().unwrap().to_owned();
    }
    assert_eq!(end["closes"], "close", "{end}");
    assert!(matches!(end["end"].as_str(), Some("closed" | "reset")), "{end}");
    format!("`401` `{}`, closed", end["body"].as_str().unwrap().trim_end())
}

fn over_http2(end: &Value) -> String {
    match (end["status"].as_u64(), end["end"].as_str().unwrap()) {
        (Some(401), "whole") => format!("`401` `{}`", end["body"].as_str().unwrap().trim_end()),
        (_, "reset 8") => "`RST_STREAM` `CANCEL`".to_owned(),
        _ => format!("{end}"),
    }
}

/// A client that is still sending may find its connection reset behind the GOAWAY.
fn connection(end: &Value) -> String {
    assert!(matches!(end["end"].as_str(), Some("closed" | "reset")), "{end}");
    assert_eq!(end["goaway"], 0, "{end}");
    "`GOAWAY` `NO_ERROR`, closed".to_owned()
}

fn call(end: &Value) -> String {
    format!("`{}` `{}`", end["code"].as_str().unwrap(), end["details"].as_str().unwrap())
}

fn answered(told: &Told) -> String {
    let (body, status) = told.out.rsplit_once('|').unwrap();
    format!("`{status}` `{}`, closed", body.trim_end())
}

/// h2load tells numbers alone.
fn pipelined(told: &Told) -> String {
    let one = told.out.contains("0 2xx, 0 3xx, 1 4xx, 0 5xx");
    if one { "one `401`, closed".to_owned() } else { format!("{told:?}") }
}
