//! Files and folders, read within bounds.
//!
//! Called for every path that trust comes from. It must never wait without end: only regular files are opened, and
//! never more than a limit is read, whatever the file says about its size.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use trust::{Sha256, Time};

use crate::LoadFailure;

/// Bytes of one PEM file: some 500 certificates, three times the store of a browser.
pub(crate) const PEM_LIMIT: u64 = 1 << 20;
/// Files directly in one folder: four times the CRLs that can be in force.
const MAX_FILES: usize = 4096;

/// Why a file or folder could not be read; completes "--flag PATH: …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// There is nothing at the path.
    Missing,
    /// It has more bytes than this.
    TooLarge(u64),
    /// Why, and the remedy.
    Because(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Missing => f.write_str("does not exist; create it or correct the path"),
            Unread::TooLarge(limit) => {
                write!(f, "is larger than {limit} bytes, which is the limit; name the right file, or split it")
            }
            Unread::Because(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Unread {
        if error.kind() == io::ErrorKind::NotFound {
            return Unread::Missing;
        }
        Unread::Because(format!("cannot be read ({error}); let the proxy's user read it"))
    }
}

/// By what a changed file is noticed without reading it. The time of the last status change is part of it because
/// the time of the last modification can be set back, and tools that copy do so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Bytes.
    pub(crate) size: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
        }
    }

    /// When the file was last written.
    pub(crate) fn modified(&self) -> Time {
        let (seconds, nanoseconds) = self.modified;
        Time::from_millis(seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000))
    }

    /// Of the file at `path`, symbolic links followed.
    pub(crate) fn at(path: &Path) -> Result<Stamp, Unread> {
        Ok(Stamp::of(&fs::metadata(path)?))
    }
}

/// The content of one file.
pub(crate) struct Content {
    /// All of it.
    pub(crate) bytes: Vec<u8>,
    /// From before it was read: a later change shows as another stamp.
    pub(crate) stamp: Stamp,
    /// Its permission bits.
    pub(crate) mode: u32,
}

impl Content {
    /// Digest of the bytes.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(&self.bytes)
    }
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Content, Unread> {
    // Before opening, because opening a pipe would wait for its writer.
    check_regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check_regular(&metadata)?;
    if metadata.len() > limit {
        return Err(Unread::TooLarge(limit));
    }
    // One byte more than announced: reading ends without growing the buffer to twice its size.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(Unread::TooLarge(limit));
    }
    Ok(Content { bytes, stamp: Stamp::of(&metadata), mode: metadata.mode() })
}

fn check_regular(metadata: &Metadata) -> Result<(), Unread> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a folder" } else { "a device, pipe or socket" };
    Err(Unread::Because(format!("is {what}, not a regular file; name a regular file")))
}

/// The file at a path, or those directly within the folder there, sorted by name. In a folder, names that begin with
/// a dot are skipped (drafts, and the machinery of projected volumes), and so is what is no file; a link to nothing
/// counts as absent.
pub(crate) fn list(path: &Path) -> Result<Vec<PathBuf>, Unread> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().first() == Some(&b'.') {
            continue;
        }
        let file = entry.path();
        let wanted = match fs::metadata(&file) {
            Ok(metadata) => metadata.is_file(),
            // What cannot be looked at is kept, so that reading it tells why.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if wanted {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(Unread::Because(format!("holds more than {MAX_FILES} files; name a folder of its own")));
        }
    }
    files.sort();
    Ok(files)
}

/// A flag and a path, as every sentence begins: `--cert /etc/tls.crt`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// The flag.
    pub(crate) flag: &'static str,
    /// The path.
    pub(crate) path: &'a Path,
}

/// Why a file changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Flag, path, reason and remedy.
    pub(crate) sentence: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Where in the file.
    pub(crate) line: Option<usize>,
    /// Where in the line.
    pub(crate) column: Option<usize>,
}

impl Named<'_> {
    /// What is wrong with it: `why` completes "--flag PATH: …".
    pub(crate) fn failure(self, why: impl fmt::Display) -> Failure {
        Failure { sentence: format!("{self}: {why}"), path: self.path.to_owned(), line: None, column: None }
    }
}

impl From<Failure> for LoadFailure {
    fn from(failure: Failure) -> LoadFailure {
        LoadFailure(failure.sentence)
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flag, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_endless_device_is_refused_without_reading_it() {
        let why = read(Path::new("/dev/zero"), 16).err().unwrap();
        assert_eq!(why.to_string(), "is a device, pipe or socket, not a regular file; name a regular file");
    }

    #[test]
    fn a_regular_file_that_says_nothing_of_its_size_is_read_within_the_limit() {
        // Files of procfs say they have 0 bytes.
        assert!(!read(Path::new("/proc/self/status"), PEM_LIMIT).ok().unwrap().bytes.is_empty());
        let why = read(Path::new("/proc/self/status"), 8).err().unwrap();
        assert!(why.to_string().contains("larger than"), "{why}");
    }

    #[test]
    fn a_folder_lists_regular_files_by_name_and_skips_dots_folders_and_dangling_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("b"), "b").unwrap();
        fs::write(at("a"), "a").unwrap();
        fs::write(at(".draft"), "x").unwrap();
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("b", at("link")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        assert_eq!(list(folder.path()).unwrap(), [at("a"), at("b"), at("link")]);
    }

    #[test]
    fn a_socket_is_refused_without_opening_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(read(&socket, 16).err().unwrap().to_string().contains("not a regular file"));
    }
}
