//! Which folders to watch so that no change of a path goes unheard.
//!
//! Called before each look. A path can change its meaning at every symbolic link on its way (`..data` of a projected
//! volume, `current` of a release folder), so the folder of each such link is watched, and the folder of the file
//! itself; where the way ends in nothing, the last folder that exists. It must never read a file.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links on one way; the kernel gives up after as many.
const MAX_LINKS: usize = 40;

/// Where to listen, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    /// Folders to be watched.
    pub(crate) folders: BTreeSet<PathBuf>,
    /// Of these every name matters.
    whole: BTreeSet<PathBuf>,
    /// Names that matter anywhere.
    names: HashSet<OsString>,
}

impl Trail {
    /// Adds the way to `path`, and, if it is a folder, all directly within.
    pub(crate) fn follow(&mut self, path: &Path) {
        let Some(folder) = self.walk(path) else { return };
        self.folders.insert(folder.clone());
        self.whole.insert(folder.clone());
        let Ok(entries) = fs::read_dir(&folder) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.walk(&entry.path());
            }
        }
    }

    /// Whether something that happened to `path` may concern us.
    pub(crate) fn concerns(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.names.contains(name))
            || path.parent().is_some_and(|folder| self.whole.contains(folder))
            || self.folders.contains(path)
    }

    /// Walks to the end; returns it if it is a folder.
    fn walk(&mut self, path: &Path) -> Option<PathBuf> {
        let absolute = std::path::absolute(path).ok()?;
        let mut rest: VecDeque<OsString> = steps(&absolute);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(step) = rest.pop_front() {
            if step == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&step);
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                self.note(here, step);
                return None;
            };
            if metadata.is_symlink() {
                self.note(here.clone(), step);
                links += 1;
                let target = fs::read_link(&next).ok().filter(|_| links <= MAX_LINKS)?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                let mut further = steps(&target);
                further.append(&mut rest);
                rest = further;
            } else if metadata.is_dir() {
                if rest.is_empty() {
                    self.note(here, step);
                }
                here = next;
            } else {
                self.note(here, step);
                return None;
            }
        }
        Some(here)
    }

    fn note(&mut self, folder: PathBuf, name: OsString) {
        self.folders.insert(folder);
        self.names.insert(name);
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_folder_of_every_link_on_the_way_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("volume/..2026/sub")).unwrap();
        fs::write(root.join("volume/..2026/sub/tls.crt"), "x").unwrap();
        symlink("..2026", root.join("volume/..data")).unwrap();
        symlink("..data/sub", root.join("volume/sub")).unwrap();
        let mut trail = Trail::default();
        trail.follow(&root.join("volume/sub/tls.crt"));
        assert_eq!(trail.folders, BTreeSet::from([root.join("volume"), root.join("volume/..2026/sub")]));
        assert!(trail.concerns(&root.join("volume/..data")));
        assert!(!trail.concerns(&root.join("volume/else")));
    }

    #[test]
    fn where_the_way_ends_in_nothing_the_last_folder_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let mut trail = Trail::default();
        trail.follow(&root.join("missing/tls.crt"));
        assert_eq!(trail.folders, BTreeSet::from([root.clone()]));
        assert!(trail.concerns(&root.join("missing")));
    }

    #[test]
    fn a_ring_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        symlink("two", root.path().join("one")).unwrap();
        symlink("one", root.path().join("two")).unwrap();
        let mut trail = Trail::default();
        trail.follow(&root.path().join("one"));
        assert!(trail.concerns(&root.path().join("two")));
    }
}
