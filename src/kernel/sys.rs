//! System calls that no library wraps, each wrapped once, sorted by name.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::Sys;
use super::remote::RemoteFd;

/// What two processes or descriptors are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kcmp {
    /// Two descriptors: the same open file description?
    File = 0,
    /// The same address space?
    Vm = 1,
    /// The same table of descriptors?
    Files = 2,
    /// The same root, working directory and umask?
    Fs = 3,
    /// The same table of signal actions?
    Sighand = 4,
    /// The same I/O context?
    Io = 5,
    /// The same list of System V semaphore adjustments?
    Sysvsem = 6,
}

/// Architecture-specific state of the calling thread or its process.
pub fn arch_prctl(what: u64, addr: u64) -> Sys<i64> {
    // SAFETY: takes numbers only; callers ask for nothing that moves memory in use.
    Errno::result(unsafe { libc::syscall(libc::SYS_arch_prctl, what, addr) })
}

/// The CPU that the calling thread is on: by the kernel's word, as the C library's is wrong in a
/// process that shares the memory of another.
pub fn getcpu() -> Sys<usize> {
    let mut cpu = 0u32;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the place holds one number; the others are not asked for.
    let done = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, none, none) };
    Errno::result(done).map(|_| cpu as usize)
}

/// The head and length of a thread's list of robust futexes, as it registered them.
pub fn get_robust_list(tid: i32) -> Sys<(u64, u64)> {
    let (mut head, mut len) = (0u64, 0u64);
    // SAFETY: both places hold one word each.
    let done =
        unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    Errno::result(done).map(|_| (head, len))
}

/// The id of the calling thread.
pub fn gettid() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Orders two kernel objects: 0 equal, 1 less, 2 greater.
pub fn kcmp(pid1: i32, pid2: i32, what: Kcmp, idx1: u64, idx2: u64) -> Sys<i64> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, what as i32, idx1, idx2) })
}

/// Sends a signal to a process.
pub fn kill(pid: i32, signal: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A copy of descriptor `fd` of the process behind `pidfd`, close-on-exec.
pub fn pidfd_getfd(pidfd: impl AsFd, fd: RemoteFd) -> Sys<OwnedFd> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; the new descriptor is ours alone.
    let ours = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd.0, 0) };
    Errno::result(ours).map(|fd| owned(fd as RawFd))
}

/// A descriptor that stands for a process.
pub fn pidfd_open(pid: i32) -> Sys<OwnedFd> {
    // SAFETY: takes numbers only; the new descriptor is ours alone.
    let ours = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    Errno::result(ours).map(|fd| owned(fd as RawFd))
}

/// Sets the domain name of the calling thread's UTS namespace.
pub fn setdomainname(name: &[u8]) -> Sys<()> {
    // SAFETY: the kernel reads `name.len()` bytes.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sends a signal to one thread.
pub fn tgkill(pid: i32, tid: i32, signal: i32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) }).map(drop)
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: every caller passes a descriptor that the kernel has just made for it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_equals_its_copy() {
        let pid = std::process::id().cast_signed();
        let pidfd = pidfd_open(pid).unwrap();
        let copy = pidfd_getfd(&pidfd, RemoteFd(pidfd.as_raw_fd())).unwrap();
        let (a, b) = (pidfd.as_raw_fd() as u64, copy.as_raw_fd() as u64);
        assert_ne!(a, b);
        assert_eq!(kcmp(pid, pid, Kcmp::File, a, b), Ok(0));
    }

    #[test]
    fn this_thread_has_a_robust_list() {
        let (head, len) = get_robust_list(gettid()).unwrap();
        assert_ne!(head, 0);
        assert_eq!(len, 24);
    }
}
