//! Files made anew, in a directory that may be somebody else's.
//!
//! Who may write to a directory can put anything under a name there before the engine comes: a
//! symbolic link or another name of a file that only the engine's user may change, or a FIFO whose
//! opening waits for ever. So nothing that is there is ever opened to be written: it is taken away,
//! and the new file is one that nobody else has had.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Sys;

/// Who puts something there as often as it is taken away gets an error instead.
const ATTEMPTS: usize = 16;

/// Creates a file for the engine's user alone, in the place of what has the name.
pub fn create(dir: BorrowedFd<'_>, name: &(impl AsRef<OsStr> + ?Sized), flags: OFlag) -> Sys<File> {
    let name = name.as_ref();
    for _ in 0..ATTEMPTS {
        match create_new(dir, name, flags) {
            Err(Errno::EEXIST) => make_room(dir, name)?,
            created => return created,
        }
    }
    Err(Errno::EEXIST)
}

/// The same where nothing has the name.
pub fn create_new(
    dir: BorrowedFd<'_>,
    name: &(impl AsRef<OsStr> + ?Sized),
    flags: OFlag,
) -> Sys<File> {
    let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(dir, name.as_ref(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

/// A device is nobody's file, but what the directory is for.
fn make_room(dir: BorrowedFd<'_>, name: &OsStr) -> Sys<()> {
    match kind_of(dir, name) {
        Ok(SFlag::S_IFCHR | SFlag::S_IFBLK) => Err(Errno::EEXIST),
        _ => remove(dir, name),
    }
}

/// Removes what has a name, if there is anything.
pub fn remove(dir: BorrowedFd<'_>, name: &(impl AsRef<OsStr> + ?Sized)) -> Sys<()> {
    match unlinkat(dir, name.as_ref(), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Puts a file in the place of what has the name, in one step.
pub fn replace(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!(".{name}.partial");
    create(dir, &temporary, OFlag::O_WRONLY)?.write_all(bytes)?;
    Ok(renameat(dir, temporary.as_str(), dir, name)?)
}

/// Creates a file to append to, which a caller has named by a path.
///
/// What has a name in `dir` itself is taken away. What a path leads to elsewhere may be no file of
/// anybody's, as /dev/null and /dev/stdout are not: only a regular file is replaced there, a device
/// is used, and anything else is an error.
pub fn create_at_path(dir: BorrowedFd<'_>, path: &OsStr) -> Sys<File> {
    let Some(slash) = path.as_bytes().iter().rposition(|byte| *byte == b'/') else {
        return create(dir, path, OFlag::O_WRONLY | OFlag::O_APPEND);
    };
    let (parent, name) = path.as_bytes().split_at(slash);
    let (parent, name) = (OsStr::from_bytes(parent), OsStr::from_bytes(&name[1..]));
    // Opened once: what is looked at is what is replaced.
    let root = OsStr::new("/");
    let parent = open_directory(dir, if parent.is_empty() { root } else { parent })?;
    let parent = parent.as_fd();
    match kind_of(parent, name) {
        Ok(SFlag::S_IFREG) | Err(Errno::ENOENT) => {
            create(parent, name, OFlag::O_WRONLY | OFlag::O_APPEND)
        }
        Ok(SFlag::S_IFCHR) => open_device(parent, name),
        Ok(SFlag::S_IFLNK) => Err(Errno::ELOOP),
        Ok(_) => Err(Errno::EEXIST),
        Err(errno) => Err(errno),
    }
}

fn open_directory(dir: BorrowedFd<'_>, path: &OsStr) -> Sys<OwnedFd> {
    openat(dir, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn kind_of(dir: BorrowedFd<'_>, name: &OsStr) -> Sys<SFlag> {
    let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT)
}

/// It does not wait, whatever the name stands for by now.
fn open_device(dir: BorrowedFd<'_>, name: &OsStr) -> Sys<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CLOEXEC;
    let harmless = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    openat(dir, name, flags | harmless, Mode::empty()).map(File::from)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn scratch(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("criu-fresh-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let dir = File::open(&path).unwrap();
        (path, dir)
    }

    #[test]
    fn what_has_the_name_is_left_as_it_is_elsewhere() {
        let (path, dir) = scratch("links");
        std::fs::write(path.join("other"), b"other").unwrap();
        std::os::unix::fs::symlink("other", path.join("link")).unwrap();
        std::fs::hard_link(path.join("other"), path.join("same")).unwrap();
        for name in ["link", "same", ".same.partial"] {
            create(dir.as_fd(), name, OFlag::O_WRONLY).unwrap().write_all(b"new").unwrap();
            assert_eq!(std::fs::read(path.join(name)).unwrap(), b"new");
            assert!(!path.join(name).is_symlink());
        }
        replace(dir.as_fd(), "same", b"newer").unwrap();
        assert_eq!(std::fs::read(path.join("same")).unwrap(), b"newer");
        assert_eq!(std::fs::read(path.join("other")).unwrap(), b"other");
        assert!(!path.join(".same.partial").exists());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_path_elsewhere_takes_nothing_away_but_a_file() {
        let (path, dir) = scratch("paths");
        std::fs::create_dir(path.join("sub")).unwrap();
        std::os::unix::fs::symlink("/dev/null", path.join("sub/link")).unwrap();
        nix::unistd::mkfifo(&path.join("sub/fifo"), Mode::S_IRWXU).unwrap();
        let create = |name: &str| create_at_path(dir.as_fd(), name.as_ref()).map(drop);
        assert_eq!(create("sub/new"), Ok(()));
        assert_eq!(create("sub/new"), Ok(()));
        assert_eq!(create("sub/link"), Err(Errno::ELOOP));
        assert_eq!(create("sub/fifo"), Err(Errno::EEXIST));
        assert_eq!(create("none/new"), Err(Errno::ENOENT));
        assert_eq!(create("/dev/null"), Ok(()));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_device_stays() {
        let devices = File::open("/dev").unwrap();
        assert_eq!(create(devices.as_fd(), "null", OFlag::O_WRONLY).unwrap_err(), Errno::EEXIST);
    }
}
