//! Files that signals are read from.

use std::os::fd::OwnedFd;

use super::Sys;
use super::descriptor::owned;

/// A new signalfd for the signals of `mask`.
pub fn create(mask: u64) -> Sys<OwnedFd> {
    // SAFETY: the kernel reads the eight bytes of `mask`.
    let fd =
        unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8, libc::SFD_CLOEXEC) };
    owned(fd as i32)
}
