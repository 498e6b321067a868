//! Pipes.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::Sys;
use super::fcntl::fcntl;

/// The capacity of a pipe in bytes.
pub fn size(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, libc::F_GETPIPE_SZ, 0)
}

/// Sets the capacity of a pipe.
pub fn set_size(fd: impl AsFd, bytes: i32) -> Sys<()> {
    fcntl(fd, libc::F_SETPIPE_SZ, bytes).map(drop)
}

/// Copies what is in a pipe into another pipe; what is not there is not waited for.
pub fn tee(from: impl AsFd, to: impl AsFd, len: usize) -> Sys<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    // SAFETY: takes numbers only.
    let bytes = unsafe { libc::tee(from, to, len, libc::SPLICE_F_NONBLOCK) };
    Errno::result(bytes).map(isize::cast_unsigned)
}

/// Whether the other side of a pipe is gone: everybody who could write it, or who could read it.
pub fn hung_up(fd: impl AsFd) -> Sys<bool> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one valid pollfd.
    Errno::result(unsafe { libc::poll(&raw mut poll, 1, 0) })?;
    Ok(poll.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}
