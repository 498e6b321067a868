//! Numbers of processes and threads as images hold them.

use std::fmt;

/// A process or thread, by its number in the pid namespace of the dumped tree.
///
/// It is no number that a system call of the engine could take; a task of the tree may use it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TreePid(u32);

impl TreePid {
    /// The process or thread that an image calls so.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number as images hold it.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number as system calls of the tree's own tasks take it.
    pub const fn signed(self) -> i32 {
        self.0.cast_signed()
    }
}

impl fmt::Display for TreePid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for TreePid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// For names of image files.
impl From<TreePid> for u64 {
    fn from(pid: TreePid) -> Self {
        pid.0.into()
    }
}
