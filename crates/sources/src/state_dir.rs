//! The folder of `--state-dir`, claimed and written: what was accepted is kept over a restart.
//!
//! Claimed by `watch.rs`, written by `keeper.rs`. Content and floor are replaced together or not at all, whenever the
//! process is killed. It must never take anything out of force.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use trust::Sha256;

use crate::LoadFailure;
use crate::kept::{DAMAGED, Damage, Drawer, FORMAT, Flaw, Kept, Label, Place, failure, open};

/// What a file is called while it is written: a dot keeps it from being read.
const DRAFT: &str = ".draft";

/// The folder, claimed by this process: nobody else writes into it.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder if it is missing, locks it, and removes what a process left that died while it wrote.
    pub(crate) fn claim(root: &Path) -> Result<StateDir, LoadFailure> {
        let unusable = |error: io::Error| {
            failure(root, format_args!("cannot be written ({error}); name a folder that the proxy's user may write to"))
        };
        make_folder(root).map_err(unusable)?;
        let lock = private(root.join(".lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failure(root, "another process uses it; give each proxy a folder of its own"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        for drawer in Drawer::ALL {
            let folder = root.join(drawer.folder());
            make_folder(&folder).map_err(unusable)?;
            sweep(&folder).map_err(unusable)?;
        }
        let state_dir = StateDir { root: root.to_owned(), _lock: lock };
        // The drawers themselves outlive a stop of the machine.
        File::open(root).and_then(|folder| folder.sync_all()).map_err(unusable)?;
        // A folder that is read-only or full is told now, not when the first denial must be kept. The dot keeps the
        // file from being read if a kill leaves it.
        let trial = Place { drawer: Drawer::Desk, name: ".trial".to_owned() };
        state_dir.write(&trial, &Label::default(), b"").map_err(unusable)?;
        fs::remove_file(state_dir.path(&trial)).map_err(unusable)?;
        Ok(state_dir)
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps a damaged file as evidence, where nobody reads it.
    pub(crate) fn set_aside(&self, damage: &Damage) -> io::Result<()> {
        let mut name = damage.path.clone().into_os_string();
        name.push(DAMAGED);
        fs::rename(&damage.path, name)
    }

    /// Replaces what lies at a place, in one step. After a kill at any moment there is the old or the new.
    pub(crate) fn write(&self, place: &Place, label: &Label, bytes: &[u8]) -> io::Result<()> {
        let label = Label {
            portcullis: FORMAT.to_owned(),
            sha256: Sha256::of(bytes).to_string(),
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            ..label.clone()
        };
        let mut line = serde_json::to_vec(&label)?;
        line.push(b'\n');
        let folder = self.root.join(place.drawer.folder());
        let draft = folder.join(format!(".{}{DRAFT}", place.name));
        let written = write_draft(&draft, &line, bytes).and_then(|()| fs::rename(&draft, self.path(place)));
        if let Err(error) = written {
            // On a full disk the draft itself takes the room that the next try needs.
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        // Without this the rename itself may be forgotten when the machine stops.
        File::open(&folder)?.sync_all()
    }

    /// Reads one thing again.
    pub(crate) fn read(&self, place: &Place, max_bytes: u64) -> Result<Kept, String> {
        let (label, digest, bytes) =
            open(&self.path(place), max_bytes).map_err(|(Flaw::Damaged(why) | Flaw::Unread(why))| why)?;
        Ok(Kept { place: place.clone(), label, digest, bytes })
    }

    /// Removes what lies at a place.
    pub(crate) fn remove(&self, place: &Place) -> io::Result<()> {
        match fs::remove_file(self.path(place)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, place: &Place) -> PathBuf {
        self.root.join(place.drawer.folder()).join(&place.name)
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn write_draft(draft: &Path, line: &[u8], bytes: &[u8]) -> io::Result<()> {
    // A draft that was left may be a link, and may have another mode.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(line)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(DRAFT.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::kept::{Contents, contents};

    fn place() -> Place {
        Place { drawer: Drawer::Lists, name: "enforce-prod".to_owned() }
    }

    fn all(root: &Path) -> Contents {
        contents(root, 1 << 20).unwrap()
    }

    #[test]
    fn what_was_written_is_read_again_and_replaced_in_one_step() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("state");
        assert!(all(&root).kept.is_empty());
        let state_dir = StateDir::claim(&root).unwrap();
        for sequence in 1..=2 {
            let label = Label { sequence: Some(sequence), ..Label::default() };
            state_dir.write(&place(), &label, b"one\ntwo").unwrap();
            let contents = all(&root);
            assert_eq!((contents.kept.len(), contents.damages.len()), (1, 0));
            assert_eq!(contents.kept[0].label.sequence, Some(sequence));
            assert_eq!(contents.kept[0].bytes, b"one\ntwo");
        }
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(root.join("lists")), mode(root.join("lists/enforce-prod"))), (0o700, 0o600));
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_is_damaged_and_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::claim(root.path()).unwrap();
        state_dir.write(&place(), &Label::default(), b"content").unwrap();
        let file = root.path().join("lists/enforce-prod");
        let good = fs::read(&file).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&file, &bad).unwrap();
            // A key of the first line that is spelled otherwise is unknown, or missing; its optional ones may differ.
            match contents(root.path(), 1 << 20) {
                Ok(contents) => {
                    let same = contents.kept.first().is_some_and(|kept| kept.bytes == b"content");
                    assert!(same || contents.damages.len() == 1, "byte {position}");
                }
                Err(failure) => assert!(failure.0.contains("format"), "byte {position}: {failure}"),
            }
            fs::write(&file, &good[..position]).unwrap();
            assert_eq!(all(root.path()).damages.len(), 1, "cut at {position}");
        }
        let damage = all(root.path()).damages.remove(0);
        assert!(damage.sentence.contains("--state-dir") && damage.sentence.contains("set aside"), "{damage:?}");
        state_dir.set_aside(&damage).unwrap();
        assert!(all(root.path()).damages.is_empty());
        assert!(root.path().join("lists/enforce-prod~damaged").exists());
    }

    #[test]
    fn what_a_dead_process_left_half_written_is_never_read_and_swept_away() {
        let root = tempfile::tempdir().unwrap();
        drop(StateDir::claim(root.path()).unwrap());
        let draft = root.path().join("lists/.enforce-prod.draft");
        fs::write(&draft, "half").unwrap();
        assert!(all(root.path()).kept.is_empty() && all(root.path()).damages.is_empty());
        StateDir::claim(root.path()).unwrap();
        assert!(!draft.exists());
    }

    #[test]
    fn two_processes_cannot_share_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDir::claim(root.path()).unwrap();
        assert!(StateDir::claim(root.path()).unwrap_err().0.contains("another process uses it"));
        drop(first);
        assert!(StateDir::claim(root.path()).is_ok());
    }

    #[test]
    fn a_file_larger_than_the_limit_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = StateDir::claim(root.path()).unwrap();
        state_dir.write(&place(), &Label::default(), &[b'x'; 200_000]).unwrap();
        let sentence = contents(root.path(), 1000).unwrap_err().0;
        assert!(sentence.contains("larger") && sentence.contains("--revocation-max-bytes"), "{sentence}");
        assert!(root.path().join("lists/enforce-prod").exists(), "it may be whole, and another limit may come");
    }
}
