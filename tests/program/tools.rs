//! Programs that others wrote, run to their end: curl with a client's certificate, and any other.
//! Called by every test.
//! It must never leave a process behind, nor let one run without a deadline or with this user's own settings.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::program::in_time;
use crate::stage::Stage;

/// What a program left.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// Both outputs; openssl spreads what it says over them.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }
}

/// A command that dies with the test.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// curl that trusts the stage's server root and shows the certificate of this name, if any.
pub(crate) fn curl(stage: &Stage, name: Option<&str>) -> Command {
    let mut curl = command("curl");
    // --disable comes first: no file of this user's home changes anything.
    curl.args(["--disable", "--silent", "--show-error", "--ipv4", "--noproxy", "*", "--max-time", "50"]);
    curl.args(["--cacert", &stage.text("server_root.pem")]);
    if let Some(name) = name {
        curl.args(["--cert", &stage.text(&format!("{name}.pem")), "--key", &stage.text(&format!("{name}.key"))]);
    }
    curl
}

/// Runs it to its end.
pub(crate) async fn run(command: &mut Command) -> Told {
    run_with(command, b"").await
}

/// Runs it to its end with this on its standard input.
pub(crate) async fn run_with(command: &mut Command, input: &[u8]) -> Told {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let feed = async {
        // A program that ends without reading all of it is none of our business.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (output, ()) = in_time(&name, async { tokio::join!(child.wait_with_output(), feed) }).await;
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Told { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// curl's status for `GET path` on a connection of its own; 0 if there was none.
pub(crate) async fn status(stage: &Stage, name: &str, url: &str) -> u16 {
    let told = run(curl(stage, Some(name)).args(["--output", "/dev/null", "--write-out", "%{http_code}", url])).await;
    told.out.parse().unwrap_or_else(|_| panic!("{told:?}"))
}
