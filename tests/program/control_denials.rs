//! Single denials on a running sidecar, by our own client as an operator types it. It must never wait for the end of a
//! denial: that one ends by itself is tested where the clock is ours.

use serde_json::Value;

use crate::control::{By, Office};
use crate::program::Program;
use crate::stream::Stream;
use crate::tools::{command, run, status};

#[tokio::test]
async fn a_denial_cuts_at_once_and_is_taken_back() {
    let office = Office::new().await;
    let alice = office.stage.client("alice");
    office.stage.client("bob");
    office.stage.write("issuing.pem", office.stage.issuing.pem());
    let program = Program::start(&office.by_socket()).await;
    let (issuer, cert) = (office.stage.text("issuing.pem"), office.stage.text("alice.pem"));
    let serial = alice.serial_hex();
    let ways: [&[&str]; 3] = [
        &["--id", "spiffe://td/alice", "--issued-before", "now"],
        &["--serial", &serial, "--issuer", &issuer],
        &["--cert", &cert],
    ];
    for way in ways {
        let hers = Stream::open(&office.stage, &program, ("alice", "--http2")).await;
        let deny = ["deny", "--for", "1h", "--reason", "keyCompromise", "--note", "incident 7", "--json"];
        let told = office.run(&program, By::Socket, &[&deny, way].concat()).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        hers.end().await.assert_broken();
        assert_eq!(status(&office.stage, "bob", &program.url("/hello")).await, 200);
        let record: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!((&record["ttl_seconds"], &record["persisted"]), (&3600.into(), &false.into()), "{record}");
        assert_eq!(record["entry"]["note"], "incident 7", "{record}");
        let id = record["id"].as_str().unwrap();
        let listed = office.run(&program, By::Socket, &["denials"]).await;
        assert!(listed.out.contains(id), "{listed:?}");
        assert_eq!(office.run(&program, By::Socket, &["undeny", id]).await.code, Some(0));
        assert_eq!(office.run(&program, By::Socket, &["undeny", id]).await.code, Some(64));
        assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 200, "{way:?}");
    }
}

#[tokio::test]
async fn denials_survive_a_kill() {
    let office = Office::new().await;
    office.stage.client("alice");
    let flags = office.by_socket().with("--state-dir", office.stage.text("state"));
    let mut program = Program::start(&flags).await;
    let answer = office.deny(&program, By::Socket, "spiffe://td/alice").await;
    assert_eq!((answer.status, &answer.value["persisted"]), (201, &true.into()), "{answer:?}");
    program.kill().await;
    // What was left of its socket file is no obstacle.
    assert!(office.stage.path("control.sock").exists());
    let program = Program::start(&flags).await;
    let denials = office.ask(&program, (By::Socket, "/v1/denials"), &[]).await;
    assert_eq!(denials.value["denials"].as_array().unwrap().len(), 1, "{denials:?}");
    assert_eq!(denials.value["denials"][0]["id"], answer.value["id"], "{denials:?}");
    assert_eq!(status(&office.stage, "alice", &program.url("/hello")).await, 0);
}

#[tokio::test]
async fn a_denial_that_names_nobody_or_has_no_proper_end_is_refused() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let whom = ["deny", "--id", "spiffe://td/alice"];
    for wrong in [&[][..], &["--for", "25h"], &["--for", "0s"], &["--for", "5"], &["--for", "1500ms"]] {
        let told = office.run(&program, By::Socket, &[&whom, wrong].concat()).await;
        assert_eq!((told.code, told.err.lines().count()), (Some(64), 1), "{told:?}");
    }
    for wrong in [&[][..], &["--id", "nobody"], &["--id", "spiffe://td/a", "--trust-domain", "td"]] {
        let told = office.run(&program, By::Socket, &[&["deny", "--for", "1h"], wrong].concat()).await;
        assert_eq!(told.code, Some(64), "{told:?}");
    }
    let body = "{\"entry\":{\"id\":\"spiffe://td/a\"},\"ttl_seconds\":60,\"mode\":\"observe\"}";
    let json = ["--header", "Content-Type: application/json", "--data", body];
    let refused = office.ask(&program, (By::Socket, "/v1/denials"), &json).await;
    refused.assert_problem(422, "invalid");
    let twice = "{\"entry\":{\"id\":\"spiffe://td/a\",\"id\":\"spiffe://td/b\"},\"ttl_seconds\":60}";
    let json = ["--header", "Content-Type: application/json", "--data", twice];
    office.ask(&program, (By::Socket, "/v1/denials"), &json).await.assert_problem(422, "invalid");
    office.ask(&program, (By::Socket, "/v1/denials"), &["--data", body]).await.assert_problem(415, "media_type");
    assert_eq!(program.metric("portcullis_overlay_denials", &[]).await, 0.0);
}

#[tokio::test]
async fn a_sidecar_that_is_not_there_or_is_somebody_else_is_told_from_one_that_says_no() {
    let office = Office::new().await;
    office.operator("anna");
    office.operator("bert");
    let program = Program::start(&office.by_certificate(&["anna=read"])).await;
    let (anna, bert) = (By::Certificate("anna"), By::Certificate("bert"));
    assert_eq!(office.run(&program, anna, &["state"]).await.code, Some(0));
    for (by, arguments) in [(anna, &["deny", "--for", "1h", "--id", "spiffe://td/a"][..]), (bert, &["state"])] {
        let told = office.run(&program, by, arguments).await;
        assert_eq!((told.code, told.err.lines().count()), (Some(77), 1), "{told:?}");
    }
    // Its certificate is for localhost: whoever expects another name, or other anchors, sends nothing.
    let other = |flag: &str, value: &str| {
        let mut client = office.client(&program, anna, &["state"]);
        let arguments: Vec<_> = client.as_std().get_args().map(|one| one.to_str().unwrap().to_owned()).collect();
        let at = arguments.iter().position(|argument| argument == flag).unwrap();
        let mut changed = command(env!("CARGO_BIN_EXE_portcullis"));
        changed.args(&arguments[..=at]).arg(value).args(&arguments[at + 2..]);
        client = changed;
        client
    };
    let wrong_anchor = office.stage.text("operators.pem");
    let wrong = [
        ("--control-name", "other.test"),
        ("--control-name", "spiffe://td/sidecar"),
        ("--control-server-ca", &wrong_anchor),
    ];
    for (flag, value) in wrong {
        let told = run(&mut other(flag, value)).await;
        assert_eq!(told.code, Some(69), "{flag} {value}: {told:?}");
    }
    for nowhere in ["unix:/nowhere/control.sock".to_owned(), format!("unix:{}", office.stage.text("server.pem"))] {
        let told = run(command(env!("CARGO_BIN_EXE_portcullis")).args(["denials", "--control", &nowhere])).await;
        assert_eq!((told.code, told.err.lines().count()), (Some(69), 1), "{told:?}");
    }
    let told = run(command(env!("CARGO_BIN_EXE_portcullis")).env_remove("PORTCULLIS_CONTROL").arg("state")).await;
    assert_eq!(told.code, Some(64), "{told:?}");
}
