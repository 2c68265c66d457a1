//! Operators before the control listener: their certificates, the program's flags, and curl as they use it.
//! Called by the tests of the control listener (`control_*.rs`).
//! It must never share a root between operators and the app's clients: a door confused with the other has to fail.

use std::process::Stdio;

use serde_json::Value;
use testkit::{Authority, Leaf, LeafSpec};
use tokio::process::Command;

use crate::program::Program;
use crate::stage::{Flags, Stage};
use crate::tools::{Told, command, curl, run, run_with};

/// A stage with operators.
pub(crate) struct Office {
    pub(crate) stage: Stage,
    /// Issues the operators' certificates.
    issuing: Authority,
}

/// How an operator gets in.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    /// The socket file.
    Socket,
    /// mTLS, with the certificate of this name.
    Certificate(&'a str),
}

/// What an operator was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if there was none.
    pub(crate) status: u16,
    pub(crate) value: Value,
    pub(crate) told: Told,
}

impl Office {
    pub(crate) async fn new() -> Office {
        let stage = Stage::new().await;
        let root = Authority::root("operators' root");
        stage.write("operators.pem", root.pem());
        Office { issuing: root.intermediate("operators' issuing authority"), stage }
    }

    /// A certificate of `spiffe://ops/<name>` in `ops-<name>.pem` and `.key`.
    pub(crate) fn operator(&self, name: &str) -> Leaf {
        let leaf = self.issuing.issue(LeafSpec::spiffe(&format!("spiffe://ops/{name}")));
        leaf.write_to(self.stage.folder(), &format!("ops-{name}"));
        leaf
    }

    /// Flags with a socket file.
    pub(crate) fn by_socket(&self) -> Flags {
        self.stage.flags().with("--control", format!("unix:{}", self.stage.text("control.sock")))
    }

    /// Flags with mTLS; each grant is `NAME=ROLE`.
    pub(crate) fn by_certificate(&self, grants: &[&str]) -> Flags {
        let flags = self.stage.flags().with("--control", "127.0.0.1:0");
        let flags = flags.with("--control-ca", self.stage.text("operators.pem"));
        grants.iter().fold(flags, |flags, grant| flags.and("--control-allow", format!("uri:spiffe://ops/{grant}")))
    }

    /// Where it listens, for `--control`.
    pub(crate) fn address(program: &Program) -> String {
        program.log.events("start")[0]["control"].as_str().unwrap().to_owned()
    }

    /// curl for a path of the control API.
    pub(crate) fn curl(&self, program: &Program, by: By<'_>, path: &str) -> Command {
        let address = Office::address(program);
        let (mut curl, url) = match by {
            By::Socket => {
                // Not `tools::curl`: its --ipv4 keeps curl from a socket file.
                let mut curl = command("curl");
                curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "50"]);
                curl.args(["--unix-socket", address.strip_prefix("unix:").unwrap()]);
                (curl, format!("http://sidecar{path}"))
            }
            By::Certificate(name) => {
                let (_, port) = address.rsplit_once(':').unwrap();
                (curl(&self.stage, Some(&format!("ops-{name}"))), format!("https://localhost:{port}{path}"))
            }
        };
        curl.args(["--write-out", "\n%{http_code}", &url]);
        curl
    }

    /// Asks with more of curl's arguments.
    pub(crate) async fn ask(&self, program: &Program, (by, path): (By<'_>, &str), arguments: &[&str]) -> Answer {
        Answer::of(run(self.curl(program, by, path).args(arguments)).await)
    }

    /// Pushes this, with a query or none.
    pub(crate) async fn push(&self, program: &Program, (by, query): (By<'_>, &str), list: &str) -> Answer {
        let mut curl = self.curl(program, by, &format!("/v1/revocations{query}"));
        Answer::of(run_with(curl.args(["--request", "PUT", "--data-binary", "@-"]), list.as_bytes()).await)
    }

    /// Denies an identity over the API.
    pub(crate) async fn deny(&self, program: &Program, by: By<'_>, id: &str) -> Answer {
        let body = format!("{{\"entry\":{{\"id\":\"{id}\"}},\"ttl_seconds\":3600}}");
        self.ask(program, (by, "/v1/denials"), &["--header", "Content-Type: application/json", "--data", &body]).await
    }

    /// The program as an operator's client.
    pub(crate) fn client(&self, program: &Program, by: By<'_>, arguments: &[&str]) -> Command {
        let mut client = command(env!("CARGO_BIN_EXE_portcullis"));
        client.env_remove("PORTCULLIS_CONTROL").args(arguments).args(["--control", &Office::address(program)]);
        if let By::Certificate(name) = by {
            client.args(["--control-server-ca", &self.stage.text("server_root.pem"), "--control-name", "localhost"]);
            client.args(["--control-cert", &self.stage.text(&format!("ops-{name}.pem"))]);
            client.args(["--control-key", &self.stage.text(&format!("ops-{name}.key"))]);
        }
        client.stdin(Stdio::null());
        client
    }

    /// The same, run to its end.
    pub(crate) async fn run(&self, program: &Program, by: By<'_>, arguments: &[&str]) -> Told {
        run(&mut self.client(program, by, arguments)).await
    }
}

impl Answer {
    fn of(told: Told) -> Answer {
        let (body, status) = told.out.rsplit_once('\n').unwrap_or_else(|| panic!("{told:?}"));
        let (status, value) = (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null));
        Answer { status, value, told }
    }

    /// A problem as RFC 9457 has it, of this status and label.
    pub(crate) fn assert_problem(&self, status: u16, label: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!((&self.value["status"], &self.value["label"]), (&status.into(), &label.into()), "{self:?}");
        assert_eq!(self.value["type"], "about:blank", "{self:?}");
        assert!(self.value["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{self:?}");
    }
}
