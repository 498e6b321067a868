//! Owners of open files: who gets the signals of asynchronous I/O.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::Sys;
use super::fcntl::fcntl;
use super::pid::HostPid;

const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_GETOWNER_UIDS: i32 = 17;

/// Whom a file's SIGIO goes to: `F_OWNER_TID` 0, `F_OWNER_PID` 1, `F_OWNER_PGRP` 2 and its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    pub kind: i32,
    pub pid: HostPid,
}

/// Who gets the signals of an open file; pid 0 is nobody.
pub fn get(fd: impl AsFd) -> Sys<Owner> {
    let mut owner = Owner::default();
    // SAFETY: `owner` has the layout of struct f_owner_ex.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETOWN_EX, &raw mut owner) };
    Errno::result(done).map(|_| owner)
}

/// The uid and euid of whoever set the owner.
pub fn uids(fd: impl AsFd) -> Sys<(u32, u32)> {
    let mut uids = [0u32; 2];
    // SAFETY: `uids` holds the two uids that this command writes.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_GETOWNER_UIDS, uids.as_mut_ptr()) };
    Errno::result(done).map(|_| (uids[0], uids[1]))
}

/// Sets who gets the signals of an open file, with the calling thread's uid and euid.
pub fn set(fd: impl AsFd, owner: Owner) -> Sys<()> {
    // SAFETY: `owner` has the layout of struct f_owner_ex.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    Errno::result(done).map(drop)
}

/// Changes the calling thread's uid and euid: the thread's alone, not the process's.
pub fn set_thread_uids(uid: u32, euid: u32) -> Sys<()> {
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, euid, -1) }).map(drop)
}

/// The signal that an open file sends, 0 for SIGIO.
pub fn signal(fd: impl AsFd) -> Sys<i32> {
    fcntl(fd, F_GETSIG, 0)
}

/// Sets the signal that an open file sends.
pub fn set_signal(fd: impl AsFd, signal: i32) -> Sys<()> {
    fcntl(fd, F_SETSIG, signal).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::threads::in_own_thread;

    #[test]
    fn owner_is_read_back() {
        let (ours, _other) = nix::unistd::pipe().unwrap();
        assert_eq!(get(&ours), Ok(Owner { kind: 0, pid: HostPid::NONE }));
        let me = Owner { kind: 1, pid: HostPid::own() };
        in_own_thread(|| {
            set_thread_uids(0, 1234)?;
            set(&ours, me)
        })
        .unwrap();
        assert_eq!(get(&ours), Ok(me));
        assert_eq!(uids(&ours), Ok((0, 1234)));
    }
}
