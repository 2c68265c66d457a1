//! The proxy as a process of its own: the same binary, started as an operator would.
//!
//! Used by the demo. It must never reach into the proxy: what it knows, it asks over `--observe` and the log.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::client::plain_get;
use crate::certs::{Authority, TRUST_DOMAIN};
use crate::print;

/// A start takes a few hundred milliseconds, on a busy machine a few seconds.
const START: Duration = Duration::from_secs(20);
/// Between two looks at `/readyz`.
const LOOK: Duration = Duration::from_millis(20);
/// `Limits::stop` and some more.
const STOP: Duration = Duration::from_secs(15);
/// Lines of its log kept for the case that something goes wrong.
const KEPT_LINES: usize = 30;

/// The running child.
pub(super) struct ProxyProcess {
    child: Child,
    /// Where clients connect.
    pub(super) listen: SocketAddr,
    /// Where metrics are.
    pub(super) observe: SocketAddr,
    kept: Arc<Mutex<VecDeque<String>>>,
}

impl ProxyProcess {
    /// Starts it in front of `app`, with the certificates of `authority`.
    pub(super) fn start(authority: &Authority, app: SocketAddr, show_log: bool) -> Result<ProxyProcess, String> {
        let [listen, observe] = free_ports()?;
        let program = std::env::current_exe().map_err(|error| format!("this program cannot find itself ({error})"))?;
        let mut command = Command::new(program);
        // What the environment says of another proxy must not reach this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTCULLIS_")) {
            command.env_remove(name);
        }
        command
            .arg("run")
            .args(["--inbound", &format!("{listen}={app}")])
            .arg("--cert")
            .arg(authority.path("server.pem"))
            .arg("--key")
            .arg(authority.path("server.key"))
            .args(["--client-ca", &format!("{TRUST_DOMAIN}={}", authority.path("root.pem").display())])
            .args(["--allow", &format!("uri:spiffe://{TRUST_DOMAIN}/ns/demo/*")])
            .arg("--revocations")
            .arg(authority.path("revocations.jsonl"))
            .args(["--observe", &observe.to_string()])
            .args(["--log-format", "text"])
            .args(["--drain-delay", "0s"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at a terminal goes to a whole process group: the proxy must hear of the end once, from us, or it
            // takes the second signal for impatience.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("the proxy cannot be started ({error})"))?;
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(follow(stdout, Arc::clone(&kept), show_log));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(follow(stderr, Arc::clone(&kept), show_log));
        }
        Ok(ProxyProcess { child, listen, observe, kept })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Waits until `/readyz` says yes.
    pub(super) async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            let last = match plain_get(self.observe, "/readyz").await {
                Ok((StatusCode::OK, _)) => return Ok(()),
                Ok((status, text)) => format!("{status}: {text}"),
                Err(why) => why,
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the proxy ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("the proxy was not ready in {} s ({})", START.as_secs(), last.trim()));
            }
            sleep(LOOK).await;
        }
    }

    /// Asks it by SIGTERM to stop, and waits.
    pub(super) async fn stop(mut self) -> Result<ExitStatus, String> {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            // It may have ended at this very moment; the wait tells.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        match timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(format!("its end cannot be learnt ({error})")),
            Err(_) => {
                let _ = self.child.kill().await;
                Err(format!("it did not stop in {} s and was killed", STOP.as_secs()))
            }
        }
    }

    /// Waits until it ends by itself, which it should not.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("the proxy ended with {status}"),
            Err(error) => format!("the proxy's end cannot be learnt ({error})"),
        }
    }

    /// The last lines of its log.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Reads all that it writes, always: a full pipe would make it drop lines.
async fn follow(stream: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<String>>>, show: bool) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if show {
            print::out(&format!("              | {line}\n"));
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// Two ports that nobody uses now: held together, so that they differ, and then let go for the child.
fn free_ports() -> Result<[SocketAddr; 2], String> {
    let failed = |error: std::io::Error| format!("there is no free port on 127.0.0.1 ({error})");
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    Ok([one.local_addr().map_err(failed)?, other.local_addr().map_err(failed)?])
}
