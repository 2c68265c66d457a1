//! A stage: a folder with a PKI and a revocation list, an app in this process, and flags that name them.
//! Every test makes one, changes its files as an operator would, and starts the program with its flags.
//! It must never share a root between the proxy and its clients: an anchor confused with the other has to fail.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testkit::{Authority, Duration, Leaf, LeafSpec, ListSpec, RecordingApp, atomic_write};

use crate::program::Program;

/// The name of the stage's list.
const LIST: &str = "test";

pub(crate) struct Stage {
    folder: TempDir,
    /// Vouches for clients; the only anchor.
    pub(crate) client_root: Authority,
    /// Issues the clients' certificates, so that every chain has three links.
    pub(crate) issuing: Authority,
    /// Vouches for the proxy; what clients trust.
    pub(crate) server_root: Authority,
    /// What the program stands in front of.
    pub(crate) app: RecordingApp,
}

/// Flags with their values; a switch has an empty one.
#[derive(Clone)]
pub(crate) struct Flags(Vec<(&'static str, String)>);

impl Stage {
    /// Everything in place, nothing revoked, the list of sequence 1 good for an hour.
    pub(crate) async fn new() -> Stage {
        let client_root = Authority::root("clients' root");
        let stage = Stage {
            folder: tempfile::tempdir().unwrap(),
            issuing: client_root.intermediate("clients' issuing authority"),
            client_root,
            server_root: Authority::root("servers' root"),
            app: RecordingApp::start().await,
        };
        stage.write("client_root.pem", stage.client_root.pem());
        stage.write("server_root.pem", stage.server_root.pem());
        stage.server().write_to(stage.folder(), "server");
        stage.publish(&stage.list(1));
        stage
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Replaces a file of the folder by renaming a whole one over it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        atomic_write(self.path(name), bytes).unwrap();
    }

    /// A new certificate for `localhost`.
    pub(crate) fn server(&self) -> Leaf {
        self.server_root.issue(LeafSpec::dns("localhost"))
    }

    /// A certificate of `spiffe://td/<name>` in `<name>.pem` and `<name>.key`, as curl wants them.
    pub(crate) fn client(&self, name: &str) -> Leaf {
        let leaf = self.issuing.issue(LeafSpec::spiffe(&format!("spiffe://td/{name}")));
        leaf.write_to(self.folder(), name);
        leaf
    }

    /// An empty list of this sequence.
    pub(crate) fn list(&self, sequence: u64) -> ListSpec {
        ListSpec::new(LIST, sequence).expires_in(Duration::hours(1))
    }

    /// Replaces the list.
    pub(crate) fn publish(&self, list: &ListSpec) {
        self.write("list.jsonl", list.text());
    }

    /// Flags that are all right.
    pub(crate) fn flags(&self) -> Flags {
        self.flags_before(&self.app.target())
    }

    /// The same before another app.
    pub(crate) fn flags_before(&self, app: &str) -> Flags {
        Flags(vec![
            ("--inbound", format!("127.0.0.1:0={app}")),
            ("--cert", self.text("server.pem")),
            ("--key", self.text("server.key")),
            ("--client-ca", self.text("client_root.pem")),
            ("--allow", "uri:spiffe://td/*".to_owned()),
            ("--revocations", self.text("list.jsonl")),
            ("--observe", "127.0.0.1:0".to_owned()),
            ("--workers", "2".to_owned()),
            // Nobody waits for endpoints to be told.
            ("--drain-delay", "0s".to_owned()),
        ])
    }

    /// The program with all flags right.
    pub(crate) async fn start(&self) -> Program {
        Program::start(&self.flags()).await
    }
}

impl Flags {
    /// With this flag set to this value alone.
    pub(crate) fn with(self, flag: &'static str, value: impl Into<String>) -> Flags {
        let mut flags = self.without(flag);
        flags.0.push((flag, value.into()));
        flags
    }

    /// With this value of a repeatable flag as well.
    pub(crate) fn and(mut self, flag: &'static str, value: impl Into<String>) -> Flags {
        self.0.push((flag, value.into()));
        self
    }

    pub(crate) fn without(mut self, flag: &str) -> Flags {
        self.0.retain(|(known, _)| *known != flag);
        self
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|(flag, value)| [*flag, value]).filter(|argument| !argument.is_empty())
    }
}
