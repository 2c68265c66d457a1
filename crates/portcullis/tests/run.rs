//! The running program: its endpoint, its log, its signals and its exit codes.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod program;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use program::{Pki, arguments, assert_refused, portcullis};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is ended with the test, by its id.
struct Running {
    child: Child,
}

/// A running proxy whose first line was read.
struct Proxy {
    running: Running,
    lines: BufReader<ChildStdout>,
    start: Value,
    observe: SocketAddr,
}

impl Proxy {
    fn start(flags: &[(&str, String)]) -> Proxy {
        let mut child = portcullis()
            .arg("run")
            .args(arguments(flags))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Without a terminal the log is JSON; the first line is the configuration.
        let start = next_line(&mut lines);
        let observe = start["observe"].as_str().unwrap().parse().unwrap();
        Proxy { running: Running { child }, lines, start, observe }
    }

    fn get(&self, path: &str) -> (u16, String) {
        request(self.observe, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the proxy did not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it did not come to pass");
        std::thread::yield_now();
    }
}

fn next_line(lines: &mut BufReader<ChildStdout>) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

fn request(address: SocketAddr, text: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap();
    (status, answer)
}

#[test]
fn the_endpoint_serves_metrics_and_probes_and_nothing_else() {
    let pki = Pki::new();
    let proxy = Proxy::start(&pki.flags());
    let (status, metrics) = proxy.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    for line in ["portcullis_bundle_anchors 1\n", "portcullis_snapshot_sequence 1\n", "portcullis_build_info{version="]
    {
        assert!(metrics.contains(line), "{line:?} is not in:\n{metrics}");
    }
    let (status, alive) = proxy.get("/livez");
    assert_eq!((status, alive.ends_with("\r\n\r\nalive\n")), (200, true), "{alive}");
    let (status, ready) = proxy.get("/readyz");
    assert_eq!((status, ready.ends_with("\r\n\r\nready\n")), (200, true), "{ready}");
    let (status, all) = proxy.get("/readyz?verbose");
    assert_eq!(status, 200);
    for condition in ["[ok] certificate: ", "[ok] bundle: 1 ", "[ok] snapshot: lists: 1 current", "[ok] running: "] {
        assert!(all.contains(condition), "{condition:?} is not in:\n{all}");
    }
    assert_eq!(proxy.get("/").0, 404);
    let (status, refused) = request(proxy.observe, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n");
    assert_eq!((status, refused.contains("allow: GET, HEAD")), (405, true), "{refused}");
    let (status, head) = request(proxy.observe, "HEAD /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!((status, head.ends_with("\r\n\r\n")), (200, true), "{head}");
}

#[test]
fn the_first_line_of_the_log_is_the_configuration_without_secrets() {
    let pki = Pki::new();
    let mut flags = pki.flags();
    flags.extend([("--idle-timeout", "5m".to_owned()), ("--workers", "2".to_owned())]);
    let proxy = Proxy::start(&flags);
    let start = &proxy.start;
    assert_eq!((&start["event"], &start["level"]), (&"start".into(), &"INFO".into()));
    assert_eq!((&start["idle_timeout"], &start["max_session_age"]), (&"5m".into(), &"none".into()));
    assert_eq!(start["workers"], 2);
    assert_eq!(start["allow"], "uri:spiffe://dev.portcullis/ns/demo/*");
    let key = std::fs::read_to_string(pki.path("server.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!start.to_string().contains(secret));
}

#[test]
fn a_signal_stops_it_with_0() {
    let pki = Pki::new();
    for name in ["TERM", "INT"] {
        let mut proxy = Proxy::start(&pki.flags());
        proxy.running.signal(name);
        assert_eq!(proxy.running.wait(), Some(0));
        let mut rest = String::new();
        proxy.lines.read_to_string(&mut rest).unwrap();
        let events: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let named = |name: &str| events.iter().any(|event| event["event"] == name);
        assert!(named("stopping") && named("stopped"), "{rest}");
    }
}

#[test]
fn a_port_that_is_taken_is_a_failure_at_start_that_names_its_flag() {
    let pki = Pki::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (flag, value) in [("--observe", address.to_string()), ("--inbound", format!("{address}=127.0.0.1:9"))] {
        let mut flags = pki.flags();
        flags.retain(|(known, _)| *known != flag);
        flags.push((flag, value));
        // A deadline of its own: a proxy that starts after all would run for ever.
        let mut command = Command::new("timeout");
        let run = portcullis();
        command.arg("20").arg(run.get_program()).arg("run").args(arguments(&flags));
        let output = command.output().unwrap();
        assert_refused(&output, &[flag, &address.to_string()]);
    }
}

#[test]
fn running_without_revocations_warns() {
    let pki = Pki::new();
    let mut flags = pki.flags();
    flags.retain(|(flag, _)| *flag != "--revocations");
    flags.push(("--no-revocations", String::new()));
    let mut proxy = Proxy::start(&flags);
    let warning = next_line(&mut proxy.lines);
    assert_eq!((&warning["level"], &warning["event"]), (&"WARN".into(), &"revocations_disabled".into()));
    assert!(proxy.get("/metrics").1.contains("portcullis_revocations_disabled 1\n"));
}

#[test]
fn a_blocked_standard_output_delays_neither_the_start_nor_the_stop() {
    let pki = Pki::new();
    // Nobody reads, and the pipe is full before the first line: Linux gives it 64 KiB.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; 64 * 1024]).unwrap();
    let observe = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut flags = pki.flags();
    flags.retain(|(flag, _)| *flag != "--observe");
    flags.push(("--observe", observe.to_string()));
    let child = portcullis().arg("run").args(arguments(&flags)).stdout(writer).spawn().unwrap();
    let mut proxy = Running { child };
    until(|| TcpStream::connect(observe).is_ok());
    assert_eq!(request(observe, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").0, 200);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn while_an_open_request_holds_the_stop_it_is_not_ready_and_a_second_signal_ends_it_with_1() {
    let pki = Pki::new();
    // An app that takes requests and answers none.
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut flags = pki.flags();
    flags.retain(|(flag, _)| *flag != "--inbound");
    flags.push(("--inbound", format!("127.0.0.1:0={}", app.local_addr().unwrap())));
    let mut proxy = Proxy::start(&flags);
    let listening: SocketAddr = proxy.start["listening"].as_str().unwrap().parse().unwrap();
    let url = format!("https://localhost:{}/", listening.port());
    let client = Command::new("curl")
        .args(["--silent", "--cacert", &pki.text("root.pem"), "--cert", &pki.text("bob.pem")])
        .args(["--key", &pki.text("bob.key"), &url])
        .spawn()
        .expect("curl is installed");
    let _client = Running { child: client };
    let (mut request, _) = app.accept().unwrap();
    // The request is open once its head has arrived.
    assert!(request.read(&mut [0; 1]).unwrap() > 0);
    proxy.running.signal("TERM");
    until(|| proxy.get("/readyz").0 == 503);
    let (_, why) = proxy.get("/readyz");
    assert!(why.contains("running: the proxy is stopping"), "{why}");
    proxy.running.signal("TERM");
    assert_eq!(proxy.running.wait(), Some(1));
    let mut told = String::new();
    proxy.running.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("ended at once by a second signal (SIGTERM)"), "{told}");
}
