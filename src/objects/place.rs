//! Places in the file system, as the tasks of a restored tree see it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, stat};

use crate::error::{Context, Result};
use crate::kernel::descriptor::own_path;

/// A path with the mounts and the root in which it is meant.
///
/// A path of an image means what the dumped tasks saw. Today all tasks have the mounts and the root
/// of the engine, so that a place is nothing but a path. Everything of a restore that opens a path
/// of an image does it by a place, which will know the mounts of a tree that has its own.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    path: &'p Path,
}

impl<'p> Place<'p> {
    /// A path as the restored tasks mean it.
    pub fn in_tree(path: &'p (impl AsRef<Path> + ?Sized)) -> Self {
        Self { path: path.as_ref() }
    }

    /// The path by which the engine reaches it.
    pub fn path(self) -> &'p Path {
        self.path
    }

    /// Opens what is there for a task: close-on-exec in the engine, and never as its terminal.
    pub fn open(self, flags: i32) -> Result<OwnedFd> {
        open(self.path, for_task(flags), Mode::empty())
            .doing(|| format!("open {}", self.path.display()))
    }

    /// The file that is there; symbolic links are followed.
    pub fn stat(self) -> nix::Result<FileStat> {
        stat(self.path)
    }

    /// Whether anything is there, even if it is a symbolic link that leads nowhere.
    pub fn exists(self) -> bool {
        self.path.symlink_metadata().is_ok()
    }
}

/// Makes a new open file description, for a task, of the file that a descriptor of the engine leads
/// to.
pub fn reopen(file: impl AsFd, flags: i32) -> Result<OwnedFd> {
    let path = own_path(file.as_fd());
    open(path.as_str(), for_task(flags), Mode::empty()).doing(|| format!("open {path}"))
}

fn for_task(flags: i32) -> OFlag {
    OFlag::from_bits_retain(flags | libc::O_CLOEXEC | libc::O_NOCTTY)
}
