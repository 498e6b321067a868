//! epoll files.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::Sys;
use super::descriptor::owned;

/// A new epoll file.
pub fn create() -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
}

/// Adds `fd` to an epoll file under its number.
pub fn add(epoll: i32, fd: i32, events: u32, data: u64) -> Sys<()> {
    let mut event = libc::epoll_event { events, u64: data };
    // SAFETY: `event` is a valid epoll_event.
    Errno::result(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })
        .map(drop)
}
