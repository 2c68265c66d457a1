//! Everything that was loaded, loaded again whenever it changes.
//!
//! Started once by `portcullis run`, on a thread of its own: parsing a million revocations delays no session. The
//! kernel's events say when to look; a poll looks anyway, for file systems that tell nothing. Our own certificate and
//! the anchors are looked at here, revocations in `knowledge.rs`, questions of the operator's side are answered in
//! `clerk.rs`. It must never let a failed load change what is in force.

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
use crate::denials::Denials;
use crate::desk::{Ask, Counter, Desk};
use crate::keeper::Keeper;
use crate::remembered::Remembered;
use crate::report::Report;
use crate::restored::Restored;
use crate::revocations::{Revocations, Wish};
use crate::{LoadFailure, Paths};

/// How long a change stays unnoticed on a file system that tells nothing: a tenth of the minute that kubelet takes
/// to bring a changed volume to a pod.
const POLL: Duration = Duration::from_secs(10);
/// How late the end of a denial may be noticed and told; the judge itself is never late.
const TICK: Duration = Duration::from_secs(1);

/// What the first load read, and all revocations accepted: where [`watch`] goes on.
#[derive(Debug)]
pub struct Baseline {
    credential: Remembered,
    bundle: Remembered,
    revocations: Revocations,
    restored: Restored,
    poll: Duration,
}

impl Baseline {
    pub(crate) fn new(
        (credential, bundle): (Remembered, Remembered),
        revocations: Revocations,
        restored: Restored,
    ) -> Baseline {
        Baseline { credential, bundle, revocations, restored, poll: POLL }
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
    desk: Desk,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    /// Where the operator's side asks.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Whether it ended by itself, which only a panic can bring about: nothing new comes into force any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
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
/// at once. When this returns, denials of the overlay that outlived a restart are in force: call it before the traffic
/// starts. An error is that the thread cannot start, or that the state folder cannot be used.
pub fn watch(
    paths: Paths,
    library: Baseline,
    (live, introductions): (Arc<Live>, mpsc::Receiver<Introduction>),
    metrics: Arc<Metrics>,
) -> Result<Watching, LoadFailure> {
    let failed = |error: std::io::Error| {
        LoadFailure(format!("files cannot be watched: no thread can start ({error}); allow the process more threads"))
    };
    let keeper = Keeper::claim(paths.state_dir.as_deref(), &library.restored)?;
    let (stop, stopped) = oneshot::channel();
    let report = Report::new(Arc::clone(&live), metrics);
    let bell = Arc::new(Bell::default());
    let (watches, deaf) = Watches::new(Arc::clone(&bell));
    let (desk, asks) = Desk::open(paths.requirements.clone(), paths.max_denial_ttl);
    let mut watch = Watch {
        paths,
        poll: library.poll,
        credential: library.credential,
        bundle: library.bundle,
        revocations: library.revocations,
        denials: Denials::default(),
        denials_unsaved: false,
        keeper,
        counter: desk.counter(),
        live,
        report,
        watches,
        told_deaf: false,
    };
    watch.tell_deaf(deaf);
    watch.begin(library.restored);
    // A runtime must not be dropped within another one, which the caller may be in: the thread makes its own.
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let _cry = Cry;
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => {
                let _ = ready.send(Ok(()));
                runtime.block_on(watch.run(bell, (introductions, asks), stopped));
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    };
    let thread = std::thread::Builder::new().name("sources".to_owned()).spawn(run).map_err(failed)?;
    let watching = Watching { desk, stop: Some(stop), thread: Some(thread) };
    match is_ready.recv() {
        Ok(started) => started.map_err(failed).map(|()| watching),
        Err(gone) => Err(failed(std::io::Error::other(gone))),
    }
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

/// Everything that the thread holds.
pub(crate) struct Watch {
    pub(crate) paths: Paths,
    poll: Duration,
    credential: Remembered,
    bundle: Remembered,
    pub(crate) revocations: Revocations,
    pub(crate) denials: Denials,
    /// The state folder holds other denials than these.
    pub(crate) denials_unsaved: bool,
    pub(crate) keeper: Keeper,
    pub(crate) counter: Arc<Counter>,
    pub(crate) live: Arc<Live>,
    pub(crate) report: Report,
    watches: Watches,
    told_deaf: bool,
}

impl Watch {
    async fn run(
        mut self,
        bell: Arc<Bell>,
        (mut introductions, mut asks): (mpsc::Receiver<Introduction>, mpsc::Receiver<Ask>),
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut poll = tokio::time::interval(self.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whoever moves a controlled clock nudges.
        let mut nudges = self.live.watch();
        // The first tick comes at once: what changed between the first load and now is found here.
        poll.tick().await;
        self.look(bell.take(), true).await;
        let (mut introduced, mut asked) = (true, true);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                introduction = introductions.recv(), if introduced => match introduction {
                    Some(introduction) => self.introduce(&introduction.der),
                    None => introduced = false,
                },
                ask = asks.recv(), if asked => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => asked = false,
                },
                () = bell.rung() => self.look(bell.take(), false).await,
                _ = poll.tick() => {
                    self.look(bell.take(), true).await;
                    self.weigh_held_again().await;
                    self.keep();
                }
                _ = tick.tick(), if !self.denials.is_empty() => self.end_denials(),
                Ok(()) = nudges.changed() => self.end_denials(),
            }
        }
    }

    async fn look(&mut self, heard: Heard, poll: bool) {
        let credential = self.paths.credential.files();
        let anchors = self.paths.client_cas.iter().map(|(_, path)| path.as_path());
        let revocations = self.paths.revocations.iter().map(PathBuf::as_path);
        let all: Vec<&Path> = credential.into_iter().chain(anchors).chain(revocations).collect();
        let deaf = self.watches.arm(&all, &heard);
        self.tell_deaf(deaf);
        let names: HashSet<_> = heard.paths.iter().filter_map(|path| path.file_name()).map(ToOwned::to_owned).collect();
        self.look_at_credential(&heard);
        self.look_at_bundle(&heard);
        self.look_at_revocations(&Wish { poll, everything: heard.everything, names }).await;
    }

    fn look_at_credential(&mut self, heard: &Heard) {
        let began = Instant::now();
        let source = ReloadSource::Credential;
        let path = self.paths.credential.cert().path;
        self.credential.hear(&self.paths.credential.files(), heard);
        // A pair of which one was replaced while we read the other is read once more before it is a failure.
        for last in [false, true] {
            let files = match self.paths.credential.read() {
                Ok(files) => files,
                Err(_) if !last => continue,
                Err(failure) => {
                    if self.credential.is_news(Sha256([0; 32]), &failure) {
                        self.report.failed(source, (&failure, began));
                    }
                    return;
                }
            };
            let digest = files.digest();
            if digest == self.credential.good {
                if self.credential.same(files.stamps()) {
                    self.report.unchanged(source);
                }
                return;
            }
            let (read, now) = ((self.paths.credential.files(), files.stamps()), self.live.now());
            let half = self.credential.may_be_half((&read.0, &read.1), heard, now);
            match files.build(&self.paths.credential, now) {
                Ok(_) if half => return,
                Ok(credential) => {
                    self.live.renew(credential);
                    self.credential = Remembered::new(digest, files.stamps());
                    self.report.changed(source, path, ("the proxy's own certificate was renewed", began));
                    files.warnings(&self.paths.credential).iter().for_each(|one| self.report.warning(one));
                    return;
                }
                Err(_) if !last => {}
                Err(failure) => {
                    if self.credential.is_news(digest, &failure) {
                        self.report.failed(source, (&failure, began));
                    }
                }
            }
        }
    }

    fn look_at_bundle(&mut self, heard: &Heard) {
        let began = Instant::now();
        let source = ReloadSource::Bundle;
        let paths: Vec<&Path> = self.paths.client_cas.iter().map(|(_, path)| path.as_path()).collect();
        self.bundle.hear(&paths, heard);
        let files = AnchorFiles::read(&self.paths.client_cas);
        let (digest, stamps) = (files.digest(), files.stamps().to_vec());
        if files.is_whole() && digest == self.bundle.good {
            if self.bundle.same(stamps) {
                self.report.unchanged(source);
            }
            return;
        }
        let now = self.live.now();
        let half = self.bundle.may_be_half((&files.files(), &stamps), heard, now);
        let (bundle, warnings) = match files.build(now) {
            Ok(_) if half => return,
            Ok(built) => built,
            Err(failure) => {
                if self.bundle.is_news(digest, &failure) {
                    self.report.failed(source, (&failure, began));
                }
                return;
            }
        };
        let bundle = Arc::new(bundle);
        let refusals = self.revocations.rebase(&bundle);
        let what = format!("{} anchors are trusted now", bundle.len());
        self.publish(Some(bundle));
        self.bundle = Remembered::new(digest, stamps);
        let path = self.paths.client_cas.first().map_or(Path::new(""), |(_, path)| path);
        self.report.changed(source, path, (&what, began));
        refusals.iter().for_each(|refused| self.report.refused_after_waiting(refused));
        warnings.iter().for_each(|one| self.report.warning(one));
    }

    /// Says once that the kernel tells nothing: the poll goes on, and so does the proxy.
    fn tell_deaf(&mut self, deaf: Option<Deaf>) {
        let Some(Deaf(why)) = deaf else { return };
        if !std::mem::replace(&mut self.told_deaf, true) {
            self.report.warning(&format!(
                "changed files are noticed only by the poll, every {} ms: the kernel tells nothing ({why}); raise \
                 fs.inotify.max_user_instances and fs.inotify.max_user_watches",
                self.poll.as_millis()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_watch_that_panicked_is_seen_to_have_ended() {
        let (desk, _asks) = Desk::open(revocation::Requirements::default(), POLL);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _cry = Cry;
            let _ = wait.recv();
            panic!("as a test wants it");
        });
        let watching = Watching { desk, stop: None, thread: Some(thread) };
        assert!(!watching.has_ended());
        go.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !watching.has_ended() {
            assert!(Instant::now() < deadline, "nobody can see that it ended");
            std::thread::yield_now();
        }
    }
}
