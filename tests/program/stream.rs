//! A stream without end that a command, mostly curl, downloads: how much came, and when and how it ended.
//! Called by tests of cuts and of bystanders.
//! It must never stop reading: a full pipe would stop curl, and a stream that stands still would be nobody's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::program::{Program, eventually, in_time};
use crate::stage::Stage;
use crate::tools::curl;

/// From the rename of a list to the end that curl sees, for half of all; docs/cut.md says so.
pub(crate) const PROMISE: Duration = Duration::from_millis(100);
/// About fifty lines of `/stream`, a tenth of a second.
pub(crate) const SOME: u64 = 500;

pub(crate) struct Stream {
    child: Child,
    received: Arc<AtomicU64>,
    ended: JoinHandle<Instant>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    /// When the last byte had come.
    pub(crate) at: Instant,
    /// curl's exit code.
    pub(crate) code: Option<i32>,
    /// What curl said.
    pub(crate) err: String,
}

impl Stream {
    /// Opens it and returns when it flows. `version` is curl's flag for it.
    pub(crate) async fn open(stage: &Stage, program: &Program, (name, version): (&str, &str)) -> Stream {
        let mut command = curl(stage, Some(name));
        command.args([version, "--no-buffer", &program.url("/stream")]);
        Stream::by(command).await
    }

    /// The same of any other stream: a command that writes what it receives as it comes.
    pub(crate) async fn by(mut command: Command) -> Stream {
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let ended = tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length @ 1..) = stdout.read(&mut bytes).await {
                count.fetch_add(length as u64, Ordering::SeqCst);
            }
            Instant::now()
        });
        let stream = Stream { child, received, ended };
        stream.flows().await;
        stream
    }

    /// Waits until more came.
    pub(crate) async fn flows(&self) {
        let before = self.received.load(Ordering::SeqCst);
        eventually("the stream flows", async || self.received.load(Ordering::SeqCst) >= before + SOME).await;
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> End {
        let at = in_time("the stream's end", self.ended).await.unwrap();
        let output = in_time("curl's end", self.child.wait_with_output()).await.unwrap();
        End { at, code: output.status.code(), err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

impl End {
    /// curl noticed that something is missing: a connection that broke off (18, 56) or a stream that was reset (92).
    pub(crate) fn assert_broken(&self) {
        assert!(matches!(self.code, Some(18 | 56 | 92)), "curl ended with {:?} and said {:?}", self.code, self.err);
    }
}
