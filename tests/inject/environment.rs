//! What the injector writes into a sidecar is what `portcullis run` takes: its own check says so.

use std::process::Stdio;

use serde_json::Value;

use crate::injector::{injected, read, text};
use crate::stage::Stage;
use crate::tools::command;

#[tokio::test]
async fn run_accepts_every_environment_that_is_injected() {
    let stage = Stage::new().await;
    // The volumes, as the kubelet would mount them.
    for (folder, file, from) in [
        ("certificate", "tls.crt", "server.pem"),
        ("certificate", "tls.key", "server.key"),
        ("certificate", "ca.crt", "client_root.pem"),
        ("client-ca", "ca.crt", "client_root.pem"),
    ] {
        std::fs::create_dir_all(stage.path(folder)).unwrap();
        std::fs::copy(stage.path(from), stage.path(folder).join(file)).unwrap();
    }
    let bundle = [std::fs::read(stage.path("server.key")).unwrap(), std::fs::read(stage.path("server.pem")).unwrap()];
    std::fs::write(stage.path("certificate/credential-bundle.pem"), bundle.concat()).unwrap();
    for folder in ["revocations", "state"] {
        std::fs::create_dir_all(stage.path(folder)).unwrap();
    }
    std::fs::copy(stage.path("list.jsonl"), stage.path("revocations/list.jsonl")).unwrap();
    let mut checked = 0;
    for document in read(&injected(&text("workloads.yaml")).await).await {
        let pods = ["", "/spec/template", "/spec/jobTemplate/spec/template", "/items/1"];
        let found = pods.iter().find_map(|path| document.pointer(&format!("{path}/spec/initContainers/0")));
        let Some(sidecar) = found else { continue };
        let mut check = command(env!("CARGO_BIN_EXE_portcullis"));
        check.arg("check").env_clear().stderr(Stdio::piped());
        for variable in sidecar["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let value = variable.get("value").map_or("10.1.2.3", |value: &Value| value.as_str().unwrap());
            check.env(name, value.replace("/var/run/portcullis", stage.folder().to_str().unwrap()));
        }
        let output = check.output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {told}", document["kind"]);
        checked += 1;
    }
    assert_eq!(checked, 8);
}
