//! Names that a restore gives for a moment, so that a file which has lost its name is known by it.
//!
//! The directory may be somebody else's, who can put anything under any name in it at any time, and
//! a restore may run as root. So a directory is opened once, without following symbolic links: the
//! kernel has told the path, which has none. A name is given only if nothing has it, and taken away
//! only if it still leads to the file; and a file that was made is ours only if its last name is
//! gone with that. Everything else that happens to it happens by its descriptor.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::error::{Context, Error, Kind, Result};
use crate::kernel::Sys;
use crate::kernel::descriptor::own_path;

/// The directory of a name. What of it had to be made is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Each directory that was made, and where.
    made: Vec<(OwnedFd, OsString, Inode)>,
}

/// Device and inode number.
pub(super) type Inode = (u64, u64);

/// By what a file is told from all others.
pub(super) fn inode(stat: &FileStat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// The last part of a path, and the directory that has it.
pub(super) fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).ok_or_else(|| {
        let cause = format!("{} is no name in a directory", path.display());
        Error::new(Kind::BadImages, cause)
    })
}

impl Directory {
    /// One that is there.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = open_directory(AT_FDCWD, path.as_os_str()).map_err(|errno| failed(path, errno))?;
        Ok(Self { fd, path: path.to_path_buf(), made: Vec::new() })
    }

    /// One of which all that is missing is made.
    pub fn make(path: &Path) -> Result<Self> {
        let mut missing = Vec::new();
        for there in path.ancestors() {
            match Self::open(there) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                found => {
                    let mut directory = found?;
                    missing.into_iter().rev().try_for_each(|name| directory.descend(name))?;
                    return Ok(directory);
                }
            }
            missing.push(split(there)?.1);
        }
        Err(failed(path, Errno::ENOENT))
    }

    /// Makes a directory in this one and goes into it.
    fn descend(&mut self, name: &OsStr) -> Result<()> {
        let path = self.path.join(name);
        mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755))
            .doing(|| format!("make {}", path.display()))?;
        let fd = open_directory(self.fd.as_fd(), name).map_err(|errno| failed(&path, errno))?;
        let stat = fstat(&fd).doing(|| format!("fstat {}", path.display()))?;
        let parent = std::mem::replace(&mut self.fd, fd);
        self.made.push((parent, name.to_owned(), inode(&stat)));
        self.path = path;
        Ok(())
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes a file under a name that is free, and takes the name away from it. The file that
    /// `create` is to make has the type `kind`; it is opened with O_PATH.
    pub fn make_nameless(
        &self,
        name: &OsStr,
        kind: SFlag,
        create: impl FnOnce(BorrowedFd<'_>, &OsStr) -> Sys<()>,
    ) -> Result<OwnedFd> {
        let shown = || self.path.join(name).display().to_string();
        create(self.fd(), name).doing(|| format!("make {}", shown()))?;
        let made = self.open_itself(name)?;
        self.remove(name, &made)?;
        let stat = fstat(&made).doing(|| format!("fstat {}", shown()))?;
        if stat.st_nlink != 0 || SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != kind {
            return Err(self.interfered(name));
        }
        Ok(made)
    }

    /// Gives a file a name that is free, opens it by that with O_PATH, and takes the name away.
    pub fn open_under(&self, name: &OsStr, file: &OwnedFd) -> Result<OwnedFd> {
        let doing = || format!("link {}", self.path.join(name).display());
        let known = own_path(file.as_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, known.as_str(), &self.fd, name, follow).doing(doing)?;
        let opened = self.open_itself(name)?;
        self.remove(name, file)?;
        if inode(&fstat(&opened).doing(doing)?) == inode(&fstat(file).doing(doing)?) {
            Ok(opened)
        } else {
            Err(self.interfered(name))
        }
    }

    /// Opens what has a name, with O_PATH: if it is a symbolic link, the link.
    pub fn open_itself(&self, name: &OsStr) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&self.fd, name, flags, Mode::empty())
            .doing(|| format!("open {}", self.path.join(name).display()))
    }

    /// Takes a name away from a file, if it has it. It is not an error if nothing has the name.
    pub fn remove(&self, name: &OsStr, from: &OwnedFd) -> Result<()> {
        let doing = || format!("unlink {}", self.path.join(name).display());
        let file = fstat(from).doing(doing)?;
        match unlink(self.fd(), name, inode(&file)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ESTALE) => Err(self.interfered(name)),
            Err(errno) => Err(Error::sys(doing(), errno)),
        }
    }

    fn interfered(&self, name: &OsStr) -> Error {
        let path = self.path.join(name);
        let cause = format!("somebody has put another file in the place of {}", path.display());
        Error::new(Kind::Denied, cause)
            .remedy("restore where nobody changes the directory meanwhile")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for (parent, name, made) in self.made.iter().rev() {
            let _ = unlink(parent.as_fd(), name, *made);
        }
    }
}

/// Takes a name away from an inode; ESTALE if the name leads to another one.
fn unlink(directory: BorrowedFd<'_>, name: &OsStr, from: Inode) -> Sys<()> {
    let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if inode(&found) != from {
        return Err(Errno::ESTALE);
    }
    let is_directory = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let how = if is_directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    unlinkat(directory, name, how)
}

fn open_directory(from: BorrowedFd<'_>, path: &OsStr) -> Sys<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(from, path.as_bytes(), OpenHow::new().flags(flags).resolve(resolve))
}

fn failed(path: &Path, errno: Errno) -> Error {
    let error = Error::sys(format!("open {}", path.display()), errno);
    match errno {
        Errno::ELOOP => {
            error.remedy("it leads over a symbolic link, which no restore follows here")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    use nix::sys::stat::mknodat;
    use std::os::unix::fs::symlink;

    fn regular(directory: BorrowedFd<'_>, name: &OsStr) -> Sys<()> {
        mknodat(directory, name, SFlag::S_IFREG, Mode::S_IRUSR, 0)
    }

    #[test]
    fn what_was_made_is_gone_again() {
        let scratch = Scratch::new();
        let directory = Directory::make(&scratch.path("a/b")).unwrap();
        let file = directory.make_nameless("c".as_ref(), SFlag::S_IFREG, regular).unwrap();
        assert_eq!(fstat(&file).unwrap().st_nlink, 0);
        assert!(scratch.path("a/b").exists());
        drop(directory);
        assert!(!scratch.path("a").exists());
    }

    #[test]
    fn no_symbolic_link_is_followed() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path("theirs")).unwrap();
        symlink(scratch.path("theirs"), scratch.path("link")).unwrap();
        for path in ["link", "link/missing"] {
            let error = Directory::make(&scratch.path(path)).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::ELOOP), "{error}");
        }
        assert_eq!(std::fs::read_dir(scratch.path("theirs")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_somebody_has_put_there_is_not_ours() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("theirs"), b"").unwrap();
        let directory = Directory::open(&scratch.0).unwrap();
        let swap = |directory: BorrowedFd<'_>, name: &OsStr| {
            linkat(directory, "theirs", directory, name, AtFlags::empty())
        };
        let error = directory.make_nameless("new".as_ref(), SFlag::S_IFREG, swap).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        let link = |_: BorrowedFd<'_>, name: &OsStr| {
            symlink(scratch.path("theirs"), scratch.0.join(name)).map_err(|_| Errno::EIO)
        };
        let error = directory.make_nameless("new".as_ref(), SFlag::S_IFREG, link).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(scratch.path("theirs").exists());
    }

    #[test]
    fn a_name_is_taken_from_no_other_file() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("one"), b"").unwrap();
        std::fs::write(scratch.path("other"), b"").unwrap();
        let directory = Directory::open(&scratch.0).unwrap();
        let one = directory.open_itself("one".as_ref()).unwrap();
        let error = directory.remove("other".as_ref(), &one).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        directory.remove("one".as_ref(), &one).unwrap();
        directory.remove("one".as_ref(), &one).unwrap();
        assert!(scratch.path("other").exists() && !scratch.path("one").exists());
    }
}
