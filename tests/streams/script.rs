//! A Python script while it runs, in the environment that `tests/tools` makes: what it is asked and what it says.
//! Called by every test beside it; the protocol is in `python/lines.py`.
//! It must never wait for a script that has ended: what a script failed at is the test's failure.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::program::eventually;

/// A running script.
pub(crate) struct Script {
    /// Ends with the test.
    _child: Child,
    stdin: ChildStdin,
    asked: u64,
    said: Said,
}

/// Every line so far, and whether more can come.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(Vec<Value>, bool)>>);

fn python() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/bin/python")
}

impl Script {
    /// Starts `python/<name>.py` and waits until it is ready.
    pub(crate) async fn start(name: &str, arguments: &[&str]) -> Script {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/streams/python");
        let mut command = Command::new(python());
        // Nothing is left beside the scripts, and no variable of this user changes a client.
        command.args(["-B", "-s", "-E", &format!("{folder}/{name}.py")]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("{}: {error}; run make test", python().display()));
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = Said::default();
        let heard = said.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a script said {line:?}"));
                heard.0.lock().unwrap().0.push(line);
            }
            heard.0.lock().unwrap().1 = true;
        });
        let script = Script { _child: child, stdin, asked: 0, said };
        script.hears("ready", |_| true).await;
        script
    }

    /// Asks for `wish["do"]` and returns the answer.
    pub(crate) async fn ask(&mut self, wish: Value) -> Value {
        let number = self.tell(wish).await;
        self.hears("answer", |line| line["ask"] == number).await
    }

    /// Asks and does not wait.
    pub(crate) async fn tell(&mut self, mut wish: Value) -> u64 {
        self.asked += 1;
        wish["ask"] = json!(self.asked);
        self.stdin.write_all(format!("{wish}\n").as_bytes()).await.expect("the script reads what it is asked");
        self.asked
    }

    /// Waits for the first line of this event that is wanted.
    pub(crate) async fn hears(&self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(&format!("a script says {event:?}"), async || {
            let said = self.said.0.lock().unwrap();
            let failed = said.0.iter().find(|line| line["event"] == "failed");
            assert!(failed.is_none(), "a script failed: {}", failed.unwrap()["why"].as_str().unwrap());
            found = said.0.iter().find(|line| line["event"] == event && wanted(line)).cloned();
            assert!(found.is_some() || !said.1, "a script ended before it said {event:?}: {:?}", said.0.last());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits for the event of this call.
    pub(crate) async fn hears_of(&self, event: &str, call: &str) -> Value {
        self.hears(event, |line| line["call"] == call).await
    }

    /// The lines of this event so far.
    pub(crate) fn said(&self, event: &str) -> Vec<Value> {
        let said = self.said.0.lock().unwrap();
        said.0.iter().filter(|line| line["event"] == event).cloned().collect()
    }
}
