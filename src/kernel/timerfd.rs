//! Timers that are files.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use super::Sys;
use super::descriptor::owned;

const TFD_IOC_SET_TICKS: libc::c_ulong = 0x4008_5400;

/// A new timerfd.
pub fn create(clock: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC) })
}

/// Time left and interval of a timerfd. An expired periodic timer is armed again by this.
pub fn gettime(fd: impl AsFd) -> Sys<libc::itimerspec> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut time = libc::itimerspec { it_interval: zero, it_value: zero };
    // SAFETY: `time` is a valid itimerspec.
    let done = unsafe { libc::timerfd_gettime(fd.as_fd().as_raw_fd(), &raw mut time) };
    Errno::result(done).map(|_| time)
}

/// Arms a timerfd.
pub fn settime(fd: impl AsFd, flags: i32, time: &libc::itimerspec) -> Sys<()> {
    let (fd, old) = (fd.as_fd().as_raw_fd(), std::ptr::null_mut());
    // SAFETY: `time` is a valid itimerspec, the old value is not wanted.
    Errno::result(unsafe { libc::timerfd_settime(fd, flags, time, old) }).map(drop)
}

/// Sets how many expirations of a timerfd have not been read.
pub fn set_ticks(fd: impl AsFd, ticks: u64) -> Sys<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the eight bytes of `ticks`.
    Errno::result(unsafe { libc::ioctl(fd, TFD_IOC_SET_TICKS, &raw const ticks) }).map(drop)
}
