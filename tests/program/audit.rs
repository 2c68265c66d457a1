//! What an auditor reads in the log of the real program about a session that was cut. It must never accept a line
//! that is not JSON, nor one that shows key material.

use serde_json::Value;
use testkit::hex;

use crate::stage::Stage;
use crate::stream::{SOME, Stream};
use crate::tools::{curl, run, status};

#[tokio::test]
async fn the_log_tells_of_a_cut_session_who_when_why_and_under_which_knowledge() {
    let stage = Stage::new().await;
    let alice = stage.client("alice");
    stage.client("bob");
    let program = stage.start().await;
    assert_eq!(status(&stage, "bob", &program.url("/hello")).await, 200);
    let stream = Stream::open(&stage, &program, ("alice", "--http1.1")).await;
    stage.publish(&stage.list(2).serial(&alice).reason("keyCompromise"));
    stream.end().await.assert_broken();
    run(curl(&stage, Some("alice")).arg(program.url("/hello"))).await;
    let identity = "uri:spiffe://td/alice";
    program.log.wait_for("the last refusal is told", |line| line["event"] == "session_denied").await;
    program
        .log
        .wait_for("the close is told", |line| line["event"] == "session_closed" && line["identity"] == identity)
        .await;
    let hers: Vec<Value> = program.log.lines().into_iter().filter(|line| line["identity"] == identity).collect();
    let mut events: Vec<&str> = hers.iter().map(|line| line["event"].as_str().unwrap()).collect();
    // The new connection may be refused before the old one's socket is gone.
    events.sort_unstable();
    assert_eq!(events, ["session_closed", "session_cut", "session_denied", "session_opened"]);
    let of = |event: &str| hers.iter().find(|line| line["event"] == event).unwrap();
    let (opened, cut, closed, denied) =
        (of("session_opened"), of("session_cut"), of("session_closed"), of("session_denied"));
    for line in &hers {
        assert_eq!(line["serial"], alice.serial_hex(), "{line}");
        assert_eq!(line["issuer_key"], hex(&stage.issuing.spki_sha256()), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert_eq!(opened["sequence"], 1, "{opened}");
    let epoch = opened["epoch"].as_u64().unwrap();
    for line in [cut, closed, denied] {
        assert_eq!((&line["sequence"], &line["reason"]), (&2.into(), &"revoked".into()), "{line}");
        assert_eq!(line["epoch"].as_u64().unwrap(), epoch + 1, "{line}");
    }
    for line in [cut, closed] {
        assert_eq!(line["session"], opened["session"], "{line}");
    }
    assert!(cut["detail"].as_str().unwrap().contains("serial"), "{cut}");
    assert_eq!(closed["requests"], 1, "{closed}");
    assert!(
        closed["bytes_sent"].as_u64().unwrap() > SOME && closed["bytes_received"].as_u64().unwrap() > 50,
        "{closed}"
    );
    assert_no_key_material(&stage, &program.log.text());
}

/// No line of any PEM file on the stage, and none of the marks of one.
fn assert_no_key_material(stage: &Stage, log: &str) {
    assert!(!log.contains("-----"), "{log}");
    for name in ["alice.key", "alice.pem", "bob.key", "server.key", "server.pem", "client_root.pem"] {
        let text = std::fs::read_to_string(stage.path(name)).unwrap();
        for line in text.lines().filter(|line| line.len() > 20) {
            assert!(!log.contains(line), "{name} is in the log");
        }
    }
}
