//! A real Redis behind a TCP inbound, by redis-cli over TLS: commands, a subscription that lasts, and its cut.
//! It must never speak to a Redis that it did not start.

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::{Told, command, run};

/// A Redis that listens on a Unix socket alone and keeps nothing.
struct Redis {
    _child: Child,
    folder: TempDir,
}

impl Redis {
    async fn start() -> Redis {
        let folder = tempfile::tempdir().unwrap();
        let mut redis = command("redis-server");
        // The configuration comes from the arguments alone.
        redis.args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--dir"]);
        let child = redis.arg(folder.path()).current_dir(folder.path()).spawn().unwrap();
        let socket = folder.path().join("redis.sock");
        eventually("Redis listens", async || UnixStream::connect(&socket).await.is_ok()).await;
        Redis { _child: child, folder }
    }

    fn inbound(&self) -> String {
        format!("127.0.0.1:0=unix:{},protocol=tcp", self.folder.path().join("redis.sock").display())
    }
}

/// redis-cli with the certificate of this name, if any.
fn redis_cli(stage: &Stage, program: &Program, name: Option<&str>) -> Command {
    let mut cli = command("redis-cli");
    let port = program.addresses[0].port().to_string();
    cli.args(["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert", &stage.text("server_root.pem")]);
    if let Some(name) = name {
        cli.args(["--cert", &stage.text(&format!("{name}.pem")), "--key", &stage.text(&format!("{name}.key"))]);
    }
    cli
}

async fn ask(stage: &Stage, program: &Program, name: &str, words: &[&str]) -> Told {
    run(redis_cli(stage, program, Some(name)).args(words)).await
}

/// A subscription as redis-cli prints it.
struct Subscription {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscription {
    async fn open(stage: &Stage, program: &Program, name: &str) -> Subscription {
        let mut child = redis_cli(stage, program, Some(name)).args(["SUBSCRIBE", "news"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut subscription = Subscription { child, lines };
        subscription.says(&["subscribe", "news", "1"]).await;
        subscription
    }

    async fn says(&mut self, wanted: &[&str]) {
        for line in wanted {
            let said = in_time(line, self.lines.next_line()).await.unwrap();
            assert_eq!(said.as_deref(), Some(*line));
        }
    }
}

#[tokio::test]
async fn redis_cli_sets_and_gets_through_a_tcp_inbound_and_not_without_a_certificate() {
    let (stage, redis) = (Stage::new().await, Redis::start().await);
    stage.client("alice");
    let program = Program::start(&stage.flags().with("--inbound", redis.inbound())).await;
    let large = "v".repeat(100_000);
    assert_eq!(ask(&stage, &program, "alice", &["SET", "key", &large]).await.out, "OK\n");
    assert_eq!(ask(&stage, &program, "alice", &["GET", "key"]).await.out, format!("{large}\n"));
    let told = run(redis_cli(&stage, &program, None).args(["GET", "key"])).await;
    assert!(told.code != Some(0) && !told.out.contains(&large), "{told:?}");
    assert_eq!(program.metric("portcullis_requests_total", &[("protocol", "tcp")]).await, 2.0);
    let opened = program.log.events("session_opened");
    assert!(opened.iter().all(|line| line["protocol"] == "tcp"), "{opened:?}");
}

#[tokio::test]
async fn a_subscription_ends_when_its_client_is_revoked_and_the_others_go_on() {
    let (stage, redis) = (Stage::new().await, Redis::start().await);
    let alice = stage.client("alice");
    stage.client("bob");
    let program = Program::start(&stage.flags().with("--inbound", redis.inbound())).await;
    let mut hers = Subscription::open(&stage, &program, "alice").await;
    let mut his = Subscription::open(&stage, &program, "bob").await;
    assert_eq!(ask(&stage, &program, "bob", &["PUBLISH", "news", "first"]).await.out, "2\n");
    hers.says(&["message", "news", "first"]).await;
    his.says(&["message", "news", "first"]).await;
    stage.publish(&stage.list(2).serial(&alice));
    let status = in_time("her subscription's end", hers.child.wait()).await.unwrap();
    assert!(!status.success(), "redis-cli took a cut for an end: {status:?}");
    assert_eq!(in_time("her last line", hers.lines.next_line()).await.unwrap(), None, "nothing came after the cut");
    // Redis knows of one subscriber less.
    assert_eq!(ask(&stage, &program, "bob", &["PUBLISH", "news", "second"]).await.out, "1\n");
    his.says(&["message", "news", "second"]).await;
    assert!(ask(&stage, &program, "alice", &["GET", "key"]).await.code != Some(0));
    program.wait_for_metric("portcullis_cuts_total", &[("reason", "revoked")], 1.0).await;
    let closed =
        program.log.wait_for("her end", |line| line["event"] == "session_closed" && line["reason"] == "revoked");
    assert!(closed.await["cut_seconds"].as_f64().unwrap() < 0.2);
    assert_eq!(program.metric("portcullis_app_faults_total", &[]).await, 0.0);
}
