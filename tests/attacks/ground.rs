//! The ground of an attack: a stage, the program on it, what it holds in memory, and the honest client beside.
//! Every test starts one with the flags that its attack needs. It must never attack.

use std::net::SocketAddr;

use testkit::TlsClient;

use crate::honest::Honest;
use crate::program::{Program, eventually};
use crate::stage::{Flags, Stage};

/// What the process may hold beside what an attack may cost it.
const AT_REST: u64 = 48 * 1024;

pub(crate) struct Ground {
    pub(crate) stage: Stage,
    pub(crate) program: Program,
    at_first: u64,
}

impl Ground {
    /// The program with these flags, before the stage's app.
    pub(crate) async fn with(change: impl FnOnce(Flags) -> Flags) -> Ground {
        Ground::on(Stage::new().await, change).await
    }

    /// The same before another app.
    pub(crate) async fn before(app: &str, change: impl FnOnce(Flags) -> Flags) -> Ground {
        let inbound = format!("127.0.0.1:0={app}");
        Ground::with(|flags| change(flags.with("--inbound", inbound))).await
    }

    async fn on(stage: Stage, change: impl FnOnce(Flags) -> Flags) -> Ground {
        let program = Program::start(&change(stage.flags())).await;
        let at_first = resident(&program, "VmRSS");
        Ground { stage, program, at_first }
    }

    /// The client `spiffe://td/<name>`.
    pub(crate) fn client(&self, name: &str) -> TlsClient {
        TlsClient::new(self.stage.server_root.der(), Some(&self.stage.client(name))).without_resumption()
    }

    /// Where clients come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.program.addresses[0]
    }

    /// Honest clients that ask all the time from now on.
    pub(crate) fn honest(&self) -> Honest {
        Honest::start(self.client("honest"), self.address())
    }

    pub(crate) async fn limited(&self, limit: &str) -> f64 {
        self.program.metric("portcullis_limits_total", &[("limit", limit)]).await
    }

    /// Waits until this limit bit at least so often.
    pub(crate) async fn wait_for_limit(&self, limit: &str, times: f64) {
        eventually(&format!("{limit} bit {times} times"), async || self.limited(limit).await >= times).await;
    }

    /// Tells what the program holds, and asserts that the attack cost it no more than this many kilobytes at any time.
    pub(crate) fn assert_memory(&self, attack: &str, most: u64) {
        let (now, peak) = (resident(&self.program, "VmRSS"), resident(&self.program, "VmHWM"));
        println!("{attack}: resident {} kB before, {peak} kB at most, {now} kB after", self.at_first);
        assert!(peak <= self.at_first.max(AT_REST) + most, "{attack}: {peak} kB resident, {} before", self.at_first);
    }
}

/// A line of /proc/<id>/status, in kilobytes.
fn resident(program: &Program, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|text| text.starts_with(line)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
