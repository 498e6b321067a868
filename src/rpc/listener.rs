//! The socket of a service, and its place in the file system.
//!
//! The socket is root's alone (mode 0600) until somebody opens it to others with chmod. Its place
//! is taken over from a service that is gone, never from one that serves, nor from a file of
//! another kind. Services that start at the same time take turns by a lock on the directory, which
//! is opened once: who may change the path to it has nothing removed elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Context, Error, Kind, Result, shown};
use crate::kernel::socket;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that takes connections; its file stays until [`remove`](Self::remove).
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: String,
    place: Place,
    /// Device and inode of the socket's file.
    identity: (u64, u64),
}

/// A name in a directory.
#[derive(Debug)]
struct Place {
    directory: File,
    name: OsString,
}

impl Place {
    fn of(path: &Path) -> std::io::Result<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or(Path::new(".")))?;
        let name = path.file_name().ok_or(Errno::EISDIR)?.to_owned();
        Ok(Self { directory, name })
    }

    fn look(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn identity(&self) -> nix::Result<(u64, u64)> {
        self.look().map(|found| (found.st_dev, found.st_ino))
    }

    /// A lock on the directory, held until it is dropped. Who may read the directory may lock it for
    /// ever, so it is not waited for long: it only keeps services that start together apart.
    fn take_turn(&self) -> nix::Result<File> {
        const TRIES: usize = 100;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = File::from(openat(&self.directory, ".", flags, Mode::empty())?);
        for _ in 0..TRIES {
            if directory.try_lock().is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(directory)
    }

    fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }
}

impl Listener {
    /// Takes connections at `address`, a path of at most 107 bytes.
    pub fn bind(address: &OsStr) -> Result<Self> {
        let doing = || format!("service socket {}", shown(address));
        let name = UnixAddr::new(address).doing(doing)?;
        let place = Place::of(Path::new(address)).doing(doing)?;
        let _turn = place.take_turn().doing(doing)?;
        clear_place(&place, &name).doing(doing)?;
        let socket = seqpacket().doing(doing)?;
        // The mode is there from the start: nobody slips in before a chmod.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = bind(as_raw(&socket), &name);
        umask(before);
        bound.doing(doing)?;
        let identity = place.identity().doing(doing)?;
        let listener = Self { socket, address: shown(address), place, identity };
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
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next connection; EAGAIN if there is none.
    pub fn accept(&self) -> nix::Result<OwnedFd> {
        socket::accept(&self.socket)
    }

    /// Removes the socket's file, unless another has taken its place.
    pub fn remove(&self) {
        if self.place.identity() == Ok(self.identity) {
            // Whoever finds it takes it over.
            let _ = self.place.remove();
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

/// Removes the socket of a service that is gone.
fn clear_place(place: &Place, address: &UnixAddr) -> Result<()> {
    let kind = match place.look() {
        Ok(found) => SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(Error::sys("look at what is there", errno)),
    };
    let taken = |cause: &str, remedy: &str| {
        Err(Error::new(Kind::Refused, cause.to_owned()).remedy(remedy.to_owned()))
    };
    if kind != SFlag::S_IFSOCK {
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
            place.remove().doing(|| "remove the socket of a service that is gone")
        }
        Err(errno) => Err(Error::sys("look who serves there", errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("criu-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn refusal(path: &Path) -> String {
        Listener::bind(path.as_os_str()).unwrap_err().to_string()
    }

    #[test]
    fn a_place_is_taken_once_and_again_when_its_owner_is_gone() {
        let dir = scratch("listener");
        let path = dir.join("socket");
        let first = Listener::bind(path.as_os_str()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(refusal(&path).contains("another service serves there"));
        drop(first);
        let second = Listener::bind(path.as_os_str()).unwrap();
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
    fn the_path_to_it_may_change() {
        let dir = scratch("listener-path");
        for name in ["a", "b"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let listener = Listener::bind(dir.join("a/socket").as_os_str()).unwrap();
        fs::rename(dir.join("a"), dir.join("c")).unwrap();
        std::os::unix::fs::symlink("b", dir.join("a")).unwrap();
        fs::hard_link(dir.join("c/socket"), dir.join("b/socket")).unwrap();
        listener.remove();
        assert!(!dir.join("c/socket").exists() && dir.join("b/socket").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn who_holds_the_directory_keeps_no_service_from_starting() {
        let dir = scratch("listener-locked");
        let held = File::open(&dir).unwrap();
        held.lock().unwrap();
        Listener::bind(dir.join("socket").as_os_str()).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_has_replaced_the_socket_is_not_removed() {
        let dir = scratch("listener-replaced");
        let path = dir.join("socket");
        let listener = Listener::bind(path.as_os_str()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        listener.remove();
        assert!(path.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
