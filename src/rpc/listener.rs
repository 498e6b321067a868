//! The socket of a service, and its place in the file system.
//!
//! The socket is root's alone (mode 0600) until somebody opens it to others with chmod. Its place
//! is taken over from a service that is gone, never from one that serves, nor from a file of
//! another kind. Services that start at the same time take turns by a lock on the directory.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{Mode, umask};

use crate::error::{Context, Error, Kind, Result};
use crate::kernel::socket;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that takes connections; its file stays until [`remove`](Self::remove).
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket's file.
    identity: (u64, u64),
}

impl Listener {
    /// Takes connections at `address`, a path of at most 107 bytes.
    pub fn bind(address: &str) -> Result<Self> {
        let path = PathBuf::from(address);
        let doing = || format!("service socket {address}");
        let place = UnixAddr::new(&path).doing(doing)?;
        let _turn = lock_directory(&path).doing(doing)?;
        clear_place(&path, &place).doing(doing)?;
        let socket = seqpacket().doing(doing)?;
        // The mode is there from the start: nobody slips in before a chmod.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = bind(as_raw(&socket), &place);
        umask(before);
        bound.doing(doing)?;
        let listener = Self { identity: identity(&path).doing(doing)?, socket, path };
        let backlog = Backlog::new(BACKLOG).doing(doing)?;
        match listen(&listener.socket, backlog).doing(doing) {
            Ok(()) => Ok(listener),
            Err(error) => {
                listener.remove();
                Err(error)
            }
        }
    }

    /// The path of the socket.
    pub fn address(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// The next connection; EAGAIN if there is none.
    pub fn accept(&self) -> nix::Result<OwnedFd> {
        socket::accept(&self.socket)
    }

    /// Removes the socket's file, unless another has taken its place.
    pub fn remove(&self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Whoever finds it takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn as_raw(socket: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd;
    socket.as_raw_fd()
}

fn seqpacket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Held until it is dropped.
fn lock_directory(path: &Path) -> std::io::Result<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new(".")))?;
    directory.lock().map(|()| directory)
}

/// Removes the socket of a service that is gone.
fn clear_place(path: &Path, address: &UnixAddr) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("look at what is there", &error)),
    };
    let taken = |cause: &str, remedy: &str| {
        Err(Error::new(Kind::Refused, cause.to_owned()).remedy(remedy.to_owned()))
    };
    if !kind.is_socket() {
        return taken("a file that is no socket is there", "remove it, or give another --address");
    }
    let probe = seqpacket().doing(|| "socket")?;
    match connect(as_raw(&probe), address) {
        // EAGAIN: so many are waiting that another has to wait for that.
        Ok(()) | Err(Errno::EAGAIN) => {
            taken("another service serves there", "end it, or give another --address")
        }
        Err(Errno::EPROTOTYPE) => {
            taken("a socket of another type is there", "give another --address")
        }
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).doing(|| "remove the socket of a service that is gone")
        }
        Err(errno) => Err(Error::sys("look who serves there", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("criu-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn refusal(path: &Path) -> String {
        Listener::bind(path.to_str().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_place_is_taken_once_and_again_when_its_owner_is_gone() {
        let dir = scratch("listener");
        let path = dir.join("socket");
        let first = Listener::bind(path.to_str().unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(refusal(&path).contains("another service serves there"));
        drop(first);
        let second = Listener::bind(path.to_str().unwrap()).unwrap();
        second.remove();
        assert!(!path.exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn other_files_and_other_sockets_stay() {
        let dir = scratch("listener-others");
        fs::write(dir.join("file"), "x").unwrap();
        assert!(refusal(&dir.join("file")).contains("no socket"));
        std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        assert!(refusal(&dir.join("link")).contains("no socket"));
        let _stream = std::os::unix::net::UnixListener::bind(dir.join("stream")).unwrap();
        assert!(refusal(&dir.join("stream")).contains("another type"));
        assert!(refusal(&dir.join("x".repeat(200))).contains("ENAMETOOLONG"));
        let names: Vec<_> = fs::read_dir(&dir).unwrap().collect();
        assert_eq!(names.len(), 3);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_has_replaced_the_socket_is_not_removed() {
        let dir = scratch("listener-replaced");
        let path = dir.join("socket");
        let listener = Listener::bind(path.to_str().unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        listener.remove();
        assert!(path.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
