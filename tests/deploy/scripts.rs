//! The Python scripts, each run to its end: what one of them asserts is the test's failure.
//! `script` is for the other modules as well. It must never let a script pass that checked nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::tools::{Told, command};

/// A matrix takes ten seconds of CPU, and a busy machine gives little of it.
const PATIENCE: Duration = Duration::from_secs(240);

fn python() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("deploy/bin/python")
}

/// Runs `python/<name>.py` with this on its standard input.
pub(crate) async fn script(name: &str, input: &str) -> Told {
    let python = python();
    assert!(python.exists(), "{} is missing; run make test", python.display());
    let path = format!("{}/../../tests/deploy/python/{name}.py", env!("CARGO_MANIFEST_DIR"));
    // Nothing is left beside the scripts, and no variable of this user but UPDATE changes a run.
    let mut command = command(python.to_str().unwrap());
    let mut child = command.args(["-B", "-s", &path]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        // A script that fails before it reads says so itself.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let ended = timeout(PATIENCE, async { tokio::join!(child.wait_with_output(), feed).0.unwrap() }).await;
    let output = ended.unwrap_or_else(|_| panic!("{name}.py did not end in time"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn holds(name: &str, checks: usize) {
    let told = script(name, "").await;
    assert_eq!(told.code, Some(0), "{}\n{}", told.out, told.err);
    assert_eq!(told.out.matches("ok: ").count(), checks, "{}", told.out);
}

#[tokio::test]
async fn the_chart_is_linted_rendered_and_valid_over_a_matrix_of_values() {
    holds("chart", 12).await;
}

#[tokio::test]
async fn the_validating_policy_lets_pass_what_the_injector_makes_and_refuses_whatever_weakens_it() {
    holds("policy", 15).await;
}

#[tokio::test]
async fn the_mutating_policy_makes_what_the_validating_policy_lets_pass() {
    holds("mutation", 6).await;
}

#[tokio::test]
async fn every_alert_fires_when_it_should_and_has_a_section_in_the_runbook() {
    holds("alerts", 5).await;
}

#[tokio::test]
async fn what_kustomize_takes_is_what_the_chart_makes() {
    holds("rendered", 3).await;
}

#[tokio::test]
async fn every_command_of_the_documents_is_known_to_kubectl_and_every_value_to_the_chart() {
    holds("documents", 6).await;
}
