//! The real binary while it runs: its addresses, its log, its metrics, its signals and its end.
//! Started by `Stage::start`; dropping it ends the process.
//! It must never look into the process: what is known of it is what an operator can know.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

use crate::numbers::sum;
use crate::stage::Flags;

/// How long a test waits for a state. Real processes start slowly on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds; panics with `what` if it does not within the deadline.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "this did not come true in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a step gives, within the deadline.
pub(crate) async fn in_time<Output>(what: &str, step: impl Future<Output = Output>) -> Output {
    let ended = tokio::time::timeout(PATIENCE, step).await;
    ended.unwrap_or_else(|_| panic!("this did not end in time: {what}"))
}

/// A plain `GET`: the status and the body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // HTTP/1.0: the answer comes without chunks and ends with its connection.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = in_time(path, exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The running program.
pub(crate) struct Program {
    child: Child,
    /// Where clients come in, in the order of the inbounds' flags.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where operators look.
    pub(crate) observe: SocketAddr,
    /// What it said so far.
    pub(crate) log: Log,
    /// Standard output, if nobody reads it.
    unread: Option<Lines<BufReader<ChildStdout>>>,
}

/// Every line so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Program {
    pub(crate) async fn start(flags: &Flags) -> Program {
        Program::start_unread(flags).await.read()
    }

    /// From now on its lines are read.
    fn read(mut self) -> Program {
        let (mut lines, log) = (self.unread.take().unwrap(), self.log.clone());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.0.lock().unwrap().push(line);
            }
        });
        self
    }

    /// The same by way of a shell, after this line of it: for limits that a process inherits.
    pub(crate) async fn start_after(line: &str, flags: &Flags) -> Program {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_portcullis")]);
        Program::launch(shell, flags).await.read()
    }

    /// The same, and after its first line nobody reads what it writes.
    pub(crate) async fn start_unread(flags: &Flags) -> Program {
        Program::launch(Command::new(env!("CARGO_BIN_EXE_portcullis")), flags).await
    }

    async fn launch(mut command: Command, flags: &Flags) -> Program {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PORTCULLIS_") {
                command.env_remove(name);
            }
        }
        command.arg("run").args(flags.arguments()).stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Without a terminal the log is JSON. The configuration comes first, but for what was restored before it.
        let log = Log::default();
        let start = loop {
            let line = in_time("the start", lines.next_line()).await.unwrap().expect("the program started");
            let read: Value = serde_json::from_str(&line).unwrap();
            log.0.lock().unwrap().push(line);
            if read["event"] == "start" {
                break read;
            }
        };
        let parse = |field: &str| start[field].as_str().unwrap().split(' ').map(|one| one.parse().unwrap()).collect();
        let (addresses, observe): (Vec<SocketAddr>, Vec<SocketAddr>) = (parse("listening"), parse("observe"));
        Program { child, addresses, observe: observe[0], log, unread: Some(lines) }
    }

    /// A URL of the app, by way of the program.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.addresses[0].port())
    }

    /// A `GET` of the operator's endpoint.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.observe, path).await
    }

    /// The sum of all samples of this name that carry all these labels.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains(&format!("# TYPE {} ", name.trim_end_matches("_count"))), "no metric is named {name}");
        sum(&text, name, labels)
    }

    /// Waits until the metric has this value.
    pub(crate) async fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        eventually(&what, async || self.metric(name, labels).await == value).await;
    }

    /// Waits until the list of this sequence is in force.
    pub(crate) async fn wait_for_sequence(&self, sequence: u64) {
        self.wait_for_metric("portcullis_snapshot_sequence", &[], sequence as f64).await;
    }

    /// Reloads of any source with this result.
    pub(crate) async fn reloads(&self, result: &str) -> f64 {
        self.metric("portcullis_reloads_total", &[("result", result)]).await
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Asks it to end.
    pub(crate) async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends it the signal of this name.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let mut kill = Command::new("sh");
        assert!(kill.args(["-c", "kill -s \"$1\" \"$0\"", &id, name]).status().await.unwrap().success());
    }

    /// Ends it as a machine that loses its power would.
    pub(crate) async fn kill(&mut self) {
        in_time("the program's death", self.child.kill()).await.unwrap();
    }

    /// The exit code, once it ends.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        in_time("the program's end", self.child.wait()).await.unwrap().code()
    }
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).expect("every line is whole JSON")).collect()
    }

    /// The lines with this event.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["event"] == event).collect()
    }

    /// Waits for the first line that is wanted.
    pub(crate) async fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, async || {
            found = self.lines().into_iter().find(&wanted);
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}
