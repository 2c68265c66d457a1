//! A whole pod, app and sidecar, run by podman from the images that `make image` makes: who comes in, who does not, whom
//! a swapped ConfigMap ends, and how it ends itself.
//! It must never ask from inside of the pod: what counts is what another host sees.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::{Leaf, LeafSpec};

use crate::hosts::{Hosts, OBSERVE, POD};
use crate::podman::Podman;
use crate::program::{eventually, get};
use crate::stage::Stage;
use crate::stream::Stream;
use crate::tools::{Told, command, curl, run};
use crate::volume::Volume;

/// The pod as the injector makes it: the sidecar's whole configuration in its environment.
fn injected() -> Value {
    let probe = json!({ "app/readiness": { "httpGet": { "path": "/status/204", "port": 8080 }, "timeoutSeconds": 5 } });
    let environment = [
        ("INBOUND", "0.0.0.0:15443=localhost:8080"),
        ("CERT", "/var/run/portcullis/certificate/tls.crt"),
        ("KEY", "/var/run/portcullis/certificate/tls.key"),
        ("CLIENT_CA", "/var/run/portcullis/client-ca/ca.crt"),
        ("ALLOW", "uri:spiffe://td/*"),
        ("REVOCATIONS", "/var/run/portcullis/revocations"),
        ("STATE_DIR", "/var/run/portcullis/state"),
        ("OBSERVE", "0.0.0.0:15020"),
        ("BYPASS_CHECK", "enforce"),
        // Half a minute is what a pod has, and a test has better things to do.
        ("DRAIN_DELAY", "2s"),
        ("STOP_TIMEOUT", "2s"),
        ("APP_PROBES", &probe.to_string()),
    ];
    let literal = |(name, value): &(&str, &str)| json!({ "name": format!("PORTCULLIS_{name}"), "value": value });
    let mut environment: Vec<Value> = environment.iter().map(literal).collect();
    let field = json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": "status.podIP" } });
    environment.push(json!({ "name": "PORTCULLIS_POD_IP", "valueFrom": field }));
    let mount = |name: &str, read_only: bool| json!({ "name": format!("portcullis-{name}"), "mountPath": format!("/var/run/portcullis/{name}"), "readOnly": read_only });
    let hardened = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
    });
    let sidecar = json!({
        "name": "portcullis", "image": "localhost/portcullis:0.1.0", "args": ["run"], "restartPolicy": "Always",
        "env": environment, "securityContext": hardened,
        "ports": [{ "name": "mtls", "containerPort": 15443 }, { "name": "metrics", "containerPort": 15020 }],
        "startupProbe": { "httpGet": { "path": "/readyz", "port": 15020 }, "periodSeconds": 1 },
        "volumeMounts": [mount("certificate", true), mount("client-ca", true), mount("revocations", true), mount("state", false)],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "shop", "labels": { "app": "shop" } },
        "spec": {
            "initContainers": [sidecar],
            "containers": [{ "name": "app", "image": "localhost/pod-app:0.1.0", "args": ["127.0.0.1:8080"] }],
            "volumes": [
                { "name": "portcullis-certificate", "secret": { "secretName": "shop-tls" } },
                { "name": "portcullis-client-ca", "configMap": { "name": "roots" } },
                { "name": "portcullis-revocations", "configMap": { "name": "revoked" } },
                { "name": "portcullis-state", "emptyDir": {} },
            ],
        },
    })
}

/// A request over mTLS to the pod.
async fn ask(stage: &Stage, name: &str) -> Told {
    run(curl(stage, Some(name)).args(TO_POD).args(["--write-out", "%{http_code}", "https://localhost:15443/bytes/0"]))
        .await
}

const TO_POD: [&str; 2] = ["--connect-to", "localhost:15443:10.77.0.2:15443"];

async fn stream(stage: &Stage, name: &str) -> Stream {
    let mut command = curl(stage, Some(name));
    command.args(TO_POD).args(["--http1.1", "--no-buffer", "https://localhost:15443/stream"]);
    Stream::by(command).await
}

fn volumes(stage: &Stage) -> [Volume; 3] {
    // The sidecar is another user.
    set_permissions(stage.folder(), Permissions::from_mode(0o755)).unwrap();
    let mut volumes = ["tls", "roots", "revoked"].map(|name| Volume::at(stage.path(name)));
    let server: Leaf = stage.server_root.issue(LeafSpec::dns("localhost"));
    volumes[0].put(&[("tls.crt", server.chain_pem()), ("tls.key", server.key_pem())]);
    volumes[1].put(&[("ca.crt", stage.client_root.pem())]);
    volumes[2].put(&[("list.jsonl", stage.list(1).text())]);
    volumes
}

#[tokio::test]
async fn a_pod_lets_trusted_clients_in_by_mtls_alone_cuts_who_is_revoked_and_drains_at_its_end() {
    let (stage, hosts) = (Stage::new().await, Hosts::new());
    let (alice, _bob) = (stage.client("alice"), stage.client("bob"));
    let [_certificate, _roots, mut revoked] = volumes(&stage);
    let storage = tempfile::tempdir().unwrap();
    let podman = Podman::new(storage.path(), hosts.entry());
    let folders = [("shop-tls", "tls"), ("roots", "roots"), ("revoked", "revoked")];
    podman.play(&injected(), &folders.map(|(name, folder)| (name, stage.path(folder))));
    let observe = OBSERVE.parse().unwrap();
    let log = || podman.run(&["logs", "shop-portcullis"]);
    eventually("it listens", async || tokio::net::TcpStream::connect(OBSERVE).await.is_ok()).await;
    eventually("it is ready", async || get(observe, "/readyz").await.0 == 200).await;
    eventually("the app is ready", async || get(observe, "/app-probe/app/readiness").await.0 == 204).await;
    let verbose = get(observe, "/readyz?verbose").await.1;
    assert!(verbose.contains("[ok] bypass: nobody answers at the pod's address"), "{verbose}");

    assert_eq!(ask(&stage, "alice").await.out, "200", "{}", log());
    let plain = async |port: u16| {
        run(command("curl").args(["--disable", "--silent", "--max-time", "20"]).arg(format!("http://{POD}:{port}/")))
            .await
    };
    assert_eq!(plain(8080).await.code, Some(7), "the app's port is open to strangers");
    assert_ne!(plain(15443).await.code, Some(0));

    let (cut, stays) = (stream(&stage, "alice").await, stream(&stage, "bob").await);
    revoked.put(&[("list.jsonl", stage.list(2).serial(&alice).text())]);
    cut.end().await.assert_broken();
    assert_eq!(ask(&stage, "alice").await.out, "000");
    assert_eq!(ask(&stage, "bob").await.out, "200");
    stays.flows().await;

    let mut stop = podman.command(&["stop", "--time", "30", "shop-portcullis"]).spawn().unwrap();
    eventually("it is stopping", async || get(observe, "/readyz").await.0 == 503).await;
    assert_eq!(ask(&stage, "bob").await.out, "200", "new connections are served while the end is announced");
    stays.flows().await;
    eventually("it ended", async || stop.try_wait().unwrap().is_some()).await;
    assert_eq!(podman.run(&["inspect", "--format", "{{.State.ExitCode}}", "shop-portcullis"]), "0", "{}", log());
    assert!(log().contains("\"reason\":\"revoked\""), "{}", log());
}
