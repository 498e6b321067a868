//! Clocks.

use nix::errno::Errno;

use super::Sys;

/// The time of a clock.
pub fn gettime(clock: i32) -> Sys<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut time) }).map(|_| time)
}
