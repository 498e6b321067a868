//! Where in the file system something of a restored tree is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, stat};

use crate::error::{Context, Result};
use crate::kernel::descriptor::own_path;

/// A path with the mounts and the root in which it is meant.
///
/// A path of an image means what the dumped tasks saw. Today the whole tree has the mounts and the
/// root of the engine, so that a place is a path; everything of a restore that opens a path of the
/// image goes through here, where a tree with mounts of its own will make a difference.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    path: &'p Path,
}

impl<'p> Place<'p> {
    /// A path as the restored tasks mean it.
    pub fn in_tree(path: &'p (impl AsRef<Path> + ?Sized)) -> Self {
        Self { path: path.as_ref() }
    }

    /// The path, for calls of the engine that take one.
    pub fn path(self) -> &'p Path {
        self.path
    }

    /// Opens what is there for a task: close-on-exec in the engine, and never as its terminal.
    pub fn open(self, flags: i32) -> Result<OwnedFd> {
        open(self.path, for_task(flags), Mode::empty())
            .doing(|| format!("open {}", self.path.display()))
    }

    /// What is there, behind symbolic links.
    pub fn stat(self) -> nix::Result<FileStat> {
        stat(self.path)
    }

    /// Whether anything is there, be it a dangling symbolic link.
    pub fn exists(self) -> bool {
        self.path.symlink_metadata().is_ok()
    }
}

/// Opens for a task, once more, what a descriptor of the engine leads to: a new open file.
pub fn reopen(file: impl AsFd, flags: i32) -> Result<OwnedFd> {
    let path = own_path(file.as_fd());
    open(path.as_str(), for_task(flags), Mode::empty()).doing(|| format!("open {path}"))
}

fn for_task(flags: i32) -> OFlag {
    OFlag::from_bits_retain(flags | libc::O_CLOEXEC | libc::O_NOCTTY)
}
