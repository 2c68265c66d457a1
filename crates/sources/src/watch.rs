//! Everything that was loaded, loaded again whenever it changes.
//!
//! Started once by `portcullis run`, on a thread of its own: parsing a million revocations delays no session. The
//! kernel's events say when to look; a poll looks anyway, for file systems that tell nothing. It must never let a
//! failed load change what is in force.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy::{Introduction, Live, Metrics, ReloadSource};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use trust::Sha256;

use crate::anchors::AnchorFiles;
use crate::bell::{Bell, Deaf, Heard, Watches};
use crate::file::{Failure, Stamp};
use crate::report::Report;
use crate::revocations::{Found, Revocations, Wish};
use crate::{LoadFailure, Paths};

/// How long a change stays unnoticed on a file system that tells nothing: a tenth of the minute that kubelet takes
/// to bring a changed volume to a pod.
const POLL: Duration = Duration::from_secs(10);

/// Files that are loaded together, as they were when they were last looked at.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// Of the content in force.
    good: Sha256,
    stamps: Vec<Stamp>,
    /// The failure told last, with its content's digest.
    failure: Option<(Sha256, Failure)>,
}

impl Remembered {
    pub(crate) fn new(good: Sha256, stamps: Vec<Stamp>) -> Remembered {
        Remembered { good, stamps, failure: None }
    }

    /// Whether this failure was not told yet.
    fn is_news(&mut self, digest: Sha256, failure: &Failure) -> bool {
        let failure = Some((digest, failure.clone()));
        let news = self.failure != failure;
        self.failure = failure;
        news
    }

    /// The content in force was read again; whether from another file.
    fn same(&mut self, stamps: Vec<Stamp>) -> bool {
        self.failure = None;
        let moved = self.stamps != stamps;
        self.stamps = stamps;
        moved
    }
}

/// What the first load read, and all revocations accepted: where [`watch`] goes on.
#[derive(Debug)]
pub struct Baseline {
    credential: Remembered,
    bundle: Remembered,
    revocations: Revocations,
    poll: Duration,
}

impl Baseline {
    pub(crate) fn new(credential: Remembered, bundle: Remembered, revocations: Revocations) -> Baseline {
        Baseline { credential, bundle, revocations, poll: POLL }
    }

    /// With another interval of the poll than ten seconds.
    #[must_use]
    pub fn poll_every(mut self, interval: Duration) -> Baseline {
        self.poll = interval;
        self
    }
}

/// The running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watching {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Loads again what changes, and publishes it, until the result is dropped. Changes since the first load are noticed
/// at once. An error is that the thread cannot start.
pub fn watch(
    paths: Paths,
    library: Baseline,
    live: Arc<Live>,
    introductions: mpsc::Receiver<Introduction>,
    metrics: Arc<Metrics>,
) -> Result<Watching, LoadFailure> {
    let failed = |error: std::io::Error| {
        LoadFailure(format!("files cannot be watched: no thread can start ({error}); allow the process more threads"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let report = Report::new(Arc::clone(&live), metrics);
    let bell = Arc::new(Bell::default());
    let (watches, deaf) = Watches::new(Arc::clone(&bell));
    let mut watch = Watch { paths, library, live, report, watches, told_deaf: false };
    watch.tell_deaf(deaf);
    let run = move || {
        let _cry = Cry;
        runtime.block_on(watch.run(bell, introductions, stopped));
    };
    let thread = std::thread::Builder::new().name("sources".to_owned()).spawn(run).map_err(failed)?;
    Ok(Watching { stop: Some(stop), thread: Some(thread) })
}

/// Cries if its thread ends by a panic, which nobody else would notice.
struct Cry;

impl Drop for Cry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                target: "portcullis",
                event = "watch_ended",
                "files are watched no longer, what is in force only grows old: report this with the log, and restart"
            );
        }
    }
}

struct Watch {
    paths: Paths,
    library: Baseline,
    live: Arc<Live>,
    report: Report,
    watches: Watches,
    told_deaf: bool,
}

impl Watch {
    async fn run(
        mut self,
        bell: Arc<Bell>,
        mut introductions: mpsc::Receiver<Introduction>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut poll = tokio::time::interval(self.library.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once: what changed between the first load and now is found here.
        poll.tick().await;
        self.look(bell.take(), true);
        let mut open = true;
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                introduction = introductions.recv(), if open => match introduction {
                    Some(introduction) => self.introduce(&introduction.der),
                    None => open = false,
                },
                () = bell.rung() => self.look(bell.take(), false),
                _ = poll.tick() => self.look(bell.take(), true),
            }
        }
    }

    fn look(&mut self, heard: Heard, poll: bool) {
        let credential = self.paths.credential.files();
        let anchors = self.paths.client_cas.iter().map(|(_, path)| path.as_path());
        let revocations = self.paths.revocations.iter().map(PathBuf::as_path);
        let all: Vec<&Path> = credential.into_iter().chain(anchors).chain(revocations).collect();
        let deaf = self.watches.arm(&all, &heard);
        self.tell_deaf(deaf);
        let names: HashSet<_> = heard.paths.iter().filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect();
        self.look_at_credential();
        self.look_at_bundle();
        self.look_at_revocations(&Wish { poll, everything: heard.everything, names });
    }

    fn look_at_credential(&mut self) {
        let began = Instant::now();
        let source = ReloadSource::Credential;
        let path = self.paths.credential.cert().path;
        // A pair of which one was replaced while we read the other is read once more before it is a failure.
        for last in [false, true] {
            let files = match self.paths.credential.read() {
                Ok(files) => files,
                Err(_) if !last => continue,
                Err(failure) => {
                    if self.library.credential.is_news(Sha256([0; 32]), &failure) {
                        self.report.failed(source, (&failure, began));
                    }
                    return;
                }
            };
            let digest = files.digest();
            if digest == self.library.credential.good {
                if self.library.credential.same(files.stamps()) {
                    self.report.unchanged(source);
                }
                return;
            }
            match files.build(&self.paths.credential, self.live.now()) {
                Ok(credential) => {
                    self.live.renew(credential);
                    self.library.credential = Remembered::new(digest, files.stamps());
                    self.report.changed(source, path, ("the proxy's own certificate was renewed", began));
                    files.warnings(&self.paths.credential).iter().for_each(|one| self.report.warning(one));
                    return;
                }
                Err(_) if !last => {}
                Err(failure) => {
                    if self.library.credential.is_news(digest, &failure) {
                        self.report.failed(source, (&failure, began));
                    }
                }
            }
        }
    }

    fn look_at_bundle(&mut self) {
        let began = Instant::now();
        let source = ReloadSource::Bundle;
        let path = self.paths.client_cas.first().map_or(Path::new(""), |(_, path)| path);
        let files = AnchorFiles::read(&self.paths.client_cas);
        let (digest, stamps) = (files.digest(), files.stamps().to_vec());
        if files.is_whole() && digest == self.library.bundle.good {
            if self.library.bundle.same(stamps) {
                self.report.unchanged(source);
            }
            return;
        }
        let (bundle, warnings) = match files.build(self.live.now()) {
            Ok(built) => built,
            Err(failure) => {
                if self.library.bundle.is_news(digest, &failure) {
                    self.report.failed(source, (&failure, began));
                }
                return;
            }
        };
        let bundle = Arc::new(bundle);
        let refusals = self.library.revocations.rebase(&bundle);
        let knowledge = self.library.revocations.news();
        let what = format!("{} anchors are trusted now", bundle.len());
        self.live.publish(|state| {
            state.bundle = bundle;
            if let Some(knowledge) = knowledge {
                state.knowledge = knowledge;
            }
        });
        self.library.bundle = Remembered::new(digest, stamps);
        self.report.changed(source, path, (&what, began));
        refusals.iter().for_each(|refused| self.report.refused_after_waiting(refused));
        warnings.iter().for_each(|one| self.report.warning(one));
    }

    fn look_at_revocations(&mut self, wish: &Wish) {
        let (mut due, found) = self.library.revocations.due(wish);
        // An urgent list does not wait for a large CRL.
        due.sort_by_key(|one| one.size);
        for one in found {
            match one {
                Found::Failed(failure) => {
                    self.report.failed(ReloadSource::Revocations, (&failure, Instant::now()));
                }
                Found::Vanished(path) => self.report.vanished(&path),
            }
        }
        for one in due {
            let began = Instant::now();
            let bundle = Arc::clone(&self.live.current().state.bundle);
            let outcome = self.library.revocations.take(&one, &bundle, self.live.now());
            self.publish_news();
            self.report.revocations(one.file(), (&outcome, began));
        }
    }

    fn introduce(&mut self, der: &[u8]) {
        let bundle = Arc::clone(&self.live.current().state.bundle);
        let refusals = self.library.revocations.introduce(der, &bundle, self.live.now());
        if self.publish_news() {
            self.report.introduced();
        }
        refusals.iter().for_each(|refused| self.report.refused_after_waiting(refused));
    }

    fn publish_news(&mut self) -> bool {
        let Some(knowledge) = self.library.revocations.news() else { return false };
        self.live.publish(|state| state.knowledge = knowledge);
        true
    }

    /// Says once that the kernel tells nothing: the poll goes on, and so does the proxy.
    fn tell_deaf(&mut self, deaf: Option<Deaf>) {
        let Some(Deaf(why)) = deaf else { return };
        if !std::mem::replace(&mut self.told_deaf, true) {
            self.report.warning(&format!(
                "changed files are noticed only by the poll, every {} ms: the kernel tells nothing ({why}); raise \
                 fs.inotify.max_user_instances and fs.inotify.max_user_watches",
                self.library.poll.as_millis()
            ));
        }
    }
}
