//! fcntl(2) in general, and the status flags of open files.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::Sys;

/// A command that takes a number or nothing.
pub(super) fn fcntl(fd: impl AsFd, command: i32, value: i32) -> Sys<i32> {
    // SAFETY: every command passed here takes a number or nothing.
    Errno::result(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, value) })
}

/// The status flags of an open file.
pub fn flags(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, libc::F_GETFL, 0)
}

/// Sets those status flags of an open file that can be changed.
pub fn set_flags(fd: impl AsFd, flags: i32) -> Sys<()> {
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}
