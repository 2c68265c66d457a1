//! The app's own probes by way of the real program: what the app sees of them, and what whoever asks gets of it.
//! It must never ask more than once in a test that counts what the app was asked.

use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::{Value, json};
use testkit::{Authority, Leaf, LeafSpec, RawApp, RecordingApp};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::program::Program;
use crate::stage::{Flags, Stage};
use crate::tools::{command, run};

const READINESS: &str = "/app-probe/app/readiness";

fn flags(stage: &Stage, probes: &Value) -> Flags {
    stage.flags().with("--app-probes", probes.to_string())
}

async fn start(stage: &Stage, probe: Value) -> Program {
    Program::start(&flags(stage, &json!({ "app/readiness": probe }))).await
}

#[tokio::test]
async fn the_app_is_asked_what_was_configured_and_nothing_of_the_callers_reaches_it() {
    let stage = Stage::new().await;
    let headers = json!([{ "name": "X-Probe", "value": "one" }, { "name": "X-Probe", "value": "two" }]);
    let get = json!({ "path": "hello there?x=1", "port": stage.app.addr().port(), "httpHeaders": headers });
    let program = start(&stage, json!({ "httpGet": get, "timeoutSeconds": 20, "periodSeconds": 3 })).await;
    let url = format!("http://{}{READINESS}?path=/other", program.observe);
    let mut curl = command("curl");
    curl.args(["--disable", "--silent", "--include", "--header", "X-Caller: secret", "--header", "X-Probe: mine"]);
    let told = run(curl.args(["--user-agent", "somebody", "--data-binary", "@-", "--request", "GET", &url])).await;
    let (head, body) = told.out.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(), "{told:?}");
    let mut names: Vec<_> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.retain(|name| !["connection", "content-length", "date"].contains(&name.to_lowercase().as_str()));
    assert!(names.is_empty(), "more than a status: {names:?}");
    let seen = stage.app.requests().remove(0);
    assert_eq!((seen.method.as_str(), seen.uri.as_str(), seen.body_length), ("GET", "/hello%20there?x=1", 0));
    assert_eq!(seen.all("x-probe"), ["one", "two"]);
    assert_eq!(seen.header("x-caller"), None);
    assert!(seen.header("user-agent").unwrap().starts_with("kube-probe/"), "{seen:?}");
    assert_eq!(seen.header("host").unwrap(), stage.app.addr().to_string());
}

#[tokio::test]
async fn the_apps_status_is_the_answer_and_an_app_that_is_gone_or_silent_is_unavailable() {
    let stage = Stage::new().await;
    let (there, gone) =
        (stage.app.addr().port(), TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port());
    let quiet = RawApp::start(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let silent = quiet.addr().port();
    let closing = RawApp::answering("").await;
    let get = |path: &str| json!({ "httpGet": { "path": path, "port": there } });
    let probes = json!({
        "a/startup": get("/status/204"), "a/readiness": get("/status/418"), "a/liveness": get("/status/500"),
        "b/startup": { "tcpSocket": { "port": there } }, "b/readiness": { "tcpSocket": { "port": gone } },
        "b/liveness": { "httpGet": { "port": closing.addr().port() } },
        "c/startup": { "httpGet": { "port": gone } }, "c/readiness": { "httpGet": { "port": silent } },
        "c/liveness": { "grpc": { "port": silent } },
    });
    let program = Program::start(&flags(&stage, &probes)).await;
    for (probe, status) in [
        ("a/startup", 204),
        ("a/readiness", 418),
        ("a/liveness", 500),
        ("b/startup", 200),
        ("b/readiness", 503),
        ("b/liveness", 503),
        ("c/startup", 503),
        ("c/readiness", 504),
        ("c/liveness", 504),
        ("a/other", 404),
        ("a", 404),
        ("", 404),
        ("a/startup/", 404),
        ("d/startup", 404),
        ("../readyz", 404),
    ] {
        assert_eq!(program.get(&format!("/app-probe/{probe}")).await, (status, String::new()), "{probe}");
    }
    let told = program.log.wait_for("why it failed", |line| line["probe"] == "c/readiness").await;
    assert_eq!((told["status"].as_u64(), told["why"].as_str()), (Some(504), Some("no answer within 1 s")), "{told}");
}

#[tokio::test]
async fn an_app_over_https_is_asked_whatever_its_certificate_is() {
    let stage = Stage::new().await;
    let leaf = Authority::root("nobody's root").issue(LeafSpec::dns("another.example"));
    let port = https_app(&leaf).await;
    let program = start(&stage, json!({ "httpGet": { "port": port, "scheme": "HTTPS" }, "timeoutSeconds": 20 })).await;
    assert_eq!(program.get(READINESS).await, (200, String::new()));
    let plain = start(&stage, json!({ "httpGet": { "port": stage.app.addr().port(), "scheme": "HTTPS" } })).await;
    assert_eq!(plain.get(READINESS).await.0, 503);
}

async fn https_app(leaf: &Leaf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(leaf.chain(), leaf.key_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test]
async fn a_redirect_within_the_app_is_followed_and_one_to_another_place_is_an_answer() {
    let stage = Stage::new().await;
    let other = RecordingApp::start().await;
    let moved = |location: String| format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let within = RawApp::start(|mut stream, number| async move {
        testkit::raw_app::read_head(&mut stream).await;
        let answer: &[u8] = match number {
            0 => b"HTTP/1.1 302 Found\r\nLocation: /really?x\r\n\r\n",
            _ => b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        };
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    })
    .await;
    let leaving = RawApp::answering(moved(format!("http://{}/", other.addr()))).await;
    let circling = RawApp::answering(moved("/".to_owned())).await;
    let get = |app: &RawApp| json!({ "httpGet": { "port": app.addr().port() }, "timeoutSeconds": 20 });
    let probes = json!({ "a/startup": get(&within), "a/readiness": get(&leaving), "a/liveness": get(&circling) });
    let program = Program::start(&flags(&stage, &probes)).await;
    assert_eq!(program.get("/app-probe/a/startup").await.0, 503);
    assert_eq!(program.get("/app-probe/a/readiness").await.0, 302);
    assert_eq!(program.get("/app-probe/a/liveness").await.0, 503);
    assert_eq!((within.connections(), leaving.connections(), other.connections()), (2, 1, 0));
    assert_eq!(circling.connections(), 10);
}

#[tokio::test]
async fn probes_that_cannot_be_read_stop_the_start_with_one_sentence() {
    let stage = Stage::new().await;
    for (probes, remedy) in [("{", "write one like"), (r#"{"app/startup":{"exec":{}}}"#, "the probe \"app/startup\"")] {
        let mut portcullis = command(env!("CARGO_BIN_EXE_portcullis"));
        portcullis.arg("run").args(stage.flags().arguments()).env("PORTCULLIS_APP_PROBES", probes);
        let told = run(&mut portcullis).await;
        assert_eq!(told.code, Some(64), "{told:?}");
        let said = told.err.trim();
        assert!(said.contains("PORTCULLIS_APP_PROBES") && said.contains(remedy) && !said.contains('\n'), "{said}");
    }
}
