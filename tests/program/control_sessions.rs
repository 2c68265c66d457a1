//! Who is connected to a running sidecar, and the end of sessions, by our own client and by curl as operators use
//! them. It must never end a session by any other means than an operator's.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::control::{By, Office};
use crate::program::{Program, eventually, in_time};
use crate::stream::Stream;
use crate::tools::{Told, command, run, status};

fn json(told: &Told) -> Value {
    serde_json::from_str(&told.out).unwrap_or_else(|_| panic!("{told:?}"))
}

/// One stream of each client under way.
async fn two_streams(office: &Office, program: &Program) -> (Stream, Stream) {
    let alices = Stream::open(&office.stage, program, ("alice", "--http2")).await;
    let bobs = Stream::open(&office.stage, program, ("bob", "--http1.1")).await;
    (alices, bobs)
}

async fn office() -> Office {
    let office = Office::new().await;
    office.stage.client("alice");
    office.stage.client("bob");
    office
}

#[tokio::test]
async fn a_list_shows_who_is_connected_and_every_flag_narrows_it() {
    let office = office().await;
    let alice = office.stage.client("alice");
    office.stage.write("issuing.pem", office.stage.issuing.pem());
    let program = Program::start(&office.by_socket().with("--max-session-age", "30m")).await;
    let (alices, bobs) = two_streams(&office, &program).await;
    let list = async |flags: &[&str]| {
        let told = office.run(&program, By::Socket, &[&["sessions", "list", "--json"], flags].concat()).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        let list = json(&told);
        let sessions = list["sessions"].as_array().unwrap().clone();
        assert_eq!((&list["count"], &list["unheard"]), (&sessions.len().into(), &0.into()), "{list}");
        sessions
    };
    assert_eq!(list(&[]).await.len(), 2);
    let hers = list(&["--identity", "spiffe://td/alice"]).await;
    let [session] = hers.as_slice() else { panic!("{hers:?}") };
    let text = |key: &str| session[key].as_str().unwrap();
    assert_eq!((text("identity"), text("serial")), ("uri:spiffe://td/alice", alice.serial_hex().as_str()));
    assert_eq!((text("protocol"), text("inbound")), ("http2", program.addresses[0].to_string().as_str()));
    assert_eq!((text("ends_by"), &session["tls"]["version"]), ("max_session_age", &"1.3".into()), "{session}");
    assert_eq!((&session["requests"], &session["open_requests"]), (&1.into(), &1.into()), "{session}");
    assert!(session["bytes_sent"].as_u64().unwrap() > 100, "{session}");
    let left = session["seconds_left"].as_f64().unwrap();
    assert!(left > 1700.0 && left <= 1800.0, "{session}");
    let (serial, issuer) = (alice.serial_hex(), office.stage.text("issuing.pem"));
    for serial in [serial.clone(), serial.to_uppercase(), format!("0x00{serial}")] {
        assert_eq!(list(&["--serial", &serial]).await.len(), 1, "{serial}");
    }
    assert_eq!(list(&["--issuer", &issuer]).await.len(), 2);
    assert_eq!(list(&["--issuer", &"0".repeat(text("issuer_key").len())]).await.len(), 0);
    assert_eq!(list(&["--identity", "uri:spiffe://td/*", "--limit", "1"]).await.len(), 1);
    assert_eq!(list(&["--older-than", "1h"]).await.len(), 0);
    // For people, and one of them.
    let told = office.run(&program, By::Socket, &["sessions", "list", "--sort", "identity"]).await;
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(lines[0].starts_with("id ") && lines[1].contains("td/alice ") && lines[2].contains("td/bob "), "{told:?}");
    assert!(lines[3].starts_with("sessions 2, clients 2, open requests 2,"), "{told:?}");
    let told = office.run(&program, By::Socket, &["sessions", "show", &session["id"].to_string()]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    for word in ["busy", "uri:spiffe://td/alice", &serial, "http2", "TLS 1.3", "max_session_age", text("peer")] {
        assert!(told.out.contains(word), "{word}: {told:?}");
    }
    drop((alices, bobs));
    eventually("they are gone", async || list(&[]).await.is_empty()).await;
    let told = office.run(&program, By::Socket, &["sessions", "show", &session["id"].to_string()]).await;
    assert_eq!((told.code, told.err.lines().count()), (Some(64), 1), "{told:?}");
    let told = office.run(&program, By::Socket, &["sessions", "list"]).await;
    assert_eq!((told.code, told.out.lines().count()), (Some(0), 1), "{told:?}");
}

#[tokio::test]
async fn whoever_is_ended_is_cut_at_once_told_in_the_log_and_may_come_back() {
    let office = office().await;
    office.operator("anna");
    let program = Program::start(&office.by_certificate(&["anna=end"])).await;
    let anna = By::Certificate("anna");
    let (alices, bobs) = two_streams(&office, &program).await;
    let end = ["sessions", "end", "--identity", "spiffe://td/alice", "--reason", "incident 7"];
    let told = office.run(&program, anna, &[&end[..], &["--dry-run"]].concat()).await;
    assert!(told.code == Some(0) && told.out.starts_with("1 session of 1 client would be ended\n"), "{told:?}");
    alices.flows().await;
    let told = office.run(&program, anna, &end).await;
    assert!(told.code == Some(0) && told.out.starts_with("1 session of 1 client ended\n"), "{told:?}");
    assert!(told.out.contains("portcullis deny"), "it is said how to keep her out: {told:?}");
    alices.end().await.assert_broken();
    bobs.flows().await;
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 200);
    let cut = program.log.wait_for("the cut", |line| line["event"] == "session_cut").await;
    assert_eq!((&cut["reason"], &cut["why"]), (&"ended_by_operator".into(), &"incident 7".into()), "{cut}");
    let by = cut["by"].as_str().unwrap();
    assert!(by.starts_with("uri:spiffe://ops/anna (serial "), "{cut}");
    let events = program.log.events("control");
    let [line] = events.as_slice() else { panic!("a dry run changes nothing and leaves no line: {events:?}") };
    assert_eq!((&line["action"], &line["result"]), (&"end".into(), &"ended".into()), "{line}");
    assert_eq!((&line["who"], &line["what"]), (&"uri:spiffe://ops/anna".into(), &"identity spiffe://td/alice".into()));
    assert_eq!(line["detail"], "sessions 1, clients 1: incident 7", "{line}");
    for metric in ["portcullis_cuts_total", "portcullis_sessions_closed_total"] {
        assert_eq!(program.metric(metric, &[("reason", "ended_by_operator")]).await, 1.0);
    }
    // By its id, as the API has it too.
    let list = office.ask(&program, (anna, "/v1/sessions?identity=spiffe://td/bob"), &[]).await;
    let id = list.value["sessions"][0]["id"].to_string();
    let path = format!("/v1/sessions/{id}?reason=incident%207");
    let answer = office.ask(&program, (anna, &path), &["--request", "DELETE"]).await;
    assert_eq!((answer.status, &answer.value["sessions"]), (200, &1.into()), "{answer:?}");
    bobs.end().await.assert_broken();
    office.ask(&program, (anna, &path), &["--request", "DELETE"]).await.assert_problem(404, "not_found");
    office
        .ask(&program, (anna, &format!("/v1/sessions/{id}")), &["--request", "DELETE"])
        .await
        .assert_problem(400, "query");
    let told = office.run(&program, anna, &["sessions", "end", &id, "--reason", "again"]).await;
    assert_eq!((told.code, told.out.as_str()), (Some(1), "no such session is open\n"), "{told:?}");
}

#[tokio::test]
async fn everybody_is_ended_only_by_saying_so() {
    let office = office().await;
    let program = Program::start(&office.by_socket()).await;
    let (alices, bobs) = two_streams(&office, &program).await;
    let end = |flags: &'static [&str]| [&["sessions", "end"], flags].concat();
    for wrong in [
        &["--reason", "x"][..],
        &["--all"],
        &["--all", "--reason", ""],
        &["--all", "--reason", "x", "--identity", "spiffe://td/alice"],
        &["--identity", "nobody", "--reason", "x"],
        &["--serial", "no number", "--reason", "x"],
        &["--older-than", "5", "--reason", "x"],
        &["latest", "--reason", "x"],
    ] {
        let told = office.run(&program, By::Socket, &end(wrong)).await;
        assert_eq!((told.code, told.err.lines().count()), (Some(64), 1), "{wrong:?}: {told:?}");
    }
    let long = "a".repeat(201);
    let told = office.run(&program, By::Socket, &["sessions", "end", "--all", "--reason", &long]).await;
    assert_eq!(told.code, Some(64), "{told:?}");
    let post = async |body: &str| {
        let arguments = ["--header", "Content-Type: application/json", "--data", body];
        office.ask(&program, (By::Socket, "/v1/sessions/end"), &arguments).await
    };
    for wrong in [
        r#"{"reason":"x"}"#,
        r#"{"reason":"x","all":false}"#,
        r#"{"reason":"x","identity":null}"#,
        r#"{"reason":"x","all":true,"id":1}"#,
        r#"{"reason":"x","older_than":0}"#,
        r#"{"all":true}"#,
        r#"{"reason":"x","identiti":"dns:a","all":true}"#,
    ] {
        post(wrong).await.assert_problem(422, "invalid");
    }
    for wrong in ["?identiti=dns:a", "?id=1&id=1", "?limit=0", "?older_than=1h"] {
        let path = format!("/v1/sessions{wrong}");
        office.ask(&program, (By::Socket, &path), &[]).await.assert_problem(400, "query");
    }
    alices.flows().await;
    bobs.flows().await;
    let told = office.run(&program, By::Socket, &end(&["--all", "--reason", "the end of the world", "--json"])).await;
    assert_eq!((told.code, &json(&told)["sessions"]), (Some(0), &2.into()), "{told:?}");
    alices.end().await.assert_broken();
    bobs.end().await.assert_broken();
}

#[tokio::test]
async fn a_watch_prints_one_look_after_the_other_where_nobody_sits_before_it() {
    let office = office().await;
    let program = Program::start(&office.by_socket()).await;
    let (_alices, _bobs) = two_streams(&office, &program).await;
    let watch = ["sessions", "watch", "--times", "3", "--every", "10ms"];
    let told = office.run(&program, By::Socket, &[&watch[..], &["--json"]].concat()).await;
    assert_eq!((told.code, told.out.lines().count()), (Some(0), 3), "{told:?}");
    for line in told.out.lines() {
        let list: Value = serde_json::from_str(line).unwrap();
        assert_eq!(list["count"], 2, "{list}");
    }
    let told = office.run(&program, By::Socket, &watch).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(told.out.matches("sessions 2, clients 2,").count(), 3, "{told:?}");
    assert!(!told.out.contains('\u{1b}'), "no terminal, no picture: {told:?}");
    let told = office.run(&program, By::Socket, &["sessions", "watch", "--every", "0s"]).await;
    assert_eq!(told.code, Some(64), "{told:?}");
}

/// A picture is drawn from the first corner on.
const HOME: &str = "\u{1b}[H";
const OTHER_SCREEN: &str = "\u{1b}[?1049h\u{1b}[?25l";
const GIVEN_BACK: &str = "\u{1b}[?25h\u{1b}[?1049l";

#[tokio::test]
async fn a_watch_at_a_terminal_draws_over_itself_and_gives_the_terminal_back() {
    let office = office().await;
    let mut program = Program::start(&office.by_socket()).await;
    let (_alices, _bobs) = two_streams(&office, &program).await;
    let watch = ["sessions", "watch", "--every", "50ms"];
    let by_key = [["by time left: s sorts", "s"], ["by age: s sorts", "x"], ["sessions 2, clients 2,", "q"]];
    let by_signal = [["uri:spiffe://td/bob", "\u{3}"]];
    for (steps, pictures) in [(json!(by_key), 3), (json!(by_signal), 1)] {
        let told = at_a_terminal(&steps, &office.client(&program, By::Socket, &watch)).await;
        let seen = told["seen"].as_str().unwrap();
        assert_eq!((&told["code"], &told["modes_are_back"]), (&0.into(), &true.into()), "{told}");
        assert!(seen.contains(OTHER_SCREEN) && seen.ends_with(GIVEN_BACK), "{seen:?}");
        assert!(seen.matches(HOME).count() >= pictures, "{seen:?}");
        let widest = seen.split(HOME).flat_map(|picture| picture.split("\r\n")).map(|line| line.chars().count()).max();
        assert!(widest <= Some(100 + OTHER_SCREEN.len()), "a line is wider than the window: {seen:?}");
    }
    // What is wrong from the start is said on the plain screen.
    let wrong = office.client(&program, By::Socket, &["sessions", "watch", "--identity", "nobody"]);
    let told = at_a_terminal(&json!([]), &wrong).await;
    assert_eq!((&told["code"], told["seen"].as_str().unwrap().contains(OTHER_SCREEN)), (&64.into(), false), "{told}");
    // A sidecar that goes away is waited for.
    let steps = json!([["sessions 2, clients 2,", "", program.id()], ["cannot be reached", "q"]]);
    let told = at_a_terminal(&steps, &office.client(&program, By::Socket, &watch)).await;
    assert_eq!((&told["code"], &told["modes_are_back"]), (&0.into(), &true.into()), "{told}");
    assert_eq!(program.ended().await, None, "it was killed");
}

/// Runs it where somebody sits, who types (`terminal.py`).
async fn at_a_terminal(steps: &Value, watched: &Command) -> Value {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    // Any Python 3 will do; this one is there for the control API's document.
    let mut terminal = command(target.join("schemathesis-4.32.5/bin/python").to_str().unwrap());
    terminal.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/program/terminal.py")).arg(steps.to_string());
    terminal.arg(watched.as_std().get_program()).args(watched.as_std().get_args());
    json(&run(terminal.env_remove("PORTCULLIS_CONTROL").env_remove("NO_COLOR")).await)
}

#[tokio::test]
async fn a_list_of_thousands_comes_whole_and_one_who_does_not_read_it_keeps_nobody_waiting() {
    let office = office().await;
    let flags = office.by_socket().with("--max-connections-per-identity", "2000");
    let program = Program::start(&flags).await;
    let crowd = crowd(&office, &program, 2000).await;
    program.wait_for_metric("portcullis_sessions_active", &[], 2000.0).await;
    let socket = Office::address(&program).strip_prefix("unix:").unwrap().to_owned();
    let ask = async |path: &str| {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    // They ask and read nothing: more than all kernels' buffers waits for them.
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = ask("/v1/sessions").await;
        let mut first = [0];
        in_time("the first byte", stream.read_exact(&mut first)).await.unwrap();
        deaf.push(stream);
    }
    let answer = office.ask(&program, (By::Socket, "/v1/sessions"), &[]).await;
    let sessions = answer.value["sessions"].as_array().unwrap();
    let ids: HashSet<u64> = sessions.iter().map(|session| session["id"].as_u64().unwrap()).collect();
    assert_eq!((ids.len(), &answer.value["count"], &answer.value["more"]), (2000, &2000.into(), &false.into()));
    let mut raw = String::new();
    in_time("the whole list", ask("/v1/sessions?limit=1500").await.read_to_string(&mut raw)).await.unwrap();
    assert!(raw.to_lowercase().contains("transfer-encoding: chunked"), "it is made while it is sent");
    assert!(raw.contains("\"count\":1500,\"more\":true,"), "{}", &raw[raw.len() - 200..]);
    assert_eq!(status(&office.stage, "bob", &program.url("/hello")).await, 200);
    let told = office.run(&program, By::Socket, &["sessions", "end", "--all", "--reason", "enough"]).await;
    assert!(told.out.starts_with("2000 sessions of 1 client ended\n"), "{told:?}");
    program.wait_for_metric("portcullis_cuts_total", &[("reason", "ended_by_operator")], 2000.0).await;
    drop((crowd, deaf));
}

/// Idle sessions of alice's.
async fn crowd(office: &Office, program: &Program, sessions: usize) -> Vec<testkit::ClientStream> {
    let leaf = office.stage.client("alice");
    let client = testkit::TlsClient::new(office.stage.server_root.der(), Some(&leaf));
    let mut crowd = Vec::new();
    for _ in 0..sessions {
        crowd.push(client.connect(program.addresses[0], &["http/1.1"]).await.unwrap());
    }
    crowd
}
