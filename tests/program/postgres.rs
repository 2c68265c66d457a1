//! A real PostgreSQL behind a TCP inbound, by libpq with TLS from the first byte: results, and a transaction that a cut
//! ends. It must never speak to a PostgreSQL that it did not start.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout};

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::{Told, command, run};

/// A PostgreSQL that listens on a Unix socket alone, with a database of its own.
struct Postgres {
    _child: Child,
    folder: TempDir,
}

/// Where Debian has its programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed; run make test");
    versions.map(|version| version.unwrap().path().join("bin")).max().expect("a version of PostgreSQL")
}

/// A program of PostgreSQL's and its arguments; it refuses to be run by root.
fn line(name: &str, arguments: &[&str]) -> Vec<String> {
    let by_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    let user = user.iter().filter(|_| by_root).map(|word| (*word).to_owned());
    let program = programs().join(name).display().to_string();
    user.chain([program]).chain(arguments.iter().map(|word| (*word).to_owned())).collect()
}

async fn succeed(line: &[String]) {
    let told: Told = run(command(&line[0]).args(&line[1..])).await;
    assert_eq!(told.code, Some(0), "{line:?}: {told:?}");
}

impl Postgres {
    async fn start() -> Postgres {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            succeed(&["chown", "postgres", place].map(str::to_owned)).await;
        }
        let data = format!("{place}/data");
        succeed(&line("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "--no-instructions"]))
            .await;
        let server = line("postgres", &["-D", &data, "-k", place, "-c", "listen_addresses=", "-c", "fsync=off"]);
        let child = command(&server[0]).args(&server[1..]).current_dir("/").spawn().unwrap();
        let postgres = Postgres { _child: child, folder };
        eventually("PostgreSQL listens", async || UnixStream::connect(postgres.socket()).await.is_ok()).await;
        postgres
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    fn inbound(&self) -> String {
        format!("127.0.0.1:0=unix:{},protocol=tcp,alpn=postgresql", self.socket().display())
    }
}

impl Drop for Postgres {
    /// Killed, it would leave a segment of shared memory behind.
    fn drop(&mut self) {
        let data = self.folder.path().join("data").display().to_string();
        let stop = line("pg_ctl", &["stop", "-D", &data, "-m", "immediate", "-s"]);
        let _ = std::process::Command::new(&stop[0]).args(&stop[1..]).current_dir("/").status();
    }
}

/// The client's script while it runs.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(stage: &Stage, program: &Program, (name, wish): (&str, &str)) -> Client {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/program/postgres.py");
        let port = program.addresses[0].port().to_string();
        let mut python = command(python.to_str().unwrap());
        python.args(["-B", "-s", "-E", script, &port, stage.folder().to_str().unwrap(), name, wish]);
        let mut child = python.spawn().expect("Python is there; run make test");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Client { child, lines }
    }

    async fn says(&mut self) -> Value {
        let said = in_time("what the client says", self.lines.next_line()).await.unwrap();
        let Some(said) = said else {
            let mut child = std::mem::replace(&mut self.child, command("true").spawn().unwrap());
            let mut error = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut child.stderr.take().unwrap(), &mut error).await.unwrap();
            panic!("the client ended: {error}");
        };
        serde_json::from_str(&said).unwrap()
    }
}

/// A stage whose clients' keys are theirs alone, as libpq wants them.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    for name in ["alice", "bob"] {
        stage.client(name);
        std::fs::set_permissions(stage.path(&format!("{name}.key")), Permissions::from_mode(0o600)).unwrap();
    }
    stage
}

#[tokio::test]
async fn libpq_with_direct_tls_reaches_postgresql_and_large_results_arrive_whole() {
    let (stage, postgres) = (stage().await, Postgres::start().await);
    let program = Program::start(&stage.flags().with("--inbound", postgres.inbound())).await;
    assert_eq!(Client::start(&stage, &program, ("alice", "fetch")).says().await, json!([true, true]));
    // libpq says goodbye properly: its session is closed, and nothing broke.
    program.wait_for_metric("portcullis_sessions_closed_total", &[("reason", "client")], 1.0).await;
    // Without the protocol's name libpq refuses: it cannot know whom it reached.
    let nameless = postgres.inbound().replace(",alpn=postgresql", "");
    let program = Program::start(&stage.flags().with("--inbound", nameless)).await;
    let refused = Client::start(&stage, &program, ("alice", "refused")).says().await;
    assert!(refused.as_str().unwrap().contains("ALPN"), "{refused}");
}

#[tokio::test]
async fn a_cut_rolls_an_open_transaction_back_and_its_client_learns_that_it_broke() {
    let (stage, postgres) = (stage().await, Postgres::start().await);
    let program = Program::start(&stage.flags().with("--inbound", postgres.inbound())).await;
    let mut hers = Client::start(&stage, &program, ("alice", "hold"));
    assert_eq!(hers.says().await, "open");
    stage.publish(&stage.list(2).id("spiffe://td/alice"));
    let broken = hers.says().await;
    assert_eq!(broken["broken"], true, "{broken}");
    let mut his = Client::start(&stage, &program, ("bob", "look"));
    assert_eq!(his.says().await, 0, "nothing was committed");
    assert_eq!(his.says().await, 0, "PostgreSQL ended her session");
    let refused = Client::start(&stage, &program, ("alice", "refused")).says().await;
    assert!(refused.as_str().unwrap().contains("revoked"), "{refused}");
    assert_eq!(program.metric("portcullis_cuts_total", &[("reason", "revoked")]).await, 1.0);
}
