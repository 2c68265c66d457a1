//! What the kernel tells about files: kept until somebody looks, and the folders that are watched.
//!
//! Used by `watch.rs`. However much happens between two looks, one look follows; the memory of it is bounded. It must
//! never look at a file's content.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::trail::Trail;

/// Paths remembered between two looks; beyond them everything is read.
const MAX_PATHS: usize = 1024;

/// What happened since the last look.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Something happened to these.
    pub(crate) paths: HashSet<PathBuf>,
    /// Too much happened, or something was missed.
    pub(crate) everything: bool,
}

impl Heard {
    /// Whether something that happened concerns this file: its writer closed it, or it came there whole.
    pub(crate) fn tells_of(&self, file: &Path) -> bool {
        let mut trail = Trail::default();
        trail.follow(file);
        self.everything || self.paths.iter().any(|path| trail.concerns(path))
    }
}

/// Rung by the kernel's events, heard by one thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    heard: Mutex<Heard>,
    trail: Mutex<Trail>,
    ring: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    /// Waits until something that matters has happened.
    pub(crate) async fn rung(&self) {
        self.ring.notified().await;
    }

    /// What happened since this was last asked.
    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut lock(&self.heard))
    }

    fn hear(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            lock(&self.heard).everything = true;
            self.ring.notify_one();
            return;
        };
        if event.need_rescan() {
            lock(&self.heard).everything = true;
            self.ring.notify_one();
            return;
        }
        if !is_change(&event) {
            return;
        }
        let trail = lock(&self.trail);
        let concerning: Vec<_> = event.paths.into_iter().filter(|path| trail.concerns(path)).collect();
        drop(trail);
        if concerning.is_empty() {
            return;
        }
        let mut heard = lock(&self.heard);
        if heard.paths.len() < MAX_PATHS {
            heard.paths.extend(concerning);
        } else {
            heard.everything = true;
        }
        drop(heard);
        self.ring.notify_one();
    }
}

/// Whether a file is different now, and complete as far as can be told: a file that is being written is looked at
/// when its writer closes it, not at each piece.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Create(CreateKind::File) => {
            // A new file is empty and will be closed; only a link, symbolic or hard, is complete at once.
            let written =
                |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.nlink() < 2);
            !event.paths.iter().all(written)
        }
        EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => false,
    }
}

/// The folders that are watched.
pub(crate) struct Watches {
    bell: Arc<Bell>,
    watcher: Option<RecommendedWatcher>,
    /// With device and inode: a folder that was replaced is another one under the same name.
    armed: BTreeMap<PathBuf, (u64, u64)>,
}

/// Why changes are noticed only by the poll.
#[derive(Debug)]
pub(crate) struct Deaf(pub(crate) String);

impl Watches {
    /// Watches nothing yet.
    pub(crate) fn new(bell: Arc<Bell>) -> (Watches, Option<Deaf>) {
        let ears = Arc::clone(&bell);
        let made = notify::recommended_watcher(move |event| ears.hear(event));
        let (watcher, deaf) = match made {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(Deaf(error.to_string()))),
        };
        (Watches { bell, watcher, armed: BTreeMap::new() }, deaf)
    }

    /// Watches the folders of the trails to `paths`. Returns what cannot be watched.
    pub(crate) fn arm(&mut self, paths: &[&Path], heard: &Heard) -> Option<Deaf> {
        self.armed.retain(|folder, id| {
            // What happened to the folder itself may have ended its watch.
            let same = !heard.everything && !heard.paths.contains(folder) && identity(folder) == Some(*id);
            if let (false, Some(watcher)) = (same, &mut self.watcher) {
                let _ = watcher.unwatch(folder);
            }
            same
        });
        let mut before = None;
        let mut deaf = None;
        // A folder that comes or goes between looking and watching changes the trail: then it is walked again.
        for _ in 0..5 {
            let mut trail = Trail::default();
            paths.iter().for_each(|path| trail.follow(path));
            if before.as_ref() == Some(&trail) {
                break;
            }
            *lock(&self.bell.trail) = trail.clone();
            deaf = self.watch(&trail);
            before = Some(trail);
        }
        deaf
    }

    fn watch(&mut self, trail: &Trail) -> Option<Deaf> {
        let watcher = self.watcher.as_mut()?;
        self.armed.retain(|folder, _| {
            let wanted = trail.folders.contains(folder);
            if !wanted {
                let _ = watcher.unwatch(folder);
            }
            wanted
        });
        let mut deaf = None;
        for folder in &trail.folders {
            if self.armed.contains_key(folder) {
                continue;
            }
            let Some(id) = identity(folder) else { continue };
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(folder.clone(), id);
                }
                Err(error) => deaf = Some(Deaf(error.to_string())),
            }
        }
        deaf
    }
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn until_heard(bell: &Bell, path: &Path) -> Heard {
        let mut all = Heard::default();
        while !all.paths.contains(path) {
            tokio::time::timeout(PATIENCE, bell.rung()).await.unwrap();
            all.paths.extend(bell.take().paths);
        }
        all
    }

    /// Replaces a watched folder while nobody looks, looks once, and changes a file in the new one.
    async fn is_heard_after(replace: impl Fn(&Path, &Path)) {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (folder, file) = (root.join("folder"), root.join("folder/file"));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "1").unwrap();
        let bell = Arc::new(Bell::default());
        let (mut watches, deaf) = Watches::new(Arc::clone(&bell));
        assert!(deaf.is_none());
        assert!(watches.arm(&[&file], &Heard::default()).is_none());
        replace(&root, &folder);
        let heard = until_heard(&bell, &folder).await;
        assert!(watches.arm(&[&file], &heard).is_none());
        bell.take();
        fs::write(&file, "2").unwrap();
        until_heard(&bell, &file).await;
    }

    #[tokio::test]
    async fn a_folder_that_another_took_the_place_of_is_watched_again() {
        is_heard_after(|root, folder| {
            fs::create_dir(root.join("next")).unwrap();
            fs::rename(folder, root.join("before")).unwrap();
            fs::rename(root.join("next"), folder).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_folder_that_was_removed_and_made_anew_is_watched_again() {
        is_heard_after(|_, folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_file_is_looked_at_when_its_writer_closes_it_and_not_before() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (written, last) = (root.join("written"), root.join("last"));
        let bell = Arc::new(Bell::default());
        let (mut watches, _) = Watches::new(Arc::clone(&bell));
        watches.arm(&[&root], &Heard::default());
        let writer = fs::File::create(&written).unwrap();
        fs::write(&written, "piece").unwrap();
        // That was opened, written and closed by somebody else, and is told; a file still open is not.
        until_heard(&bell, &written).await;
        let open = root.join("open");
        let _open = fs::File::create(&open).unwrap();
        fs::write(&last, "x").unwrap();
        assert!(!until_heard(&bell, &last).await.paths.contains(&open));
        drop(writer);
    }

    #[test]
    fn more_than_can_be_remembered_means_everything() {
        let bell = Bell::default();
        bell.trail.lock().unwrap().follow(Path::new("/"));
        for number in 0..=MAX_PATHS {
            let event = Event::new(EventKind::Modify(ModifyKind::Any)).add_path(PathBuf::from(format!("/{number}")));
            bell.hear(Ok(event));
        }
        assert!(!bell.take().everything, "a write under way is no change");
        for number in 0..=MAX_PATHS {
            let event = Event::new(EventKind::Remove(notify::event::RemoveKind::File));
            bell.hear(Ok(event.add_path(PathBuf::from(format!("/{number}")))));
        }
        let heard = bell.take();
        assert!(heard.everything && heard.paths.len() == MAX_PATHS);
    }
}
