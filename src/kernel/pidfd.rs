//! Descriptors that stand for processes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::Sys;
use super::descriptor::owned;
use super::pid::HostPid;
use super::remote::RemoteFd;

/// A descriptor that stands for a process.
pub fn open(pid: HostPid) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only; the new descriptor is ours alone.
    let ours = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.number(), 0) };
    owned(ours as i32)
}

/// A copy of descriptor `fd` of the process behind `pidfd`, close-on-exec.
pub fn getfd(pidfd: impl AsFd, fd: RemoteFd) -> Sys<OwnedFd> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; the new descriptor is ours alone.
    let ours = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd.0, 0) };
    owned(ours as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kcmp::{self, Kcmp};

    #[test]
    fn a_descriptor_equals_its_copy() {
        let pid = HostPid::own();
        let pidfd = open(pid).unwrap();
        let copy = getfd(&pidfd, RemoteFd(pidfd.as_raw_fd())).unwrap();
        let (a, b) = (pidfd.as_raw_fd() as u64, copy.as_raw_fd() as u64);
        assert_ne!(a, b);
        assert_eq!(kcmp::compare(pid, pid, Kcmp::File, a, b), Ok(std::cmp::Ordering::Equal));
    }
}
