//! kcmp(2): whether two processes have the same object of the kernel, and in which order it stands
//! with others.

use nix::errno::Errno;

use super::Sys;

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

/// An entry of an epoll file: the `toff`-th of those added under the number `tfd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EpollSlot {
    pub efd: u32,
    pub tfd: u32,
    pub toff: u32,
}

const KCMP_EPOLL_TFD: i32 = 7;

/// Orders two kernel objects: 0 equal, 1 less, 2 greater.
pub fn compare(pid1: i32, pid2: i32, what: Kcmp, idx1: u64, idx2: u64) -> Sys<i64> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, what as i32, idx1, idx2) })
}

/// Orders what stands in an epoll file's slot against descriptor `fd` of `pid`: 0 is equal.
pub fn compare_epoll(pid: i32, fd: i32, epoll_pid: i32, slot: EpollSlot) -> Sys<i64> {
    let slot = &raw const slot;
    // SAFETY: `slot` is what this comparison reads.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, epoll_pid, KCMP_EPOLL_TFD, fd, slot) };
    Errno::result(order)
}
