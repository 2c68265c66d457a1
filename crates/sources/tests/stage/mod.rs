//! A proxy's trust without its traffic: files in a folder, loaded and watched, and ways to wait for what comes of them.
//!
//! Used by the tests beside it. It must never sleep to synchronise: it waits for states, each with a deadline.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

pub(crate) mod lines;
pub(crate) mod signer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use proxy::{Clock, Live, Metrics, Published};
use sources::{CredentialPaths, Desk, LoadFailure, Loaded, Paths, State, Watching};
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
            state_dir: None,
            requirements: sources::Requirements::default(),
            max_cut_fraction: None,
            max_denial_ttl: sources::DEFAULT_MAX_DENIAL_TTL,
        }
    }

    /// The same with a state folder.
    pub(crate) fn kept(&self) -> Paths {
        Paths { state_dir: Some(self.at("state")), ..self.paths() }
    }

    /// Every file of the state folder that holds something, with its folder's name.
    pub(crate) fn state_files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["lists", "crls", "desk"] {
            for entry in fs::read_dir(self.at("state").join(folder)).into_iter().flatten() {
                names.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        names.sort();
        names
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

/// Anybody may come in; everything else is strict.
pub(crate) fn policy() -> Arc<Policy> {
    Arc::new(Policy {
        allow: Allow::Anybody,
        crl_coverage: CrlCoverage::All,
        stale: trust::Stale::Deny,
        snapshot_max_age: None,
        max_session_age: None,
        max_certificate_age: None,
        idle_timeout: None,
    })
}

/// What the judge says now of a client that the root vouches for.
pub(crate) fn judged(files: &Files, stage: &Stage) -> Result<(), trust::Denial> {
    judged_as(files, stage, "spiffe://td/client")
}

/// What the judge says now of the client with this SPIFFE ID.
pub(crate) fn judged_as(files: &Files, stage: &Stage, id: &str) -> Result<(), trust::Denial> {
    let leaf = files.root.issue(LeafSpec::spiffe(id));
    let published = stage.live.current();
    let now = stage.live.now();
    let chain = trust::verify(&leaf.chain(), &published.state.bundle, now).unwrap();
    let session = trust::Session::new(chain, leaf.chain().into(), now);
    trust::preview(&session, &published.state, now)
}

/// An empty list.
pub(crate) fn list(name: &str, sequence: u64) -> String {
    ListSpec::new(name, sequence).text()
}

/// What is loaded and watched.
pub(crate) struct Stage {
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) desk: Desk,
    pub(crate) warnings: Vec<String>,
    clock: Option<Arc<AtomicI64>>,
    watching: Option<Watching>,
}

impl Stage {
    /// Returns when the first look is over: what happens from now on is noticed by the kernel's events, or the poll.
    pub(crate) async fn start(paths: Paths, poll: Duration) -> Stage {
        Stage::start_with(paths, poll, None).await
    }

    /// With a clock that stands still until `Stage::advance`; it begins at this moment.
    pub(crate) async fn start_at(paths: Paths, now: i64) -> Stage {
        Stage::start_with(paths, NO_POLL, Some(Arc::new(AtomicI64::new(now)))).await
    }

    pub(crate) async fn start_with(paths: Paths, poll: Duration, clock: Option<Arc<AtomicI64>>) -> Stage {
        let cert = match &paths.credential {
            CredentialPaths::CertAndKey { cert, .. } | CredentialPaths::Bundle(cert) => cert.canonicalize().unwrap(),
        };
        let stage = Stage::begin(paths, (poll, clock), || ());
        // The first round may be noticed by the first look itself; the second only by a later one.
        for round in 1..=2 {
            atomic_write(&cert, fs::read(&cert).unwrap()).unwrap();
            stage.until_count("credential", "unchanged", round).await;
        }
        stage
    }

    /// Something happens between the first load and the watch.
    pub(crate) fn start_after(paths: Paths, poll: Duration, meanwhile: impl FnOnce()) -> Stage {
        Stage::begin(paths, (poll, None), meanwhile)
    }

    fn begin(paths: Paths, (poll, controlled): (Duration, Option<Arc<AtomicI64>>), meanwhile: impl FnOnce()) -> Stage {
        let clock = controlled.clone().map_or_else(Clock::real, Clock::Controlled);
        let loaded = sources::load(&paths, clock.now()).unwrap_or_else(|failure| panic!("{failure}"));
        meanwhile();
        let metrics = Arc::new(Metrics::new("test").unwrap());
        let (introductions, receiver) = tokio::sync::mpsc::channel(64);
        let state = (loaded.bundle, loaded.knowledge, policy());
        let live = Live::new(state, loaded.credential, introductions, clock);
        let library = loaded.library.poll_every(poll);
        let watching = sources::watch(paths, library, (live.clone(), receiver), metrics.clone()).unwrap();
        let desk = watching.desk();
        Stage { live, metrics, desk, warnings: loaded.warnings, clock: controlled, watching: Some(watching) }
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap();
        self.clock.as_ref().unwrap().fetch_add(millis, Ordering::AcqRel);
        self.live.nudge();
    }

    /// What the operator is told.
    pub(crate) async fn state(&self) -> State {
        self.desk.state().await.unwrap()
    }

    /// How often something was refused under this label.
    pub(crate) fn refused(&self, label: &str) -> u64 {
        self.number("portcullis_revocation_refusals_total", Some(label))
    }

    /// A gauge or counter without labels.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        self.metrics.refresh(&self.live);
        self.number(name, None)
    }

    fn number(&self, name: &str, label: Option<&str>) -> u64 {
        let families = self.metrics.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let metric = family
            .get_metric()
            .iter()
            .find(|metric| label.is_none_or(|label| metric.get_label().iter().any(|pair| pair.value() == label)));
        let metric = metric.unwrap_or_else(|| panic!("{name} knows no label {label:?}"));
        let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
        let value = if is_counter { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
        value as u64
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
