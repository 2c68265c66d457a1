//! A proxy's trust without its traffic: files in a folder, loaded and watched, and ways to wait for what comes of them.
//!
//! Used by the tests beside it. It must never sleep to synchronise: it waits for states, each with a deadline.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::{Clock, Live, Metrics, Published};
use sources::{CredentialPaths, LoadFailure, Loaded, Paths, Watching};
use testkit::{Authority, Leaf, LeafSpec, ListSpec, atomic_write};
use trust::{Allow, CrlCoverage, Policy, Speaks};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// A poll that does not come while a test runs: whatever happens was told by the kernel.
pub(crate) const NO_POLL: Duration = Duration::from_secs(3600);
/// A poll that comes at once.
pub(crate) const QUICK_POLL: Duration = Duration::from_millis(20);

/// Files of one proxy.
pub(crate) struct Files {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) root: Authority,
}

impl Files {
    /// A certificate, an anchor and an empty list of sequence 1, all good.
    pub(crate) fn good() -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap(), root: Authority::root("root") };
        files.server().write_to(files.folder.path(), "server");
        fs::write(files.at("ca.pem"), files.root.pem()).unwrap();
        fs::write(files.at("list.jsonl"), list("prod", 1)).unwrap();
        files
    }

    pub(crate) fn server(&self) -> Leaf {
        self.root.issue(LeafSpec::dns("server"))
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn replace(&self, name: &str, bytes: impl AsRef<[u8]>) {
        atomic_write(self.at(name), bytes).unwrap();
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths {
            credential: CredentialPaths::CertAndKey { cert: self.at("server.pem"), key: self.at("server.key") },
            client_cas: vec![(Speaks::ForAnybody, self.at("ca.pem"))],
            revocations: vec![self.at("list.jsonl")],
            no_revocations: false,
        }
    }

    /// Loads; panics if that fails.
    pub(crate) fn load(&self) -> Loaded {
        load(&self.paths()).unwrap()
    }

    /// Loads and watches.
    pub(crate) async fn start(&self, poll: Duration) -> Stage {
        Stage::start(self.paths(), poll).await
    }
}

pub(crate) fn load(paths: &Paths) -> Result<Loaded, LoadFailure> {
    sources::load(paths, Clock::real().now())
}

/// The sentence of a load that must fail.
pub(crate) fn failure(paths: &Paths) -> String {
    load(paths).expect_err("this load must fail").0
}

/// An empty list.
pub(crate) fn list(name: &str, sequence: u64) -> String {
    ListSpec::new(name, sequence).text()
}

/// What is loaded and watched.
pub(crate) struct Stage {
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    watching: Option<Watching>,
}

impl Stage {
    /// Returns when the first look is over: what happens from now on is noticed by the kernel's events, or the poll.
    pub(crate) async fn start(paths: Paths, poll: Duration) -> Stage {
        let cert = match &paths.credential {
            CredentialPaths::CertAndKey { cert, .. } | CredentialPaths::Bundle(cert) => cert.canonicalize().unwrap(),
        };
        let stage = Stage::start_after(paths, poll, || ());
        // The first round may be noticed by the first look itself; the second only by a later one.
        for round in 1..=2 {
            atomic_write(&cert, fs::read(&cert).unwrap()).unwrap();
            stage.until_count("credential", "unchanged", round).await;
        }
        stage
    }

    /// Something happens between the first load and the watch.
    pub(crate) fn start_after(paths: Paths, poll: Duration, meanwhile: impl FnOnce()) -> Stage {
        let loaded = load(&paths).unwrap();
        meanwhile();
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let (introductions, receiver) = tokio::sync::mpsc::channel(64);
        let policy = Policy {
            allow: Allow::Anybody,
            crl_coverage: CrlCoverage::All,
            stale: trust::Stale::Deny,
            snapshot_max_age: None,
            max_session_age: None,
            max_certificate_age: None,
            idle_timeout: None,
        };
        let state = (loaded.bundle, loaded.knowledge, Arc::new(policy));
        let live = Live::new(state, loaded.credential, introductions, Clock::real());
        let library = loaded.library.poll_every(poll);
        let watching = sources::watch(paths, library, live.clone(), receiver, metrics.clone()).unwrap();
        Stage { live, metrics, watching: Some(watching) }
    }

    /// Ends the watch; returns when its thread is gone.
    pub(crate) fn stop(&mut self) {
        self.watching = None;
    }

    /// Waits until the published state is as wanted.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Published) -> bool) {
        let mut changes = self.live.watch();
        let wait = async {
            while !holds(&self.live.current()) {
                changes.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain for: {what}; the state is {:?}", self.live.current().state);
        }
    }

    /// Waits until this sequence of the lists is in force.
    pub(crate) async fn until_sequence(&self, sequence: u64) {
        self.until(&format!("sequence {sequence}"), |published| sequence_of(published) == sequence).await;
    }

    /// Waits until so many loads of a source had this result.
    pub(crate) async fn until_count(&self, source: &str, result: &str, count: u64) {
        self.until_true(&format!("{count} loads of {source} {result}"), || self.count(source, result) >= count).await;
    }

    /// Waits for a condition that nothing signals.
    pub(crate) async fn until_true(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain for: {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn sequence(&self) -> u64 {
        sequence_of(&self.live.current())
    }

    /// How many loads of a source had this result.
    pub(crate) fn count(&self, source: &str, result: &str) -> u64 {
        let families = self.metrics.registry.gather();
        let family = families.iter().find(|family| family.name() == "portcullis_reloads_total").unwrap();
        let of = |metric: &&prometheus::proto::Metric| {
            let values: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
            values.contains(&source) && values.contains(&result)
        };
        family.get_metric().iter().find(of).unwrap().get_counter().get_value() as u64
    }

    /// Digest of the certificate that handshakes present.
    pub(crate) fn presented(&self) -> [u8; 32] {
        testkit::sha256(&self.live.credential().key.cert[0])
    }
}

fn sequence_of(published: &Published) -> u64 {
    published.state.snapshot().map_or(0, |snapshot| snapshot.sequence())
}

/// A volume as kubelet projects it: names are links through `..data`, which a rename replaces.
pub(crate) struct Volume {
    folder: PathBuf,
    turn: std::cell::Cell<u32>,
}

impl Volume {
    pub(crate) fn new(folder: &Path, files: &[(&str, Vec<u8>)]) -> Volume {
        fs::create_dir_all(folder).unwrap();
        let volume = Volume { folder: folder.to_owned(), turn: std::cell::Cell::new(0) };
        volume.swap(files);
        volume
    }

    /// Replaces everything in one step, and removes what was there before.
    pub(crate) fn swap(&self, files: &[(&str, Vec<u8>)]) {
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        let before = fs::read_link(self.folder.join("..data")).ok();
        let name = format!("..2026_{turn}");
        fs::create_dir(self.folder.join(&name)).unwrap();
        for (file, bytes) in files {
            fs::write(self.folder.join(&name).join(file), bytes).unwrap();
        }
        std::os::unix::fs::symlink(&name, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        for (file, _) in files {
            let link = self.folder.join(file);
            if !link.is_symlink() {
                std::os::unix::fs::symlink(Path::new("..data").join(file), link).unwrap();
            }
        }
        if let Some(before) = before {
            fs::remove_dir_all(self.folder.join(before)).unwrap();
        }
    }
}
