//! The control API against its document: the same bytes, and the same behaviour as far as schemathesis finds any other.
//! It must never reach beyond this machine, nor ask without an end.

use std::path::Path;
use std::time::Duration;

use crate::control::{By, Office};
use crate::program::Program;
use crate::stream::Stream;
use crate::tools::{command, run};

/// As `tests/tools` installs it.
const SCHEMATHESIS: &str = "schemathesis-4.32.5/bin/schemathesis";

#[tokio::test]
async fn the_document_that_is_served_is_the_one_in_the_repository() {
    let office = Office::new().await;
    let program = Program::start(&office.by_socket()).await;
    let told = run(&mut office.curl(&program, By::Socket, "/v1/openapi.yaml")).await;
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.yaml")).unwrap();
    assert_eq!(told.out, format!("{document}\n200"));
}

#[tokio::test]
async fn the_api_does_what_its_document_says_and_nothing_else() {
    let office = Office::new().await;
    office.operator("anna");
    let flags = office.by_certificate(&["anna=read", "anna=deny", "anna=push", "anna=end"]);
    let program = Program::start(&flags).await;
    // Somebody whose session can be shown and ended.
    office.stage.client("alice");
    let alices = Stream::open(&office.stage, &program, ("alice", "--http2")).await;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut schemathesis = command(target.join(SCHEMATHESIS).to_str().unwrap());
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let port = Office::address(&program).rsplit_once(':').unwrap().1.to_owned();
    schemathesis
        // What it leaves behind goes with the stage.
        .current_dir(office.stage.folder())
        .args(["--config-file", &format!("{here}/tests/program/schemathesis.toml")])
        .args(["run", &format!("{here}/docs/openapi.yaml"), "--url", &format!("https://localhost:{port}")])
        .args(["--request-cert", &office.stage.text("ops-anna.pem")])
        .args(["--request-cert-key", &office.stage.text("ops-anna.key")])
        .args(["--tls-verify", &office.stage.text("server_root.pem")])
        .args(["--seed", "1", "--generation-deterministic"])
        .args(["--max-examples", "20", "--no-color"]);
    let asked = tokio::time::timeout(Duration::from_secs(120), schemathesis.output()).await;
    let output = asked.expect("schemathesis ends in time").expect("tests/tools has installed schemathesis");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Tested: 14"), "{text}");
    // It has come through to the desk: something was denied, and something refused.
    let events = program.log.events("control");
    assert!(events.iter().any(|line| line["action"] == "deny" && line["result"] == "denied"), "{text}");
    assert!(events.iter().any(|line| line["action"] == "push" && line["result"] == "refused"), "{text}");
    assert!(events.iter().any(|line| line["action"] == "end" && line["result"] == "ended"), "{text}");
    alices.end().await.assert_broken();
}
