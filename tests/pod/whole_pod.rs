//! A whole pod, app and sidecar, run by podman from the images that `make image` makes: who comes in, who does not, whom
//! a swapped ConfigMap ends, and how it ends itself.
//! It must never ask from inside of the pod: what counts is what another host sees.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::{Leaf, LeafSpec};
use tokio::net::TcpStream;

use crate::hosts::{Hosts, OBSERVE, POD};
use crate::podman::Podman;
use crate::program::{eventually, get};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{Told, command, curl, run};
use crate::volume::Volume;

/// An app's pod as `portcullis inject` makes it, with these annotations besides.
async fn injected(stage: &Stage, app: &str, annotations: &[(&str, &str)]) -> Value {
    let usual = [
        ("app-port", "8080"),
        ("allow", "uri:spiffe://td/*"),
        ("certificate", "secret:shop-tls"),
        ("client-ca", "roots"),
        ("revocations", "configmap:revoked"),
        ("bypass-check", "enforce"),
    ];
    let annotated = usual.iter().chain(annotations).map(|(key, value)| (format!("portcullis.dev/{key}"), json!(value)));
    let probe = json!({ "httpGet": { "path": "/status/204", "port": 8080 }, "timeoutSeconds": 5 });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "shop", "annotations": annotated.collect::<serde_json::Map<_, _>>() },
        "spec": {
            "containers": [
                { "name": "app", "image": "localhost/pod-app:0.1.0", "args": [app], "readinessProbe": probe },
            ],
        },
    });
    stage.write("pod.json", pod.to_string());
    stage.write("defaults.json", r#"{"redirect-image":"localhost/portcullis-redirect:0.1.0"}"#);
    let mut inject = command(env!("CARGO_BIN_EXE_portcullis"));
    inject.args(["inject", "--image", "localhost/portcullis:0.1.0", "--defaults", &stage.text("defaults.json")]);
    let told = run(inject.args(["-f", &stage.text("pod.json")])).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    serde_json::from_str(&told.out).unwrap()
}

/// A request over mTLS to this port of the pod.
async fn ask(stage: &Stage, (name, port): (&str, u16)) -> Told {
    let mut curl = curl(stage, Some(name));
    curl.args(["--connect-to", &format!("localhost:{port}:{POD}:{port}"), "--write-out", "%{http_code}"]);
    run(curl.arg(format!("https://localhost:{port}/bytes/0"))).await
}

/// One without TLS.
async fn plain(port: u16) -> Told {
    run(command("curl").args(["--disable", "--silent", "--max-time", "20"]).arg(format!("http://{POD}:{port}/"))).await
}

async fn stream(stage: &Stage, name: &str) -> Stream {
    let mut command = curl(stage, Some(name));
    command.args(["--connect-to", "localhost:15443:10.77.0.2:15443", "--http1.1", "--no-buffer"]);
    command.arg("https://localhost:15443/stream");
    Stream::by(command).await
}

/// What kubelet would mount, each by the name of its ConfigMap or Secret.
fn volumes(stage: &Stage) -> [Volume; 3] {
    // The sidecar is another user.
    set_permissions(stage.folder(), Permissions::from_mode(0o755)).unwrap();
    let [mut tls, mut roots, mut revoked] = NAMES.map(|name| Volume::at(stage.path(name)));
    let server: Leaf = stage.server_root.issue(LeafSpec::dns("localhost"));
    tls.put(&[("tls.crt", server.chain_pem()), ("tls.key", server.key_pem())]);
    roots.put(&[("ca.crt", stage.client_root.pem())]);
    revoked.put(&[("list.jsonl", stage.list(1).text())]);
    [tls, roots, revoked]
}

const NAMES: [&str; 3] = ["shop-tls", "roots", "revoked"];

/// Runs the pod, and returns once proxy and app say that they are ready.
async fn play(podman: &Podman, stage: &Stage, pod: &Value) {
    podman.play(pod, &NAMES.map(|name| (name, stage.path(name))));
    let observe = OBSERVE.parse().unwrap();
    eventually("it listens", async || TcpStream::connect(OBSERVE).await.is_ok()).await;
    eventually("it is ready", async || get(observe, "/readyz").await.0 == 200).await;
    eventually("the app is ready", async || get(observe, "/app-probe/app/readiness").await.0 == 204).await;
    let bypass = async || get(observe, "/readyz?verbose").await.1.contains("[ok] bypass: nobody answers");
    eventually("nobody walks around it", bypass).await;
}

#[tokio::test]
async fn a_pod_lets_trusted_clients_in_by_mtls_alone_cuts_who_is_revoked_and_drains_at_its_end() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    let (alice, _bob) = (stage.client("alice"), stage.client("bob"));
    let [_tls, _roots, mut revoked] = volumes(&stage);
    let storage = tempfile::tempdir().unwrap();
    let podman = Podman::new(storage.path(), hosts.entry());
    let mut pod = injected(&stage, "127.0.0.1:8080", &[]).await;
    // A pod has half a minute for its end, and a test has not.
    for (name, value) in [("PORTCULLIS_DRAIN_DELAY", "2s"), ("PORTCULLIS_STOP_TIMEOUT", "2s")] {
        let environment = pod["spec"]["initContainers"][0]["env"].as_array_mut().unwrap();
        environment.push(json!({ "name": name, "value": value }));
    }
    play(&podman, &stage, &pod).await;
    let (observe, log) = (OBSERVE.parse().unwrap(), || podman.run(&["logs", "shop-portcullis"]));

    assert_eq!(ask(&stage, ("alice", 15443)).await.out, "200", "{}", log());
    assert_eq!(plain(8080).await.code, Some(7), "the app's port is open to strangers");
    assert_ne!(plain(15443).await.code, Some(0));

    let (cut, stays) = (stream(&stage, "alice").await, stream(&stage, "bob").await);
    revoked.put(&[("list.jsonl", stage.list(2).serial(&alice).text())]);
    cut.end().await.assert_broken();
    assert_eq!(ask(&stage, ("alice", 15443)).await.out, "000");
    assert_eq!(ask(&stage, ("bob", 15443)).await.out, "200");
    stays.flows().await;

    let mut stop = podman.command(&["stop", "--time", "30", "shop-portcullis"]).spawn().unwrap();
    eventually("it is stopping", async || get(observe, "/readyz").await.0 == 503).await;
    assert_eq!(ask(&stage, ("bob", 15443)).await.out, "200", "new connections are served while the end is announced");
    stays.flows().await;
    eventually("it ended", async || stop.try_wait().unwrap().is_some()).await;
    assert_eq!(podman.run(&["inspect", "--format", "{{.State.ExitCode}}", "shop-portcullis"]), "0", "{}", log());
    assert!(log().contains("\"reason\":\"revoked\""), "{}", log());
}

#[tokio::test]
async fn a_pod_in_redirect_mode_answers_nobody_without_mtls_though_its_app_listens_everywhere() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    stage.client("alice");
    let _volumes = volumes(&stage);
    let storage = tempfile::tempdir().unwrap();
    let podman = Podman::new(storage.path(), hosts.entry());
    let pod = injected(&stage, "0.0.0.0:8080", &[("mode", "redirect")]).await;
    play(&podman, &stage, &pod).await;
    assert_eq!(ask(&stage, ("alice", 8080)).await.out, "200");
    assert_eq!(ask(&stage, ("alice", 15443)).await.out, "200");
    assert_ne!(plain(8080).await.code, Some(0));
    assert_ne!(ask(&stage, ("alice", 9090)).await.code, Some(0));
}
