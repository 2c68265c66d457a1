//! The limits as operators set and see them: by flags, by their twins in the environment, in what `check` says and in the
//! line of the start. What each does is in `tests/attacks`. It must never leave a limit out: a new flag belongs here.

use serde_json::{Map, Value, json};

use crate::program::Program;
use crate::stage::{Flags, Stage};
use crate::tools::{command, run};

/// Every limit with a value that is not its default, and how that is shown.
fn limits() -> [(&'static str, &'static str, Value); 12] {
    [
        ("max-connections", "5000", json!(5000)),
        ("max-connections-per-identity", "77", json!(77)),
        ("max-handshakes", "88", json!(88)),
        ("handshake-timeout", "7s", json!("7s")),
        ("max-header-bytes", "16KiB", json!(16384)),
        ("max-header-count", "55", json!(55)),
        ("request-head-timeout", "9s", json!("9s")),
        ("body-timeout", "90s", json!("1m30s")),
        ("max-streams", "44", json!(44)),
        ("max-requests-per-session", "33", json!(33)),
        ("max-app-connections", "66", json!(66)),
        ("app-timeout", "11s", json!("11s")),
    ]
}

fn twin(name: &str) -> String {
    format!("PORTCULLIS_{}", name.replace('-', "_").to_uppercase())
}

/// What `check` says with these flags and variables.
async fn checked(flags: &Flags, more: &[String], environment: &[(String, &str)]) -> String {
    let mut check = command(env!("CARGO_BIN_EXE_portcullis"));
    check.arg("check").args(flags.arguments()).args(more);
    let told = run(check.envs(environment.iter().map(|(name, value)| (name, value)))).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.out
}

fn shown(report: &str) -> Map<String, Value> {
    let report: Value = serde_json::from_str(report).unwrap();
    report["limits"].as_object().unwrap().clone()
}

#[tokio::test]
async fn every_limit_is_set_by_its_flag_or_its_twin_in_the_environment_and_shown() {
    let stage = Stage::new().await;
    let json = ["--json".to_owned()];
    let all: Map<String, Value> =
        limits().map(|(name, _, shown)| (name.replace('-', "_"), shown)).into_iter().collect();
    let defaults = shown(&checked(&stage.flags(), &json, &[]).await);
    assert_eq!(defaults.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>(), "a limit is missing here or there");
    for (name, value) in &all {
        assert_ne!(&defaults[name], value, "{name}: a default says nothing");
    }
    let flags: Vec<String> = limits().map(|(name, value, _)| format!("--{name}={value}")).into();
    let twins = limits().map(|(name, value, _)| (twin(name), value));
    let by_flags = checked(&stage.flags(), &[&json[..], &flags].concat(), &[]).await;
    assert_eq!(shown(&by_flags), all);
    assert_eq!(shown(&checked(&stage.flags(), &json, &twins).await), all);
    // A flag is the last word, and a blank variable says nothing.
    let others = limits().map(|(name, ..)| (twin(name), ""));
    assert_eq!(shown(&checked(&stage.flags(), &json, &others).await), defaults);
    let others = limits().map(|(name, ..)| (twin(name), "nonsense"));
    assert_eq!(shown(&checked(&stage.flags(), &[&json[..], &flags].concat(), &others).await), all);
    let text = checked(&stage.flags(), &flags, &[]).await;
    for (name, _, shown) in limits() {
        let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
        assert!(text.lines().any(|line| line == format!("limit        {name} {shown}")), "{name} {shown}: {text}");
    }
}

#[tokio::test]
async fn the_running_program_has_the_limits_of_its_environment_and_says_so_at_its_start() {
    let stage = Stage::new().await;
    let exports = limits().map(|(name, value, _)| format!("{}={value}", twin(name))).join(" ");
    let program = Program::start_after(&format!("export {exports}"), &stage.flags()).await;
    let start = program.log.events("start").remove(0);
    let told: Vec<_> = start["limits"].as_str().unwrap().split(' ').collect();
    let expected = limits().map(|(name, _, shown)| {
        let shown = shown.as_str().map_or_else(|| shown.to_string(), str::to_owned);
        format!("{name}={shown}")
    });
    assert_eq!(told, expected);
}
