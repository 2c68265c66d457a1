//! What nobody can do to the control listener by being slow, many or large. It must never sleep: it waits for what the
//! listener does about it.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::control::{By, Office};
use crate::program::{Program, eventually, in_time};

/// Connections that may be open at once.
const CONNECTIONS: usize = 64;

#[tokio::test]
async fn idle_connections_keep_others_waiting_for_a_bounded_time() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS + 10 {
        idle.push(UnixStream::connect(office.stage.path("control.sock")).await.unwrap());
    }
    let state = (By::Socket, "/v1/state");
    assert_eq!(office.ask(&program, state, &[]).await.status, 200, "curl gives up after 50 seconds");
    let mut first = idle.remove(0);
    assert_eq!(in_time("the idle one's end", first.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn strangers_before_their_handshake_take_no_operators_place() {
    let office = Office::new().await;
    office.operator("anna");
    let program = Program::start(&office.by_certificate(&["anna=read"])).await;
    let mut strangers = Vec::new();
    for _ in 0..CONNECTIONS * 2 {
        strangers.push(TcpStream::connect(Office::address(&program)).await.unwrap());
    }
    let asked = Instant::now();
    assert_eq!(office.ask(&program, (By::Certificate("anna"), "/v1/state"), &[]).await.status, 200);
    // None of them had to go first: each would have been waited for ten seconds.
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
    let mut stranger = strangers.remove(0);
    let mut told = Vec::new();
    let _ = in_time("a stranger's end", stranger.read_to_end(&mut told)).await;
    drop(strangers);
    // Lines about strangers are rationed.
    eventually("they are told of", async || !program.log.events("control_turned_away").is_empty()).await;
    assert!(program.log.events("control_turned_away").len() < CONNECTIONS * 2);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_its_pause() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let mut stream = UnixStream::connect(office.stage.path("control.sock")).await.unwrap();
    stream.write_all(b"PUT /v1/revocations HTTP/1.1\r\nHost: sidecar\r\nContent-Length: 1000\r\n\r\n{").await.unwrap();
    let mut answer = String::new();
    in_time("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"label\":\"slow\""), "{answer}");
    let line = program.log.wait_for("it is told", |line| line["event"] == "control").await;
    assert_eq!((&line["result"], &line["reason"]), (&"refused".into(), &"slow".into()), "{line}");
}

#[tokio::test]
async fn a_head_that_is_too_large_or_a_query_that_is_unknown_is_refused() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let large = format!("X-Large: {}", "x".repeat(32 * 1024));
    assert_eq!(office.ask(&program, (By::Socket, "/v1/state"), &["--header", &large]).await.status, 431);
    office.ask(&program, (By::Socket, "/v1/state?all"), &[]).await.assert_problem(400, "query");
    office.push(&program, (By::Socket, "?confrim=true"), "").await.assert_problem(400, "query");
    office.ask(&program, (By::Socket, "/v1/state"), &["--request", "PATCH"]).await.assert_problem(405, "method");
    office
        .ask(&program, (By::Socket, "/v1/denials/%2e%2e"), &["--request", "DELETE"])
        .await
        .assert_problem(404, "not_found");
    office.ask(&program, (By::Socket, "/metrics"), &[]).await.assert_problem(404, "not_found");
    let json = ["--header", "Content-Type: application/json", "--data", "{\"entry\":"];
    office.ask(&program, (By::Socket, "/v1/denials"), &json).await.assert_problem(400, "json");
    let long = format!("{{\"entry\":{{\"note\":\"{}\"}},\"ttl_seconds\":1}}", "x".repeat(20_000));
    let json = ["--header", "Content-Type: application/json", "--data", &long];
    office.ask(&program, (By::Socket, "/v1/denials"), &json).await.assert_problem(413, "too_large");
}
