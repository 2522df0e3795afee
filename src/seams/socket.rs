//! A Unix socket at a path, for one process at a time.
//!
//! The file of a process that is no more is taken over; one behind which somebody listens is left
//! alone, and so is what is no socket. It is only its owner's from the moment in which it can be
//! connected to, and is removed when what stands for it here is dropped, unless somebody else has
//! put another in its place.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// Who may connect: the user whose process it is.
const MODE: u32 = 0o600;
/// Connections that wait to be accepted, as std has it for those over TCP.
const BACKLOG: i32 = 128;

/// Why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("another process serves it; stop that or choose another path")]
    Served,
    /// It is something else.
    #[error("there is a file of another kind; choose another path")]
    NoSocket,
    /// It would be in nothing.
    #[error("its directory does not exist; make that first or choose another path")]
    NoDirectory,
    /// Paths of sockets are short.
    #[error("the path is too long for a socket; choose one of at most 100 bytes")]
    TooLong,
    /// The file system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for SocketError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NAMETOOLONG => SocketError::TooLong,
            _ => SocketError::Io(errno.into()),
        }
    }
}

/// The file of a socket, removed when this is dropped: before the socket itself, for whoever finds
/// nobody behind it may put another there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Its device and number there, and when it was made, since numbers are used again.
    identity: (u64, u64, (i64, i64)),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // If it stays it is taken over by whoever is next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64, (i64, i64))> {
    let made = |file: &fs::Metadata| (file.mtime(), file.mtime_nsec());
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino(), made(&file)))
}

/// Listens at a path; whoever accepts does not wait within a call.
pub fn listen(path: &Path) -> Result<(SocketFile, UnixListener), SocketError> {
    let address = SocketAddrUnix::new(path)?;
    // Two that find the same dead socket would remove each other's new one.
    let _turn = turn_in(path)?;
    clear(path, &address)?;
    let socket = new_socket()?;
    rustix::net::bind(&socket, &address)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((file, UnixListener::from(socket)))
}

fn new_socket() -> rustix::io::Result<rustix::fd::OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// The directory of the path, locked until this is dropped.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn turn_in(path: &Path) -> Result<fs::File, SocketError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = fs::File::open(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::NoDirectory,
        _ => error.into(),
    })?;
    dir.lock()?;
    Ok(dir)
}

/// Removes a socket behind which nobody is.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !kind.is_socket() {
        return Err(SocketError::NoSocket);
    }
    match rustix::net::connect(new_socket()?, address) {
        // As many wait there as can.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Served),
        Err(Errno::CONNREFUSED) => Ok(fs::remove_file(path)?),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_gone_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (file, listener) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Served)));
        drop((file, listener));
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_taken_over_and_anothers_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("s"), dir.path().join("t"));
        let (file, listener) = listen(&path).unwrap();
        std::mem::forget(file);
        drop(listener);
        let (file, _listener) = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        let (_other_file, _other) = listen(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(listen(dir.path()), Err(SocketError::NoSocket)));
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(listen(&long), Err(SocketError::TooLong)));
        let nowhere = listen(&dir.path().join("none/s"));
        assert!(matches!(nowhere, Err(SocketError::NoDirectory)));
    }
}
