//! The real binary, its arguments and its files, for the tests beside this folder.
//!
//! It must never import the program's own crates: what is tested is what an operator holds.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The binary, in an environment that says nothing about it.
pub(crate) fn portcullis() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PORTCULLIS_") || name == "ONCE" {
            command.env_remove(name);
        }
    }
    command
}

/// A development PKI in a folder of its own.
pub(crate) struct Pki {
    folder: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let folder = tempfile::tempdir().unwrap();
        let output = portcullis().arg("certs").arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        Pki { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Flags that are all right.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        vec![
            ("--inbound", "127.0.0.1:0=127.0.0.1:9".to_owned()),
            ("--cert", self.text("server.pem")),
            ("--key", self.text("server.key")),
            ("--client-ca", format!("dev.portcullis={}", self.text("root.pem"))),
            ("--allow", "uri:spiffe://dev.portcullis/ns/demo/*".to_owned()),
            ("--revocations", self.text("revocations.jsonl")),
            ("--observe", "127.0.0.1:0".to_owned()),
            ("--drain-delay", "0s".to_owned()),
        ]
    }
}

/// `flags` as arguments; a flag with an empty value is a switch.
pub(crate) fn arguments(flags: &[(&str, String)]) -> Vec<String> {
    let mut arguments = Vec::new();
    for (flag, value) in flags {
        arguments.push((*flag).to_owned());
        if !value.is_empty() {
            arguments.push(value.clone());
        }
    }
    arguments
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One sentence on standard error that contains `named`, nothing on standard output, exit 64.
pub(crate) fn assert_refused(output: &Output, named: &[&str]) {
    let told = stderr(output);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("portcullis: "), "{told}");
    for name in named {
        assert!(told.contains(name), "{name:?} is not in: {told}");
    }
    assert_eq!(stdout(output), "", "{told}");
}

/// Runs openssl, which must succeed, and gives its output.
pub(crate) fn openssl(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", stderr(&output));
    stdout(&output)
}
