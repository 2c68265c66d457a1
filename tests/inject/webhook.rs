//! The webhook as an API server meets it, with curl for one: answers, refusals, a new certificate, and the end.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use testkit::{Authority, Leaf, LeafSpec};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::injector::IMAGE;
use crate::program::{eventually, get, in_time};
use crate::tools::{Told, command, run, run_with};

/// The webhook and its folder.
pub(crate) struct Webhook {
    child: Child,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    pub(crate) listen: SocketAddr,
    observe: SocketAddr,
    folder: tempfile::TempDir,
    pub(crate) root: Authority,
}

/// Replaces both files at once, as the kubelet does: a new folder, and one rename of the link to it.
fn mount(volume: &Path, leaf: &Leaf, generation: &str) {
    let folder = volume.join(format!("..{generation}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("tls.crt"), leaf.chain_pem()).unwrap();
    fs::write(folder.join("tls.key"), leaf.key_pem()).unwrap();
    symlink(format!("..{generation}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        // There from the first time on.
        let _ = symlink(format!("..data/{file}"), volume.join(file));
    }
}

impl Webhook {
    pub(crate) async fn start() -> Webhook {
        let (folder, root) = (tempfile::tempdir().unwrap(), Authority::root("webhooks' root"));
        fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        let volume = folder.path().join("volume");
        mount(&volume, &root.issue(LeafSpec::dns("localhost")), "1");
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["webhook", "--listen", "127.0.0.1:0", "--observe", "127.0.0.1:0", "--image", IMAGE]);
        command.arg("--cert").arg(volume.join("tls.crt")).arg("--key").arg(volume.join("tls.key"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = in_time("the start", lines.next_line()).await.unwrap().expect("it started");
        let start: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(start["event"], "start");
        let address = |field: &str| start[field].as_str().unwrap().parse().unwrap();
        Webhook { listen: address("listen"), observe: address("observe"), child, lines, folder, root }
    }

    fn volume(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    /// curl that posts its standard input, or what else these arguments say.
    fn curl(&self, path: &str) -> Command {
        let mut curl = command("curl");
        curl.args([
            "--disable",
            "--silent",
            "--show-error",
            "--ipv4",
            "--noproxy",
            "*",
            "--max-time",
            "50",
            "--cacert",
        ]);
        curl.arg(self.folder.path().join("root.pem"));
        curl.args(["--write-out", "\n%{http_code}", &format!("https://localhost:{}{path}", self.listen.port())]);
        curl
    }

    pub(crate) async fn ask(&self, review: &Value) -> Value {
        let mut curl = self.curl("/mutate");
        curl.args(["--data-binary", "@-", "--header", "Content-Type: application/json"]);
        let told = run_with(&mut curl, review.to_string().as_bytes()).await;
        let (body, status) = told.out.rsplit_once('\n').unwrap_or_else(|| panic!("{told:?}"));
        assert_eq!(status, "200", "{told:?}");
        serde_json::from_str(body).unwrap()
    }

    async fn line(&mut self, event: &str) -> Value {
        loop {
            let line = in_time(event, self.lines.next_line()).await.unwrap().expect("a line");
            let read: Value = serde_json::from_str(&line).unwrap();
            if read["event"] == event {
                return read;
            }
        }
    }

    pub(crate) async fn metric(&self, line: &str) -> String {
        let (_, text) = get(self.observe, "/metrics").await;
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.unwrap_or_else(|| panic!("{line} is not in\n{text}")).trim().to_owned()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    async fn ended(mut self) -> ExitStatus {
        in_time("the end", self.child.wait()).await.unwrap()
    }
}

fn review(annotations: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {
                "metadata": {"generateName": "shop-", "annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": "i"}]},
            },
        },
    })
}

pub(crate) fn good() -> Value {
    review(json!({
        "portcullis.dev/app-port": "8080", "portcullis.dev/allow-any": "true",
        "portcullis.dev/certificate": "secret:a", "portcullis.dev/revocations": "none",
    }))
}

#[tokio::test]
async fn an_api_server_gets_a_patch_a_refusal_or_a_plain_yes_and_each_is_counted_and_told() {
    let mut webhook = Webhook::start().await;
    let response = &webhook.ask(&good()).await["response"];
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    let told = webhook.line("injection").await;
    assert_eq!(
        (&told["result"], &told["namespace"], &told["name"]),
        (&json!("injected"), &json!("shop"), &json!("shop-"))
    );

    let response = &webhook.ask(&review(json!({"portcullis.dev/app-ports": "1"}))).await["response"];
    assert_eq!(response["allowed"], false);
    assert!(
        response["status"]["message"].as_str().unwrap().ends_with("known is portcullis.dev/app-port"),
        "{response}"
    );
    let told = webhook.line("injection").await;
    assert_eq!(
        (&told["result"], &told["reason"], &told["level"]),
        (&json!("refused"), &json!("unknown_annotation"), &json!("WARN"))
    );

    let response = &webhook.ask(&review(json!({}))).await["response"];
    assert_eq!(response, &json!({"uid": "u-1", "allowed": true}));
    assert_eq!(webhook.line("injection").await["reason"], "no_app_port");

    for (labels, count) in [
        ("reason=\"injected\",result=\"injected\"", "1"),
        ("reason=\"unknown_annotation\",result=\"refused\"", "1"),
        ("reason=\"no_app_port\",result=\"skipped\"", "1"),
        ("reason=\"host_network\",result=\"skipped\"", "0"),
    ] {
        assert_eq!(webhook.metric(&format!("portcullis_injections_total{{{labels}}}")).await, count);
    }
    assert_eq!(webhook.metric("portcullis_injection_seconds_count").await, "3");
    assert_eq!(get(webhook.observe, "/livez").await.0, 200);
    assert_eq!(get(webhook.observe, "/readyz").await.0, 200);
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_leaves_the_webhook_well() {
    let webhook = Webhook::start().await;
    let status = |told: &Told| told.out.rsplit_once('\n').map(|(_, status)| status.to_owned());
    let long = vec![b' '; (8 << 20) + 1];
    let chunked = ["--header", "Transfer-Encoding: chunked"];
    let posts = ["--data-binary", "@-"];
    for (path, arguments, body, expected) in [
        ("/", posts.to_vec(), b"{}".to_vec(), "404"),
        ("/mutate", vec![], vec![], "405"),
        ("/mutate", posts.to_vec(), b"{}".to_vec(), "400"),
        ("/mutate", posts.to_vec(), b"[[[[".to_vec(), "400"),
        ("/mutate", posts.to_vec(), vec![b'['; 1 << 20], "400"),
        ("/mutate", posts.to_vec(), long.clone(), "413"),
        ("/mutate", [posts, chunked].concat(), long, "413"),
    ] {
        let told = run_with(webhook.curl(path).args(&arguments), &body).await;
        assert_eq!(status(&told).as_deref(), Some(expected), "{path} {arguments:?}: {}", told.err);
    }
    // Without TLS there is no conversation.
    let plain =
        run(command("curl").args(["--silent", "--max-time", "20", &format!("http://{}/mutate", webhook.listen)])).await;
    assert_ne!(plain.code, Some(0), "{plain:?}");
    assert_eq!(webhook.ask(&good()).await["response"]["allowed"], true);
    assert_eq!(webhook.metric("portcullis_webhook_errors_total{reason=\"too_large\"}").await, "2");
}

#[tokio::test]
async fn a_new_certificate_is_served_while_questions_go_on_and_none_fails() {
    let mut webhook = Webhook::start().await;
    let next = webhook.root.issue(LeafSpec::dns("localhost"));
    // Half of a pair: the certificate without its key.
    fs::write(webhook.volume().join("..1/tls.crt"), next.chain_pem()).unwrap();
    assert_eq!(webhook.line("certificate").await["level"], "ERROR");
    assert_eq!(webhook.ask(&good()).await["response"]["allowed"], true);
    let address = format!("127.0.0.1:{}", webhook.listen.port());
    let serves_next = async || {
        let told =
            run(command("openssl").args(["s_client", "-connect", &address, "-servername", "localhost", "-showcerts"]))
                .await;
        told.out.contains(next.cert_pem().lines().nth(1).unwrap())
    };
    assert!(!serves_next().await);
    mount(&webhook.volume(), &next, "2");
    let mut asked = 0;
    eventually("the new certificate is served", async || {
        let question = good();
        let ask = || webhook.ask(&question);
        let (one, two, three, four, served) = tokio::join!(ask(), ask(), ask(), ask(), serves_next());
        assert!([one, two, three, four].iter().all(|answer| answer["response"]["allowed"] == true));
        asked += 4;
        served
    })
    .await;
    assert_eq!(webhook.metric("portcullis_injection_seconds_count").await, (asked + 1).to_string());
    assert_eq!(webhook.line("certificate").await["level"], "INFO");
    assert_eq!(webhook.metric("portcullis_webhook_certificate_reloads_total{result=\"changed\"}").await, "1");
    assert_eq!(webhook.metric("portcullis_webhook_certificate_reloads_total{result=\"failed\"}").await, "1");
}

#[tokio::test]
async fn sigterm_makes_unready_and_answers_go_on_until_the_end() {
    let webhook = Webhook::start().await;
    webhook.signal("TERM");
    eventually("unready", async || get(webhook.observe, "/readyz").await.0 == 503).await;
    assert_eq!(webhook.ask(&good()).await["response"]["allowed"], true);
    assert_eq!(webhook.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let webhook = Webhook::start().await;
    webhook.signal("TERM");
    eventually("unready", async || get(webhook.observe, "/readyz").await.0 == 503).await;
    webhook.signal("INT");
    assert_eq!(webhook.ended().await.code(), Some(1));
}

#[tokio::test]
async fn it_does_not_start_with_what_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("root");
    let leaf = root.issue(LeafSpec::dns("localhost"));
    let (cert, key) = leaf.write_to(folder.path(), "tls");
    let other = root.issue(LeafSpec::dns("localhost")).write_to(folder.path(), "other").1;
    let (cert, key, other) = (cert.to_str().unwrap(), key.to_str().unwrap(), other.to_str().unwrap());
    for (arguments, sentence) in [
        (vec!["--cert", cert, "--key", other, "--image", IMAGE], "does not belong to the first certificate"),
        (vec!["--cert", cert, "--key", key], "no --image is given"),
        (vec!["--cert", cert, "--key", key, "--image", IMAGE, "--listen", "9443"], "--listen \"9443\" is no address"),
        (vec!["--cert", cert, "--key", key, "--image", IMAGE, "--defaults", "/nowhere"], "--defaults /nowhere: "),
        (vec!["--key", key, "--image", IMAGE], "--cert"),
    ] {
        let told = run(command(env!("CARGO_BIN_EXE_portcullis")).arg("webhook").args(&arguments)).await;
        assert_eq!(told.code, Some(64), "{told:?}");
        assert!(told.err.contains(sentence) && told.err.lines().count() == 1, "{told:?}");
    }
}
