//! A Unix socket in the file system, for its owner alone, from bind to removal.
//!
//! Used by `control.rs`. It must never remove a file that is no socket, nor one that another process listens on, nor
//! let anybody connect before the mode is right.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Read and write for the owner: connecting needs the right to write.
const MODE: u32 = 0o600;

/// The file of a bound socket; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Another process may have put a socket of its own there meanwhile.
    place: Place,
}

impl SocketFile {
    /// Binds `path` and listens there. An error completes "--control unix:/path … ".
    pub(crate) fn bind(path: &Path) -> Result<(SocketFile, UnixListener), String> {
        make_way(path)?;
        let failed = |error: io::Error| {
            format!(
                "cannot be listened on ({error}); choose a path, not too long, in a folder that this process may write"
            )
        };
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), place: place(path).map_err(failed)? };
        // Nobody can connect until it listens: the mode comes first.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok((file, socket.into()))
    }
}

/// Device, inode and time of birth, or nearly: file systems use the number of a removed inode again at once.
type Place = (u64, u64, i64, i64);

fn place(path: &Path) -> io::Result<Place> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Removes the socket of a process that is gone.
fn make_way(path: &Path) -> Result<(), String> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot be looked at ({error}); choose a path that this process may reach")),
    };
    if !kind.is_socket() {
        return Err("is there already and no socket; choose another path, or remove it by hand".to_owned());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| format!("is left from an earlier run and cannot be removed ({error})")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => Err("is in use by another process; choose another path, or stop that one".to_owned()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if place(&self.path).is_ok_and(|place| place == self.place) {
            // If it cannot be removed, the next start finds it refused and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_socket_is_for_its_owner_alone_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let (file, listener) = SocketFile::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(SocketFile::bind(&path).unwrap_err().contains("in use"));
        drop(listener);
        // Left behind, as by a process that was killed.
        let (second, _listener) = SocketFile::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "the first one's end takes nothing from the second");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "precious").unwrap();
        assert!(SocketFile::bind(&path).unwrap_err().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert!(SocketFile::bind(&folder.path().join("no/such/folder")).unwrap_err().contains("cannot be listened on"));
        assert!(SocketFile::bind(&folder.path().join("x".repeat(200))).is_err());
    }
}
