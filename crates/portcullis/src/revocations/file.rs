//! One list on its way from a file and back: read, changed, replaced whole.
//!
//! Used by every command here; `-` is standard input and output. A file is replaced by renaming a whole new one over
//! it, so that a watching sidecar never sees half of it; its folder is locked meanwhile, so that of two changes made
//! at once none is lost. It must never leave a file readable to more people than the one it replaces.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::revocations::progress::Progress;

/// More than ten million entries as JSON lines take; an endless input ends here.
pub(crate) const MAX_BYTES: u64 = 4 << 30;
/// What is read or written between two looks at the progress.
const PIECE: usize = 1 << 20;
/// A list is public: sidecars of other users read it.
const MODE: u32 = 0o644;

/// Whether the path means standard input or output.
pub(crate) fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The path as sentences call it.
pub(crate) fn shown(path: &Path) -> String {
    if is_stream(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// The whole content; `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let progress = Progress::new(format!("reading {}", shown(path)));
    if is_stream(path) {
        if io::stdin().is_terminal() {
            let sentence = "standard input is the terminal; name a file, or pipe one in".to_owned();
            return Err(Failure::AtStart(sentence));
        }
        return read_from(io::stdin().lock(), path, &progress).map(Some);
    }
    match File::open(path) {
        Ok(file) => {
            progress.out_of(file.metadata().map_or(0, |metadata| metadata.len()));
            read_from(file, path, &progress).map(Some)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// The whole content of a file that must be there.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_if_there(path)?.ok_or_else(|| {
        Failure::AtStart(format!("{} cannot be read (there is no such file); name one that is there", path.display()))
    })
}

/// The same as text, for keys and certificates.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::AtStart(format!("{} is no PEM file (not text); convert it from DER", shown(path))))
}

fn read_from(mut from: impl Read, path: &Path, progress: &Progress) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        let room = u64::try_from(PIECE).unwrap_or(u64::MAX);
        let count = from.by_ref().take(room).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        progress.reached(bytes.len());
        if count == 0 {
            return Ok(bytes);
        }
        if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
            let sentence = format!("{} is larger than 4 GiB, and no list is; name a list", shown(path));
            return Err(Failure::AtStart(sentence));
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::AtStart(format!("{} cannot be read ({error}); name a file that you may read", shown(path)))
}

/// A file that will be replaced.
pub(crate) struct Target {
    /// Behind symbolic links: they stay.
    path: Option<PathBuf>,
    /// Held until the change is done.
    _lock: Option<File>,
}

impl Target {
    /// Locks out other changes of the same folder until it is dropped.
    pub(crate) fn open(path: &Path) -> Result<Target, Failure> {
        if is_stream(path) {
            return Ok(Target { path: None, _lock: None });
        }
        // A link whose target is missing stays a link to nothing: the file is made where it points.
        let path = fs::canonicalize(path).or_else(|_| fs::read_link(path)).unwrap_or_else(|_| path.to_owned());
        let folder = folder_of(&path);
        let lock = File::open(&folder).map_err(|error| {
            Failure::AtStart(format!(
                "the folder {} cannot be opened ({error}); name one that is there",
                folder.display()
            ))
        })?;
        // A file system without locks is no reason to refuse the change: renaming alone keeps files whole.
        let locked = lock.lock().is_ok();
        Ok(Target { path: Some(path), _lock: locked.then_some(lock) })
    }

    /// Replaces the file, or writes standard output.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(path) = &self.path else {
            let mut stdout = io::stdout().lock();
            return stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
                Failure::WhileRunning(format!("standard output cannot be written ({error}); nothing else was changed"))
            });
        };
        replace(path, bytes).map_err(|error| {
            Failure::AtStart(format!(
                "{} cannot be written ({error}), it is as it was; name a file in a folder that you may write",
                path.display()
            ))
        })
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let replaced = fs::metadata(path).ok();
    let mode = replaced.as_ref().map_or(MODE, |metadata| metadata.mode() & 0o7777);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = folder_of(path);
    let beside = folder.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        // Until its owner is right, a replacement is nobody else's to read.
        let first = if replaced.is_some() { mode & 0o700 } else { mode };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(first).open(&beside)?;
        if let Some(metadata) = &replaced {
            keep_owner(&file, metadata)?;
            // The umask does not apply to a mode that somebody gave the old file.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        let progress = Progress::new(format!("writing {}", path.display()));
        progress.out_of(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut done = 0;
        for piece in bytes.chunks(PIECE) {
            file.write_all(piece)?;
            done += piece.len();
            progress.reached(done);
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_ok() {
        // The new file is there; a file system that cannot sync folders has done what it can.
        let _ = File::open(&folder).and_then(|folder| folder.sync_all());
    }
    if written.is_err() {
        // Nothing of ours stays behind; that it may be gone already is all right.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Somebody else's file stays theirs, or a sidecar could lose its right to read it.
fn keep_owner(file: &File, replaced: &fs::Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if own.uid() == replaced.uid() && own.gid() == replaced.gid() {
        return Ok(());
    }
    match fchown(file, Some(replaced.uid()), Some(replaced.gid())) {
        // Readable to everybody or to the old owner's group, it serves as before.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && replaced.mode() & 0o004 != 0 => Ok(()),
        ended => ended,
    }
}
